//! What the tables of imported configurations say of a sync alike.

use std::fmt::Write as _;

use trigsync::config::{SyncConfig, Times};

/// What is mirrored, when, and what is left alone, where it is not as usual: a line each.
pub fn of_sync(sync: &SyncConfig) -> String {
    let mut out = String::new();
    if sync.keep {
        out.push_str("  keeps what is gone\n");
    }
    if let Some(longest) = sync.retry_max {
        _ = writeln!(out, "  tries again after {longest:?} at most");
    }
    match sync.full_pass.as_ref().map(|schedule| &schedule.times) {
        Some(Times::Every(every)) => _ = writeln!(out, "  full pass every {every:?}"),
        Some(Times::Cron(cron)) => _ = writeln!(out, "  full pass at {cron}"),
        None => {}
    }
    for pattern in sync.filter.patterns() {
        _ = writeln!(out, "  exclude {pattern}");
    }
    out
}
