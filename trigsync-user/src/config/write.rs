//! From a [`RawConfig`] to TOML that reads back as the same, with a comment on each value that says where it stood before.

use std::path::{Path, PathBuf};

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use super::{
    ConfigError, plugin,
    raw::{At, RawAudit, RawConfig, RawSchedule, RawSync, RawTarget},
};

/// The document, below lines of comment.
pub(super) fn document(raw: &RawConfig, comments: &[String]) -> Result<String, ConfigError> {
    // Taken apart, so that a key that is new cannot be forgotten.
    let RawConfig {
        file: _,
        warnings: _,
        backend,
        btf,
        unlimited_queue,
        on_state_change,
        fail_log,
        metrics,
        memory,
        rsync,
        stop_timeout,
        control_group,
        syncs,
    } = raw;
    let mut document = DocumentMut::new();
    let top = document.as_table_mut();
    set(top, "backend", backend, |backend| backend.to_string().into());
    set_path(top, "btf", btf)?;
    set(top, "unlimited_queue", unlimited_queue, |on| (*on).into());
    set_list(top, "on_state_change", on_state_change);
    set_path(top, "fail_log", fail_log)?;
    set(top, "metrics", metrics, |address| address.to_string().into());
    set(top, "memory", memory, |bytes| whole(*bytes));
    set_path(top, "rsync", rsync)?;
    set(top, "stop_timeout", stop_timeout, duration);
    set(top, "control_group", control_group, |group| group.as_str().into());
    let mut tables = ArrayOfTables::new();
    for raw in syncs {
        tables.push(sync(raw)?);
    }
    top.insert("sync", Item::ArrayOfTables(tables));
    let comments: String = comments.iter().map(|line| format!("# {}\n", line.replace(char::is_control, " "))).collect();
    Ok(format!("{comments}{document}"))
}

fn sync(raw: &RawSync) -> Result<Table, ConfigError> {
    let RawSync {
        section: _,
        name,
        source,
        patterns,
        cross_mounts,
        delete,
        settle_finished,
        settle_quiet,
        settle_max_age,
        batch_paths,
        batch_bytes,
        max_delete,
        max_delete_floor,
        retry_max,
        audit,
        full_pass,
        canary,
        targets,
        plugins,
    } = raw;
    let RawAudit { on, every, names, bytes, share, window, checksum } = audit;
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    set(&mut table, "name", name, |name| name.as_str().into());
    set_path(&mut table, "source", source)?;
    set_list(&mut table, "exclude", patterns);
    set(&mut table, "cross_mounts", cross_mounts, |on| (*on).into());
    set(&mut table, "delete", delete, |on| (*on).into());
    let settle = [("finished", settle_finished), ("quiet", settle_quiet), ("max_age", settle_max_age)];
    set_inline(&mut table, "settle", settle.map(|(key, at)| (key, at.as_ref().map(|at| duration(&at.value)))));
    let batch = [("paths", batch_paths), ("bytes", batch_bytes)];
    set_inline(&mut table, "batch", batch.map(|(key, at)| (key, at.as_ref().map(|at| whole(at.value)))));
    set(&mut table, "max_delete", max_delete, |share| format!("{}%", share * 100.0).into());
    set(&mut table, "max_delete_floor", max_delete_floor, |count| whole(*count));
    set(&mut table, "retry_max", retry_max, duration);
    set(&mut table, "audit", on, |on| (*on).into());
    let audit = [
        ("every", every.as_ref().map(|at| duration(&at.value))),
        ("names", names.as_ref().map(|at| whole(at.value))),
        ("bytes", bytes.as_ref().map(|at| whole(at.value))),
        ("share", share.as_ref().map(|at| format!("{}%", at.value * 100.0).into())),
        ("window", window.as_ref().map(|at| at.value.to_string().into())),
        ("checksum", checksum.as_ref().map(|at| at.value.into())),
    ];
    set_inline(&mut table, "audit", audit);
    if let Some(RawSchedule { section, cron, every, jitter, window }) = full_pass {
        let schedule = [
            ("cron", cron.as_ref().map(|at| at.value.to_string().into())),
            ("every", every.as_ref().map(|at| duration(&at.value))),
            ("jitter", jitter.as_ref().map(|at| duration(&at.value))),
            ("window", window.as_ref().map(|at| at.value.to_string().into())),
        ];
        let inline: InlineTable = schedule.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        insert(&mut table, "full_pass", Value::InlineTable(inline), origin(section));
    }
    set(&mut table, "canary", canary, duration);
    let mut tables = ArrayOfTables::new();
    for raw in targets {
        tables.push(target(raw)?);
    }
    if !tables.is_empty() {
        table.insert("target", Item::ArrayOfTables(tables));
    }
    if !plugins.is_empty() {
        let tables = plugins.iter().map(plugin::write).collect::<Result<ArrayOfTables, _>>()?;
        table.insert("plugin", Item::ArrayOfTables(tables));
    }
    Ok(table)
}

fn target(raw: &RawTarget) -> Result<Table, ConfigError> {
    let RawTarget {
        to,
        name,
        password_file,
        identity,
        options,
        bandwidth_limit,
        connections,
        warm,
        inplace,
        inplace_from,
        timeout,
        modify_window,
    } = raw;
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    set(&mut table, "to", &Some(to.clone()), |to| to.as_str().into());
    set(&mut table, "name", name, |name| name.as_str().into());
    set_path(&mut table, "identity", identity)?;
    set_path(&mut table, "password_file", password_file)?;
    set_list(&mut table, "options", options);
    set(&mut table, "bandwidth_limit", bandwidth_limit, |limit| limit.as_str().into());
    set(&mut table, "connections", connections, |number| i64::from(number.get()).into());
    set_list(&mut table, "inplace", inplace);
    set(&mut table, "inplace_from", inplace_from, |bytes| whole(*bytes));
    set(&mut table, "warm", warm, |number| i64::from(*number).into());
    set(&mut table, "timeout", timeout, duration);
    set(&mut table, "modify_window", modify_window, |window| i64::from(*window).into());
    Ok(table)
}

pub(super) fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

pub(super) fn duration(duration: &std::time::Duration) -> Value {
    humantime::format_duration(*duration).to_string().into()
}

/// Where a value stood, unless it stood nowhere or is explained by its key alone.
fn origin<T>(at: &At<T>) -> Option<String> {
    at.line.map(|line| format!("# line {line}: {}", at.key))
}

fn insert(table: &mut Table, key: &str, mut value: Value, origin: Option<String>) {
    if let Some(origin) = origin {
        value.decor_mut().set_suffix(format!(" {origin}"));
    }
    table.insert(key, Item::Value(value));
}

pub(super) fn set<T>(table: &mut Table, key: &str, at: &Option<At<T>>, value: impl Fn(&T) -> Value) {
    if let Some(at) = at {
        insert(table, key, value(&at.value), origin(at));
    }
}

pub(super) fn set_path(table: &mut Table, key: &str, at: &Option<At<PathBuf>>) -> Result<(), ConfigError> {
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("is not UTF-8, and cannot be written as TOML (rename it)");
    if let Some(at) = at {
        let text = text(&at.value).map_err(|message| at.error(None, message))?;
        insert(table, key, text.into(), origin(at));
    }
    Ok(())
}

/// One line for each, below what it was made of, where that was one thing for each.
pub(super) fn set_list(table: &mut Table, key: &str, list: &[At<String>]) {
    let Some(first) = list.first() else { return };
    let mut array: Array = list.iter().map(|at| at.value.as_str()).collect();
    let together = list.iter().all(|at| origin(at) == origin(first));
    if !together {
        for (value, at) in array.iter_mut().zip(list) {
            let origin = origin(at).map(|origin| format!("\n    {origin}")).unwrap_or_default();
            value.decor_mut().set_prefix(format!("{origin}\n    "));
        }
        array.set_trailing_comma(true);
        array.set_trailing("\n");
    }
    insert(table, key, Value::Array(array), origin(first).filter(|_| together));
}

fn set_inline<const N: usize>(table: &mut Table, key: &str, entries: [(&str, Option<Value>); N]) {
    let inline: InlineTable = entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    if !inline.is_empty() {
        table.insert(key, Item::Value(Value::InlineTable(inline)));
    }
}
