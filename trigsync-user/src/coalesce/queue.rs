//! The marks of a set in the order of their age, threaded through the nodes.

use super::arena::{Arena, Id, NONE};
use crate::model::Stamp;

/// The ends of the list.
pub(super) struct Queue {
    pub oldest: Id,
    pub newest: Id,
    pub len: usize,
}

impl Queue {
    pub fn new() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }

    pub fn push_newest(&mut self, arena: &mut Arena, id: Id) {
        self.insert_after(arena, self.newest, id);
    }

    /// Puts `id` behind `after`; at the old end where that is `NONE`.
    pub fn insert_after(&mut self, arena: &mut Arena, after: Id, id: Id) {
        let newer = if after == NONE { self.oldest } else { arena.get(after).newer };
        let node = arena.get_mut(id);
        node.older = after;
        node.newer = newer;
        self.link(arena, after, id, newer);
        self.len += 1;
    }

    fn link(&mut self, arena: &mut Arena, older: Id, id: Id, newer: Id) {
        if older == NONE {
            self.oldest = id;
        } else {
            arena.get_mut(older).newer = id;
        }
        if newer == NONE {
            self.newest = id;
        } else {
            arena.get_mut(newer).older = id;
        }
    }

    pub fn unlink(&mut self, arena: &mut Arena, id: Id) {
        let (older, newer) = (arena.get(id).older, arena.get(id).newer);
        if older == NONE {
            self.oldest = newer;
        } else {
            arena.get_mut(older).newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            arena.get_mut(newer).older = older;
        }
        self.len -= 1;
    }

    /// The newest mark that is older than `since`, looked for from `from` on (from the oldest where that is `NONE`).
    pub fn last_before(&self, arena: &Arena, from: Id, since: Stamp) -> Id {
        let mut found = from;
        let mut at = if from == NONE { self.oldest } else { arena.get(from).newer };
        while at != NONE && arena.get(at).since < since {
            found = at;
            at = arena.get(at).newer;
        }
        found
    }
}
