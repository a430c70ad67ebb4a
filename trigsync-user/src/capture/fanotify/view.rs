//! A view is a directory through which a file system's directories are seen: a watched root, or a mount point inside one.
//!
//! Between two reads nothing of the file system is kept open, so that it can be unmounted. A view is opened anew each time, and is only
//! trusted if it still is the directory that was armed.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use nix::{errno::Errno, sys::stat::fstat};

use super::handle::{self, OwnedHandle};
use crate::{
    capture::directory::{is_shortage, open_directory},
    model::{RelPathBuf, RootId},
};

/// What makes a directory the one that was armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub dev: u64,
    pub ino: u64,
    handle: OwnedHandle,
}

impl Identity {
    /// The identity of an open directory, and the number of its mount.
    pub fn of(dir: BorrowedFd<'_>) -> Result<(Self, i32), Errno> {
        let stat = fstat(dir)?;
        let (handle, mount) = handle::of(dir)?;
        Ok((Self { dev: stat.st_dev, ino: stat.st_ino, handle }, mount))
    }

    /// Opens the directory by its handle: the proof that this process may.
    pub fn reopen(&self, dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        self.handle.open(dir)
    }
}

/// A directory through which one file system is seen.
#[derive(Debug)]
pub(super) struct View {
    /// The root that it belongs to.
    pub root: RootId,
    /// Absolute, without symbolic links.
    pub top: PathBuf,
    /// The same, relative to the root.
    pub at: RelPathBuf,
    /// Whether directories on other devices are kept (btrfs subvolumes below this one).
    pub across: bool,
    /// What was armed.
    pub identity: Identity,
    /// Of the file system, as events name it.
    pub fsid: [u8; 8],
}

/// Why a view cannot be used.
#[derive(Debug)]
pub(super) enum Absent {
    /// It is no longer the directory that was armed.
    Gone(Cause),
    /// The machine is short of something; it may work the next time.
    Short(Errno),
}

/// How it was noticed.
#[derive(Debug)]
pub(super) enum Cause {
    Failed(Errno),
    Replaced,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(errno) => write!(f, "{}", errno.desc()),
            Self::Replaced => f.write_str("another directory stands there"),
        }
    }
}

/// A view that is open, and was found to be the directory that was armed.
pub(super) struct Shown<'a> {
    pub view: &'a View,
    pub fd: OwnedFd,
    pub mount: i32,
}

impl AsFd for Shown<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl View {
    pub fn is_root(&self) -> bool {
        self.at.is_root()
    }

    pub fn open(&self) -> Result<Shown<'_>, Absent> {
        let found = open_directory(&self.top).and_then(|fd| Identity::of(fd.as_fd()).map(|(identity, mount)| (fd, identity, mount)));
        match found {
            Ok((fd, identity, mount)) if identity == self.identity => Ok(Shown { view: self, fd, mount }),
            Ok(_) => Err(Absent::Gone(Cause::Replaced)),
            Err(errno) if is_shortage(errno) => Err(Absent::Short(errno)),
            Err(errno) => Err(Absent::Gone(Cause::Failed(errno))),
        }
    }
}
