//! What a lane keeps for the audit: where it is, what it has found, and which paths it wants to hear of.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    journal::AuditPoint,
    lock::lock,
    model::{RelPath, RelPathBuf},
    observe::AuditStatus,
};

/// The audit's side of a lane.
#[derive(Debug, Default)]
pub struct Audited {
    state: Mutex<State>,
    /// Spares marks a lock while nobody watches.
    is_watched: AtomicBool,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct State {
    point: Option<AuditPoint>,
    unwritten: bool,
    status: AuditStatus,
}

/// Paths of which it matters whether they are marked.
#[derive(Debug, Default)]
struct Watched {
    paths: BTreeSet<RelPathBuf>,
    touched: HashSet<RelPathBuf>,
}

/// Watches paths until it is dropped.
#[derive(Debug)]
pub struct Watch(Arc<Audited>);

impl Watch {
    /// Those of the paths that a mark since then may have changed something at.
    pub fn touched(&self) -> HashSet<RelPathBuf> {
        lock(&self.0.watched).touched.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.is_watched.store(false, Relaxed);
        *lock(&self.0.watched) = Watched::default();
    }
}

impl Audited {
    /// From now on remembers which of these paths are marked. For one at a time.
    pub fn watch(self: &Arc<Self>, paths: impl IntoIterator<Item = RelPathBuf>) -> Watch {
        *lock(&self.watched) = Watched { paths: paths.into_iter().collect(), touched: HashSet::new() };
        self.is_watched.store(true, Relaxed);
        Watch(self.clone())
    }

    /// Where the last daemon's audit was.
    pub fn resume(&self, point: AuditPoint) {
        lock(&self.state).point = Some(point);
    }

    /// How far it is; none where there never was one.
    pub fn point(&self) -> Option<AuditPoint> {
        lock(&self.state).point.clone()
    }

    /// It has come to here.
    pub fn reached(&self, point: AuditPoint) {
        let mut state = lock(&self.state);
        (state.point, state.unwritten) = (Some(point), true);
    }

    /// Changes what `status` shows of it.
    pub fn tell(&self, change: impl FnOnce(&mut AuditStatus)) {
        change(&mut lock(&self.state).status);
    }

    /// How far it is, where that is not written yet.
    pub(super) fn unwritten(&self) -> Option<AuditPoint> {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.unwritten) { state.point.clone() } else { None }
    }

    pub(super) fn status(&self) -> AuditStatus {
        lock(&self.state).status.clone()
    }

    /// A path was marked.
    pub(super) fn marked(&self, path: &RelPath) {
        // Marks that are made while the audit begins to watch are of before, for it.
        if self.is_watched.load(Relaxed) {
            lock(&self.watched).marked(path);
        }
    }
}

impl Watched {
    fn marked(&mut self, path: &RelPath) {
        // A name that comes or goes changes the directory's time.
        if let Some(holder) = path.parent().and_then(|parent| self.paths.get(parent)) {
            self.touched.insert(holder.clone());
        }
        // What is below may be reached another way now, or not at all.
        let from_here = self.paths.range::<RelPath, _>((Bound::Included(path), Bound::Unbounded));
        let begin_alike = from_here.take_while(|watched| watched.as_bytes().starts_with(path.as_bytes()));
        self.touched.extend(begin_alike.filter(|watched| watched.is_within(path)).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPathBuf {
        RelPathBuf::new(path.as_bytes().to_vec()).unwrap()
    }

    fn touched(watched: &[&str], path: &str) -> Vec<String> {
        let mut watch = Watched { paths: watched.iter().map(|path| rel(path)).collect(), touched: HashSet::new() };
        watch.marked(&rel(path));
        let mut touched: Vec<_> = watch.touched.iter().map(ToString::to_string).collect();
        touched.sort();
        touched
    }

    #[test]
    fn a_mark_touches_what_is_there_and_below_and_the_directory_that_holds_it() {
        let watched = ["a", "a/b", "a/b/c", "ab", "x"];
        assert_eq!(touched(&watched, "a/b/c"), ["a/b", "a/b/c"]);
        assert_eq!(touched(&watched, "a/b/d"), ["a/b"]);
        assert_eq!(touched(&watched, "a"), ["a", "a/b", "a/b/c"]);
        assert_eq!(touched(&watched, "").len(), watched.len());
        assert!(touched(&watched, "y").is_empty());
    }
}
