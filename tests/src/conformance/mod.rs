//! What a change is, as a table of cases that every capture tier runs.
//!
//! - A case asserts both directions: what must be marked is marked, and nothing else is.
//! - What a tier cannot see, or this kernel cannot do, is told by name as not covered; it never passes.
//! - Needs root and a directory on the file system in question; nothing but the kernel otherwise.

mod bench;
mod files;
mod limits;
mod mounts;
mod names;
mod places;
pub mod stress;
mod uring;

use std::{fmt, io, panic, path::Path};

use nix::errno::Errno;
use trigsync::capture::{CaptureError, Source, fanotify::Fanotify};

pub use bench::{Bench, E, T, Want};

/// A tier, as the cases need it.
pub struct Tier {
    /// As in `--tier`.
    pub name: &'static str,
    /// Makes a source, with a queue without a limit or with the kernel's default.
    pub make: fn(bool) -> Result<Box<dyn Source>, CaptureError>,
    /// Cases it cannot see, and why.
    pub blind: &'static [(&'static str, &'static str)],
}

/// fanotify with `FAN_RENAME` where the kernel has it.
pub const FANOTIFY: Tier = Tier { name: "fanotify", make: |unlimited| Ok(Box::new(Fanotify::new(unlimited)?)), blind: FANOTIFY_BLIND };

/// fanotify as on kernels without `FAN_RENAME`.
pub const FANOTIFY_MOVED: Tier = Tier {
    name: "fanotify-moved",
    make: |unlimited| Ok(Box::new(Fanotify::new(unlimited)?.without_rename_event())),
    blind: FANOTIFY_BLIND,
};

const FANOTIFY_BLIND: &[(&str, &str)] = &[
    ("a store through a living mapping", "fanotify tells of a mapping when its file is closed for the last time"),
    ("FS_IOC_SETFLAGS", "the kernel tells fanotify nothing of inode flags; rsync does not transfer them"),
    ("written after O_TMPFILE was linked", "the kernel goes on calling the file by its number while that descriptor lives"),
    ("written through one of two names", "the kernel tells of the name that was opened only"),
];

/// Every tier there is.
pub const TIERS: &[Tier] = &[FANOTIFY, FANOTIFY_MOVED];

/// One row of the table, or a part of one.
pub struct Case {
    /// Unique.
    pub name: &'static str,
    run: fn(&mut Bench) -> Result<(), Fault>,
}

/// Why a case did not pass.
#[derive(Debug)]
pub enum Fault {
    /// The tier is wrong.
    Failed(String),
    /// The machine cannot do what the case needs.
    NotCovered(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.to_string())
    }
}

impl From<CaptureError> for Fault {
    fn from(error: CaptureError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What became of a case.
#[derive(Debug)]
pub enum Outcome {
    /// What must be marked was marked, and nothing else.
    Passed,
    /// Why not.
    Failed(String),
    /// Why it could not be asked.
    NotCovered(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::NotCovered(why) => write!(f, "not covered: {why}"),
        }
    }
}

/// All cases, in the table's order.
pub fn cases() -> Vec<Case> {
    [files::CASES, names::CASES, uring::CASES, places::CASES, mounts::CASES, limits::CASES]
        .concat()
        .into_iter()
        .map(|(name, run)| Case { name, run })
        .collect()
}

type Row = (&'static str, fn(&mut Bench) -> Result<(), Fault>);

/// Runs one case in a new directory below `dir`, and removes that afterwards.
pub fn run(tier: &Tier, case: &Case, dir: &Path) -> Outcome {
    let result = panic::catch_unwind(|| {
        let mut bench = Bench::new(tier, dir)?;
        (case.run)(&mut bench)
    });
    let blind = tier.blind.iter().find(|(name, _)| *name == case.name);
    match (result, blind) {
        (Ok(Ok(())), _) => Outcome::Passed,
        (Ok(Err(Fault::NotCovered(why))), _) => Outcome::NotCovered(why),
        (Ok(Err(Fault::Failed(_))), Some((_, why))) => Outcome::NotCovered((*why).to_owned()),
        (Ok(Err(Fault::Failed(why))), None) => Outcome::Failed(why),
        (Err(_), _) => Outcome::Failed("it panicked".to_owned()),
    }
}

/// Runs every case and prints a row for each. Returns the names of those that failed.
pub fn run_all(tier: &Tier, dir: &Path) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for case in cases() {
        let outcome = run(tier, &case, dir);
        println!("{:<16} {:<60} {outcome}", tier.name, case.name);
        if matches!(outcome, Outcome::Failed(_)) {
            failed.push(case.name);
        }
    }
    failed
}
