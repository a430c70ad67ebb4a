//! From capture into the dirty set of every lane that watches the root.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use crate::{
    capture::{Event, Position, Sink},
    dispatch::{LaneShared, SyncContext},
    journal::Note,
    model::{Mark, Ops, RelPath, RelPathBuf, RootId, Scope},
};

/// Who watches which root. Changed by the daemon, read by the capture thread.
#[derive(Clone, Default)]
pub(super) struct Table(Arc<RwLock<HashMap<RootId, Entry>>>);

#[derive(Clone)]
struct Entry {
    sync: Arc<SyncContext>,
    lanes: Vec<Arc<LaneShared>>,
}

impl Table {
    pub fn enter(&self, root: RootId, sync: Arc<SyncContext>, lanes: Vec<Arc<LaneShared>>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(root, Entry { sync, lanes });
    }

    pub fn remove(&self, root: RootId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&root);
    }

    fn with(&self, root: RootId, act: impl FnOnce(&Entry)) {
        if let Some(entry) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&root) {
            act(entry);
        }
    }
}

/// The sink that capture delivers to.
pub(super) struct FanOut {
    table: Table,
    touched: Vec<RootId>,
    /// Roots whose losses were said since the last delivery.
    lost: Vec<RootId>,
    note: Note,
}

impl FanOut {
    pub fn new(table: Table, note: Note) -> Self {
        Self { table, touched: Vec::new(), lost: Vec::new(), note }
    }

    fn changed(&self, root: RootId, path: &RelPath, scope: Scope, ops: Ops) {
        self.table.with(root, |entry| {
            if entry.sync.config.filter.excludes(path, ops.contains(Ops::DIRECTORY)) {
                return;
            }
            for lane in &entry.lanes {
                lane.mark(path, scope, ops);
            }
        });
    }
}

impl Sink for FanOut {
    fn event(&mut self, event: Event<'_>) {
        let (Event::Changed { root, .. } | Event::Lost { root } | Event::RootGone { root }) = event;
        if !self.touched.contains(&root) {
            self.touched.push(root);
        }
        match event {
            Event::Changed { root, path, scope, ops } => self.changed(root, path, scope, ops),
            Event::Lost { root } => {
                if !self.lost.contains(&root) {
                    self.lost.push(root);
                    tracing::warn!("events were lost; everything below root {} is compared again", root.0);
                }
                if !crate::sabotage::asks_for("overflow-ignored") {
                    self.changed(root, RelPath::root(), Scope::Tree, Ops::RESCAN);
                }
            }
            Event::RootGone { root } => {
                self.table.with(root, |entry| entry.sync.stop_without_root("it was replaced, unmounted or deleted"))
            }
        }
    }

    fn delivered(&mut self) {
        self.lost.clear();
        for root in self.touched.drain(..) {
            self.table.with(root, |entry| entry.lanes.iter().for_each(|lane| lane.wake()));
        }
    }

    fn reached(&mut self, position: Option<Position>, until: Option<SystemTime>) {
        self.note.reached(position, until);
    }
}

/// The mark for a full pass.
pub(super) fn everything() -> Mark {
    Mark { path: RelPathBuf::root(), scope: Scope::Tree, ops: Ops::RESCAN }
}
