//! What a lane uses its connections for: when it lends one, when it wants it back, which subtree gets one, and when one is made ahead.

use std::time::Instant;

use super::{lane::Lane, now};
use crate::{
    plan::PlannedRun,
    rsync::{Answer, Verdict},
};

impl Lane {
    /// Lends to whoever has waited for long enough.
    pub(super) fn lend_first(&mut self) {
        if self.may_lend() && self.shared.loans().is_urgent() && self.makes_room() {
            self.shared.loans().lend();
        }
    }

    /// Connections that are the lane's own at present.
    pub(super) fn not_lent(&self) -> usize {
        self.connections.bound().saturating_sub(self.shared.loans().lent())
    }

    /// One connection is kept for the rounds, where there is more than one. But a full pass may take hours: a subtree that came up since
    /// does not wait for it, though the rounds then wait for the subtree.
    pub(super) fn next_bulk(&mut self) -> Option<PlannedRun> {
        let connections = self.not_lent();
        let one_is_kept = self.running.len() < connections.min(self.connections.bound().saturating_sub(1).max(1));
        let beside_a_full_pass = self.running.len() < connections && self.running.iter().all(|job| job.full_pass);
        let next = self.bulk.iter().position(|run| one_is_kept || (beside_a_full_pass && !run.is_full_pass()))?;
        if self.makes_room() { self.bulk.remove(next) } else { None }
    }

    /// Whether one more process may connect. Where a parked one is in the way, that has begun to end.
    pub(super) fn makes_room(&mut self) -> bool {
        let has_room = self.has_room();
        if !has_room && self.running.len() < self.not_lent() {
            self.warm.make_room();
        }
        has_room
    }

    fn has_room(&self) -> bool {
        self.running.len() + self.warm.taken() < self.not_lent()
    }

    /// Connects ahead of the next change, where nothing else wants the connection.
    pub(super) fn park(&mut self) {
        let now = Instant::now();
        self.warm.look(now);
        let waits = !self.bulk.is_empty() || self.shared.loans().is_asked_for() || self.shared.lingering().waits(now);
        // A target that takes but one has others that want it.
        let spares_one = self.connections.bound() > 1 || self.context.target.connections.get() == 1;
        if self.may_lend() && !waits && spares_one && self.has_room() {
            self.warm.park(now);
        }
    }

    /// A parked rsync has ended. None of its changes has to be sent again, since it had none.
    pub(super) fn left_unused(&mut self, answer: Option<Answer>) {
        self.shared.report().ended_unused();
        if let Some(Verdict::Full { reason, limit }) = answer.map(|answer| answer.verdict) {
            self.learn(limit, &reason, Instant::now());
        }
    }

    fn may_lend(&self) -> bool {
        self.gate.borrow().stopped.is_none() && !self.shared.is_held() && self.trouble.is_none()
    }

    /// Lends a connection that is not needed, and wants it back where everything else is in use.
    pub(super) fn lend(&mut self) {
        if !self.may_lend() {
            return self.shared.loans().recall();
        }
        let is_due = self.round_is_over() && self.shared.set().due().is_some_and(|due| due <= now());
        let waits = !self.round.is_empty() || !self.bulk.is_empty() || is_due;
        let free = self.not_lent().saturating_sub(self.running.len());
        if waits && free == 0 {
            self.shared.loans().recall();
        } else if !waits && free > 0 && self.shared.loans().is_asked_for() && self.makes_room() {
            self.shared.loans().lend();
        }
    }
}
