//! Turns a batch of marks into runs of rsync, by looking at the source.
//!
//! - What exists is listed; what does not is listed at its topmost missing path, so that a deleted tree is one deletion.
//! - No symbolic link is followed below the root: where a parent has become a link or a file, that parent is listed instead.
//! - Nothing that the filter excludes is listed, and a missing path that may have been an excluded directory is left alone.
//! - The root is opened first and must be the directory that was armed.

mod lookup;
mod runs;

use std::{
    collections::BTreeSet,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::{Mode, fstat},
};

use lookup::{Found, Lookup};
pub use runs::{Gone, Item, Plan, PlannedRun, plan, settled};

use crate::{
    config::{BatchLimits, Filter, InPlace},
    model::RelPathBuf,
};

/// What a plan goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// What is left alone.
    pub filter: &'a Filter,
    /// How much one rsync gets.
    pub limits: &'a BatchLimits,
    /// Files that are written into the target's own.
    pub inplace: &'a InPlace,
}

/// Which directory a root is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootIdentity {
    device: u64,
    inode: u64,
}

/// Why the root cannot be worked on. Nothing may be sent or deleted.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is not there, or cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Open {
        /// The root.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another directory stands in its place.
    #[error("{} is another directory than the one that was watched: it was replaced, unmounted or mounted over", path.display())]
    Replaced {
        /// The root.
        path: PathBuf,
    },
}

impl RootError {
    /// Whether it says nothing about the root: this process, or the system, is short of something for now.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.raw_os_error().is_some_and(|code| is_shortage(Errno::from_raw(code))))
    }
}

/// Want of descriptors or memory: what was asked about may be there or not.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
}

/// Where these paths end now, below a root: each itself, or its topmost parent that is missing or no directory. Those that cannot be looked
/// at for want of descriptors are left out.
///
/// What is compared by name has to be named so: rsync would follow a parent that has become a symbolic link.
pub fn standing(root: OwnedFd, paths: BTreeSet<RelPathBuf>) -> BTreeSet<RelPathBuf> {
    let mut lookup = Lookup::new(root);
    let end = |path: RelPathBuf| match lookup.find(&path) {
        Found::Present(_) => Some(path),
        Found::Blocked(end) | Found::Missing(end) => Some(end),
        Found::Unknown => None,
    };
    paths.into_iter().filter_map(end).collect()
}

/// Opens the root and tells which directory it is.
pub fn open_root(path: &Path) -> Result<(OwnedFd, RootIdentity), RootError> {
    let failed = |errno: nix::Error| RootError::Open { path: path.to_owned(), source: errno.into() };
    let root = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    let stat = fstat(&root).map_err(failed)?;
    Ok((root, RootIdentity { device: stat.st_dev, inode: stat.st_ino }))
}

/// Opens the root if it still is the directory `identity`.
pub fn open_same_root(path: &Path, identity: RootIdentity) -> Result<OwnedFd, RootError> {
    let (root, found) = open_root(path)?;
    if found != identity {
        return Err(RootError::Replaced { path: path.to_owned() });
    }
    Ok(root)
}
