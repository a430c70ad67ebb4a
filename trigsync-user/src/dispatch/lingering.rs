//! What an rsync that was cut off may have left behind at the target.
//!
//! Its server has the list, and goes on by itself until it notices that nobody is there any more: it deletes names that were gone when the
//! list was made and are back since, and gives back old modes and times. Where a target was frozen, it does so when the target goes on,
//! beside the next run. So after such an end nothing is sent until the target has answered again, and for a moment longer. Pure.

use std::time::{Duration, Instant};

/// A server notices when it writes, and it writes when it is through with some thousands of names at the latest: so long for any, and so
/// long for each ten thousand.
const MOMENT: Duration = Duration::from_secs(2);
const PER_10_000: Duration = Duration::from_secs(1);

/// Whether servers of ours may be left at one target.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// Of the longest list.
    names: u64,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// None is.
    #[default]
    Gone,
    /// They may be, and may be frozen with the target.
    Unheard,
    /// The target has answered since.
    Until(Instant),
}

impl Lingering {
    /// A run with so many names ended without its server's word.
    pub fn cut_off(&mut self, names: u64) {
        self.names = names.max(self.names);
        self.state = State::Unheard;
    }

    /// The target has answered.
    pub fn answered(&mut self, now: Instant) {
        if self.state == State::Unheard {
            let through = PER_10_000.mul_f64(self.names as f64 / 10_000.0);
            self.state = State::Until(now + MOMENT + through);
        }
    }

    /// Whether the target has to answer first.
    pub fn is_unheard(&self) -> bool {
        self.state == State::Unheard
    }

    /// Whether nothing may be sent yet.
    pub fn waits(&mut self, now: Instant) -> bool {
        if self.until().is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        self.state != State::Gone
    }

    /// Until when, where that is known.
    pub fn until(&self) -> Option<Instant> {
        match self.state {
            State::Until(until) => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_until_the_target_has_answered_and_a_moment_longer() {
        let (mut lingering, now) = (Lingering::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(!lingering.waits(now));
        lingering.answered(now);
        assert!(!lingering.waits(now), "nothing was cut off");
        lingering.cut_off(10);
        assert!(lingering.waits(later(1000)) && lingering.is_unheard());
        lingering.answered(now);
        assert!(lingering.waits(later(1)) && !lingering.is_unheard());
        assert!(!lingering.waits(later(3)));
        lingering.cut_off(30_000);
        lingering.cut_off(1);
        lingering.answered(now);
        assert!(lingering.waits(later(4)), "a long list takes longer");
        lingering.cut_off(1);
        assert!(lingering.waits(later(1000)), "and again");
    }
}
