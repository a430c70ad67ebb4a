//! What a lane says of itself: for `status`, and for those who wait until everything has arrived.

use super::{lane::Lane, now, overlap::Reach};
use crate::{
    model::Stamp,
    observe::{Doing, HELD_BY_OPERATOR, LaneState},
    plan::PlannedRun,
};

/// So many of the paths that are set aside are shown.
const SHOWN: usize = 100;

impl Lane {
    /// When the oldest mark was made that is on its way.
    pub(super) fn oldest_out(&self) -> Option<Stamp> {
        let running = self.running.iter().flat_map(|job| [job.oldest, job.reach.as_ref().and_then(Reach::oldest_shadow)]);
        running.chain(self.round.iter().chain(&self.bulk).map(PlannedRun::oldest)).flatten().min()
    }

    /// When the oldest mark that has not arrived was made, `out` being [`oldest_out`](Self::oldest_out).
    pub(super) fn oldest(&self, out: Option<Stamp>) -> Option<Stamp> {
        [out, self.aside.oldest(), self.shared.searching(), self.shared.set().oldest()].into_iter().flatten().min()
    }

    pub(super) fn tell(&self) {
        let out = self.oldest_out();
        let oldest = self.oldest(out);
        if oldest.is_none() {
            self.shared.set().all_settled();
        }
        let waiting: usize = self.round.iter().chain(&self.bulk).map(|run| run.items.len()).sum();
        let running: usize = self.running.iter().map(|job| job.marks + job.reach.as_ref().map_or(0, Reach::shadows)).sum();
        let doing = Doing {
            trouble: if self.shared.is_held() { Some((LaneState::Held, HELD_BY_OPERATOR.to_owned())) } else { self.trouble.clone() },
            in_flight: (waiting + running + self.aside.waiting()) as u64,
            oldest,
            set_aside: self.aside.list(SHOWN),
            full_pass: self.running.iter().any(|job| job.full_pass),
            parked: self.warm.parked() as u64,
        };
        self.shared.report().doing(doing, now());
        self.shared.turned(out, &self.aside);
    }
}
