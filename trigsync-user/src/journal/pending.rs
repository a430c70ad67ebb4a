//! What is to be written for one lane, folded: a mark that came and went between two visits costs nothing.

use std::{collections::BTreeMap, ops::Bound};

use crate::{
    coalesce::{Change, Changes},
    model::{RelPathBuf, Scope, Stamp},
};

/// What is to be done to the rows of one path and scope, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Take it out where it is no younger than this.
    pub settled_until: Option<Stamp>,
    /// Put it in, or make it as young as this.
    pub since: Option<Stamp>,
}

/// Bytes that the rows of a path take, with a path of usual length.
const ROW: usize = 256;

/// Everything that is to be done to the rows of a lane: first `cleared`, then `absorbed`, then `rows`.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// All rows go.
    pub cleared: bool,
    /// What is below these goes.
    pub absorbed: Vec<RelPathBuf>,
    pub rows: BTreeMap<RelPathBuf, [Row; 3]>,
    /// Whether the rows are all that the lane has not sent, where that has changed.
    pub complete: Option<bool>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        !self.cleared && self.absorbed.is_empty() && self.rows.is_empty() && self.complete.is_none()
    }

    /// Forgets the rows: everything begins anew.
    pub fn clear(&mut self) {
        *self = Self { cleared: true, complete: self.complete, ..Self::default() };
    }

    /// Takes in what happened next. What waits for longer than to the next visit takes no more than about `most` bytes: beyond, that there is
    /// more is all that is known of it.
    pub fn fold(&mut self, changes: Changes, most: usize) {
        let waits = !self.is_empty();
        self.take_in(changes);
        if waits && (self.rows.len() + self.absorbed.len()).saturating_mul(ROW) > most {
            self.clear();
            self.complete = Some(false);
        }
    }

    fn take_in(&mut self, changes: Changes) {
        if changes.overflowed {
            self.clear();
            self.complete = Some(false);
            return;
        }
        for change in changes.list {
            match change {
                Change::Cleared => {
                    self.clear();
                    self.complete = Some(true);
                }
                Change::Absorbed { path } => self.absorb(path),
                Change::Marked { path, scope, since } => {
                    let row = &mut self.rows.entry(path).or_default()[scope as usize];
                    row.since = row.since.max(Some(since));
                }
                Change::Settled { path, scope, until } => self.settle(path, scope, until),
            }
        }
    }

    fn absorb(&mut self, path: RelPathBuf) {
        let below = self.rows.range((Bound::Excluded(path.clone()), Bound::Unbounded));
        let below: Vec<_> = below.take_while(|(other, _)| other.is_within(&path)).map(|(other, _)| other.clone()).collect();
        for path in below {
            self.rows.remove(&path);
        }
        self.absorbed.push(path);
    }

    fn settle(&mut self, path: RelPathBuf, scope: Scope, until: Stamp) {
        let rows = self.rows.entry(path).or_default();
        for row in &mut rows[..=scope as usize] {
            row.settled_until = row.settled_until.max(Some(until));
            row.since = row.since.filter(|since| *since > until);
        }
    }
}
