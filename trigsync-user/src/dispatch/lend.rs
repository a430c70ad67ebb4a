//! When a lane lends a connection, and when it wants it back.

use super::{lane::Lane, now};

impl Lane {
    /// Lends to whoever has waited for long enough.
    pub(super) fn lend_first(&self) {
        if self.may_lend() && self.shared.loans().is_urgent() && self.running.len() < self.not_lent() {
            self.shared.loans().lend();
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
        } else if !waits && free > 0 && self.shared.loans().is_asked_for() {
            self.shared.loans().lend();
        }
    }
}
