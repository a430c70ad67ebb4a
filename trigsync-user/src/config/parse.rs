//! From TOML to [`RawConfig`]: every value read once, every key known, every error with its line.

use std::{
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Backend, ConfigError,
    error::near_miss,
    plugin,
    raw::{At, RawAudit, RawConfig, RawSchedule, RawSync, RawTarget, absolute},
    target,
};

const TOP: &[&str] = &[
    "backend",
    "btf",
    "unlimited_queue",
    "on_state_change",
    "fail_log",
    "metrics",
    "memory",
    "rsync",
    "stop_timeout",
    "control_group",
    "sync",
];
const SYNC: &[&str] = &[
    "name",
    "source",
    "targets",
    "target",
    "exclude",
    "include",
    "cross_mounts",
    "delete",
    "settle",
    "batch",
    "max_delete",
    "max_delete_floor",
    "retry_max",
    "audit",
    "full_pass",
    "canary",
    "plugin",
];
const SETTLE: &[&str] = &["finished", "quiet", "max_age"];
const BATCH: &[&str] = &["paths", "bytes"];
const AUDIT: &[&str] = &["every", "names", "bytes", "share", "window", "checksum"];
const FULL_PASS: &[&str] = &["cron", "every", "jitter", "window"];

/// What a key in the wrong table was probably meant for.
const SECTIONS: &[(&[&str], &str)] = &[
    (TOP, "above the first [[sync]]"),
    (SYNC, "in [[sync]], before its [[sync.target]] and [[sync.plugin]]"),
    (target::KEYS, "in [[sync.target]]"),
    (plugin::KEYS, "in [[sync.plugin]]"),
    (SETTLE, "in sync.settle"),
    (BATCH, "in sync.batch"),
    (AUDIT, "in sync.audit"),
    (FULL_PASS, "in sync.full_pass"),
];

pub(super) type Read<T> = fn(&DeValue<'_>) -> Result<T, String>;

pub(super) fn document(text: &str, file: &Path) -> Result<RawConfig, ConfigError> {
    let document = Document { text, file };
    let root = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| document.line(&span));
        ConfigError::in_file(file, line, None, format!("is not TOML: {}", error.message().lines().collect::<Vec<_>>().join("; ")))
    })?;
    let top = Table::new(&document, String::new(), root.get_ref(), 0..0, TOP)?;
    let mut syncs = Vec::new();
    for (table, span) in top.tables("sync", "[[sync]]")? {
        syncs.push(sync(&Table::new(&document, "sync.".into(), table, span, SYNC)?)?);
    }
    if syncs.is_empty() {
        return Err(ConfigError::in_file(file, None, None, "has no [[sync]] section (write one with `source` and `targets`)"));
    }
    let base = absolute(file, "--config")?;
    let base = base.parent().unwrap_or(Path::new("/"));
    let mut config = RawConfig {
        file: Some(file.to_owned()),
        warnings: Vec::new(),
        backend: top.get("backend", backend)?,
        btf: top.get("btf", path)?,
        unlimited_queue: top.get("unlimited_queue", boolean)?,
        on_state_change: top.list("on_state_change", string)?,
        fail_log: top.get("fail_log", path)?,
        metrics: top.get("metrics", address)?,
        memory: top.get("memory", size)?,
        rsync: top.get("rsync", path)?,
        stop_timeout: top.get("stop_timeout", duration)?,
        control_group: top.get("control_group", group)?,
        syncs,
    };
    // A name alone is looked for in PATH; with a slash it is a path like the others.
    if let Some(rsync) = config.rsync.as_mut().filter(|rsync| rsync.value.components().count() > 1) {
        rsync.value = base.join(&rsync.value);
    }
    config.btf.iter_mut().chain(&mut config.fail_log).for_each(|file| file.value = base.join(&file.value));
    for sync in &mut config.syncs {
        let files = sync.targets.iter_mut().flat_map(|target| target.password_file.iter_mut().chain(&mut target.identity));
        let secrets = sync.plugins.iter_mut().filter_map(plugin::RawPlugin::secret_file_mut);
        sync.source.iter_mut().chain(files).chain(secrets).for_each(|path| path.value = base.join(&path.value));
    }
    config.make_targets_absolute(base)?;
    Ok(config)
}

fn sync(table: &Table<'_, '_>) -> Result<RawSync, ConfigError> {
    let inner = |key: &'static str, known| -> Result<Option<Table<'_, '_>>, ConfigError> {
        let Some((_, value)) = table.entry(key) else { return Ok(None) };
        let Some(inner) = value.get_ref().as_table() else {
            return Err(table.error(key, &value.span(), format!("is {}, not a table", kind(value.get_ref()))));
        };
        Table::new(table.document, format!("sync.{key}."), inner, value.span(), known).map(Some)
    };
    let mut targets: Vec<RawTarget> = table.list("targets", string)?.into_iter().map(RawTarget::short).collect();
    for (inner, span) in table.tables("target", "[[sync.target]]")? {
        targets.push(target::parse(&Table::new(table.document, "sync.target.".into(), inner, span, target::KEYS)?)?);
    }
    let mut plugins = Vec::new();
    for (inner, span) in table.tables("plugin", "[[sync.plugin]]")? {
        plugins.push(plugin::parse(&Table::new(table.document, "sync.plugin.".into(), inner, span, plugin::KEYS)?)?);
    }
    let settle = inner("settle", SETTLE)?;
    let batch = inner("batch", BATCH)?;
    // `audit = false`, or a table of how.
    let audit = match table.entry("audit") {
        Some((_, value)) if value.get_ref().as_bool().is_some() => RawAudit { on: table.get("audit", boolean)?, ..RawAudit::default() },
        _ => inner("audit", AUDIT)?.map_or(Ok(RawAudit::default()), |inner| audit(&inner))?,
    };
    let settle = |key| settle.as_ref().map_or(Ok(None), |settle| settle.get(key, duration));
    let mut patterns = table.list("exclude", string)?;
    patterns.extend(table.list("include", |value| include(&string(value)?))?);
    Ok(RawSync {
        section: table.section("sync"),
        name: table.get("name", string)?,
        source: table.get("source", path)?,
        patterns,
        cross_mounts: table.get("cross_mounts", boolean)?,
        delete: table.get("delete", boolean)?,
        settle_finished: settle("finished")?,
        settle_quiet: settle("quiet")?,
        settle_max_age: settle("max_age")?,
        batch_paths: batch.as_ref().map_or(Ok(None), |batch| batch.get("paths", positive))?,
        batch_bytes: batch.as_ref().map_or(Ok(None), |batch| batch.get("bytes", size))?,
        max_delete: table.get("max_delete", |value| percentage(&string(value)?))?,
        max_delete_floor: table.get("max_delete_floor", count)?,
        retry_max: table.get("retry_max", pace)?,
        audit,
        full_pass: inner("full_pass", FULL_PASS)?.map(|inner| schedule(&inner)).transpose()?,
        canary: table.get("canary", pace)?,
        targets,
        plugins,
    })
}

fn audit(table: &Table<'_, '_>) -> Result<RawAudit, ConfigError> {
    Ok(RawAudit {
        on: None,
        every: table.get("every", duration)?,
        names: table.get("names", positive)?,
        bytes: table.get("bytes", size)?,
        share: table.get("share", |value| match percentage(&string(value)?) {
            Ok(share) if share > 0.0 => Ok(share),
            _ => Err("is no share of the time (write \"1%\" to \"100%\"; `audit = false` switches it off)".into()),
        })?,
        window: table.get("window", |value| string(value)?.parse())?,
        checksum: table.get("checksum", boolean)?,
    })
}

fn schedule(table: &Table<'_, '_>) -> Result<RawSchedule, ConfigError> {
    Ok(RawSchedule {
        section: At { value: (), line: Some(table.document.line(&table.span)), column: None, key: "sync.full_pass".into() },
        cron: table.get("cron", |value| string(value)?.parse())?,
        every: table.get("every", duration)?,
        jitter: table.get("jitter", duration)?,
        window: table.get("window", |value| string(value)?.parse())?,
    })
}

struct Document<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Document<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.as_bytes().iter().take(span.start).filter(|&&byte| byte == b'\n').count()
    }
}

/// A table whose keys are all known.
pub(super) struct Table<'a, 'd> {
    document: &'a Document<'a>,
    /// What stands before its keys in errors: `sync.settle.`.
    prefix: String,
    entries: &'a DeTable<'d>,
    span: Range<usize>,
}

impl<'a, 'd> Table<'a, 'd> {
    fn new(
        document: &'a Document<'a>,
        prefix: String,
        entries: &'a DeTable<'d>,
        span: Range<usize>,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        let table = Self { document, prefix, entries, span };
        let unknown = entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).min_by_key(|key| key.span().start);
        let Some(unknown) = unknown else { return Ok(table) };
        let key: &str = unknown.get_ref().as_ref();
        let remedy = match (near_miss(key, known.iter().copied()), SECTIONS.iter().find(|(keys, _)| keys.contains(&key))) {
            (_, Some((_, place))) => format!("it belongs {place}"),
            (Some(near), None) => format!("did you mean `{near}`?"),
            (None, None) => format!("known here: {}", known.join(", ")),
        };
        Err(table.error(key, &unknown.span(), format!("unknown key ({remedy})")))
    }

    fn error(&self, key: &str, span: &Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::in_file(self.document.file, Some(self.document.line(span)), Some(format!("{}{key}", self.prefix)), message)
    }

    fn entry(&self, key: &str) -> Option<(&'a Spanned<toml::de::DeString<'d>>, &'a Spanned<DeValue<'d>>)> {
        self.entries.iter().find(|(name, _)| name.get_ref().as_ref() == key)
    }

    fn at<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, read: Read<T>) -> Result<At<T>, ConfigError> {
        let read = read(value.get_ref()).map_err(|message| self.error(key, &value.span(), message))?;
        Ok(At { value: read, line: Some(self.document.line(&value.span())), column: None, key: format!("{}{key}", self.prefix) })
    }

    /// Where the table itself stands.
    pub(super) fn section(&self, key: &str) -> At<()> {
        At { value: (), line: Some(self.document.line(&self.span)), column: None, key: key.to_owned() }
    }

    /// An error about a key that is not there.
    pub(super) fn missing(&self, key: &str, message: impl Into<String>) -> ConfigError {
        self.error(key, &self.span, message)
    }

    /// An error where a key is there.
    pub(super) fn must_lack(&self, key: &str, message: String) -> Result<(), ConfigError> {
        self.entry(key).map_or(Ok(()), |(name, _)| Err(self.error(key, &name.span(), message)))
    }

    /// The texts in an inner table, by their names.
    pub(super) fn entries_of(&self, key: &str) -> Result<Vec<(String, At<String>)>, ConfigError> {
        let Some((_, value)) = self.entry(key) else { return Ok(Vec::new()) };
        let Some(inner) = value.get_ref().as_table() else {
            return Err(self.error(key, &value.span(), format!("is {}, not a table (write {{ Name = \"…\" }})", kind(value.get_ref()))));
        };
        let mut found: Vec<_> =
            inner.iter().map(|(name, value)| Ok((name.get_ref().to_string(), self.at(key, value, string)?))).collect::<Result<_, _>>()?;
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    pub(super) fn get<T>(&self, key: &str, read: Read<T>) -> Result<Option<At<T>>, ConfigError> {
        self.entry(key).map(|(_, value)| self.at(key, value, read)).transpose()
    }

    pub(super) fn list<T>(&self, key: &str, read: Read<T>) -> Result<Vec<At<T>>, ConfigError> {
        let Some((_, value)) = self.entry(key) else { return Ok(Vec::new()) };
        let Some(values) = value.get_ref().as_array() else {
            return Err(self.error(key, &value.span(), format!("is {}, not a list (write [\"…\"])", kind(value.get_ref()))));
        };
        values.iter().map(|value| self.at(key, value, read)).collect()
    }

    fn tables(&self, key: &str, form: &str) -> Result<Vec<(&'a DeTable<'d>, Range<usize>)>, ConfigError> {
        let Some((_, value)) = self.entry(key) else { return Ok(Vec::new()) };
        let wrong = |value: &Spanned<DeValue<'_>>| self.error(key, &value.span(), format!("is {} (write {form})", kind(value.get_ref())));
        let values = value.get_ref().as_array().ok_or_else(|| wrong(value))?;
        values.iter().map(|value| Ok((value.get_ref().as_table().ok_or_else(|| wrong(value))?, value.span()))).collect()
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn string(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("is {}, not text (write it in quotes)", kind(value)))?;
    if text.contains('\0') { Err("holds a NUL byte".into()) } else { Ok(text.to_owned()) }
}

pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    match string(value)? {
        text if text.is_empty() => Err("is empty (write a path)".into()),
        text if text == "~" || text.starts_with("~/") => Err("begins with `~`, which only a shell expands (write the whole path)".into()),
        text => Ok(text.into()),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("is {} (write true or false, without quotes)", kind(value)))
}

pub(super) fn integer(value: &DeValue<'_>) -> Result<i64, String> {
    let number = value.as_integer().ok_or_else(|| format!("is {}, not a whole number", kind(value)))?;
    i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("is {number}, too large a number"))
}

fn count(value: &DeValue<'_>) -> Result<u64, String> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| format!("is {number} (write 0 or more)"))
}

pub(super) fn positive(value: &DeValue<'_>) -> Result<u64, String> {
    match count(value)? {
        0 => Err("is 0 (write at least 1)".into()),
        number => Ok(number),
    }
}

fn backend(value: &DeValue<'_>) -> Result<Backend, String> {
    let text = string(value)?;
    <Backend as clap::ValueEnum>::from_str(&text, false).map_err(|_| match near_miss(&text, ["auto", "ebpf", "ebpf-kprobe", "fanotify"]) {
        Some(near) => format!("`{text}` is no way to capture (did you mean `{near}`?)"),
        None => format!("`{text}` is no way to capture (write auto, ebpf, ebpf-kprobe or fanotify)"),
    })
}

pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const REMEDY: &str = "write a number with its unit, as \"20ms\", \"1s\" or \"5m\"";
    let DeValue::String(text) = value else { return Err(format!("is {}, not a time ({REMEDY})", kind(value))) };
    humantime::parse_duration(text).map_err(|error| format!("`{text}` is no time: {error} ({REMEDY})"))
}

/// Each beat of a canary starts processes at both ends, and so does each attempt.
fn pace(value: &DeValue<'_>) -> Result<Duration, String> {
    let pace = duration(value)?;
    if pace >= Duration::from_secs(1) { Ok(pace) } else { Err("is less than a second (write \"1s\" or more, such as \"1m\")".into()) }
}

/// A group's name, or its number.
fn group(value: &DeValue<'_>) -> Result<String, String> {
    if matches!(value, DeValue::Integer(_)) { Ok(count(value)?.to_string()) } else { string(value) }
}

fn address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let text = string(value)?;
    text.parse().map_err(|_| format!("`{text}` is no address with a port (such as \"127.0.0.1:9309\" or \"[::1]:9309\")"))
}

pub(super) fn size(value: &DeValue<'_>) -> Result<u64, String> {
    if matches!(value, DeValue::Integer(_)) {
        return positive(value);
    }
    let text = string(value)?;
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) => Err("is 0 (write at least 1)".into()),
        Err(_) => Err(format!("`{text}` is no size (write a number with its unit, as \"1GiB\" or \"500MB\")")),
    }
}

/// A share, 0.0 to 1.0, of `50%` or `50`.
pub(super) fn percentage(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim_end().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("`{text}` is no percentage (write \"0%\" to \"100%\"; \"100%\" switches the guard off)")),
    }
}

/// What rsync's `--bwlimit` takes: a number, perhaps with a point, and a unit.
pub(super) fn bandwidth(text: &str) -> Result<String, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = text[..text.len() - unit.len()].parse::<f64>();
    let known = ["", "b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib", "t", "tb", "tib"];
    match number {
        Ok(number) if number > 0.0 && known.contains(&unit.to_ascii_lowercase().as_str()) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is no bandwidth for rsync (write KiB a second, or a number with its unit, as \"10m\")")),
    }
}

/// An include is the exclude's opposite.
pub(super) fn include(pattern: &str) -> Result<String, String> {
    if pattern.starts_with('!') {
        return Err(format!("`{pattern}` begins with `!`, which an include has by itself (leave it out; write `\\!` for a name with one)"));
    }
    Ok(format!("!{pattern}"))
}
