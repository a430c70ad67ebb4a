//! Full passes on schedule.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{Timestamp, Zoned};
use tokio::{task::JoinHandle, time::sleep};

use super::fan_out::everything;
use crate::{
    config::Schedule,
    dispatch::{LaneShared, SyncContext},
    lock::lock,
};

/// The longest time for which the clock is trusted to go on as it does.
const NAP: Duration = Duration::from_secs(30);

/// Has everything compared at its times, until it is dropped.
pub(super) struct FullPasses {
    next: Arc<Mutex<Option<Timestamp>>>,
    task: JoinHandle<()>,
}

impl FullPasses {
    /// None where nothing is scheduled.
    pub fn start(context: &Arc<SyncContext>, lanes: Vec<Arc<LaneShared>>) -> Option<Self> {
        let schedule = context.config.full_pass.clone()?;
        let next = Arc::new(Mutex::new(None));
        let task = tokio::spawn(run(schedule, context.clone(), lanes, next.clone()));
        Some(Self { next, task })
    }

    /// When the next one begins, in milliseconds since 1970.
    pub fn next_ms(&self) -> Option<u64> {
        lock(&self.next).and_then(|next| u64::try_from(next.as_millisecond()).ok())
    }
}

impl Drop for FullPasses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(schedule: Schedule, context: Arc<SyncContext>, lanes: Vec<Arc<LaneShared>>, next: Arc<Mutex<Option<Timestamp>>>) {
    while let Some(at) = schedule.next(&Zoned::now(), fastrand::f64()) {
        *lock(&next) = Some(at.timestamp());
        if !wait_until(at.timestamp()).await {
            continue;
        }
        let name = &context.config.name;
        if context.gate().stopped.is_some() {
            tracing::warn!("{name}: no full pass, though one is scheduled: the sync is stopped");
        } else {
            tracing::info!("{name}: a full pass, as scheduled");
            lanes.iter().for_each(|lane| lane.mark_all([everything()]));
        }
    }
    *lock(&next) = None;
    tracing::warn!("{}: no further full pass is scheduled: the calendar has no time for it", context.config.name);
}

/// Whether it is that time; false where the clock was set back, and another time may be next.
async fn wait_until(at: Timestamp) -> bool {
    let mut now = Timestamp::now();
    while now < at {
        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        sleep(left.min(NAP)).await;
        let before = std::mem::replace(&mut now, Timestamp::now());
        if now < before {
            return false;
        }
    }
    true
}
