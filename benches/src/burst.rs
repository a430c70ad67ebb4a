//! A burst of new files in many directories: until all have arrived, against writing them and one rsync run of the same list to the
//! same kind of target. Runs of the two kinds alternate, on trees that are equal and grow equally.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;
use xtask::{interrupt, mirror::Mirror};

use crate::{
    rsync,
    side::{Kind, Side},
    statistics::median,
    tree,
};

/// New files in each directory.
const FILES_PER_DIRECTORY: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(600);

/// How much is written, and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: usize,
    pub(crate) repetitions: usize,
}

/// What a burst took, in seconds.
#[derive(Serialize)]
pub(crate) struct Burst {
    target: Kind,
    size: Size,
    writing_and_rsync_alone: Vec<f64>,
    writing_and_flush: Vec<f64>,
    /// Median of the second by median of the first.
    ratio: f64,
    /// Of the whole measurement: rsync processes that the daemon started, and overflows of the kernel's queue.
    processes: u64,
    overflows: u64,
}

/// Measures bursts of `size` to a target of `kind`.
pub(crate) fn measure(trigsync: &Path, place: &Path, kind: Kind, size: Size) -> Result<Burst> {
    let directories = size.files.div_ceil(FILES_PER_DIRECTORY);
    let alone = Side::make(&place.join("alone"), kind, directories)?;
    let mirrored = Side::make(&place.join("mirrored"), kind, directories)?;
    let arguments = ["--source".as_ref(), mirrored.source.as_os_str(), "--target".as_ref(), mirrored.target.as_ref()];
    let mirror = Mirror::start(trigsync, &place.join("state"), arguments, PATIENCE)?;
    mirror.flush(PATIENCE)?;
    let before = mirror.status()?.target()?.processes;

    let (mut writing_and_rsync_alone, mut writing_and_flush) = (Vec::new(), Vec::new());
    // The first run of each kind finds cold caches and directories without room for names: it warms, and does not count.
    for repetition in 0..=size.repetitions {
        let paths = paths(repetition, size.files);
        let floor = timed(|| {
            write(&alone.source, &paths, size.bytes)?;
            rsync::send(&alone.source, &alone.target, &paths)
        })?;
        let burst = timed(|| {
            write(&mirrored.source, &paths, size.bytes)?;
            mirror.flush(PATIENCE)
        })?;
        rsync::demand_equal(&alone.source, &alone.target)?;
        rsync::demand_equal(&mirrored.source, &mirrored.target)?;
        if repetition > 0 {
            writing_and_rsync_alone.push(floor);
            writing_and_flush.push(burst);
        }
    }
    let after = mirror.status()?;
    mirror.stop()?;
    Ok(Burst {
        target: kind,
        size,
        ratio: median(&writing_and_flush) / median(&writing_and_rsync_alone),
        writing_and_rsync_alone,
        writing_and_flush,
        processes: after.target()?.processes.saturating_sub(before),
        overflows: after.capture.overflows,
    })
}

/// Seconds of one run. What earlier runs left to be written to the disk is written before, so that it does not count here.
fn timed(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    nix::unistd::sync();
    interrupt::check()?;
    let begun = Instant::now();
    run()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// The names of one burst, in rsync's order, none of them used by another burst.
fn paths(repetition: usize, files: u64) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        (0..files).map(|number| tree::directory(number / FILES_PER_DIRECTORY).join(format!("burst-{repetition}-{number}"))).collect();
    paths.sort();
    paths
}

fn write(root: &Path, paths: &[PathBuf], bytes: usize) -> Result<()> {
    let content = vec![b'x'; bytes];
    for path in paths {
        fs::write(root.join(path), &content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "burst of {} files to {}: {:.2} s until all arrived, {:.2} s for writing them and one rsync: ratio {:.2} (medians of {}); \
             {} rsync processes, {} overflows",
            self.size.files,
            self.target,
            median(&self.writing_and_flush),
            median(&self.writing_and_rsync_alone),
            self.ratio,
            self.size.repetitions,
            self.processes,
            self.overflows
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_names_of_their_own() {
        let (first, second) = (paths(0, 25), paths(1, 25));
        assert_eq!(first.len(), 25);
        assert!(first.iter().all(|path| !second.contains(path)));
        assert!(first.is_sorted());
        assert_eq!(first.iter().filter_map(|path| path.parent()).collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}
