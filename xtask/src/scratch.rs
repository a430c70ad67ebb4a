//! A temporary directory on a file system that fanotify can watch.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::statfs::{self, FsType};
use tempfile::TempDir;

/// File systems whose file handles fanotify can report; in a container `/tmp` is often overlayfs, which cannot.
const WATCHABLE: [FsType; 3] = [statfs::EXT4_SUPER_MAGIC, statfs::XFS_SUPER_MAGIC, statfs::TMPFS_MAGIC];

/// A new directory, removed when dropped: in `TMPDIR` or `/tmp` where that can be watched, else in the next place that can.
pub fn directory() -> Result<TempDir> {
    let usual = std::env::temp_dir();
    let places = [usual.clone(), PathBuf::from("/var/tmp"), PathBuf::from("/dev/shm"), PathBuf::from("/run")];
    let place = places.into_iter().find(|place| is_watchable(place)).unwrap_or(usual);
    directory_in(&place)
}

/// A new directory in `place`, removed when dropped.
pub fn directory_in(place: &Path) -> Result<TempDir> {
    tempfile::Builder::new().prefix("trigsync-").tempdir_in(place).with_context(|| format!("no temporary directory in {}", place.display()))
}

fn is_watchable(place: &Path) -> bool {
    statfs::statfs(place).is_ok_and(|file_system| WATCHABLE.contains(&file_system.filesystem_type()))
}
