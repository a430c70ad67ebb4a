//! Sees every change below the watched roots, and says where to look.
//!
//! A tier is a [`Source`]; [`Capture`] runs one on a thread of its own and is all that the later stages know. What a tier guarantees:
//!
//! - an event is delivered after the operation it tells of, and in the order in which the kernel queued it;
//! - what lies outside every watched root is not delivered;
//! - what the kernel lost is delivered as [`Event::Lost`], never passed over.

pub mod choose;
mod directory;
mod driver;
pub mod ebpf;
pub mod fanotify;
mod mounts;

use std::{
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Serialize;

pub use driver::{Capture, Counters};

use crate::model::{Ops, RelPath, RootId, Scope};

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Trampolines at the return of the kernel's own functions: x86-64 from RHEL 8.3, else Linux 5.5 and newer.
    EbpfFexit,
    /// Probes on entry and return of the same functions: RHEL 8.2 and whatever has no trampolines.
    EbpfKprobe,
    /// `FAN_MARK_FILESYSTEM` with `FAN_REPORT_DFID_NAME`, Linux 5.9 and newer.
    Fanotify,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EbpfFexit => "ebpf-fexit",
            Self::EbpfKprobe => "ebpf-kprobe",
            Self::Fanotify => "fanotify",
        })
    }
}

impl Tier {
    /// From the best to the last resort.
    pub const ALL: [Self; 3] = [Self::EbpfFexit, Self::EbpfKprobe, Self::Fanotify];

    /// Whether the kernel tells of a file once in an epoch, however often it is written: whoever looks at what was told raises the epoch
    /// first ([`Capture::cut`]).
    pub fn folds(self) -> bool {
        matches!(self, Self::EbpfFexit | Self::EbpfKprobe)
    }

    /// Kinds of change that this tier cannot see, one sentence each, for `doctor` and the log.
    pub fn not_covered(self) -> &'static [&'static str] {
        match self {
            Self::EbpfFexit | Self::EbpfKprobe => &[
                "a store through a shared mapping is seen when it makes a clean page dirty, and when the file is closed for the last time; further \
                 stores to a page that is still dirty are not, and on tmpfs the last close only",
                "a write through one name of a hard-linked file is told under that name only",
                "on overlayfs, what sendfile and splice write is seen when the file is closed (Linux 6.8 and newer), and what is written through the \
                 descriptor of an O_TMPFILE after it was linked is not",
            ],
            Self::Fanotify => &[
                "a store through a shared mapping is seen when the file is closed for the last time, not while the mapping lives on",
                "a write through one name of a hard-linked file is told under that name only",
                "a file made with O_TMPFILE is told when it is linked, but not what the same descriptor writes after that",
                "inode flags (chattr) are not told; rsync does not transfer them",
                "on Linux 6.1 and before, what is done through an overlay in its upper directory is not told, where that directory is watched",
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
    /// Names of directories, at any depth, whose changes nobody wants: a tier may drop them, none has to.
    pub excluded: Vec<Vec<u8>>,
    /// Whether changes by this process and its descendants count: another sync's transfers write below this root. Else a tier may drop
    /// them, none has to.
    pub sees_own: bool,
}

impl WatchedRoot {
    /// All of a directory, on its own file system, with the changes of this process.
    pub fn all(path: PathBuf) -> Self {
        Self { path, hidden: Vec::new(), cross_mounts: false, excluded: Vec::new(), sees_own: true }
    }
}

/// Whether a root was watched before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// Changes are seen from now on.
    Began,
    /// The kernel went on seeing while no daemon ran; what it saw, or lost, is delivered next.
    Resumed,
    /// The same, but what the daemon before had read after the [`Position`] that was asked for cannot be read again.
    Gap,
}

/// How far a capture was read that outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The kernel's number of the ring.
    pub ring: u32,
    /// Bytes of it that were read since it was made.
    pub read: u64,
    /// How often something was delivered that is not in the ring, and cannot be read again.
    pub told: u64,
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

    /// Everything until here was delivered: in a capture that outlives the process, and by the clock, where it is known that nothing older
    /// waits.
    fn reached(&mut self, position: Option<Position>, until: Option<SystemTime>) {
        let _ = (position, until);
    }
}

/// One way to ask the kernel. Implementations need not be thread-safe: one thread owns a source.
pub trait Source: Send {
    /// Which tier this is.
    fn tier(&self) -> Tier;

    /// Starts to watch a root; from the return on no change below it is missed.
    fn add_root(&mut self, id: RootId, root: &WatchedRoot) -> Result<Continuity, CaptureError>;

    /// Stops watching. Events that are still queued are discarded.
    fn remove_root(&mut self, id: RootId);

    /// Readable when events wait.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Begins a new epoch: a change that was told before is told again if it happens again.
    fn cut(&mut self) -> io::Result<()>;

    /// Begins a new epoch, and returns the bytes of events that wait in the kernel: reading as many as this yields every event that was
    /// queued before the call, and every loss that the kernel knew of.
    fn barrier(&mut self) -> io::Result<u64>;

    /// Reads once, without blocking, and delivers what it found. Returns the bytes read, 0 when nothing waited.
    fn read(&mut self, sink: &mut dyn Sink) -> io::Result<u64>;

    /// How far it was read, for whoever goes on after this process; `None` where nobody can.
    fn position(&self) -> Option<Position> {
        None
    }

    /// How long to let events gather before the next read, whether or not any is told to wait; `None`: until the source is readable. Asked
    /// before each wait. After a read that found something a source may want a moment, so that a burst does not wake it event by event.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// Called about once a second, and whenever the machine's table of mounts changed: finds roots that are gone and file systems
    /// that were mounted inside a root.
    fn check_roots(&mut self, sink: &mut dyn Sink);
}

/// One thing that `trigsync doctor` tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub subject: String,
    /// Whether it works.
    pub works: bool,
    /// What follows from it, or why it does not work and what would help.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(subject: impl Into<String>, works: bool, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), works, detail: detail.into() }
    }
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
    /// Nothing that may be used works.
    #[error("changes cannot be captured here: {reasons}{remedy}")]
    NothingWorks {
        /// Every tier that was tried, each with its reason.
        reasons: String,
        /// In brackets, where another choice may help.
        remedy: &'static str,
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
    /// What was given for the eBPF tiers is of no use.
    #[error("{what} (leave out {flag}, or give another)")]
    Given {
        /// What is wrong with it.
        what: String,
        /// The flag.
        flag: &'static str,
    },
    /// The kernel could not be surveyed for eBPF.
    #[error(transparent)]
    Layout(#[from] ebpf::layout::LayoutError),
    /// The kernel has not what a tier cannot do without.
    #[error("{0}")]
    Lacks(String),
    /// Changes that were made on purpose were not told, though the programs are attached.
    #[error("the programs are attached, but this kernel does not run them for {0}")]
    Silent(String),
    /// The kernel refused a program that a tier cannot do without.
    #[error("the kernel refused {program} for its function {function}: {why}")]
    Refused {
        /// The program.
        program: String,
        /// The function that it was for.
        function: String,
        /// The system's answer, and the last lines of the verifier's log.
        why: String,
    },
    /// The kernel loads no program for this process, although it has the capabilities.
    #[error("the kernel does not let this process load programs ({why}): {remedy}")]
    Forbidden {
        /// The system's answer.
        why: String,
        /// What to look for.
        remedy: &'static str,
    },
    /// Process numbers mean something else to the kernel.
    #[error(
        "this process is in a pid namespace of its own, where programs in the kernel cannot tell it from others; run trigsync in the host's \
         (podman and docker: --pid=host)"
    )]
    PidNamespace,
    /// The programs are attached, and yet a directory was not told.
    #[error("the programs in the kernel do not tell of {}, although they are attached; try `--backend fanotify`, and report it", path.display())]
    Untold {
        /// The directory.
        path: PathBuf,
    },
    /// Every tier that was asked for has its reason.
    #[error("no eBPF tier can be taken: {}", reasons(.0))]
    NoTier(Vec<(Tier, CaptureError)>),
    /// The capture thread has ended.
    #[error("the capture thread has ended; the log says why")]
    Ended,
}

fn reasons(refused: &[(Tier, CaptureError)]) -> String {
    refused.iter().map(|(tier, error)| format!("{tier}: {error}")).collect::<Vec<_>>().join("; ")
}

impl CaptureError {
    /// A failed system call on `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
