//! The catch-up scan: finds what changed in a source while nothing captured, by the change times of what stands there.
//!
//! - Where a target was equal at the cutoff, and what the marks cover is made equal, it is equal again: contents, attributes, deletions, and
//!   what was moved in with times that are old. What changes while the scan runs is the business of a capture that was armed before it.
//! - Nothing is written, and no content is read: every entry is looked at once.
//! - No symbolic link is followed, nothing that is excluded is gone into, and no other file system unless `cross_mounts` says so.
//! - What cannot be read becomes a mark, and never ends the scan.
//! - One descriptor for each thread, and memory for the directories that wait to be read: the siblings on the ways down.
//!
//! Times can tell neither of a mount that came or went ([`Summary::mounts`]), nor of a file system that was restored as a whole, nor of what
//! was changed while the clock was wrong by more than [`SLACK`], nor of stores through a mapping of tmpfs, which has no times for them.

pub(crate) mod directory;
mod progress;
mod rule;
mod stack;
mod times;
mod walk;

use std::{
    io,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    sync::Mutex,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

pub use progress::{Counts, Progress, Summary};

use crate::{
    config::Filter,
    model::{Mark, RelPathBuf},
};
use directory::{Opener, look};
use rule::{Due, Holder, Kind, due};
use stack::Stack;
use times::Times;
use walk::{Directory, Walk};

/// How far before the moment at which everything older had arrived a scan's cutoff has to be:
///
/// - Kernels stamp changes with a clock that advances only with the timer, every 1 to 10 ms
///   ([`current_time`](https://docs.kernel.org/filesystems/multigrain-ts.html)): a change may bear a time before that at which it was made.
/// - File systems with small inodes (ext3, ext4 with 128 bytes) keep whole seconds, rounded down.
/// - A store through a shared mapping renews the time only where its page was clean. A page stays dirty until it is written back, by default
///   half a minute and a few seconds after it became so: up to then, later stores bear the time of the first.
/// - A clock that is set is set back by less than that, or somebody should look at it.
pub const SLACK: Duration = Duration::from_secs(60);

/// More threads than processors, where those are few: most of the time is spent waiting for a disk, if that has to be read.
const THREADS: std::ops::RangeInclusive<usize> = 4..=8;

/// A scan that is due.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The source, opened by whoever has checked that it is the directory that was watched.
    pub root: BorrowedFd<'a>,
    /// What is left alone.
    pub filter: &'a Filter,
    /// Whether mounts inside the source are gone into.
    pub cross_mounts: bool,
    /// What has changed before this, by the wall clock, has arrived: [`SLACK`] is subtracted already.
    pub cutoff: SystemTime,
    /// How many threads look.
    pub threads: NonZeroUsize,
}

/// Why there is no scan, or only a part of one. The marks that were made stand; they are not enough.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Now is before the cutoff.
    #[error(
        "the clock was set back to before the last moment at which everything had arrived; compare everything (`--initial-sync always`)"
    )]
    Clock,
    /// Nothing is known of how it keeps its times.
    #[error(
        "file systems of this type ({kind}) are not known to keep change times by this machine's clock; \
         compare everything (`--initial-sync always`)"
    )]
    Times {
        /// What `statfs` calls its type.
        kind: String,
    },
    /// The source cannot be looked at.
    #[error("the source cannot be read: check its permissions and its disk")]
    Root(#[source] io::Error),
    /// It was told to stop.
    #[error("the scan was stopped before it had seen everything")]
    Stopped,
}

impl From<Errno> for ScanError {
    fn from(errno: Errno) -> Self {
        Self::Root(errno.into())
    }
}

/// Threads for a scan on this machine.
pub fn threads() -> NonZeroUsize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors.clamp(*THREADS.start(), *THREADS.end())).expect("the range begins above zero")
}

impl Scan<'_> {
    /// Looks through the source, and hands over each mark when it is found: in no order, and from several threads. Blocks until it is done.
    pub fn run(&self, progress: &Progress, stop: &CancellationToken, found: impl Fn(Mark) + Sync) -> Result<Summary, ScanError> {
        let begun = Instant::now();
        if SystemTime::now() < self.cutoff {
            return Err(ScanError::Clock);
        }
        let opener = Opener::new(self.root);
        let path = RelPathBuf::root();
        let root = opener.open(&path)?;
        let silent = match Times::of(&root) {
            Times::All => false,
            Times::NoExchanges => true,
            Times::Doubtful(kind) => return Err(ScanError::Times { kind }),
        };
        let look = look(&root, c".")?;
        drop(root);
        let cutoff = times::moment(self.cutoff);
        let new = look.changed.is_none_or(|changed| changed >= cutoff);
        let Due { mark, .. } = due(Kind::Directory, new, Holder::NONE);

        let walk = Walk {
            opener,
            filter: self.filter,
            only: (!self.cross_mounts).then_some(look.device),
            cutoff,
            progress,
            stop,
            found,
            stack: Stack::new(Directory { path: path.clone(), holder: Holder { new, silent }, device: look.device, mounted: false }),
            mounts: Mutex::default(),
        };
        if let Some((scope, ops)) = mark {
            walk.mark(path, scope, ops);
        }
        thread::scope(|scope| {
            for _ in 1..self.threads.get() {
                // Where there are no more threads to be had, those that there are do it all.
                if thread::Builder::new().name("scan".to_owned()).spawn_scoped(scope, || walk.work()).is_err() {
                    break;
                }
            }
            walk.work();
        });
        if stop.is_cancelled() {
            return Err(ScanError::Stopped);
        }
        let mut mounts = walk.mounts.into_inner().expect("nothing panics under the lock");
        mounts.sort();
        Ok(Summary { counts: progress.counts(), duration: begun.elapsed(), mounts })
    }
}
