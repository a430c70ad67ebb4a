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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Overrides, RawConfig, Settle},
        dispatch::now,
        model::{Mark, Ops, RelPathBuf, Scope},
        plugin::Place,
    };

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes().to_vec()).unwrap()
    }

    fn arrived(text: &str) -> Vec<Arrived> {
        vec![Arrived { path: path(text), gone: false, directory: false, below: false }]
    }

    /// A plugin that tells nobody, and two targets.
    fn site() -> (Arc<Shared>, Vec<Arc<LaneShared>>, Gather) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("www")).unwrap();
        let text = "[[sync]]\nsource = 'www'\ntargets = ['a', 'b']\n[[sync.plugin]]\nname = 'p'\nkind = 'exec'\ncommand = ['true']\n";
        let raw = RawConfig::parse(text, &directory.path().join("trigsync.toml")).unwrap();
        let sync = raw.resolve(&Overrides::default(), &directory.path().join("state")).unwrap().syncs.remove(0);
        let place = Place { sync: "www".into(), source: sync.source.as_path().into() };
        let plugin = Arc::new(Shared::new(Arc::new(sync.plugins[0].clone()), place));
        let lane = |name: &str| Arc::new(LaneShared::new(Settle::default(), name.into(), name.into(), []));
        let lanes = vec![lane("a"), lane("b")];
        let gather = Gather::new(vec![plugin.clone()], &lanes, None);
        (plugin, lanes, gather)
    }

    #[test]
    fn a_path_waits_for_a_target_that_has_anything_older_on_its_way() {
        let (plugin, lanes, gather) = site();
        lanes[1].mark_all([Mark { path: path("x"), scope: Scope::Entry, ops: Ops::CLOSE_WRITE }]);
        gather.arrived(0, arrived("x"), now());
        gather.release();
        assert_eq!((plugin.pending(), gather.len()), (0, 1));
        gather.arrived(1, arrived("x"), now());
        assert_eq!((plugin.pending(), gather.len()), (1, 0), "the other has it now");
    }

    #[test]
    fn what_is_marked_later_is_not_waited_for() {
        let (plugin, lanes, gather) = site();
        let reported = now();
        while now() == reported {}
        lanes[1].mark_all([Mark { path: path("y"), scope: Scope::Entry, ops: Ops::CLOSE_WRITE }]);
        gather.arrived(0, arrived("x"), reported);
        assert_eq!(plugin.pending(), 1);
    }

    #[test]
    fn a_target_that_is_taken_out_is_not_waited_for() {
        let (plugin, mut lanes, gather) = site();
        lanes[1].mark_all([Mark { path: path("x"), scope: Scope::Entry, ops: Ops::CLOSE_WRITE }]);
        gather.arrived(0, arrived("x"), now());
        assert_eq!(plugin.pending(), 0);
        lanes.pop();
        gather.release();
        assert_eq!(plugin.pending(), 1);
    }
}
