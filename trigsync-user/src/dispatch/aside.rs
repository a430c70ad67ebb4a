//! Paths that failed alone: set aside, tried again at growing intervals, never in the way of the rest.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::{
    coalesce::Taken,
    model::{Mark, RelPath, RelPathBuf, Stamp},
};

/// The paths that one target does not take.
pub(super) struct Aside {
    longest: Duration,
    paths: BTreeMap<RelPathBuf, Failing>,
    /// Raised whenever a path comes or goes.
    revision: u64,
}

struct Failing {
    intervals: ExponentialBackoff,
    next: Instant,
    reason: String,
    /// `None` while it is being tried again.
    waiting: Option<Taken>,
}

impl Aside {
    /// None. They will be tried again at intervals of at most `retry_max`.
    pub fn new(retry_max: Option<Duration>) -> Self {
        Self { longest: retry_max.map_or(LONGEST, |most| most.min(LONGEST)), paths: BTreeMap::new(), revision: 0 }
    }

    /// Whether a path is one of them, waiting or being tried again.
    pub fn holds(&self, path: &RelPath) -> bool {
        self.paths.contains_key(path)
    }

    /// Sets a path aside, or says that it has failed once more.
    pub fn add(&mut self, taken: Taken, reason: String, now: Instant) {
        let longest = self.longest;
        let failing = self.paths.entry(taken.mark.path.clone()).or_insert_with(|| {
            self.revision += 1;
            Failing { intervals: intervals(longest), next: now, reason: String::new(), waiting: None }
        });
        failing.next = now + failing.intervals.next().unwrap_or(longest);
        failing.reason = reason;
        failing.waiting = Some(match failing.waiting.take() {
            Some(waiting) => both(waiting, taken),
            None => taken,
        });
    }

    /// Forgets a path that has arrived. Where more of it waits than has arrived (of a directory, what is in it), that is tried now, and
    /// returned.
    pub fn arrived(&mut self, mark: &Mark, now: Instant) -> Option<&Taken> {
        let waits = |waiting: &Taken| waiting.mark.scope > mark.scope || !mark.ops.contains(waiting.mark.ops);
        let failing = self.paths.get_mut(&mark.path)?;
        if !failing.waiting.as_ref().is_some_and(waits) {
            self.forget(&mark.path);
            return None;
        }
        failing.next = now;
        self.paths.get(&mark.path)?.waiting.as_ref()
    }

    /// Forgets a path for which nothing is due.
    pub fn excluded(&mut self, path: &RelPath) {
        self.forget(path);
    }

    fn forget(&mut self, path: &RelPath) {
        self.revision += u64::from(self.paths.remove(path).is_some());
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

    /// Another number whenever other paths are set aside.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &RelPathBuf> {
        self.paths.keys()
    }

    /// How many paths wait.
    pub fn waiting(&self) -> usize {
        self.paths.values().filter(|failing| failing.waiting.is_some()).count()
    }

    /// The first `limit` paths, with the reason of each.
    pub fn list(&self, limit: usize) -> Vec<(String, String)> {
        self.paths.iter().take(limit).map(|(path, failing)| (path.to_string(), failing.reason.clone())).collect()
    }
}

/// One mark that covers what two of the same path cover.
fn both(one: Taken, other: Taken) -> Taken {
    let (scope, ops) = (one.mark.scope.max(other.mark.scope), one.mark.ops | other.mark.ops);
    Taken { mark: Mark { scope, ops, ..one.mark }, since: one.since.min(other.since), until: one.until.max(other.until) }
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// Without jitter: what failed together is tried again together, by one rsync.
fn intervals(longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(FIRST.min(longest)).with_max_delay(longest).without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ops, Scope};

    fn taken(scope: Scope, ops: Ops, since: Stamp) -> Taken {
        Taken::new(Mark { path: RelPathBuf::new(b"d".to_vec()).expect("a path"), scope, ops }, since)
    }

    #[test]
    fn what_arrived_of_a_path_does_not_settle_what_is_in_it() {
        let (mut aside, now) = (Aside::new(None), Instant::now());
        let tree = taken(Scope::Tree, Ops::MOVED_FROM | Ops::RESCAN, 1);
        aside.add(tree.clone(), "it failed".to_owned(), now);
        aside.arrived(&taken(Scope::Entry, Ops::CREATE, 2).mark, now);
        assert_eq!(aside.due(Some(now)), std::slice::from_ref(&tree), "it is tried at once");
        aside.arrived(&tree.mark, now);
        assert!(aside.list(1).is_empty());
    }

    #[test]
    fn what_fails_again_in_another_way_keeps_what_failed_before() {
        let (mut aside, now) = (Aside::new(None), Instant::now());
        aside.add(taken(Scope::Tree, Ops::MOVED_FROM, 1), "it failed".to_owned(), now);
        aside.add(taken(Scope::Entry, Ops::CREATE, 2), "it failed".to_owned(), now);
        assert_eq!(aside.due(None), [Taken { until: 2, ..taken(Scope::Tree, Ops::MOVED_FROM | Ops::CREATE, 1) }]);
    }
    #[test]
    fn no_two_attempts_are_further_apart_than_the_longest_interval() {
        let pauses = |retry_max: Option<u64>| {
            let (mut aside, now) = (Aside::new(retry_max.map(Duration::from_secs)), Instant::now());
            let mut pause = || {
                aside.add(taken(Scope::Entry, Ops::CREATE, 1), "it failed".to_owned(), now);
                let next = aside.next().expect("it waits");
                aside.due(None);
                (next - now).as_secs()
            };
            (0..12).map(|_| pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(None), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(pauses(Some(10)), [1, 2, 4, 8, 10, 10, 10, 10, 10, 10, 10, 10]);
        assert_eq!(pauses(Some(3600)), pauses(None), "it makes none longer");
    }
}
