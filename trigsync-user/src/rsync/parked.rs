//! An rsync that is started before there is anything to send: it connects, and waits for its list on standard input.
//!
//! - It enters the source when it is ready for the list. So its working directory tells whether it is, and which directory it would send from,
//!   whatever stands at the source's path by now.
//! - It does not notice that the other side has hung up. So its connection is looked at before it is used.
//! - Where the target is a directory of this machine, that is still the one at its path: the receiver has entered it too.
//! - Ended by the end of its input, it has got an empty list: neither side takes that for an error.

use std::{
    collections::HashSet,
    fs,
    future::pending,
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Compare, Deletions, Missing, Route, Rsync, Run, TERMINATE_GRACE, Work,
    classify::Findings,
    process::{Exit, Process},
};
use crate::config::TargetAddress;

/// What a parked rsync can do: send a list of names, and delete those that are missing.
const WORK: Work = Work::Entries(Compare::Changed);

/// An rsync that waits for its list.
#[derive(Debug)]
pub struct Parked {
    rsync: Rsync,
    process: Process,
    since: Instant,
    /// Of a target on this machine: its path, and which directory stood there.
    target: Option<(PathBuf, Place)>,
    /// It was seen to be ready.
    was_ready: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is about to be ready.
    Connecting,
    /// It waits for its list.
    Ready,
    /// The other side has.
    HungUp,
    /// It would send from, or to, another directory than the one that stands at the path now.
    Elsewhere,
    /// It has ended by itself, or somebody has ended it.
    Ended,
}

/// Which directory something is: its device and inode.
type Place = (u64, u64);

fn place(path: &Path) -> Option<Place> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Parked {
    /// Whether it does what such a run is told.
    pub fn does(work: Work, deletions: Deletions, missing: Missing) -> bool {
        (work, deletions, missing) == (WORK, Deletions::Allowed, Missing::Delete)
    }

    /// How long it has waited.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What has become of it, where `source` is the directory to send from.
    pub fn condition(&mut self, source: impl AsFd) -> Condition {
        if self.process.has_ended() {
            return Condition::Ended;
        }
        let Some(pid) = self.process.id() else { return Condition::Ended };
        if self.target.as_ref().is_some_and(|(path, was)| place(path) != Some(*was)) {
            return Condition::Elsewhere;
        }
        // One that is about to end stands nowhere any more.
        let Some(stands) = place(Path::new(&format!("/proc/{pid}/cwd"))) else { return Condition::Ended };
        let is_there = rustix::fs::fstat(source).is_ok_and(|source| stands == (source.st_dev, source.st_ino));
        self.was_ready |= is_there;
        match (is_there, self.was_ready) {
            (true, _) if is_cut_off(pid) => Condition::HungUp,
            (true, _) => Condition::Ready,
            (false, true) => Condition::Elsewhere,
            (false, false) => Condition::Connecting,
        }
    }

    /// Runs it to its end with this list.
    pub async fn run(self, route: &Route<'_>, list: Vec<u8>, stop: &CancellationToken) -> Answer {
        let mut findings = Findings::new(route, None);
        let exit = if stop.is_cancelled() {
            Exit::Stopped
        } else {
            self.rsync.attend(route, self.process, list, stop, |line| findings.line(line)).await
        };
        findings.answer(exit)
    }

    /// Whether it was ever seen to be ready.
    pub fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// Ends it. One that had ended by itself says why.
    pub async fn end(mut self, route: &Route<'_>) -> Option<Answer> {
        let by_itself = self.process.has_ended();
        let mut findings = Findings::new(route, None);
        let stop = CancellationToken::new();
        let ending = self.process.finish(Vec::new(), &stop, pending(), |line| findings.line(line));
        // One that hangs is dropped.
        let exit = timeout(TERMINATE_GRACE, ending).await;
        exit.ok().filter(|_| by_itself).map(|exit| findings.answer(exit))
    }
}

impl Rsync {
    /// Starts an rsync that waits for its list. Fails with the reason where that cannot be; the target is not asked.
    pub fn park(&self, route: &Route<'_>) -> Result<Parked, String> {
        let run = Run { work: WORK, deletions: Deletions::Allowed, missing: Missing::Delete, list: Vec::new(), progress: None };
        let arguments = self.arguments(route, &run)?;
        let target = match &route.target.address {
            TargetAddress::Local(path) => {
                let place = place(path).ok_or_else(|| format!("{} is not there", path.display()))?;
                Some((path.clone(), place))
            }
            TargetAddress::Ssh { .. } | TargetAddress::Daemon { .. } => None,
        };
        let source = place(route.source);
        let process = if place(Path::new(".")) == source {
            // It would seem to be ready from the beginning.
            if !route.target.options.is_empty() {
                return Err("the daemon stands in the source, and `options` may have paths that begin there".to_owned());
            }
            let elsewhere = ["/", "/dev"].map(Path::new).into_iter().find(|path| place(path) != source);
            let elsewhere = elsewhere.ok_or("there is no other directory")?;
            Process::start_in(elsewhere, self.binary(), &arguments)
        } else {
            Process::start(self.binary(), &arguments)
        };
        let process = process.map_err(|error| format!("{} cannot be started: {error}", self.binary().display()))?;
        Ok(Parked { rsync: self.clone(), process, since: Instant::now(), target, was_ready: false })
    }
}

/// Whether somebody other than us has hung up on a process. False where the kernel does not tell (before 5.6).
fn is_cut_off(pid: u32) -> bool {
    let pidfd = i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(pidfd) = pidfd else { return false };
    // Its own input and outputs lead to us, and what we were started with was handed down to it.
    let ours: HashSet<PathBuf> = connections("self").map(|(_, connection)| connection).collect();
    let copies: Vec<OwnedFd> = connections(&pid.to_string())
        .filter(|(_, connection)| !ours.contains(connection))
        .filter_map(|(number, _)| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok())
        .collect();
    // There may be something to read: a daemon tells how long it waits.
    let mut polled: Vec<_> = copies.iter().map(|copy| PollFd::new(copy, PollFlags::RDHUP)).collect();
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|hung_up| hung_up > 0)
}

/// The sockets and pipes of a process: the number of its descriptor, and which one it is. Both ends of a pipe are one.
fn connections(process: &str) -> impl Iterator<Item = (RawFd, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let connection = fs::read_link(entry.path()).ok()?;
        let is_one = [&b"socket:"[..], b"pipe:"].iter().any(|kind| connection.as_os_str().as_bytes().starts_with(kind));
        is_one.then_some((entry.file_name().to_str()?.parse().ok()?, connection))
    })
}
