//! The counters and delays of one lane.

use hdrhistogram::Histogram;

use super::{AuditStatus, DelayStatus, LaneState, TargetStatus};
use crate::model::Stamp;

/// What one lane has to tell. The lane writes, `status` reads.
#[derive(Debug)]
pub struct LaneReport {
    name: String,
    address: String,
    state: LaneState,
    reason: Option<String>,
    since: Stamp,
    in_flight: u64,
    oldest: Option<Stamp>,
    set_aside: Vec<(String, String)>,
    full_pass: bool,
    parked: u64,
    sent: u64,
    batches: u64,
    processes: u64,
    bytes: u64,
    failures: u64,
    /// Microseconds, two significant digits.
    delays: Histogram<u64>,
    last: u64,
}

/// What a lane is doing.
#[derive(Debug, Default)]
pub struct Doing {
    /// Why nothing goes through, and whether only the operator can help.
    pub trouble: Option<(LaneState, String)>,
    /// Marks on their way.
    pub in_flight: u64,
    /// The oldest mark that has not arrived.
    pub oldest: Option<Stamp>,
    /// Paths set aside, with the reason of each.
    pub set_aside: Vec<(String, String)>,
    /// Whether a full pass runs.
    pub full_pass: bool,
    /// rsync processes that have connected ahead.
    pub parked: u64,
}

/// What one ended run adds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Marks that arrived.
    pub marks: u64,
    /// rsync processes it took.
    pub processes: u64,
    /// Bytes that rsync wrote to the other side.
    pub bytes: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// Delays above an hour count as an hour.
const LONGEST: u64 = 3_600_000_000;

impl LaneReport {
    /// Nothing has happened yet.
    pub fn new(name: String, address: String) -> Self {
        Self {
            name,
            address,
            state: LaneState::Ok,
            reason: None,
            since: 0,
            in_flight: 0,
            oldest: None,
            set_aside: Vec::new(),
            full_pass: false,
            parked: 0,
            sent: 0,
            batches: 0,
            processes: 0,
            bytes: 0,
            failures: 0,
            delays: Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are valid"),
            last: 0,
        }
    }

    /// A mark that was made at `since` arrived at `now`.
    pub fn arrived(&mut self, since: Stamp, now: Stamp) {
        self.delays.saturating_record(now.saturating_sub(since).max(1));
    }

    /// A run has ended; its oldest mark took `slowest` microseconds.
    pub fn ended(&mut self, sent: Sent, slowest: Option<u64>) {
        self.sent += sent.marks;
        self.batches += 1;
        self.processes += sent.processes;
        self.bytes += sent.bytes;
        self.failures += u64::from(sent.failed);
        self.last = slowest.unwrap_or(self.last);
    }

    /// An rsync has ended that had nothing to do.
    pub fn ended_unused(&mut self) {
        self.processes += 1;
    }

    /// What the lane is doing at `now`.
    pub fn doing(&mut self, doing: Doing, now: Stamp) {
        let (state, reason) = match doing.trouble {
            Some((state, reason)) => (state, Some(reason)),
            None if doing.oldest.is_some() => (LaneState::Behind, None),
            None => (LaneState::Ok, None),
        };
        if state != self.state {
            self.since = now;
        }
        (self.state, self.reason) = (state, reason);
        (self.in_flight, self.oldest) = (doing.in_flight, doing.oldest);
        (self.set_aside, self.full_pass, self.parked) = (doing.set_aside, doing.full_pass, doing.parked);
    }

    /// The status at `now`, after `changes` events, with `pending` marks in the set, the oldest made at `oldest`.
    pub fn status(&self, changes: u64, pending: u64, oldest: Option<Stamp>, degraded: u64, now: Stamp) -> TargetStatus {
        let milliseconds = |micros: u64| micros as f64 / 1000.0;
        TargetStatus {
            name: self.name.clone(),
            address: self.address.clone(),
            state: if self.state == LaneState::Ok && pending > 0 { LaneState::Behind } else { self.state },
            reason: self.reason.clone(),
            since_ms: now.saturating_sub(self.since) / 1000,
            pending,
            in_flight: self.in_flight,
            set_aside: self.set_aside.clone(),
            full_pass: self.full_pass,
            parked: self.parked,
            lag_ms: self.oldest.into_iter().chain(oldest).min().map_or(0, |oldest| now.saturating_sub(oldest) / 1000),
            degraded,
            changes,
            sent: self.sent,
            batches: self.batches,
            processes: self.processes,
            bytes: self.bytes,
            failures: self.failures,
            canary: None,
            delay: DelayStatus {
                count: self.delays.len(),
                p50_ms: milliseconds(self.delays.value_at_quantile(0.5)),
                p99_ms: milliseconds(self.delays.value_at_quantile(0.99)),
                max_ms: milliseconds(self.delays.max()),
                last_ms: milliseconds(self.last),
                sum_ms: self.delays.mean() * self.delays.len() as f64 / 1000.0,
                counts: counts(&self.delays),
            },
            audit: AuditStatus::default(),
        }
    }
}

/// How many delays there are up to each bound.
fn counts(delays: &Histogram<u64>) -> Vec<u64> {
    let mut before = 0;
    let below = DelayStatus::BOUNDS_MS.map(|bound| delays.count_between(0, bound * 1000));
    below.map(|below| below.saturating_sub(std::mem::replace(&mut before, below))).to_vec()
}
