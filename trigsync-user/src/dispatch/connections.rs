//! How many rsync processes of a lane may run at once: what is configured, or what a target that was full has taught.
//!
//! - A limit of the target's that is smaller than what is configured takes its place, for as long as the lane lives.
//! - Where fewer ran than the limit, others had connections too: what ran is the bound for a while, and one more is tried after each [`PATIENCE`]
//!   without a refusal.
//! - There is always one, and never more than what is configured or than the target takes.

use std::time::{Duration, Instant};

/// One connection more is tried when none was refused for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The bound of one lane.
#[derive(Debug)]
pub(super) struct Connections {
    /// What is configured, or less where the target takes less.
    most: usize,
    /// Up to `most`.
    now: usize,
    /// When one more is tried; none where `now` is `most`.
    more_at: Option<Instant>,
}

/// What a refusal has taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// The target takes fewer than we would have.
    Limit,
    /// Others have connections that we would have.
    Others,
    /// Nothing new.
    Known,
}

impl Connections {
    /// As many as are configured.
    pub fn new(configured: usize) -> Self {
        Self { most: configured, now: configured, more_at: None }
    }

    /// So many may run now.
    pub fn bound(&self) -> usize {
        self.now
    }

    /// So many may run where nobody else has any.
    pub fn most(&self) -> usize {
        self.most
    }

    /// When there may be more.
    pub fn more_at(&self) -> Option<Instant> {
        self.more_at
    }

    /// A connection was refused at `at` beside `ran` of ours. `limit` is how many the target takes, as far as it says so.
    pub fn refused(&mut self, limit: Option<u32>, ran: usize, at: Instant) -> Lesson {
        let was_known = self.more_at.is_some();
        let smaller = limit.map(|limit| limit as usize).filter(|limit| *limit < self.most);
        if let Some(limit) = smaller {
            self.most = limit.max(1);
        }
        // Others may have the rest of them, for now.
        self.now = self.now.min(ran.max(1)).min(self.most);
        self.more_at = (self.now < self.most).then(|| at + PATIENCE);
        match (smaller, self.more_at) {
            (Some(_), _) => Lesson::Limit,
            (None, Some(_)) if !was_known => Lesson::Others,
            (None, _) => Lesson::Known,
        }
    }

    /// Allows one more, where it is time to try it.
    pub fn one_more(&mut self, at: Instant) {
        if self.more_at.is_some_and(|more_at| more_at <= at) {
            self.now += 1;
            self.more_at = (self.now < self.most).then(|| at + PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_smaller_stays() {
        let mut at = Instant::now();
        // Configured, the target's, what ran; the bound now, and after a while.
        for (configured, limit, ran, now, then) in
            [(4, 2, 3, 2, 2), (4, 2, 2, 2, 2), (4, 3, 1, 1, 3), (2, 1, 1, 1, 1), (4, 2, 0, 1, 2), (2, 1, 0, 1, 1), (4, 0, 0, 1, 1)]
        {
            let mut connections = Connections::new(configured);
            assert_eq!(connections.refused(Some(limit), ran, at), Lesson::Limit);
            assert_eq!((connections.bound(), connections.more_at().is_some()), (now, now < then), "{configured} {limit} {ran}");
            for _ in 0..10 {
                at += PATIENCE;
                connections.one_more(at);
            }
            assert_eq!((connections.bound(), connections.more_at()), (then, None), "{configured} {limit} {ran}");
        }
    }

    #[test]
    fn where_others_were_there_one_more_is_tried_after_a_while() {
        let mut at = Instant::now();
        let mut connections = Connections::new(4);
        assert_eq!(connections.refused(Some(10), 2, at), Lesson::Others);
        assert_eq!((connections.bound(), connections.more_at()), (2, Some(at + PATIENCE)));
        connections.one_more(at + PATIENCE / 2);
        assert_eq!(connections.bound(), 2, "not yet");
        at += PATIENCE;
        connections.one_more(at);
        assert_eq!(connections.bound(), 3);
        // Refused again: the time begins anew.
        at += PATIENCE / 2;
        assert_eq!(connections.refused(Some(4), 2, at), Lesson::Known);
        assert_eq!((connections.bound(), connections.more_at()), (2, Some(at + PATIENCE)));
        for bound in [3, 4, 4] {
            at += PATIENCE;
            connections.one_more(at);
            assert_eq!(connections.bound(), bound, "never more than is configured");
        }
        assert_eq!(connections.more_at(), None);
    }

    #[test]
    fn there_is_always_one() {
        let at = Instant::now();
        let mut connections = Connections::new(2);
        assert_eq!(connections.refused(None, 0, at), Lesson::Others, "no number is no limit");
        assert_eq!((connections.bound(), connections.more_at()), (1, Some(at + PATIENCE)));
        let mut connections = Connections::new(1);
        assert_eq!(connections.refused(Some(1), 0, at), Lesson::Known);
        assert_eq!((connections.bound(), connections.more_at()), (1, None));
    }

    #[test]
    fn a_limit_once_learned_is_what_others_are_measured_by() {
        let mut at = Instant::now();
        let mut connections = Connections::new(4);
        connections.refused(Some(2), 2, at);
        assert_eq!(connections.refused(Some(2), 1, at), Lesson::Others);
        assert_eq!(connections.bound(), 1);
        for bound in [2, 2] {
            at += PATIENCE;
            connections.one_more(at);
            assert_eq!(connections.bound(), bound, "never more than the limit");
        }
    }
}
