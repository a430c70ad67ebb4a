//! The loop of one lane: cut, plan, run, account.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use backon::ExponentialBackoff;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    aside::Aside,
    connections::Connections,
    cut::Cut,
    job::{JobContext, Outcome, Trouble, ask, carry_out},
    now,
    overlap::Reach,
    shared::LaneShared,
    stamp_to_instant,
    sync::{GateState, SyncContext},
    warm::Warm,
};
use crate::{
    coalesce::Taken,
    config::TargetConfig,
    lock::lock,
    model::{Mark, Ops, RelPathBuf, Scope, Stamp},
    observe::{LaneState, What},
    plan::{Plan, PlannedRun, RootError, Rules, open_same_root, plan},
    rsync::{Parked, Rsync},
};

/// A long list is cut into parts of at least so many entries for several rsync processes.
const LEAST_PART: usize = 5_000;

/// So long a stopped lane waits for rsyncs that had nothing to do.
const LEAVING: Duration = Duration::from_millis(500);

/// Keeps one target equal to its source. Runs until it is stopped.
pub struct Lane {
    pub(super) shared: Arc<LaneShared>,
    cut: Cut,
    pub(super) context: JobContext,
    pub(super) gate: watch::Receiver<GateState>,
    jobs: JoinSet<Ended>,
    pub(super) running: Vec<Running>,
    /// Runs of the present round that wait for a connection.
    pub(super) round: VecDeque<PlannedRun>,
    /// Subtrees and large files that wait for a connection.
    pub(super) bulk: VecDeque<PlannedRun>,
    pub(super) aside: Aside,
    pub(super) trouble: Option<(LaneState, String)>,
    pub(super) intervals: Option<ExponentialBackoff>,
    pub(super) retry_at: Option<Instant>,
    /// Whether the target is being asked whether it answers.
    asking: bool,
    /// Marks up to this stamp do not wait for a quiet moment: a flush waits for them.
    hurry: Stamp,
    releases: u64,
    asked_at: Instant,
    last_id: u64,
    pub(super) connections: Connections,
    pub(super) warm: Warm,
}

/// A job that runs.
pub(super) struct Running {
    id: u64,
    pub(super) marks: usize,
    pub(super) oldest: Option<Stamp>,
    pub(super) full_pass: bool,
    begun: SystemTime,
    /// How long the rsync had waited that it was given.
    parked_for: Option<Duration>,
    /// For what runs beside the rounds.
    pub(super) reach: Option<Reach>,
}

impl Running {
    /// One that begins now in the rounds, and is no run. It has no number yet.
    fn new(marks: usize, oldest: Option<Stamp>) -> Self {
        Self { id: 0, marks, oldest, full_pass: false, begun: SystemTime::now(), parked_for: None, reach: None }
    }
}

/// A job that has ended.
struct Ended {
    id: u64,
    done: Done,
}

enum Done {
    Planned(Plan),
    Carried(Outcome),
    /// The target was asked whether it answers.
    Asked(Result<(), Trouble>),
    /// The root is not what it was; the batch was not looked at.
    RootGone(RootError, Vec<Taken>),
    /// No cut could be made, or nothing could be opened; the batch was not looked at.
    NotCut(String, Vec<Taken>),
}

impl Lane {
    /// A lane that has not started.
    pub fn new(shared: Arc<LaneShared>, sync: Arc<SyncContext>, target: TargetConfig, rsync: Rsync, cut: Cut) -> Self {
        let connections = Connections::new(target.connections.get() as usize);
        let gate = sync.subscribe();
        let releases = gate.borrow().releases;
        let aside = Aside::new(sync.config.retry_max);
        let warm = target.warm;
        let context = JobContext::new(sync, target, rsync);
        let warm = Warm::new(context.clone(), warm as usize);
        Self {
            shared,
            cut,
            context,
            gate,
            jobs: JoinSet::new(),
            running: Vec::new(),
            round: VecDeque::new(),
            bulk: VecDeque::new(),
            aside,
            trouble: None,
            intervals: None,
            retry_at: None,
            asking: false,
            hurry: 0,
            releases,
            asked_at: Instant::now(),
            last_id: 0,
            connections,
            warm,
        }
    }

    /// Works until `stop` is triggered; then waits up to `grace` for what is in flight, and puts everything that has not arrived back into
    /// the shared set.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        while !stop.is_cancelled() {
            self.shared.beats();
            self.connections.one_more(Instant::now());
            self.lend_first();
            self.start_what_can_start();
            self.lend();
            self.park();
            self.shared.answer_flushes(|| self.oldest(self.oldest_out()));
            self.tell();
            let (wake_at, ask_at, warm_at) = (self.wake_at(), self.ask_at(), self.warm.wake_at());
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = self.jobs.join_next() => self.account(ended.expect("jobs do not panic")),
                answer = self.warm.left() => self.left_unused(answer),
                () = wait_until(warm_at) => {}
                () = self.shared.wake.notified() => self.hear(),
                () = wait_until(wake_at) => {}
                () = wait_until(ask_at) => {
                    self.asked_at = self.cut.ask_again();
                }
                changed = self.gate.changed() => {
                    changed.expect("the context holds the sender");
                    self.hear_gate();
                }
            }
        }
        self.warm.leave_all();
        let killer = self.context.stop.clone();
        let deadline = tokio::time::sleep(grace);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = self.jobs.join_next() => match ended {
                    Some(ended) => self.account(ended.expect("jobs do not panic")),
                    None => break,
                },
                () = &mut deadline, if !killer.is_cancelled() => killer.cancel(),
            }
        }
        // What hangs is dropped.
        let _ = tokio::time::timeout(LEAVING, self.warm.all_left()).await;
        if let Some((_, reason)) = &self.trouble {
            self.note(What::Ended, None, &format!("the lane ended while: {reason}"));
        }
        let waiting = self.round.drain(..).chain(self.bulk.drain(..)).flat_map(|run| run.items).map(|item| item.mark);
        let back = waiting.chain(self.aside.due(None)).collect();
        self.shared.set().put_back(back);
        self.shared.answer_flushes(|| self.oldest(self.oldest_out()));
        self.tell();
    }

    pub(super) fn round_is_over(&self) -> bool {
        self.round.is_empty() && self.running.iter().all(|job| job.reach.is_some())
    }

    fn start_what_can_start(&mut self) {
        if self.gate.borrow().stopped.is_some() || self.shared.is_held() || self.retry_at.is_some_and(|at| at > Instant::now()) {
            return self.warm.leave_all();
        }
        if self.shared.lingering().waits(Instant::now()) {
            self.warm.leave_all();
            return self.ask();
        }
        while let Some(run) = self.round.pop_front() {
            let parked = self.warm.take(&run);
            if parked.is_none() && !self.makes_room() {
                self.round.push_front(run);
                break;
            }
            self.start(run, false, parked);
        }
        if !self.round_is_over() {
            return;
        }
        // Between rounds nothing younger runs on the same paths: now is the time for what runs beside them.
        while let Some(run) = self.next_bulk() {
            self.start(run, true, None);
        }
        if self.running.len() < self.not_lent() {
            self.start_round();
        }
    }

    /// Asks the target whether it answers, where that has to be known. Whatever waits meanwhile: it waits for the answer.
    fn ask(&mut self) {
        if self.asking || !self.shared.lingering().is_unheard() || !self.makes_room() {
            return;
        }
        self.asking = true;
        let id = self.enlist(Running::new(0, None));
        let context = self.context.clone();
        self.jobs.spawn(async move { Ended { id, done: Done::Asked(ask(&context).await) } });
    }

    fn start_round(&mut self) {
        let retried = self.aside.due(Some(Instant::now()));
        let mut batch = {
            let mut set = self.shared.set();
            set.put_back(retried);
            let hurried = set.oldest().is_some_and(|oldest| oldest <= self.hurry);
            if !hurried && set.due().is_none_or(|due| due > now()) {
                return;
            }
            let limit = self.context.sync.config.batch.paths.min(set.most_out());
            let batch = set.cut(now(), limit, self.hurry);
            self.shared.takes(&batch);
            batch
        };
        batch.retain(|taken| {
            let sending = self
                .running
                .iter_mut()
                .filter_map(|job| job.reach.as_mut())
                .find(|reach| taken.mark.scope == Scope::Entry && reach.is_sending(&taken.mark.path));
            if let Some(reach) = sending {
                reach.defer(taken.clone());
                return false;
            }
            true
        });
        if batch.is_empty() {
            return;
        }
        let oldest = batch.iter().map(|taken| taken.since).min();
        let id = self.enlist(Running::new(batch.len(), oldest));
        let (sync, target) = (self.context.sync.clone(), self.context.target.clone());
        let (root, cut) = (self.gate.borrow().root, self.cut.clone());
        self.jobs.spawn(async move {
            if let Err(error) = cut.make().await {
                return Ended { id, done: Done::NotCut(error.to_string(), batch) };
            }
            let look = move || match open_same_root(&sync.config.source, root) {
                Ok(fd) => {
                    let rules = Rules { filter: &sync.config.filter, limits: &sync.config.batch, inplace: &target.inplace };
                    Done::Planned(plan(fd, batch, &rules))
                }
                Err(error) if error.may_pass() => Done::NotCut(error.to_string(), batch),
                Err(error) => Done::RootGone(error, batch),
            };
            Ended { id, done: spawn_blocking(look).await.expect("looking does not panic") }
        });
    }

    fn start(&mut self, run: PlannedRun, beside: bool, parked: Option<Parked>) {
        for reach in self.running.iter_mut().filter_map(|job| job.reach.as_mut()) {
            reach.shadow(&run);
        }
        let id = self.enlist(Running {
            full_pass: run.is_full_pass(),
            parked_for: parked.as_ref().map(Parked::age),
            reach: beside.then(|| Reach::of(&run)),
            ..Running::new(run.items.len(), run.oldest())
        });
        let context = self.context.clone();
        self.jobs.spawn(async move { Ended { id, done: Done::Carried(carry_out(&context, run, parked).await) } });
    }

    fn enlist(&mut self, job: Running) -> u64 {
        self.last_id += 1;
        self.running.push(Running { id: self.last_id, ..job });
        self.last_id
    }

    fn account(&mut self, ended: Ended) {
        let index = self.running.iter().position(|job| job.id == ended.id).expect("every job is enlisted");
        let Running { reach, begun, parked_for, .. } = self.running.swap_remove(index);
        if let Some(reach) = reach {
            self.shared.set().put_back(reach.ended());
        }
        self.asking &= !matches!(ended.done, Done::Asked(_));
        match ended.done {
            Done::Planned(plan) => self.take_plan(plan),
            Done::Carried(outcome) => {
                if let (Some(Trouble::Retry(_)), Some(waited)) = (&outcome.trouble, parked_for) {
                    // Nobody may have been there any more: where the kernel does not tell, this does.
                    self.warm.hung_up(waited);
                }
                self.take_outcome(outcome, begun);
            }
            Done::Asked(Ok(())) => self.shared.lingering().answered(Instant::now()),
            Done::Asked(Err(trouble)) => self.suffer(trouble, Instant::now()),
            Done::RootGone(error, batch) => {
                self.shared.set().put_back(batch);
                self.context.sync.stop_without_root(&error.to_string());
            }
            Done::NotCut(error, batch) => {
                // The daemon ends with its capture, and what was taken is kept for the next start; what is short comes back.
                self.shared.set().put_back(batch);
                self.suffer(Trouble::Retry(error), Instant::now());
            }
        }
    }

    fn take_plan(&mut self, plan: Plan) {
        {
            let mut set = self.shared.set();
            for taken in &plan.excluded {
                self.aside.excluded(&taken.mark.path);
                set.settled(taken, now());
            }
            set.put_back(plan.postponed);
        }
        let spare = self.connections.bound().saturating_sub(self.running.len() + 1).max(1);
        self.round = plan.entries.into_iter().flat_map(|run| run.split(spare, LEAST_PART)).collect();
        for run in plan.bulk {
            // What waits folds.
            match self.bulk.iter_mut().find(|waiting| waiting.joins(&run)) {
                Some(waiting) => waiting.join(run),
                None => self.bulk.push_back(run),
            }
        }
    }

    /// A flush does not wait: neither for a quiet moment nor for the next attempt.
    fn hear(&mut self) {
        let mut fresh = self.shared.takes_retry();
        if self.shared.is_held() {
            self.put_back_what_waits();
            // One may have come between the order and its being carried out.
            lock(&self.shared.flushes).clear();
        }
        let (barrier, is_new) = self.shared.hear_flushes();
        self.hurry = self.hurry.max(barrier);
        fresh |= is_new;
        if fresh {
            self.retry_at = None;
            let aside = self.aside.due(None);
            self.shared.set().put_back(aside);
        }
    }

    fn hear_gate(&mut self) {
        let state = self.gate.borrow_and_update().clone();
        if state.root_lost {
            // Nobody sees what happens to it now. Nothing is sent before it is there again, but a next daemon has to know.
            self.shared.mark_all([Mark { path: RelPathBuf::root(), scope: Scope::Tree, ops: Ops::RESCAN }]);
        }
        if state.releases != self.releases {
            self.releases = state.releases;
            self.context.free_pass = true;
            self.retry_at = None;
        }
    }

    fn ask_at(&self) -> Option<Instant> {
        let is_written = self.retry_at.is_none() && self.shared.set().writing_until() > now();
        self.cut.ask_at(self.asked_at, self.context.sync.config.settle.quiet).filter(|_| is_written)
    }

    fn wake_at(&self) -> Option<Instant> {
        if self.gate.borrow().stopped.is_some() || self.shared.is_held() {
            return None;
        }
        if let Some(at) = self.retry_at.filter(|at| *at > Instant::now()) {
            return Some(at);
        }
        if let Some(until) = self.shared.lingering().until() {
            return Some(until);
        }
        if !self.round_is_over() || self.running.len() + self.shared.loans().recalled() >= self.connections.bound() {
            return self.connections.more_at();
        }
        let due = self.shared.set().due().map(stamp_to_instant);
        due.into_iter().chain(self.aside.next()).chain(self.connections.more_at()).min()
    }
}

pub(super) async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod lane_tests;
