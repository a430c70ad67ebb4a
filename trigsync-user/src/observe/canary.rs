//! What is known of one canary at one target: which beats are out, and when one arrived.
//!
//! - A beat is overdue when the next one is due and neither it nor a later one has arrived. Where every beat arrives late, but in its turn, each
//!   is overdue for that long.
//! - An arrival settles all beats before it: the file at the target was replaced by theirs.
//! - No clock: every moment is handed in.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use super::CanaryStatus;
use crate::model::Stamp;

/// Beats that are remembered while none arrives; of those between, none can be told any more.
const OUT: usize = 64;

/// The canary of one target.
#[derive(Debug)]
pub struct CanaryReport {
    /// Microseconds between two beats.
    pace: u64,
    /// Those that have not arrived, the oldest first.
    out: VecDeque<Beat>,
    /// Microseconds.
    delay: Option<u64>,
    arrived: Option<SystemTime>,
    /// Why the target could not be asked, the last time.
    trouble: Option<String>,
    /// It was said that it is overdue.
    said: bool,
}

#[derive(Debug)]
struct Beat {
    content: Vec<u8>,
    /// When its writing had ended.
    written: Stamp,
}

/// What is worth a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryNews {
    /// It has become overdue.
    Overdue,
    /// It is no longer overdue.
    Back,
}

impl CanaryReport {
    /// Nothing is out yet.
    pub fn new(pace: Duration) -> Self {
        Self { pace: micros(pace), out: VecDeque::new(), delay: None, arrived: None, trouble: None, said: false }
    }

    /// A beat was written.
    pub fn written(&mut self, content: Vec<u8>, at: Stamp) {
        if self.out.len() == OUT {
            // The oldest says since when, the newest what to look for.
            self.out.remove(OUT - 1);
        }
        self.out.push_back(Beat { content, written: at });
    }

    /// Whether there is anything to ask the target for.
    pub fn is_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// The target was asked at `asked`, and has this content. How long its beat took, where it is one that is out.
    pub fn found(&mut self, content: &[u8], asked: Stamp, clock: SystemTime) -> Option<Duration> {
        self.trouble = None;
        let index = self.out.iter().rposition(|beat| beat.content == content)?;
        let written = self.out.drain(..=index).next_back()?.written;
        let delay = asked.saturating_sub(written);
        (self.delay, self.arrived) = (Some(delay), Some(clock));
        Some(Duration::from_micros(delay))
    }

    /// The target could not be asked.
    pub fn failed(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// Nothing is sent to the target, so nothing is asked of it: what is out is forgotten.
    pub fn forget(&mut self) {
        self.out.clear();
        self.trouble = None;
    }

    /// For how long it is overdue.
    pub fn overdue(&self, now: Stamp) -> Option<Duration> {
        let due = self.out.front()?.written.saturating_add(self.pace);
        now.checked_sub(due).map(Duration::from_micros)
    }

    /// When it will be overdue, if nothing arrives.
    pub fn due(&self) -> Option<Stamp> {
        self.out.front().map(|beat| beat.written.saturating_add(self.pace))
    }

    /// What is to be said, each once.
    pub fn news(&mut self, now: Stamp) -> Option<CanaryNews> {
        let overdue = self.overdue(now).is_some();
        let before = std::mem::replace(&mut self.said, overdue);
        match (before, overdue) {
            (false, true) => Some(CanaryNews::Overdue),
            (true, false) => Some(CanaryNews::Back),
            _ => None,
        }
    }

    /// What `status` shows.
    pub fn status(&self, now: Stamp) -> CanaryStatus {
        let overdue = self.overdue(now);
        CanaryStatus {
            last_delay_ms: self.delay.map(|delay| delay as f64 / 1000.0),
            last_arrival: self.arrived.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|at| at.as_secs_f64()),
            overdue_ms: overdue.map(|overdue| micros(overdue) / 1000),
            trouble: self.trouble.clone(),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Stamp = 1_000_000;

    fn with_beats(count: u64) -> CanaryReport {
        let mut report = CanaryReport::new(Duration::from_secs(1));
        (0..count).for_each(|beat| report.written(beat.to_string().into_bytes(), beat * SECOND));
        report
    }

    #[test]
    fn overdue_begins_with_the_next_beat_and_ends_with_an_arrival() {
        let mut report = with_beats(1);
        assert_eq!((report.overdue(SECOND - 1), report.news(SECOND - 1)), (None, None));
        assert_eq!((report.overdue(3 * SECOND), report.news(3 * SECOND)), (Some(Duration::from_secs(2)), Some(CanaryNews::Overdue)));
        assert_eq!(report.news(4 * SECOND), None, "it is said once");
        assert_eq!(report.found(b"of another daemon", 4 * SECOND, SystemTime::UNIX_EPOCH), None);
        assert!(report.overdue(4 * SECOND).is_some(), "what is not out proves nothing");
        let delay = report.found(b"0", 5 * SECOND, SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        assert_eq!((delay, report.news(5 * SECOND), report.news(9 * SECOND)), (Some(Duration::from_secs(5)), Some(CanaryNews::Back), None));
        let status = report.status(9 * SECOND);
        assert_eq!((status.last_delay_ms, status.last_arrival, status.overdue_ms), (Some(5000.0), Some(7.0), None));
    }

    #[test]
    fn an_arrival_settles_what_was_before_it_and_nothing_after() {
        let mut report = with_beats(4);
        assert_eq!(report.found(b"2", 4 * SECOND, SystemTime::UNIX_EPOCH), Some(Duration::from_secs(2)));
        assert_eq!(report.due(), Some(4 * SECOND), "the last one is out");
        assert_eq!(report.found(b"1", 4 * SECOND, SystemTime::UNIX_EPOCH), None, "an older one is no news");
        assert!(report.found(b"3", 4 * SECOND, SystemTime::UNIX_EPOCH).is_some() && !report.is_out());
    }

    #[test]
    fn a_target_that_is_dead_for_long_is_overdue_since_its_first_beat_and_found_by_its_last() {
        let mut report = with_beats(1000);
        assert_eq!(report.out.len(), OUT);
        assert_eq!(report.overdue(1000 * SECOND), Some(Duration::from_secs(999)));
        assert_eq!(report.found(b"999", 1000 * SECOND, SystemTime::UNIX_EPOCH), Some(Duration::from_secs(1)));
        assert!(!report.is_out());
    }

    #[test]
    fn what_is_forgotten_is_not_overdue() {
        let mut report = with_beats(3);
        report.forget();
        assert_eq!((report.overdue(100 * SECOND), report.is_out()), (None, false));
    }
}
