//! What a mirrored tree costs: `cargo xtask bench -- --help`.
//!
//! - Times are told as ratios to the same work done by rsync alone, in alternating runs.
//! - A figure counts only after the target was compared with the source, byte for byte, and found equal.
//! - Needs root, and the disk and inodes for the trees that it makes; removes them again, on Ctrl-C too.

mod burst;
mod delays;
mod flood;
mod idle;
mod machine;
mod memory;
mod proc;
mod rsync;
mod scan;
mod side;
mod single;
mod statistics;
mod tree;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use tempfile::TempDir;
use xtask::{interrupt, scratch};

/// Measures the daemon beside rsync alone.
#[derive(Parser)]
#[command(name = "cargo xtask bench --", bin_name = "cargo xtask bench --")]
struct Options {
    /// The binary to measure; `cargo xtask bench` gives the release build.
    #[arg(long)]
    trigsync: PathBuf,
    /// What to measure; may be given several times. Everything where it is not given.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Entries in the tree whose memory is measured, 100 files to a directory.
    #[arg(long, default_value_t = 1_000_000)]
    files: u64,
    /// Files in the tree that is scanned, 100 to a directory. The target takes as many again.
    #[arg(long, default_value_t = 200_000)]
    scan_files: u64,
    /// New files of a burst, 10 to a directory.
    #[arg(long, default_value_t = 20_000)]
    burst_files: u64,
    /// Bytes in each file of a burst.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// How long the idle daemon is watched, and how long a hundred files are written a second.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Files that are written one at a time.
    #[arg(long, default_value_t = 100)]
    singles: u64,
    /// Changes of a flood, some nine of twenty of them deletions.
    #[arg(long, default_value_t = 1_000_000)]
    flood_changes: u64,
    /// The daemon's `memory` in a flood, in bytes.
    #[arg(long, default_value_t = 512 << 20)]
    flood_memory: u64,
    /// Targets that are dead in a flood.
    #[arg(long, default_value_t = 1)]
    flood_targets: u64,
    /// Where the trees are made. A temporary directory on a file system that fanotify can watch where it is not given.
    #[arg(long)]
    place: Option<PathBuf>,
    /// Writes every figure as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Processor time and wake-ups of a daemon that has nothing to do.
    Idle,
    /// Memory of a daemon over a large idle tree, without and with a full pass.
    Memory,
    /// A burst of new files against writing them and one rsync of the same list, to a local directory.
    BurstLocal,
    /// The same to an rsync daemon.
    BurstDaemon,
    /// Single files, and a hundred a second, to a local directory, beside one bare rsync for each.
    SingleLocal,
    /// The same to an rsync daemon.
    SingleDaemon,
    /// A catch-up scan over a quiet tree, beside one `rsync -a --delete` over it.
    Scan,
    /// Memory while changes flood a daemon whose targets are dead; an error where it exceeds the bound.
    Flood,
}

impl Options {
    fn scenarios(&self) -> &[Scenario] {
        if self.scenario.is_empty() { Scenario::value_variants() } else { &self.scenario }
    }

    fn scratch(&self) -> Result<TempDir> {
        self.place.as_deref().map_or_else(scratch::directory, scratch::directory_in)
    }
}

/// Every figure of a run.
#[derive(Default, Serialize)]
struct Report {
    machine: machine::Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<idle::Idle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<memory::Memory>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bursts: Vec<burst::Burst>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    singles: Vec<single::Single>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<scan::Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flood: Option<flood::Flood>,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    interrupt::watch()?;
    let mut report = Report { machine: machine::Machine::this(&options.trigsync)?, ..Report::default() };
    println!("{}", report.machine);
    for scenario in options.scenarios() {
        // A directory for each, so that a large tree is gone before the next begins.
        let place = options.scratch()?;
        match scenario {
            Scenario::Idle => {
                let idle = idle::measure(&options.trigsync, place.path(), options.seconds)?;
                println!("{idle}");
                report.idle = Some(idle);
            }
            Scenario::Memory => {
                let memory = memory::measure(&options.trigsync, place.path(), options.files)?;
                println!("{memory}");
                report.memory = Some(memory);
            }
            Scenario::BurstLocal | Scenario::BurstDaemon => {
                let kind = if *scenario == Scenario::BurstLocal { side::Kind::Local } else { side::Kind::Daemon };
                let size = burst::Size { files: options.burst_files, bytes: options.bytes, repetitions: options.repetitions };
                let burst = burst::measure(&options.trigsync, place.path(), kind, size)?;
                println!("{burst}");
                report.bursts.push(burst);
            }
            Scenario::SingleLocal | Scenario::SingleDaemon => {
                let kind = if *scenario == Scenario::SingleLocal { side::Kind::Local } else { side::Kind::Daemon };
                let single = single::measure(&options.trigsync, place.path(), kind, options.singles, options.seconds)?;
                println!("{single}");
                report.singles.push(single);
            }
            Scenario::Scan => {
                let scan = scan::measure(place.path(), options.scan_files, options.repetitions)?;
                println!("{scan}");
                report.scan = Some(scan);
            }
            Scenario::Flood => {
                let size = flood::Size { changes: options.flood_changes, bound: options.flood_memory, targets: options.flood_targets };
                let flood = flood::measure(&options.trigsync, place.path(), size)?;
                println!("{flood}");
                report.flood = Some(flood);
            }
        }
    }
    if let Some(out) = &options.out {
        fs::write(out, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", out.display()))?;
    }
    Ok(())
}
