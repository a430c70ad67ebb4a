//! `trigsync history`: what was sent, when and where to. Reads the journal, whether or not a daemon runs.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

use bytesize::ByteSize;
use comfy_table::{Table, presets};
use serde_json::json;

use super::args;
use crate::{
    journal::{Arrival, Entry, History, Question, Store},
    model::Scope,
};

pub fn history(state_dir: &Path, asked: args::History) -> anyhow::Result<ExitCode> {
    let args::History { path, target, failed, limit, json } = asked;
    let is_of_path = path.is_some();
    let history = Store::read_only(state_dir)?.history(&Question { path, target, failed, limit })?;
    let mut out = io::stdout().lock();
    if json {
        for entry in &history.entries {
            writeln!(out, "{}", line(entry))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !history.entries.is_empty() {
        writeln!(out, "{}", table(&history))?;
    }
    let kept = history.kept_since.map_or_else(|| "nothing was sent yet".to_owned(), |since| format!("kept since {}", time(since)));
    let missing = if is_of_path && history.paths_missing { "; of large batches not every path is kept" } else { "" };
    writeln!(out, "{} batches; {kept}{missing}", history.entries.len())?;
    Ok(ExitCode::SUCCESS)
}

fn table(history: &History) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ended", "sync", "target", "took", "arrived", "failed", "bytes", "what"]);
    for entry in &history.entries {
        let took = entry.ended.duration_since(entry.started).unwrap_or_default();
        let mut what: Vec<_> = entry.arrivals.iter().map(text).collect();
        what.extend(entry.trouble.clone());
        table.add_row([
            time(entry.ended),
            entry.sync.clone(),
            entry.target.clone(),
            format!("{:.2} s", took.as_secs_f64()),
            entry.arrived.to_string(),
            entry.failed.to_string(),
            ByteSize(entry.bytes).to_string(),
            what.join("\n"),
        ]);
    }
    table
}

fn text(arrival: &Arrival) -> String {
    let Arrival { path, scope, failure } = arrival;
    let path = if path.is_root() { ".".to_owned() } else { path.to_string() };
    let scope = match scope {
        Scope::Entry => "",
        Scope::Level => " and the names in it",
        Scope::Tree => " and all below it",
    };
    let failure = failure.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{path}{scope}{failure}")
}

fn line(entry: &Entry) -> serde_json::Value {
    let paths: Vec<_> =
        entry.arrivals.iter().map(|arrival| json!({ "path": arrival.path, "scope": arrival.scope, "failure": arrival.failure })).collect();
    json!({
        "sync": entry.sync, "target": entry.target, "started": time(entry.started), "ended": time(entry.ended), "arrived": entry.arrived,
        "failed": entry.failed, "bytes": entry.bytes, "processes": entry.processes, "trouble": entry.trouble, "paths": paths,
    })
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
