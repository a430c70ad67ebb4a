//! Lanes: what is marked for a target arrives there.
//!
//! - One lane per target; a slow or dead target holds up neither another nor the capture.
//! - A lane works in rounds: cut what is ripe, plan it, run it. While a round runs, the next one grows (group commit). Subtrees and
//!   large files run beside the rounds, up to the target's connections.
//! - Whatever is sent while an older run still works on the same paths is sent again when that run has ended (`overlap`).
//! - The source is looked at after a cut that was made after the batch was taken (`cut`).
//! - A mark leaves the lane only when rsync said that it arrived, or when nothing is due for it.
//! - An rsync that has connected ahead of the next change waits for it (`warm`).
//! - Guards are checked before anything is deleted (`guard`).
//! - A sync without targets has no lane, but something that tells its plugins what was marked (`announce`).

mod account;
mod announce;
mod arrivals;
mod aside;
mod audited;
mod connections;
mod cut;
mod full_pass;
mod guard;
mod job;
mod lane;
mod lend;
mod lingering;
mod loan;
mod overlap;
mod shared;
mod sync;
mod tell;
mod warm;

use std::{sync::OnceLock, time::Instant};

pub use announce::Announcer;
pub use arrivals::Listener;
pub use audited::{Audited, Watch};
pub use cut::Cut;
pub use full_pass::{FullPass, full_pass};
pub use lane::Lane;
pub use loan::{Loan, Loans};
pub use shared::LaneShared;
pub use sync::{GateState, SyncContext};

use crate::model::Stamp;

/// The clock of all dirty sets: microseconds since the first call, monotonic.
pub fn now() -> Stamp {
    instant_to_stamp(Instant::now())
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn instant_to_stamp(instant: Instant) -> Stamp {
    Stamp::try_from(instant.saturating_duration_since(epoch()).as_micros()).unwrap_or(Stamp::MAX)
}

fn stamp_to_instant(stamp: Stamp) -> Instant {
    epoch() + std::time::Duration::from_micros(stamp)
}
