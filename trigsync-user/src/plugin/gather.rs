//! What has arrived at all targets of a sync.
//!
//! A path that a target reports waits until the others have it too: until they report it, or have nothing on their way any more that was marked
//! before the report. What failed alone at a target is not waited for: that target reports it when it arrives.

use std::sync::{Arc, Mutex, Weak};

use super::{
    queue::{Entry, Queue},
    runner::Shared,
};
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
    state: Mutex<State>,
    plugins: Vec<Arc<Shared>>,
    /// A lane holds what holds us.
    lanes: Vec<Weak<LaneShared>>,
}

#[derive(Debug)]
struct State {
    waiting: Queue,
    /// The oldest mark on its way to each target, when all that waits was looked at last. Where none of them is newer since, nothing of that is ripe:
    /// a dead target must not cost the others a look at everything with each of their batches.
    seen: Vec<Option<Stamp>>,
}

impl Gather {
    /// For these plugins and lanes, with what waits already.
    pub fn new(plugins: Vec<Arc<Shared>>, lanes: &[Arc<LaneShared>], waiting: Option<Queue>) -> Self {
        let waiting = waiting.filter(|_| !plugins.is_empty()).unwrap_or_else(|| Queue::new(MOST));
        let state = State { waiting, seen: vec![Some(0); lanes.len()] };
        Self { state: Mutex::new(state), plugins, lanes: lanes.iter().map(Arc::downgrade).collect() }
    }

    /// What waits is another's now. Which targets have it is not known there.
    pub fn take(&self) -> Option<Queue> {
        let mut waiting = std::mem::replace(&mut lock(&self.state).waiting, Queue::new(MOST));
        waiting.forget_who_has_it();
        Some(waiting)
    }

    pub fn len(&self) -> u64 {
        lock(&self.state).waiting.len()
    }

    /// A target has these.
    pub fn arrived(&self, lane: usize, arrived: Vec<Arrived>, now: Stamp) {
        if self.plugins.is_empty() {
            return;
        }
        if self.lanes.len() == 1 {
            return self.push(&arrived);
        }
        let lanes = self.lanes();
        let mut folded = 0;
        let mut ripe = Vec::new();
        {
            let mut state = lock(&self.state);
            // Looked at under the lock, as in `look`: a target that gets on meanwhile looks at everything after us.
            let oldest = oldest(&lanes);
            for arrived in arrived {
                let path = arrived.path.clone();
                folded += state.waiting.add(arrived, now, bit(lane));
                ripe.extend(state.waiting.take_one(&path, |entry| is_ripe(entry, &oldest)));
            }
            ripe.extend(state.look(oldest));
        }
        self.plugins.iter().for_each(|plugin| plugin.folded(folded));
        self.tell(ripe, &lanes);
    }

    /// Tells what all targets have by now.
    pub fn release(&self) {
        if self.len() == 0 {
            return;
        }
        let lanes = self.lanes();
        let ripe = {
            let mut state = lock(&self.state);
            let oldest = oldest(&lanes);
            state.look(oldest)
        };
        self.tell(ripe, &lanes);
    }

    fn lanes(&self) -> Vec<Option<Arc<LaneShared>>> {
        self.lanes.iter().map(Weak::upgrade).collect()
    }

    fn tell(&self, mut ripe: Vec<Arrived>, lanes: &[Option<Arc<LaneShared>>]) {
        ripe.retain(|arrived| !lanes.iter().flatten().any(|lane| lane.is_set_aside(arrived)));
        self.push(&ripe);
    }

    fn push(&self, arrived: &[Arrived]) {
        if !arrived.is_empty() {
            self.plugins.iter().for_each(|plugin| plugin.push(arrived.iter().cloned()));
        }
    }
}

impl State {
    /// Takes what is ripe of all that waits.
    fn look(&mut self, oldest: Vec<Option<Stamp>>) -> Vec<Arrived> {
        let gets_on = |(before, now): (&Option<Stamp>, &Option<Stamp>)| match (before, now) {
            (Some(before), Some(now)) => now > before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let any = self.seen.iter().zip(&oldest).any(gets_on);
        let ripe = if any { self.waiting.extract(|entry| is_ripe(entry, &oldest)) } else { Vec::new() };
        self.seen = oldest;
        ripe
    }
}

fn oldest(lanes: &[Option<Arc<LaneShared>>]) -> Vec<Option<Stamp>> {
    lanes.iter().map(|lane| lane.as_ref().and_then(|lane| lane.oldest_on_its_way())).collect()
}

/// Whether every target has reported it, or has nothing on its way that was there before the report.
fn is_ripe(entry: &Entry, oldest: &[Option<Stamp>]) -> bool {
    let has = |(index, oldest): (usize, &Option<Stamp>)| entry.had & bit(index) != 0 || oldest.is_none_or(|oldest| oldest > entry.stamp);
    oldest.iter().enumerate().all(has)
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
    fn what_waits_is_found_when_the_target_gets_on() {
        let (plugin, mut lanes, gather) = site();
        lanes[1].mark_all([Mark { path: path("x"), scope: Scope::Entry, ops: Ops::CLOSE_WRITE }]);
        for name in ["x", "y", "z"] {
            gather.arrived(0, arrived(name), now());
        }
        gather.arrived(1, arrived("y"), now());
        assert_eq!((plugin.pending(), gather.len()), (1, 2), "of the others the one that is stuck has said nothing");
        lanes.pop();
        gather.arrived(0, arrived("w"), now());
        assert_eq!((plugin.pending(), gather.len()), (4, 0));
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
