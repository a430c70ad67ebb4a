//! What a change is, as a table of cases that every capture tier runs.
//!
//! - A case asserts both directions: what must be marked is marked, and nothing else is.
//! - What a tier cannot see, or this kernel cannot do, is told by name as not covered; it never passes.
//! - Needs root and a directory on the file system in question; nothing but the kernel otherwise.

mod aio;
mod attributes;
mod bench;
mod files;
mod folding;
mod limits;
mod mappings;
mod mounts;
mod names;
mod nothing;
mod overlays;
mod places;
mod renames;
mod selection;
pub mod stress;
mod tiers;
mod uring;

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use trigsync::capture::CaptureError;

pub use bench::{Bench, E, T, Want, by_a_stranger, in_child};
pub use tiers::{Blind, EBPF_FEXIT, EBPF_KPROBE, FANOTIFY, FANOTIFY_MOVED, Made, NEEDS, TIERS, Tier, Wish};

use crate::report::{Outcome, Report};

/// One row of the table, or a part of one.
pub struct Case {
    /// Unique.
    pub name: &'static str,
    run: fn(&mut Bench<'_>) -> Result<(), Fault>,
}

/// Why a case did not pass.
#[derive(Debug)]
pub enum Fault {
    /// The tier is wrong.
    Failed(String),
    /// The machine cannot do what the case needs.
    NotCovered(String),
    /// The tier will not watch this root.
    Refused(CaptureError),
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
        Self::Refused(error)
    }
}

/// All cases, in the table's order.
pub fn cases() -> Vec<Case> {
    [
        files::CASES,
        mappings::CASES,
        attributes::CASES,
        names::CASES,
        renames::CASES,
        nothing::CASES,
        aio::CASES,
        uring::CASES,
        places::CASES,
        overlays::CASES,
        mounts::CASES,
        selection::CASES,
        folding::CASES,
        limits::CASES,
    ]
    .concat()
    .into_iter()
    .map(|(name, run)| Case { name, run })
    .collect()
}

type Row = (&'static str, fn(&mut Bench<'_>) -> Result<(), Fault>);

/// Runs cases one after the other on one source: to load programs takes long under an emulator.
struct Runner<'a> {
    tier: &'static Tier,
    wish: &'a Wish,
    made: Made,
}

impl<'a> Runner<'a> {
    fn new(tier: &'static Tier, wish: &'a Wish) -> Result<Self, CaptureError> {
        (tier.check)(wish)?;
        Ok(Self { tier, wish, made: (tier.make)(wish)? })
    }

    /// Runs one case in a new directory below `dir`, and removes that afterwards.
    fn run(&mut self, case: &Case, dir: &Path) -> Outcome {
        let source = &mut self.made.source;
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut bench = Bench::new(self.tier, self.wish, source, dir)?;
            (case.run)(&mut bench)
        }));
        let why = match result {
            Ok(Ok(())) => return Outcome::Passed,
            Ok(Err(Fault::NotCovered(why))) => return Outcome::NotCovered(why),
            Ok(Err(Fault::Refused(error))) if self.tier.may_refuse(&error) => return Outcome::NotCovered(error.to_string()),
            Ok(Err(Fault::Refused(error))) => error.to_string(),
            Ok(Err(Fault::Failed(why))) => why,
            Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
        };
        self.tier.excuse(&self.made.lacks, case.name, dir).map_or(Outcome::Failed(why), Outcome::NotCovered)
    }
}

/// Runs every case whose name holds `only` in each of the directories, and hands each row to `tell` at once. A tier that this kernel cannot
/// have at all is one row for each.
pub fn run_all(tier: &'static Tier, wish: &Wish, dirs: &[PathBuf], only: &str, mut tell: impl FnMut(&Report)) -> Vec<Report> {
    let report = |dir: &Path, case: &str, outcome| Report {
        suite: "conformance",
        tier: tier.name,
        mask: wish.mask.clone(),
        dir: dir.to_owned(),
        case: case.to_owned(),
        outcome,
        figures: Vec::new(),
    };
    let mut reports = Vec::new();
    let mut add = |row: Report| {
        tell(&row);
        reports.push(row);
    };
    match Runner::new(tier, wish) {
        Err(error) => {
            let outcome = if tier.may_refuse(&error) { Outcome::NotCovered } else { Outcome::Failed };
            dirs.iter().for_each(|dir| add(report(dir, "every case", outcome(error.to_string()))));
        }
        Ok(mut runner) => {
            for dir in dirs {
                for case in cases().iter().filter(|case| case.name.contains(only)) {
                    add(report(dir, case.name, runner.run(case, dir)));
                }
            }
        }
    }
    reports
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
