//! What a lane shares with the rest of the daemon: its dirty set, which capture fills, and its report, which `status` reads.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{Notify, oneshot};

use super::{arrivals::Arrivals, audited::Audited, lingering::Lingering, loan::Loans, now};
use crate::{
    coalesce::{Changes, DirtySet},
    config::Settle,
    journal::{AuditPoint, Batch, LaneLog},
    lock::lock,
    model::{Mark, Ops, RelPath, Scope, Stamp},
    observe::{LaneReport, TargetStatus},
};

/// The shared side of a lane.
#[derive(Debug)]
pub struct LaneShared {
    set: Mutex<DirtySet>,
    /// Runs that have ended, until the journal takes them.
    batches: Mutex<Vec<Batch>>,
    report: Mutex<LaneReport>,
    changes: AtomicU64,
    /// When a search began whose marks are not all here; 0 where none runs.
    searching: AtomicU64,
    /// When the lane's loop turned last.
    beat: AtomicU64,
    /// Bytes that marks may take.
    bound: AtomicUsize,
    lingering: Mutex<Lingering>,
    pub(super) flushes: Mutex<Vec<Flush>>,
    orders: Mutex<Orders>,
    loans: Arc<Loans>,
    audited: Arc<Audited>,
    pub(super) arrivals: Arrivals,
    pub(super) wake: Arc<Notify>,
}

/// What the operator has ordered.
#[derive(Debug, Default)]
struct Orders {
    /// Nothing is sent.
    held: bool,
    /// What waits for another attempt is tried now.
    retry: bool,
}

/// Somebody waits until everything marked up to a stamp has arrived.
#[derive(Debug)]
pub(super) struct Flush {
    pub barrier: Stamp,
    pub done: oneshot::Sender<()>,
    /// The lane knows of it.
    pub heard: bool,
}

impl LaneShared {
    /// The set of a target, with what the journal has of it. What happens to it from now on is written down for the journal.
    pub fn new(settle: Settle, name: String, address: String, left: impl IntoIterator<Item = Mark>) -> Self {
        let shared = Self::unrecorded(settle, name, address);
        {
            let mut set = shared.set();
            for mark in left {
                set.mark(&mark.path, mark.scope, mark.ops, now());
            }
            set.record_changes();
        }
        shared
    }

    /// An empty set that no journal keeps: nothing takes what happens to it.
    pub fn unrecorded(settle: Settle, name: String, address: String) -> Self {
        let wake = Arc::new(Notify::new());
        Self {
            set: Mutex::new(DirtySet::new(settle)),
            batches: Mutex::default(),
            report: Mutex::new(LaneReport::new(name, address)),
            changes: AtomicU64::new(0),
            searching: AtomicU64::new(0),
            beat: AtomicU64::new(now()),
            bound: AtomicUsize::new(usize::MAX),
            lingering: Mutex::default(),
            flushes: Mutex::default(),
            orders: Mutex::default(),
            loans: Arc::new(Loans::new(wake.clone())),
            audited: Arc::default(),
            arrivals: Arrivals::default(),
            wake,
        }
    }

    /// What the lane lends.
    pub fn loans(&self) -> &Arc<Loans> {
        &self.loans
    }

    /// What the audit of the target knows.
    pub fn audited(&self) -> &Arc<Audited> {
        &self.audited
    }

    /// Marks a path. The lane is told by [`LaneShared::wake`], once for many marks.
    pub fn mark(&self, path: &RelPath, scope: Scope, ops: Ops) {
        self.audited.marked(path);
        self.marking(|set| set.mark(path, scope, ops, now()));
        self.changes.fetch_add(1, Relaxed);
    }

    /// Makes marks, and says so where some of them had to give way to directories.
    fn marking(&self, make: impl FnOnce(&mut DirtySet)) {
        let degraded = {
            let mut set = self.set();
            let before = set.degraded();
            make(&mut set);
            set.degraded() - before
        };
        if degraded > 0 {
            tracing::warn!(
                "there are more changes than fit into `memory`: {degraded} directories are compared whole in place of what changed in them"
            );
        }
    }

    /// Marks many paths and wakes the lane.
    pub fn mark_all(&self, marks: impl IntoIterator<Item = Mark>) {
        self.marking(|set| {
            for mark in marks {
                self.audited.marked(&mark.path);
                set.mark(&mark.path, mark.scope, mark.ops, now());
            }
        });
        self.wake();
    }

    /// Takes every mark out of the set of a lane that has ended.
    pub fn take_all(&self) -> Vec<Mark> {
        self.set().cut(now(), usize::MAX, Stamp::MAX).into_iter().map(|taken| taken.mark).collect()
    }

    /// Has the lane look at its set.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when everything marked so far has arrived. What waits for a quiet moment goes at once, and what waits for another attempt
    /// is tried now.
    pub fn flush(&self) -> oneshot::Receiver<()> {
        let (done, arrived) = oneshot::channel();
        let barrier = self.set().newest_stamp();
        lock(&self.flushes).push(Flush { barrier, done, heard: false });
        self.wake();
        arrived
    }

    /// The lane has heard of those who wait: up to which stamp they do, and whether any is new.
    pub(super) fn hear_flushes(&self) -> (Stamp, bool) {
        let mut flushes = lock(&self.flushes);
        let is_new = flushes.iter_mut().fold(false, |is_new, flush| is_new | !std::mem::replace(&mut flush.heard, true));
        (flushes.iter().map(|flush| flush.barrier).max().unwrap_or(0), is_new)
    }

    /// Lets those go for whom everything has arrived, where the `oldest` mark is what has not.
    pub(super) fn answer_flushes(&self, oldest: impl FnOnce() -> Option<Stamp>) {
        if lock(&self.flushes).is_empty() {
            return;
        }
        let oldest = oldest();
        let mut flushes = lock(&self.flushes);
        for flush in flushes.extract_if(.., |flush| oldest.is_none_or(|oldest| oldest > flush.barrier)) {
            // Whoever waited may have gone.
            let _ = flush.done.send(());
        }
        flushes.retain(|flush| !flush.done.is_closed());
    }

    /// Marks of what changed before will come: until [`end_search`](Self::end_search) the target is not known to be equal.
    pub fn begin_search(&self) {
        let mut set = self.set();
        set.searched(true);
        self.searching.store(set.next_stamp(), Relaxed);
    }

    /// All of them are here.
    pub fn end_search(&self) {
        // They were made while flushes waited, and stand for what had changed before.
        let newest = {
            let mut set = self.set();
            set.searched(false);
            set.newest_stamp()
        };
        for flush in lock(&self.flushes).iter_mut() {
            (flush.barrier, flush.heard) = (newest, false);
        }
        self.searching.store(0, Relaxed);
        self.wake();
    }

    /// Whether a search runs.
    pub fn is_searched(&self) -> bool {
        self.searching().is_some()
    }

    /// When a search began that runs.
    pub(super) fn searching(&self) -> Option<Stamp> {
        Some(self.searching.load(Relaxed)).filter(|stamp| *stamp > 0)
    }

    /// An rsync with so many names ended without its server's word, one of the last daemon's perhaps.
    pub fn cut_off(&self, names: u64) {
        self.lingering().cut_off(names);
    }

    pub(super) fn lingering(&self) -> MutexGuard<'_, Lingering> {
        lock(&self.lingering)
    }

    /// Holds marks in about so many bytes from now on.
    pub fn bound(&self, bytes: usize) {
        self.set().bound(bytes);
        self.bound.store(bytes, Relaxed);
    }

    /// Sends nothing until [`release`](Self::release); changes go on folding. Whoever waits for a flush is let go.
    pub fn hold(&self) {
        lock(&self.orders).held = true;
        lock(&self.flushes).clear();
        self.wake();
    }

    /// Ends [`hold`](Self::hold). Whether there was one.
    pub fn release(&self) -> bool {
        let held = std::mem::take(&mut lock(&self.orders).held);
        self.wake();
        held
    }

    /// When the lane's loop turned last. It turns after every [`wake`](Self::wake).
    pub fn beat(&self) -> Stamp {
        self.beat.load(Relaxed)
    }

    /// The lane's loop turns.
    pub(super) fn beats(&self) {
        self.beat.store(now(), Relaxed);
    }

    /// Whether the operator holds it.
    pub fn is_held(&self) -> bool {
        lock(&self.orders).held
    }

    /// Has what waits for another attempt tried now, paths that are set aside too.
    pub fn retry(&self) {
        lock(&self.orders).retry = true;
        self.wake();
    }

    /// Whether [`retry`](Self::retry) was called since the last time.
    pub(super) fn takes_retry(&self) -> bool {
        std::mem::take(&mut lock(&self.orders).retry)
    }

    /// Settles by other times from now on.
    pub fn settle(&self, settle: Settle) {
        self.set().settle(settle);
    }

    /// What `status` shows.
    pub fn status(&self) -> TargetStatus {
        let (pending, oldest, degraded) = {
            let set = self.set();
            (set.len() as u64, set.oldest(), set.degraded())
        };
        let audit = self.audited.status();
        TargetStatus { audit, ..self.report().status(self.changes.load(Relaxed), pending, oldest, degraded, now()) }
    }

    pub(super) fn set(&self) -> MutexGuard<'_, DirtySet> {
        lock(&self.set)
    }

    /// A run has ended.
    pub(super) fn note(&self, batch: Batch) {
        let mut batches = lock(&self.batches);
        if batches.len() < MOST_BATCHES {
            batches.push(batch);
        }
    }

    pub(super) fn report(&self) -> MutexGuard<'_, LaneReport> {
        lock(&self.report)
    }
}

impl LaneLog for LaneShared {
    fn take(&self) -> (Changes, Vec<Batch>) {
        (self.set().take_changes(), std::mem::take(&mut *lock(&self.batches)))
    }

    fn audit_point(&self) -> Option<AuditPoint> {
        self.audited.unwritten()
    }

    fn bound(&self) -> usize {
        self.bound.load(Relaxed) / UNWRITTEN
    }
}

/// Ended runs that wait for the journal: the history does without those that come when it cannot keep up.
const MOST_BATCHES: usize = 1_000;

/// Marks of so many times the bytes may wait for a journal that cannot be written.
const UNWRITTEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelPathBuf;

    #[test]
    fn a_flush_waits_for_what_a_search_finds_after_it() {
        let shared = LaneShared::new(Settle::default(), "t".into(), "/t".into(), []);
        shared.begin_search();
        let _arrival = shared.flush();
        shared.mark_all([Mark { path: RelPathBuf::new(b"found".to_vec()).unwrap(), scope: Scope::Entry, ops: Ops::RESCAN }]);
        shared.end_search();
        let barrier = lock(&shared.flushes)[0].barrier;
        assert!(shared.set().oldest().is_some_and(|oldest| oldest <= barrier));
    }
}
