//! A flood of changes while every target is dead: what the daemon's memory grows by, beside the bound that it was given, and how long it takes
//! until everything has arrived once the targets are back.
//!
//! Files are made in many directories and most of them deleted again: every name is a mark of its own, and what is to arrive stays within the
//! inodes of a usual disk.

use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use xtask::{
    interrupt,
    mirror::{Mirror, Status},
    rsyncd::Rsyncd,
};

use crate::{proc, rsync, tree};

/// Files that are made in each directory, and how many of them are not deleted again.
const FILES_PER_DIRECTORY: u64 = 1_000;
const STAY: u64 = 200;
const CHANGES_PER_DIRECTORY: u64 = FILES_PER_DIRECTORY + FILES_PER_DIRECTORY - STAY;
/// Until the daemon's threads have gone to sleep.
const CALM: Duration = Duration::from_secs(3);
/// What was told so long ago that nothing has come since is all.
const SILENCE: Duration = Duration::from_secs(3);
/// How often the kernel's memory is looked at.
const LOOKS: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(7200);

/// How much is changed, and what may be used for it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) changes: u64,
    /// The daemon's `memory`, in bytes.
    pub(crate) bound: u64,
    pub(crate) targets: u64,
}

/// What a flood took: bytes, and seconds.
#[derive(Serialize)]
pub(crate) struct Flood {
    size: Size,
    /// Resident before the flood.
    before: u64,
    /// The highest until the last change was told.
    highest: u64,
    /// The highest until everything had arrived.
    highest_until_equal: u64,
    /// What the kernel's small allocations grew by at most, of whatever kind; its queue of events is among them.
    kernel: Option<u64>,
    /// The journal's files when the flood had ended.
    journal: u64,
    told: u64,
    overflows: u64,
    /// Marks that waited or were on their way when the flood had ended, by target.
    marks: Vec<u64>,
    /// Directories that had taken the place of what was marked in them, by target.
    degraded: Vec<u64>,
    making: f64,
    arrival: f64,
}

/// Floods a daemon whose targets are dead, and has them come back.
pub(crate) fn measure(trigsync: &Path, place: &Path, size: Size) -> Result<Flood> {
    let directories = size.changes.div_ceil(CHANGES_PER_DIRECTORY);
    let (source, state) = (place.join("source"), place.join("state"));
    tree::make_directories(&source, directories)?;
    let mut served = Vec::new();
    for number in 0..size.targets {
        let (home, target) = (place.join(format!("server-{number}")), place.join(format!("target-{number}")));
        fs::create_dir(&home)?;
        fs::create_dir(&target)?;
        served.push((Rsyncd::start(&home, &target)?, target));
    }
    let configuration = place.join("trigsync.toml");
    let targets: Vec<_> = served.iter().map(|(rsyncd, _)| rsyncd.address()).collect();
    let text = format!("memory = {}\n[[sync]]\nsource = {source:?}\ntargets = {targets:?}\nmax_delete = \"100%\"\n", size.bound);
    fs::write(&configuration, text)?;
    let mirror = Mirror::start(trigsync, &state, ["--config".as_ref(), configuration.as_os_str()], PATIENCE)?;
    mirror.flush(PATIENCE)?;
    for (rsyncd, _) in &mut served {
        rsyncd.kill()?;
    }
    interrupt::sleep(CALM)?;
    let before = proc::resident(mirror.id())?.now;
    // From now on the highest is that of the flood.
    fs::write(format!("/proc/{}/clear_refs", mirror.id()), "5").context("resetting the highest resident memory")?;

    let (making, kernel, status) = while_the_kernel_is_watched(|| {
        let begun = Instant::now();
        make(&source, directories)?;
        let making = begun.elapsed().as_secs_f64();
        Ok((making, until_silent(&mirror)?))
    })?;
    let highest = proc::resident(mirror.id())?.highest;
    let journal = bytes_of(&state, "journal.db")?;

    let begun = Instant::now();
    for (rsyncd, _) in &mut served {
        rsyncd.restart()?;
    }
    mirror.flush(PATIENCE)?;
    let arrival = begun.elapsed().as_secs_f64();
    let highest_until_equal = proc::resident(mirror.id())?.highest;
    for (_, target) in &served {
        rsync::demand_equal(&source, &target.to_string_lossy())?;
    }
    mirror.stop()?;
    let targets = || status.syncs.iter().flat_map(|sync| &sync.targets);
    let flood = Flood {
        size,
        before,
        highest,
        highest_until_equal,
        kernel,
        journal,
        told: status.capture.changes,
        overflows: status.capture.overflows,
        marks: targets().map(|target| target.pending + target.in_flight).collect(),
        degraded: targets().map(|target| target.degraded).collect(),
        making,
        arrival,
    };
    let above = highest_until_equal.saturating_sub(before);
    if above > size.bound {
        bail!("{flood}\nmemory grew by {above} bytes, and {} are its bound", size.bound);
    }
    Ok(flood)
}

/// Makes files, and then deletes most of them: ext4 is slow to make a file where one was deleted a moment ago.
fn make(source: &Path, directories: u64) -> Result<()> {
    let file = |directory, number| source.join(tree::directory(directory)).join(format!("a-picture-with-a-name-{number}.jpg"));
    let context = |what: &str, path: &PathBuf| format!("{what} {}", path.display());
    for directory in 0..directories {
        interrupt::check()?;
        for number in 0..FILES_PER_DIRECTORY {
            let path = file(directory, number);
            File::create(&path).with_context(|| context("creating", &path))?;
        }
    }
    for directory in 0..directories {
        interrupt::check()?;
        for number in STAY..FILES_PER_DIRECTORY {
            let path = file(directory, number);
            fs::remove_file(&path).with_context(|| context("deleting", &path))?;
        }
    }
    Ok(())
}

/// Waits until no change is told any more.
fn until_silent(mirror: &Mirror) -> Result<Status> {
    let mut status = mirror.status()?;
    loop {
        interrupt::sleep(SILENCE)?;
        let next = mirror.status()?;
        if next.capture.changes == status.capture.changes {
            return Ok(next);
        }
        status = next;
    }
}

/// With what the kernel's small allocations grew by at most.
fn while_the_kernel_is_watched<T>(work: impl FnOnce() -> Result<(f64, T)>) -> Result<(f64, Option<u64>, T)> {
    let before = proc::kernel_small();
    let (highest, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                highest.fetch_max(proc::kernel_small().unwrap_or_default(), Relaxed);
                thread::sleep(LOOKS);
            }
        });
        let result = work();
        done.store(true, Relaxed);
        result
    });
    let (making, value) = result?;
    Ok((making, before.map(|before| highest.load(Relaxed).saturating_sub(before)), value))
}

/// Of the files in a directory whose names begin so.
fn bytes_of(directory: &Path, beginning: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(beginning) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1_000_000.0;
        let Self { size: Size { changes, bound, targets }, .. } = self;
        write!(
            f,
            "flood of {changes} changes in {:.0} s, {targets} dead targets: {:.1} MB resident before, at most {:.1} MB more while they were dead and \
             {:.1} MB more until everything had arrived, bound {:.1} MB; {} changes told, {} overflows; marks left {:?}, directories in place of \
             what was marked in them {:?}; the journal {:.1} MB on disk; arrived and equal after {:.1} s",
            self.making,
            megabytes(self.before),
            megabytes(self.highest.saturating_sub(self.before)),
            megabytes(self.highest_until_equal.saturating_sub(self.before)),
            megabytes(*bound),
            self.told,
            self.overflows,
            self.marks,
            self.degraded,
            megabytes(self.journal),
            self.arrival
        )?;
        match self.kernel {
            Some(kernel) => write!(f, "; the kernel's small allocations grew by {:.1} MB at most", megabytes(kernel)),
            None => Ok(()),
        }
    }
}
