//! `cargo xtask run`: a small web site, a loopback rsync daemon, the mirror between them, and what happens, live.
//!
//! Takes under half a minute, and leaves neither a process nor a directory behind, on failure and on Ctrl-C too.

mod site;
mod steps;
mod table;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    interrupt,
    mirror::{Mirror, Status, Target},
    rsyncd::Rsyncd,
    scratch,
};
use steps::Step;
use table::{Row, Table};

/// How long a step stays in sight at least.
const IN_SIGHT: Duration = Duration::from_millis(1200);
/// The kernel's events need a moment to be counted.
const CAPTURED_AFTER: Duration = Duration::from_millis(300);
/// How long a step may take to arrive before the next begins anyway.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the daemon may take to be ready, and to bring the first or the last change home.
const LONG_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Shows `binary` at work. Has to run as root.
pub fn demonstrate(binary: &Path) -> Result<()> {
    interrupt::watch()?;
    let place = scratch::directory()?;
    let (source, served, state) = (place.path().join("www"), place.path().join("served"), place.path().join("state"));
    for directory in [&source, &served, &state] {
        fs::create_dir(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    let entries = site::make(&source).context("making the web site")?;
    let rsyncd = Rsyncd::start(place.path(), &served)?;
    println!("source  {} ({entries} entries)", source.display());
    println!("target  {} (a loopback rsync daemon that ends with this)", rsyncd.address());
    let mirror = Mirror::start(
        binary,
        &state,
        // It deletes most of what it has made, which the guard against mass deletion would stop.
        ["--source".as_ref(), source.as_os_str(), "--target".as_ref(), rsyncd.address().as_ref(), "--max-delete=100%".as_ref()],
        LONG_PATIENCE,
    )?;
    println!("{}", mirror.ready());
    let begun = Instant::now();
    mirror.flush(LONG_PATIENCE)?;
    println!("the first pass took {:.1} s\n", begun.elapsed().as_secs_f64());
    let before = mirror.status()?;

    let mut table = Table::begin()?;
    for step in &steps::ALL {
        show(step, &source, &mirror, &mut table)?;
    }
    mirror.flush(LONG_PATIENCE)?;
    let after = mirror.status()?;
    let verified = mirror.ask(&["verify"])?;
    println!("\n{}", summary(&before, &after)?);
    if !verified.status.success() {
        let said = [verified.stdout.as_slice(), verified.stderr.as_slice()].map(String::from_utf8_lossy).concat();
        let outcome = if verified.status.code() == Some(1) { "source and target differ" } else { "could not compare" };
        bail!("verify: {outcome}:\n{}\nThe daemon's log ends with:\n{}", said.trim_end(), mirror.log_tail());
    }
    println!("verify: source and target are equal");
    mirror.stop()?;
    println!("\nYour own tree:  cargo xtask run -- run --source DIR --target TARGET   (TARGET: /path, host:/path, rsync://host/module)");
    Ok(())
}

/// Performs one step while the table follows what the daemon makes of it.
fn show(step: &Step, source: &Path, mirror: &Mirror, table: &mut Table) -> Result<()> {
    let before = mirror.status()?;
    let mut row = Row::new(step.what);
    let begun = Instant::now();
    thread::scope(|scope| {
        let work = scope.spawn(|| (step.perform)(source).map(|()| Instant::now()));
        let mut seen_batches = before.target()?.batches;
        loop {
            interrupt::sleep(POLL)?;
            let now = mirror.status()?;
            fail_if_stopped(&now)?;
            let target = now.target()?;
            row.count(&before, &now)?;
            if target.batches > seen_batches {
                seen_batches = target.batches;
                row.delays.push(target.delay.last_ms);
            }
            table.draw(&row)?;
            if work.is_finished() && begun.elapsed() >= IN_SIGHT {
                break;
            }
        }
        let done = work.join().expect("a step does not panic").with_context(|| format!("the step `{}`", step.what))?;
        settle(done, &before, &mut seen_batches, mirror, table, &mut row)
    })?;
    table.finish(&row)
}

/// Follows the daemon until what the step changed has arrived.
fn settle(done: Instant, before: &Status, seen_batches: &mut u64, mirror: &Mirror, table: &mut Table, row: &mut Row) -> Result<()> {
    loop {
        let now = mirror.status()?;
        fail_if_stopped(&now)?;
        let target = now.target()?;
        row.count(before, &now)?;
        if target.batches > *seen_batches {
            *seen_batches = target.batches;
            row.delays.push(target.delay.last_ms);
        }
        table.draw(row)?;
        if (target.is_settled() && done.elapsed() > CAPTURED_AFTER) || done.elapsed() > PATIENCE {
            return Ok(());
        }
        interrupt::sleep(POLL)?;
    }
}

fn fail_if_stopped(status: &Status) -> Result<()> {
    for sync in &status.syncs {
        if sync.state != "running" {
            bail!("the daemon stopped the sync: {}", sync.reason.as_deref().unwrap_or(&sync.state));
        }
        if let Some(Target { state, reason: Some(reason), .. }) = sync.targets.iter().find(|target| target.state == "held") {
            bail!("the target is {state}: {reason}");
        }
    }
    Ok(())
}

fn summary(before: &Status, after: &Status) -> Result<String> {
    let (first, last) = (before.target()?, after.target()?);
    Ok(format!(
        "{} changes seen → {} marks → {} rsync runs; delay p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
        after.capture.changes.saturating_sub(before.capture.changes),
        last.sent.saturating_sub(first.sent),
        last.processes.saturating_sub(first.processes),
        last.delay.p50_ms,
        last.delay.p99_ms,
        last.delay.max_ms,
    ))
}
