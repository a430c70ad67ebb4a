//! The catch-up scan over a quiet tree with a handful of changes, beside one `rsync -a --delete` over the same tree to an equal local target:
//! what a start costs with and without a moment from which changes are known. Runs of the two alternate.

use std::{
    fmt,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use trigsync::{
    config::Filter,
    model::Mark,
    plan::open_root,
    scan::{Progress, Scan, Summary, threads},
};
use xtask::interrupt;

use crate::{proc, rsync, statistics::median, tree};

/// Files in each directory of the tree.
const FILES_PER_DIRECTORY: u64 = 100;
/// What is made equal by a write, a new file, a deletion, a `chmod` and a directory that was moved in, sorted by path.
const MARKS: [&str; 7] = [
    "Entry top-0/directory-0/file-0",
    "Level top-0/directory-1",
    "Entry top-0/directory-1/new",
    "Level top-0/directory-2",
    "Entry top-0/directory-3/file-300",
    "Level top-0/directory-4",
    "Tree top-0/directory-4/moved-in",
];

/// What a scan took, in seconds.
#[derive(Serialize)]
pub(crate) struct Comparison {
    files: u64,
    threads: usize,
    scan: Vec<f64>,
    rsync_alone: Vec<f64>,
    /// Median of rsync's by median of the scan's.
    ratio: f64,
    /// Of this process, before the first scan and at its highest since.
    memory_before: u64,
    memory_highest: u64,
}

/// Makes a tree of `files` empty files and an equal target, and measures `repetitions` of each kind.
pub(crate) fn measure(place: &Path, files: u64, repetitions: usize) -> Result<Comparison> {
    let (source, target) = (place.join("source"), place.join("target"));
    fs::create_dir(&target)?;
    tree::make_empty_files(&source, files.max(500), FILES_PER_DIRECTORY)?;
    let outside = place.join("outside");
    tree::make_empty_files(&outside, 100, 10)?;
    let address = target.to_string_lossy();
    rsync::send_all(&source, &address)?;
    let cutoff = now_for_changes(place)?;
    change(&source, &outside)?;

    let memory_before = proc::resident(std::process::id())?.now;
    let (marks, _) = scan(&source, cutoff)?;
    if marks != MARKS {
        bail!("the figure does not count: the scan found {marks:?}");
    }
    let memory_highest = proc::resident(std::process::id())?.highest;
    // Sends the changes; from now on the tree is quiet for it, and its caches are as warm as the scan's.
    rsync::mirror(&source, &address)?;
    rsync::demand_equal(&source, &address)?;

    let (mut with_scan, mut rsync_alone) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        rsync_alone.push(timed(|| rsync::mirror(&source, &address))?);
        with_scan.push(timed(|| scan(&source, cutoff).map(drop))?);
    }
    let ratio = median(&rsync_alone) / median(&with_scan);
    Ok(Comparison { files, threads: threads().get(), scan: with_scan, rsync_alone, ratio, memory_before, memory_highest })
}

/// The marks in words, sorted by path.
fn scan(source: &Path, cutoff: SystemTime) -> Result<(Vec<String>, Summary)> {
    let (root, _) = open_root(source)?;
    let found = Mutex::new(Vec::<Mark>::new());
    let filter = Filter::none();
    let scan = Scan { root: root.as_fd(), filter: &filter, cross_mounts: false, cutoff, threads: threads() };
    let push = |mark| found.lock().expect("nothing panics under the lock").push(mark);
    let summary = scan.run(&Progress::default(), &CancellationToken::new(), push)?;
    let mut marks = found.into_inner().expect("nothing panics under the lock");
    marks.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((marks.iter().map(|mark| format!("{:?} {}", mark.scope, mark.path)).collect(), summary))
}

/// A moment that every change from now on bears a later time than, and everything before an earlier one.
fn now_for_changes(place: &Path) -> Result<SystemTime> {
    let probe = place.join("probe");
    let touch = || -> Result<SystemTime> {
        fs::write(&probe, "").context("writing a file to read the clock from")?;
        let found = probe.metadata()?;
        Ok(SystemTime::UNIX_EPOCH + Duration::new(found.ctime().try_into()?, found.ctime_nsec().try_into()?))
    };
    let before = touch()?;
    loop {
        // The clock of change times advances with the timer.
        let now = touch()?;
        if now > before {
            return Ok(now);
        }
    }
}

/// The changes that [`MARKS`] are for.
fn change(source: &Path, outside: &Path) -> Result<()> {
    let top = source.join("top-0");
    fs::write(top.join("directory-0/file-0"), "written")?;
    File::create(top.join("directory-1/new"))?;
    fs::remove_file(top.join("directory-2/file-200"))?;
    let file = top.join("directory-3/file-300");
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(file, permissions)?;
    fs::rename(outside, top.join("directory-4/moved-in"))?;
    Ok(())
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    interrupt::check()?;
    let begun = Instant::now();
    run()?;
    Ok(begun.elapsed().as_secs_f64())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "catch-up scan of {} files: {:.2} s with {} threads, {:.2} s for one `rsync -a --delete`: {:.1} times as fast (medians of {}); \
             memory {:.1} MB before, {:.1} MB at its highest",
            self.files,
            median(&self.scan),
            self.threads,
            median(&self.rsync_alone),
            self.ratio,
            self.scan.len(),
            self.memory_before as f64 / 1_000_000.0,
            self.memory_highest as f64 / 1_000_000.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_finds_what_was_changed_and_rsync_makes_it_equal() {
        let place = tempfile::tempdir().unwrap();
        let measured = measure(place.path(), 500, 1).unwrap();
        assert_eq!((measured.scan.len(), measured.rsync_alone.len()), (1, 1));
        assert!(measured.ratio > 0.0);
    }
}
