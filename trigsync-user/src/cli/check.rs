//! `trigsync check`: one line for a monitoring system, with the exit codes and the performance data of its plugins (Nagios and all that
//! speak as it does).

use std::{
    fmt::Write as _,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::args::Check;
use crate::{
    control::{ClientError, Request, Response, call_within},
    observe::{
        AnnouncerStatus, AuditFinding, CanaryStatus, HELD_BY_OPERATOR, LaneState, PluginStatus, Status, SyncState, SyncStatus, TargetStatus,
    },
};

/// How bad it is; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// For so long a lost change that the audit has found is worth a warning.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// The exit code where nothing can be said.
const UNKNOWN: u8 = 3;

pub fn check(state_dir: &Path, limits: &Check) -> ExitCode {
    let (level, line) = match call_within(state_dir, &Request::Status, Some(limits.timeout.into())) {
        Ok(Response::Status { status }) => judge(&status, limits),
        Ok(_) | Err(ClientError::Malformed(_)) => {
            println!("TRIGSYNC UNKNOWN - the daemon's answer cannot be read; is it of another version?");
            return ExitCode::from(UNKNOWN);
        }
        // Whether it is well is not known to who may not ask.
        Err(error @ ClientError::Forbidden { .. }) => {
            println!("TRIGSYNC UNKNOWN - {error}");
            return ExitCode::from(UNKNOWN);
        }
        Err(error) => (Level::Critical, error.to_string()),
    };
    println!("TRIGSYNC {} - {line}", level.word());
    ExitCode::from(level as u8)
}

/// What the status means, in one line with its figures.
fn judge(status: &Status, limits: &Check) -> (Level, String) {
    let mut found: Vec<(Level, String)> = Vec::new();
    for sync in &status.syncs {
        if let SyncState::Stopped(reason) = &sync.state {
            found.push((Level::Critical, format!("{} is stopped: {reason}", sync.name)));
        }
        if let Some(trouble) = &sync.canary_trouble {
            found.push((Level::Warning, format!("{}: {trouble}", sync.name)));
        }
        found.extend(sync.plugins.iter().filter_map(|plugin| of_plugin(&sync.name, plugin)));
        let of_announcer = sync.announcer.iter().flat_map(|announcer| of_announcer(announcer, limits));
        found.extend(of_announcer.map(|(level, text)| (level, format!("{}: its plugins: {text}", sync.name))));
        for target in &sync.targets {
            found.extend(
                of_target(target, limits).into_iter().map(|(level, text)| (level, format!("{}/{} {text}", sync.name, target.name))),
            );
        }
    }
    if let Some(trouble) = &status.journal_trouble {
        found.push((Level::Warning, format!("the journal cannot be written: {trouble}")));
    }
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = found.first().map_or(Level::Ok, |(level, _)| *level);
    let targets: usize = status.syncs.iter().map(|sync| sync.targets.len()).sum();
    let alone: usize = status.syncs.iter().filter(|sync| sync.announcer.is_some()).map(|sync| sync.plugins.len()).sum();
    let alone = if alone > 0 { format!(", {alone} plugins without targets") } else { String::new() };
    let texts: Vec<_> = found.into_iter().map(|(_, text)| text).collect();
    let text = if texts.is_empty() { format!("{targets} targets{alone}, capture by {}", status.capture.tier) } else { texts.join("; ") };
    // What stands behind the bar is figures, and all of it is one line.
    let text = text.replace('|', "/").replace(['\n', '\r'], " ");
    (level, format!("{text} |{}", figures(status, limits)))
}

/// A mirror is one without its plugins too: they are worth a warning.
fn of_plugin(sync: &str, plugin: &PluginStatus) -> Option<(Level, String)> {
    let trouble = plugin.trouble.as_ref()?;
    let PluginStatus { name, dropped, pending, .. } = plugin;
    Some((Level::Warning, format!("{sync}: plugin {name} fails: {trouble} ({pending} paths wait, {dropped} were given up)")))
}

/// A lane, or what tells plugins alone.
fn of_lane(state: LaneState, reason: Option<&str>, since_ms: u64, lag_ms: u64, limits: &Check) -> Vec<(Level, String)> {
    let mut found = Vec::new();
    let reason = reason.unwrap_or_default();
    let (lag, since) = (Duration::from_millis(lag_ms), Duration::from_millis(since_ms));
    let in_state = || humantime::format_duration(Duration::from_secs(since.as_secs()));
    match state {
        LaneState::Held if reason == HELD_BY_OPERATOR => found.push((Level::Warning, format!("is {reason} ({})", in_state()))),
        LaneState::Held => found.push((Level::Critical, format!("is held for {}: {reason}", in_state()))),
        LaneState::Retrying if since >= limits.crit_lag.into() => {
            found.push((Level::Critical, format!("is retrying for {}: {reason}", in_state())));
        }
        LaneState::Retrying => found.push((Level::Warning, format!("is retrying for {}: {reason}", in_state()))),
        LaneState::Ok | LaneState::Behind => {}
    }
    let late = |level| (level, format!("is {:.0} s behind", lag.as_secs_f64()));
    if lag >= limits.crit_lag.into() {
        found.push(late(Level::Critical));
    } else if lag >= limits.warn_lag.into() {
        found.push(late(Level::Warning));
    }
    found
}

fn of_backlog(backlog: u64, limits: &Check) -> Option<(Level, String)> {
    let level = if limits.crit_backlog.is_some_and(|most| backlog >= most) {
        Level::Critical
    } else if limits.warn_backlog.is_some_and(|most| backlog >= most) {
        Level::Warning
    } else {
        return None;
    };
    Some((level, format!("has {backlog} changes to come")))
}

fn of_announcer(announcer: &AnnouncerStatus, limits: &Check) -> Vec<(Level, String)> {
    let AnnouncerStatus { state, reason, since_ms, lag_ms, pending, in_flight, .. } = announcer;
    let mut found = of_lane(*state, reason.as_deref(), *since_ms, *lag_ms, limits);
    found.extend(of_backlog(pending + in_flight, limits));
    found
}

fn of_target(target: &TargetStatus, limits: &Check) -> Vec<(Level, String)> {
    let mut found = of_lane(target.state, target.reason.as_deref(), target.since_ms, target.lag_ms, limits);
    if let Some(overdue) = target.canary.as_ref().and_then(|canary| canary.overdue_ms).map(Duration::from_millis) {
        let level = match overdue {
            overdue if overdue >= limits.crit_lag.into() => Some(Level::Critical),
            overdue if overdue >= limits.warn_lag.into() => Some(Level::Warning),
            _ => None,
        };
        found.extend(level.map(|level| (level, format!("has a canary that is overdue by {:.0} s", overdue.as_secs_f64()))));
    }
    found.extend(of_backlog(backlog(target), limits));
    let is_recent = |finding: &&AuditFinding| SystemTime::now() < UNIX_EPOCH + Duration::from_millis(finding.at_ms) + RECENT;
    if let Some(AuditFinding { path, item, .. }) = target.audit.latest.iter().rfind(is_recent) {
        let findings = target.audit.findings;
        found.push((Level::Warning, format!("had lost changes, {findings} by now: the audit has found and sent {path} ({item})")));
    }
    if let Some((path, reason)) = target.set_aside.first() {
        found.push((Level::Warning, format!("does not take {} paths, the first is {path}: {reason}", target.set_aside.len())));
    }
    found
}

fn backlog(target: &TargetStatus) -> u64 {
    target.pending + target.in_flight
}

/// `'label'=value[unit];[warn];[crit];[min]`, with a blank before each.
fn figures(status: &Status, limits: &Check) -> String {
    let mut text = String::new();
    let seconds = |limit: humantime::Duration| limit.as_secs_f64();
    let bound = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    let mut add = |what: &str, sync: &SyncStatus, name: Option<&str>, value: String| {
        // Quoted, because names may hold blanks; what else would end a label goes.
        let of = sync.name.clone() + &name.map(|name| format!("_{name}")).unwrap_or_default();
        let of = of.replace(['\'', '=', '|', '\n', '\r'], "_");
        // Writing to a string cannot fail.
        let _ = write!(text, " '{what}_{of}'={value}");
    };
    let lag = |ms: u64| format!("{:.3}s;{};{};0", ms as f64 / 1000.0, seconds(limits.warn_lag), seconds(limits.crit_lag));
    let waiting = |backlog: u64| format!("{backlog};{};{};0", bound(limits.warn_backlog), bound(limits.crit_backlog));
    for sync in &status.syncs {
        if let Some(AnnouncerStatus { lag_ms, pending, in_flight, .. }) = &sync.announcer {
            add("lag", sync, None, lag(*lag_ms));
            add("backlog", sync, None, waiting(pending + in_flight));
        }
        for PluginStatus { name, pending, failures, dropped, .. } in &sync.plugins {
            add("plugin_pending", sync, Some(name), format!("{pending};;;0"));
            add("plugin_failures", sync, Some(name), format!("{failures}c;;;0"));
            add("plugin_dropped", sync, Some(name), format!("{dropped}c;;;0"));
        }
        for target in &sync.targets {
            let name = Some(&*target.name);
            add("lag", sync, name, lag(target.lag_ms));
            add("backlog", sync, name, waiting(backlog(target)));
            if let Some(delay) = target.canary.as_ref().and_then(CanaryStatus::delay_at_least) {
                add(
                    "canary",
                    sync,
                    name,
                    format!("{:.3}s;{};{};0", delay.as_secs_f64(), seconds(limits.warn_lag), seconds(limits.crit_lag)),
                );
            }
            add("failures", sync, name, format!("{}c;;;0", target.failures));
            add("set_aside", sync, name, format!("{};1;;0", target.set_aside.len()));
            add("audit_findings", sync, name, format!("{}c;;;0", target.audit.findings));
        }
    }
    let _ = write!(text, " 'capture_events'={}c;;;0 'capture_losses'={}c;;;0", status.capture.events, status.capture.overflows);
    text
}
