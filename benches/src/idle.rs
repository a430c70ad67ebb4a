//! A daemon that has nothing to do: processor time and wake-ups.

use std::{
    fmt, fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;
use xtask::{interrupt, mirror::Mirror};

use crate::{proc, rsync, tree};

/// Directories of the tree that lies idle.
const DIRECTORIES: u64 = 1000;
/// After the first pass, until the daemon's threads have gone to sleep.
const CALM: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);

/// What idling costs.
#[derive(Serialize)]
pub(crate) struct Idle {
    seconds: f64,
    cpu_percent_of_a_core: f64,
    voluntary_switches_per_second: f64,
}

/// Watches an idle daemon over a small, equal tree.
pub(crate) fn measure(trigsync: &Path, place: &Path, seconds: u64) -> Result<Idle> {
    let (source, target) = (place.join("source"), place.join("target"));
    fs::create_dir(&target)?;
    tree::make_empty_files(&source, DIRECTORIES * 10, 10)?;
    let arguments = ["--source".as_ref(), source.as_os_str(), "--target".as_ref(), target.as_os_str()];
    let mirror = Mirror::start(trigsync, &place.join("state"), arguments, PATIENCE)?;
    mirror.flush(PATIENCE)?;
    rsync::demand_equal(&source, &target.to_string_lossy())?;
    interrupt::sleep(CALM)?;
    let before = proc::usage(mirror.id())?;
    let begun = Instant::now();
    interrupt::sleep(Duration::from_secs(seconds))?;
    let after = proc::usage(mirror.id())?;
    let seconds = begun.elapsed().as_secs_f64();
    mirror.stop()?;
    Ok(Idle {
        seconds,
        cpu_percent_of_a_core: (after.seconds - before.seconds) / seconds * 100.0,
        voluntary_switches_per_second: after.voluntary_switches.saturating_sub(before.voluntary_switches) as f64 / seconds,
    })
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "idle: {:.2} % of a core, {:.1} voluntary context switches a second, over {:.0} s",
            self.cpu_percent_of_a_core, self.voluntary_switches_per_second, self.seconds
        )
    }
}
