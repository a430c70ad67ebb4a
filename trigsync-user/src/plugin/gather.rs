//! What has arrived at all targets of a sync.
//!
//! A path that a target reports waits until the others have it too: until they report it, or have nothing on their way any more that was marked
//! before the report. What failed alone at a target is not waited for: that target reports it when it arrives.

use std::sync::{Arc, Mutex, Weak};

use super::{queue::Queue, runner::Shared};
use crate::{
    dispatch::LaneShared,
    lock::lock,
    model::{Arrived, Stamp},
};

/// Bytes of paths that wait for another target.
const MOST: usize = 16 << 20;

/// What waits, and for whom.
#[derive(Debug)]
pub(super) struct Gather {
    waiting: Mutex<Queue>,
    plugins: Vec<Arc<Shared>>,
    /// A lane holds what holds us.
    lanes: Vec<Weak<LaneShared>>,
}

impl Gather {
    /// For these plugins and lanes, with what waits already.
    pub fn new(plugins: Vec<Arc<Shared>>, lanes: &[Arc<LaneShared>], waiting: Option<Queue>) -> Self {
        let waiting = waiting.filter(|_| !plugins.is_empty()).unwrap_or_else(|| Queue::new(MOST));
        Self { waiting: Mutex::new(waiting), plugins, lanes: lanes.iter().map(Arc::downgrade).collect() }
    }

    /// What waits is another's now. Which targets have it is not known there.
    pub fn take(&self) -> Option<Queue> {
        let mut waiting = std::mem::replace(&mut *lock(&self.waiting), Queue::new(MOST));
        waiting.forget_who_has_it();
        Some(waiting)
    }

    pub fn len(&self) -> u64 {
        lock(&self.waiting).len()
    }

    /// A target has these.
    pub fn arrived(&self, lane: usize, arrived: Vec<Arrived>, now: Stamp) {
        if self.plugins.is_empty() {
            return;
        }
        if self.lanes.len() == 1 {
            return self.push(&arrived);
        }
        let folded = {
            let mut waiting = lock(&self.waiting);
            arrived.into_iter().map(|arrived| waiting.add(arrived, now, bit(lane))).sum()
        };
        self.plugins.iter().for_each(|plugin| plugin.folded(folded));
        self.release();
    }

    /// Tells what all targets have by now.
    pub fn release(&self) {
        if self.lanes.len() == 1 || self.len() == 0 {
            return;
        }
        let lanes: Vec<_> = self.lanes.iter().map(Weak::upgrade).collect();
        let oldest: Vec<_> = lanes.iter().map(|lane| lane.as_ref().and_then(|lane| lane.oldest_on_its_way())).collect();
        let has = |index: usize, had: u64, stamp| had & bit(index) != 0 || oldest[index].is_none_or(|oldest| oldest > stamp);
        let mut ripe = lock(&self.waiting).extract(|_, entry| (0..oldest.len()).all(|index| has(index, entry.had, entry.stamp)));
        ripe.retain(|arrived| !lanes.iter().flatten().any(|lane| lane.is_set_aside(arrived)));
        self.push(&ripe);
    }

    fn push(&self, arrived: &[Arrived]) {
        if !arrived.is_empty() {
            self.plugins.iter().for_each(|plugin| plugin.push(arrived.iter().cloned()));
        }
    }
}

/// Targets beyond 64 are known by what is on their way alone.
fn bit(lane: usize) -> u64 {
    u32::try_from(lane).ok().and_then(|lane| 1_u64.checked_shl(lane)).unwrap_or(0)
}
