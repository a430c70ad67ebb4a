//! The commands that ask the running daemon: `flush`, `status`, `audit`, `release`, `hold`, `retry`, `stop`.

use std::{fmt::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::bail;
use comfy_table::{Table, presets};

use super::{FAILED, WRONG, args::Audit};
use crate::{
    control::{self, AuditedTarget, Request, Response, call},
    observe::{AnnouncerStatus, AuditFinding, AuditStatus, CanaryStatus, LaneState, PluginStatus, SearchStatus, Status, SyncState},
};

pub fn flush(state_dir: &Path, timeout: Duration) -> anyhow::Result<ExitCode> {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    match call(state_dir, &Request::Flush { timeout_ms })? {
        Response::Flushed => Ok(ExitCode::SUCCESS),
        Response::Behind { targets } => {
            for target in targets {
                eprintln!("trigsync: {target}");
            }
            Ok(ExitCode::from(FAILED))
        }
        other => refused(other),
    }
}

/// Exit code 1 where changes were lost, 2 where not everything could be compared.
pub fn audit(state_dir: &Path, audit: &Audit) -> anyhow::Result<ExitCode> {
    let timeout_ms = u64::try_from(audit.timeout.as_millis()).unwrap_or(u64::MAX);
    let targets = match call(state_dir, &Request::Audit { which: audit.which.clone(), timeout_ms })? {
        Response::Audited { targets } => targets,
        other => return refused(other),
    };
    for AuditedTarget { sync, target, names, findings, unsettled, trouble } in &targets {
        match trouble {
            Some(trouble) => eprintln!("trigsync: {sync}: {target}: not compared to the end: {trouble}"),
            None => println!("{sync}: {target}: {names} names compared, {findings} lost changes, {unsettled} that never rested"),
        }
    }
    Ok(ExitCode::from(if targets.iter().any(|target| target.trouble.is_some()) {
        WRONG
    } else if targets.iter().any(|target| target.findings > 0) {
        FAILED
    } else {
        0
    }))
}

pub fn status(state_dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    match call(state_dir, &Request::Status)? {
        Response::Status { status } => {
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print(&status);
            }
            Ok(ExitCode::SUCCESS)
        }
        other => refused(other),
    }
}

/// Has the daemon do something for some targets, and says for which it did.
pub fn order(state_dir: &Path, request: &Request, done: &str, nothing: &str) -> anyhow::Result<ExitCode> {
    match call(state_dir, request)? {
        Response::Done { names } if names.is_empty() => println!("{nothing}"),
        Response::Done { names } => println!("{done}: {}", names.join(", ")),
        other => return refused(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn stop(state_dir: &Path) -> anyhow::Result<ExitCode> {
    match control::stop(state_dir)? {
        Response::Stopping => Ok(ExitCode::SUCCESS),
        other => refused(other),
    }
}

fn refused(response: Response) -> anyhow::Result<ExitCode> {
    match response {
        Response::Error { message } => bail!(message),
        _ => bail!("the daemon's answer does not fit the question; is it of another version?"),
    }
}

fn print(status: &Status) {
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_ms / 1000));
    println!("trigsync {}, pid {}, up {uptime}", status.version, status.pid);
    let capture = &status.capture;
    println!("capture {}: {} events, {} below a source, {} overflows", capture.tier, capture.events, capture.changes, capture.overflows);
    for lack in &capture.lacks {
        println!("  lacks {lack}");
    }
    if let Some(trouble) = &status.journal_trouble {
        println!("  the journal cannot be written: {trouble}");
    }
    for sync in &status.syncs {
        println!("\n{}  {}", sync.name, sync.source);
        if let SyncState::Stopped(reason) = &sync.state {
            println!("  STOPPED: {reason}");
        }
        if let Some(SearchStatus { directories, entries, marks }) = sync.search {
            println!(
                "  searching for what changed while nothing captured: {entries} names in {directories} directories, {marks} to compare"
            );
        }
        if let Some(trouble) = &sync.canary_trouble {
            println!("  {trouble}");
        }
        if let Some(at) = sync.next_full_pass_ms {
            let at = std::time::UNIX_EPOCH + Duration::from_millis(at);
            println!("  next scheduled full pass: {}", humantime::format_rfc3339_seconds(at));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["target", "state", "behind", "waiting", "in flight", "sent", "p50", "p99"]);
        for target in &sync.targets {
            table.add_row([
                target.name.clone(),
                word(target.state, target.full_pass).to_owned(),
                duration(target.lag_ms),
                target.pending.to_string(),
                target.in_flight.to_string(),
                target.sent.to_string(),
                format!("{:.0} ms", target.delay.p50_ms),
                format!("{:.0} ms", target.delay.p99_ms),
            ]);
        }
        match &sync.announcer {
            Some(announcer) => print_announcer(announcer),
            None => println!("{table}"),
        }
        for target in &sync.targets {
            if let Some(reason) = &target.reason {
                println!("  {}: {} since {}: {reason}", target.name, word(target.state, false), duration(target.since_ms));
            }
            print_audit(&target.name, &target.audit);
            if let Some(canary) = &target.canary {
                println!("  {}: canary {}", target.name, of_canary(canary));
            }
            for (path, reason) in &target.set_aside {
                println!("  {}: set aside: {path}: {reason}", target.name);
            }
        }
        sync.plugins.iter().for_each(print_plugin);
    }
}

fn print_announcer(announcer: &AnnouncerStatus) {
    let AnnouncerStatus { state, reason, since_ms, pending, in_flight, lag_ms, told, delay, .. } = announcer;
    println!(
        "  no targets, plugins alone: {}, {} behind, {pending} changes wait, {in_flight} are looked at, {told} told, p50 {:.0} ms, p99 {:.0} ms",
        word(*state, false),
        duration(*lag_ms),
        delay.p50_ms,
        delay.p99_ms
    );
    if let Some(reason) = reason {
        println!("  {} since {}: {reason}", word(*state, false), duration(*since_ms));
    }
}

fn print_plugin(plugin: &PluginStatus) {
    let PluginStatus { name, kind, address, trouble, pending, told, failures, dropped, folded, .. } = plugin;
    println!(
        "  plugin {name} ({kind} {address}): {told} paths told, {pending} wait, {failures} runs failed, {dropped} paths given up, {folded} folded"
    );
    if let Some(trouble) = trouble {
        println!("  plugin {name} FAILS: {trouble}");
    }
}

fn print_audit(name: &str, audit: &AuditStatus) {
    let AuditStatus { names, findings, cycles, after, trouble, latest, .. } = audit;
    if *names > 0 {
        let place = after.as_ref().map(|after| format!(", now after {after}/")).unwrap_or_default();
        println!("  {name}: audit: {names} names compared, {findings} lost changes, {cycles} cycles{place}");
    }
    if let Some(trouble) = trouble {
        println!("  {name}: audit: {trouble}");
    }
    for AuditFinding { path, item, .. } in latest {
        println!("  {name}: lost, found by the audit and sent again: {path} ({item})");
    }
}

fn of_canary(canary: &CanaryStatus) -> String {
    let mut text = match (canary.last_delay_ms, canary.last_arrival) {
        (Some(delay), Some(at)) => {
            let at = std::time::UNIX_EPOCH + Duration::from_secs_f64(at.max(0.0));
            format!("took {delay:.0} ms, found at {}", humantime::format_rfc3339_seconds(at))
        }
        _ => "has not arrived yet".to_owned(),
    };
    // Writing to a string cannot fail.
    if let Some(overdue) = canary.overdue_ms {
        let _ = write!(text, "; OVERDUE by {}", duration(overdue));
    }
    if let Some(trouble) = &canary.trouble {
        let _ = write!(text, "; the target cannot be asked: {trouble}");
    }
    text
}

fn word(state: LaneState, full_pass: bool) -> &'static str {
    match state {
        LaneState::Ok => "ok",
        LaneState::Behind if full_pass => "full pass",
        LaneState::Behind => "behind",
        LaneState::Retrying => "retrying",
        LaneState::Held => "held",
    }
}

fn duration(milliseconds: u64) -> String {
    let duration = Duration::from_millis(milliseconds);
    if milliseconds > 10_000 {
        humantime::format_duration(Duration::from_secs(duration.as_secs()))
    } else {
        humantime::format_duration(duration)
    }
    .to_string()
}
