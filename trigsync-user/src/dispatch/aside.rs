//! Paths that failed alone: set aside, tried again at growing intervals, never in the way of the rest.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::{
    coalesce::Taken,
    model::{Mark, RelPathBuf, Scope, Stamp},
};

/// The paths that one target does not take.
#[derive(Default)]
pub(super) struct Aside {
    paths: HashMap<RelPathBuf, Failing>,
}

struct Failing {
    intervals: ExponentialBackoff,
    next: Instant,
    reason: String,
    scope: Scope,
    /// `None` while it is being tried again.
    waiting: Option<Taken>,
}

impl Aside {
    /// Sets a path aside, or says that it has failed once more.
    pub fn add(&mut self, taken: Taken, reason: String, now: Instant) {
        let failing = self.paths.entry(taken.mark.path.clone()).or_insert_with(|| Failing {
            intervals: intervals(),
            next: now,
            reason: String::new(),
            scope: taken.mark.scope,
            waiting: None,
        });
        failing.next = now + failing.intervals.next().unwrap_or(LONGEST);
        failing.reason = reason;
        failing.scope = failing.scope.max(taken.mark.scope);
        failing.waiting = Some(taken);
    }

    /// Forgets a path that has arrived, unless more of it is set aside than has: a directory's attributes are not what is in it.
    pub fn arrived(&mut self, mark: &Mark) {
        if self.paths.get(&mark.path).is_some_and(|failing| failing.scope <= mark.scope) {
            self.paths.remove(&mark.path);
        }
    }

    /// What is to be tried again now; everything where `now` is `None`.
    pub fn due(&mut self, now: Option<Instant>) -> Vec<Taken> {
        let due = |failing: &Failing| now.is_none_or(|now| failing.next <= now);
        self.paths.values_mut().filter(|failing| due(failing)).filter_map(|failing| failing.waiting.take()).collect()
    }

    /// When the next path is to be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.paths.values().filter(|failing| failing.waiting.is_some()).map(|failing| failing.next).min()
    }

    /// When the oldest of the marks that wait was made.
    pub fn oldest(&self) -> Option<Stamp> {
        self.paths.values().filter_map(|failing| failing.waiting.as_ref()).map(|taken| taken.since).min()
    }

    /// How many paths wait.
    pub fn waiting(&self) -> usize {
        self.paths.values().filter(|failing| failing.waiting.is_some()).count()
    }

    /// Up to `limit` paths with the reason of each, sorted.
    pub fn list(&self, limit: usize) -> Vec<(String, String)> {
        let mut list: Vec<_> = self.paths.iter().map(|(path, failing)| (path.to_string(), failing.reason.clone())).collect();
        list.sort();
        list.truncate(limit);
        list
    }
}

const LONGEST: Duration = Duration::from_secs(600);

/// Without jitter: what failed together is tried again together, by one rsync.
fn intervals() -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(Duration::from_secs(1)).with_max_delay(LONGEST).without_max_times().build()
}
