//! The rsyncs of a lane that have connected ahead of the next change.
//!
//! - They are the lane's connections too, and give way: whatever else needs one has one of them end first, and waits until it has.
//! - One that ends unused is no failure of the target's. It only says how long the other side lets a connection wait, or that none is to be had.
//! - A lane that nothing is sent through for long has none.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::job::JobContext;
use crate::{
    plan::{Gone, PlannedRun, open_same_root},
    rsync::{Answer, Condition, Deletions, Missing, Parked, Route},
};

/// One waits no longer than this: what stands at the target may be another thing by then. The connection is kept alive by rsync itself.
const LONGEST: Duration = Duration::from_secs(600);

/// However soon the other side hangs up.
const SHORTEST: Duration = Duration::from_secs(5);

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// After one that could not connect, none is tried for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that has not connected within this time meets something that a new attempt may not: it is not waited for.
const CONNECTING: Duration = Duration::from_secs(1);

/// The next one is not started beside the work of the last: on few processors that would take longer.
const HEAD_START: Duration = Duration::from_millis(15);

/// So many in a row may end unused.
const IN_VAIN: u32 = 20;

/// The parked rsyncs of one lane.
pub(super) struct Warm {
    context: JobContext,
    /// How many there should be.
    most: usize,
    parked: VecDeque<Parked>,
    /// Those that end.
    leaving: JoinSet<Option<Answer>>,
    /// One waits no longer than this.
    longest: Duration,
    /// No other is started before.
    not_before: Option<Instant>,
    /// How many were renewed since the last one was used.
    in_vain: u32,
    look_at: Instant,
}

impl Warm {
    /// None is started yet. At most `most` will wait.
    pub fn new(context: JobContext, most: usize) -> Self {
        Self {
            context,
            most,
            parked: VecDeque::new(),
            leaving: JoinSet::new(),
            longest: LONGEST,
            not_before: None,
            in_vain: 0,
            look_at: Instant::now(),
        }
    }

    /// How many wait.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Connections that they have, those included that end.
    pub fn taken(&self) -> usize {
        self.parked.len() + self.leaving.len()
    }

    /// Starts another, where one is wanted. There has to be a connection for it.
    pub fn park(&mut self, now: Instant) {
        let wanted = self.parked.len() < self.most && self.in_vain < IN_VAIN && self.not_before.is_none_or(|at| at <= now);
        if !wanted || self.context.missing() != Missing::Delete || self.source().is_none() {
            return;
        }
        match self.context.rsync.park(&self.route()) {
            Ok(parked) => {
                if self.parked.is_empty() {
                    self.look_at = now + LOOK.min(self.longest);
                }
                self.parked.push_back(parked);
            }
            Err(reason) => {
                tracing::debug!(target: "trigsync::rsync", to = %self.context.target.name, reason, "no rsync is parked");
                self.not_before = Some(now + PATIENCE);
            }
        }
    }

    /// One that can do what this run does.
    pub fn take(&mut self, run: &PlannedRun) -> Option<Parked> {
        if !matches!(run.gone, Gone::Seen(_)) || !Parked::does(run.work, Deletions::Allowed, self.context.missing()) {
            return None;
        }
        self.in_vain = 0;
        let source = self.source()?;
        let mut taken = None;
        for mut parked in std::mem::take(&mut self.parked) {
            let age = parked.age();
            match parked.condition(&source) {
                _ if taken.is_some() => self.parked.push_back(parked),
                Condition::Ready => taken = Some(parked),
                Condition::Connecting if age < CONNECTING => taken = Some(parked),
                Condition::Connecting if age < LOOK => self.parked.push_back(parked),
                condition => self.dismiss(parked, condition),
            }
        }
        if taken.is_some() {
            self.not_before = Some(Instant::now() + HEAD_START);
        }
        taken
    }

    /// Has one end, so that its connection can be used otherwise.
    pub fn make_room(&mut self) {
        if self.leaving.is_empty()
            && let Some(parked) = self.parked.pop_front()
        {
            self.leave(parked);
        }
    }

    /// Has all of them end.
    pub fn leave_all(&mut self) {
        for parked in std::mem::take(&mut self.parked) {
            self.leave(parked);
        }
    }

    /// When they are to be [looked at](Self::look), or another is to be [started](Self::park).
    pub fn wake_at(&self) -> Option<Instant> {
        let look_at = (!self.parked.is_empty()).then_some(self.look_at);
        let park_at = self.not_before.filter(|at| self.parked.len() < self.most && *at > Instant::now());
        look_at.into_iter().chain(park_at).min()
    }

    /// Has those end that are of no use, or have waited for long enough.
    pub fn look(&mut self, now: Instant) {
        if self.parked.is_empty() || self.look_at > now {
            return;
        }
        self.look_at = now + LOOK.min(self.longest);
        let Some(source) = self.source() else { return self.leave_all() };
        for mut parked in std::mem::take(&mut self.parked) {
            match parked.condition(&source) {
                Condition::Connecting if parked.age() < LOOK => self.parked.push_back(parked),
                Condition::Ready if parked.age() < self.longest => self.parked.push_back(parked),
                Condition::Ready => {
                    self.in_vain += 1;
                    self.longest = (self.longest * 2).min(LONGEST);
                    self.leave(parked);
                }
                condition => self.dismiss(parked, condition),
            }
        }
    }

    /// Waits until one has ended; for ever where none is about to. Returns what one said that had ended by itself.
    pub async fn left(&mut self) -> Option<Answer> {
        match self.leaving.join_next().await {
            Some(answer) => answer.expect("ending does not panic"),
            None => std::future::pending().await,
        }
    }

    /// Waits until all that are about to end have.
    pub async fn all_left(&mut self) {
        while self.leaving.join_next().await.is_some() {}
    }

    /// The other side hung up on one that had waited for so long.
    pub fn hung_up(&mut self, after: Duration) {
        self.longest = (after / 2).clamp(SHORTEST, LONGEST);
    }

    fn dismiss(&mut self, parked: Parked, condition: Condition) {
        let age = parked.age();
        tracing::debug!(target: "trigsync::rsync", to = %self.context.target.name, ?condition, ?age, "a parked rsync is of no use");
        match condition {
            Condition::HungUp | Condition::Ended if parked.was_ready() => {
                self.in_vain += 1;
                self.hung_up(age);
            }
            // Whatever keeps it from connecting keeps another too.
            Condition::Connecting | Condition::Ended => self.not_before = Some(Instant::now() + PATIENCE),
            Condition::Ready | Condition::HungUp | Condition::Elsewhere => {}
        }
        self.leave(parked);
    }

    fn leave(&mut self, parked: Parked) {
        let context = self.context.clone();
        self.leaving.spawn(async move { parked.end(&Route::of(&context.sync.config, &context.target)).await });
    }

    /// Whether one could be used now.
    #[cfg(test)]
    pub fn is_ready(&mut self) -> bool {
        let source = self.source().expect("the source is there");
        self.parked.iter_mut().any(|parked| parked.condition(&source) == Condition::Ready)
    }

    fn route(&self) -> Route<'_> {
        Route::of(&self.context.sync.config, &self.context.target)
    }

    fn source(&self) -> Option<OwnedFd> {
        open_same_root(&self.context.sync.config.source, self.context.sync.gate().root).ok()
    }
}
