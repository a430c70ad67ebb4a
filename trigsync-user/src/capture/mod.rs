//! Sees every change below the watched roots, and says where to look.
//!
//! A tier is a [`Source`]; [`Capture`] runs one on a thread of its own and is all that the later stages know. What a tier guarantees:
//!
//! - an event is delivered after the operation it tells of, and in the order in which the kernel queued it;
//! - what lies outside every watched root is not delivered;
//! - what the kernel lost is delivered as [`Event::Lost`], never passed over.

mod driver;
pub mod fanotify;

use std::{
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use serde::Serialize;

pub use driver::{Capture, Counters};

use crate::model::{Ops, RelPath, RootId, Scope};

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// `FAN_MARK_FILESYSTEM` with `FAN_REPORT_DFID_NAME`, Linux 5.9 and newer.
    Fanotify,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fanotify => "fanotify",
        })
    }
}

impl Tier {
    /// Kinds of change that this tier cannot see, one sentence each, for `doctor` and the log.
    pub fn not_covered(self) -> &'static [&'static str] {
        match self {
            Self::Fanotify => &[
                "a store through a shared mapping is seen when the file is closed for the last time, not while the mapping lives on",
                "a write through one name of a hard-linked file is told under that name only",
                "a file made with O_TMPFILE is told when it is linked, but not what the same descriptor writes after that",
                "inode flags (chattr) are not told; rsync does not transfer them",
            ],
        }
    }
}

/// A directory to watch, with everything below it on the same file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedRoot {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// Absolute directories inside the root whose changes are never told: the daemon's own state.
    pub hidden: Vec<PathBuf>,
    /// Whether file systems mounted inside the root are watched too.
    pub cross_mounts: bool,
}

/// What a tier delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Something happened at a path.
    Changed {
        /// The watched root.
        root: RootId,
        /// Where below it; the root itself where its own attributes changed.
        path: &'a RelPath,
        /// `Tree` where a directory was moved in or what happened inside is not known.
        scope: Scope,
        /// What was seen.
        ops: Ops,
    },
    /// Events were lost: everything below the root may have changed.
    Lost {
        /// The watched root.
        root: RootId,
    },
    /// The root is no longer the directory that was armed: renamed away, unmounted, deleted, or something is mounted over it.
    RootGone {
        /// The watched root.
        root: RootId,
    },
}

/// Where a tier delivers to. Called on the capture thread: must not block on anything but a short lock.
pub trait Sink: Send {
    /// One event. Borrowed data is valid during the call only.
    fn event(&mut self, event: Event<'_>);

    /// All events that were waiting have been delivered for now.
    fn delivered(&mut self);
}

/// One way to ask the kernel. Implementations need not be thread-safe: one thread owns a source.
pub trait Source: Send {
    /// Which tier this is.
    fn tier(&self) -> Tier;

    /// Starts to watch a root; from the return on no change below it is missed.
    fn add_root(&mut self, id: RootId, root: &WatchedRoot) -> Result<(), CaptureError>;

    /// Stops watching. Events that are still queued are discarded.
    fn remove_root(&mut self, id: RootId);

    /// Readable when events wait.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Bytes of events that wait in the kernel now. Reading as many as this yields every event that was queued before the call.
    fn waiting(&self) -> io::Result<u64>;

    /// Reads once, without blocking, and delivers what it found. Returns the bytes read, 0 when nothing waited.
    fn read(&mut self, sink: &mut dyn Sink) -> io::Result<u64>;

    /// Called about once a second, and whenever the machine's table of mounts changed: finds roots that are gone and file systems
    /// that were mounted inside a root.
    fn check_roots(&mut self, sink: &mut dyn Sink);
}

/// Why a root cannot be watched. Every message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The process lacks a capability.
    #[error("{action} needs {capability}; run trigsync as root, or give it that capability (AmbientCapabilities= in its systemd unit)")]
    Privilege {
        /// What was refused.
        action: &'static str,
        /// `CAP_…`.
        capability: &'static str,
    },
    /// The kernel is too old or was built without the feature.
    #[error("this kernel cannot do it: {what} ({needs})")]
    Kernel {
        /// What was asked.
        what: &'static str,
        /// What would be needed.
        needs: &'static str,
    },
    /// The file system does not support it.
    #[error("the file system of {} cannot be watched with fanotify: {reason}", path.display())]
    FileSystem {
        /// The root.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A system call failed in a way that has no better name.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The capture thread has ended.
    #[error("the capture thread has ended; the log says why")]
    Ended,
}

impl CaptureError {
    /// A failed system call on `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
