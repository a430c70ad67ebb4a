//! Files one at a time, and a hundred a second: from the return of the last system call to the file at the target.
//!
//! Beside it, in turns, one bare rsync of the same list to the same kind of target, which is started at that moment.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;
use xtask::{interrupt, mirror::Mirror};

use crate::{
    delays::{Arrivals, Delays},
    rsync,
    side::{Kind, Side},
    tree,
};

/// Directories of the tree, of which one is written to.
const DIRECTORIES: u64 = 100;
/// Between two files: the lane is idle again.
const PAUSE: Duration = Duration::from_millis(300);
/// Between two changes of many.
const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Serialize)]
pub(crate) struct Single {
    target: Kind,
    rsync_alone: Delays,
    idle: Delays,
    /// Median of the second by median of the first.
    ratio_p50: f64,
    /// The second's 99th percentile by the first's median.
    ratio_p99: f64,
    steady: Delays,
    /// The 99th percentile of many by that of single ones.
    steady_ratio_p99: f64,
    processes_per_change: f64,
}

/// Measures `files` single files, and then a hundred a second for `seconds`.
pub(crate) fn measure(trigsync: &Path, place: &Path, kind: Kind, files: u64, seconds: u64) -> Result<Single> {
    let alone = Side::make(&place.join("alone"), kind, DIRECTORIES)?;
    let mirrored = Side::make(&place.join("mirrored"), kind, DIRECTORIES)?;
    let arguments = ["--source".as_ref(), mirrored.source.as_os_str(), "--target".as_ref(), mirrored.target.as_ref()];
    let mirror = Mirror::start(trigsync, &place.join("state"), arguments, PATIENCE)?;
    mirror.flush(PATIENCE)?;
    let mut arrivals =
        [Arrivals::watch(&alone.served.join(tree::directory(0)))?, Arrivals::watch(&mirrored.served.join(tree::directory(0)))?];

    let (mut bare, mut idle) = (Vec::new(), Vec::new());
    for number in 0..files {
        interrupt::check()?;
        let (name, path) = named("single", number);
        thread::sleep(PAUSE);
        let written = write(&alone.source, &path)?;
        rsync::send(&alone.source, &alone.target, std::slice::from_ref(&path))?;
        bare.push(arrivals[0].of(&name, PATIENCE)?.saturating_duration_since(written));
        thread::sleep(PAUSE);
        let written = write(&mirrored.source, &path)?;
        idle.push(arrivals[1].of(&name, PATIENCE)?.saturating_duration_since(written));
    }

    let before = mirror.status()?.target()?.processes;
    let changes = seconds * 100;
    let begun = Instant::now();
    let source = mirrored.source.clone();
    let writer = thread::spawn(move || -> Result<Vec<Instant>> {
        let write = |number| {
            let at = begun + PACE * u32::try_from(number)?;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            write(&source, &named("steady", number).1)
        };
        (0..changes).map(write).collect()
    });
    let arrived: Vec<_> = (0..changes).map(|number| arrivals[1].of(&named("steady", number).0, PATIENCE)).collect::<Result<_>>()?;
    let written = writer.join().expect("the writer does not panic")?;
    let steady: Vec<_> = written.into_iter().zip(arrived).map(|(written, arrived)| arrived.saturating_duration_since(written)).collect();
    mirror.flush(PATIENCE)?;
    let processes = mirror.status()?.target()?.processes - before;
    rsync::demand_equal(&alone.source, &alone.target)?;
    rsync::demand_equal(&mirrored.source, &mirrored.target)?;
    mirror.stop()?;
    let (rsync_alone, idle, steady) = (Delays::of(&bare), Delays::of(&idle), Delays::of(&steady));
    Ok(Single {
        target: kind,
        ratio_p50: idle.p50 / rsync_alone.p50,
        ratio_p99: idle.p99 / rsync_alone.p50,
        steady_ratio_p99: steady.p99 / idle.p99,
        processes_per_change: processes as f64 / changes as f64,
        rsync_alone,
        idle,
        steady,
    })
}

fn named(what: &str, number: u64) -> (String, PathBuf) {
    let name = format!("{what}-{number}");
    let path = tree::directory(0).join(&name);
    (name, path)
}

/// Writes a small file, and tells when that was done.
fn write(root: &Path, path: &Path) -> Result<Instant> {
    fs::write(root.join(path), "a small file\n").with_context(|| format!("writing {}", path.display()))?;
    Ok(Instant::now())
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "one file at a time to {}: {}", self.target, self.idle)?;
        writeln!(f, "  one bare rsync for each:  {}", self.rsync_alone)?;
        writeln!(f, "  ratio of the medians {:.3}; of the 99th percentile to the median {:.3}", self.ratio_p50, self.ratio_p99)?;
        write!(
            f,
            "  a hundred a second: {}; 99th percentiles {:.1} to 1; {:.2} rsync processes for each change",
            self.steady, self.steady_ratio_p99, self.processes_per_change
        )
    }
}
