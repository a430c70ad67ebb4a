//! Memory of a daemon over a large idle tree: as it starts, and after a full pass went over it.

use std::{fmt, fs, path::Path, time::Duration};

use anyhow::Result;
use serde::Serialize;
use xtask::{interrupt, mirror::Mirror};

use crate::{
    proc::{self, Resident},
    rsync, tree,
};

/// Files in each directory of the tree.
const FILES_PER_DIRECTORY: u64 = 100;
/// Until freed memory has gone back.
const CALM: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(3600);

/// Resident memory of the daemon; the rsync that it runs is not counted.
#[derive(Serialize)]
pub(crate) struct Memory {
    files: u64,
    without_full_pass: Resident,
    after_full_pass: Resident,
}

/// Makes a tree of `files` empty files and measures a daemon over it twice, to an empty local target.
pub(crate) fn measure(trigsync: &Path, place: &Path, files: u64) -> Result<Memory> {
    let (source, target) = (place.join("source"), place.join("target"));
    fs::create_dir(&target)?;
    tree::make_empty_files(&source, files, FILES_PER_DIRECTORY)?;
    let arguments = ["--source".as_ref(), source.as_os_str(), "--target".as_ref(), target.as_os_str(), "--initial-sync".as_ref()];
    let state = place.join("state");

    let mirror = Mirror::start(trigsync, &state, arguments.iter().chain(&["never".as_ref()]), PATIENCE)?;
    mirror.flush(PATIENCE)?;
    interrupt::sleep(CALM)?;
    let without_full_pass = proc::resident(mirror.id())?;
    mirror.stop()?;

    let mirror = Mirror::start(trigsync, &state, arguments.iter().chain(&["always".as_ref()]), PATIENCE)?;
    while !mirror.status()?.target()?.is_settled() {
        interrupt::sleep(Duration::from_secs(1))?;
    }
    mirror.flush(PATIENCE)?;
    interrupt::sleep(CALM)?;
    let after_full_pass = proc::resident(mirror.id())?;
    rsync::demand_equal(&source, &target.to_string_lossy())?;
    mirror.stop()?;
    Ok(Memory { files, without_full_pass, after_full_pass })
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1_000_000.0;
        write!(
            f,
            "memory over {} files: {:.1} MB resident (highest {:.1}); after a full pass {:.1} MB (highest {:.1})",
            self.files,
            megabytes(self.without_full_pass.now),
            megabytes(self.without_full_pass.highest),
            megabytes(self.after_full_pass.now),
            megabytes(self.after_full_pass.highest)
        )
    }
}
