//! What happened to a dirty set, in order, for whoever keeps a copy of it elsewhere.

use crate::model::{RelPath, RelPathBuf, Scope, Stamp};

/// One change of what a lane has not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A mark was made, or became wider.
    Marked {
        /// Where.
        path: RelPathBuf,
        /// How much of it.
        scope: Scope,
        /// Later than everything that was cut before.
        since: Stamp,
    },
    /// A subtree was marked: what was marked below it has no mark of its own any more.
    Absorbed {
        /// The subtree's top, which is not meant itself.
        path: RelPathBuf,
    },
    /// A mark has arrived. One that was made at the same path after `until`, when it was cut, has not.
    Settled {
        /// Where.
        path: RelPathBuf,
        /// How much of it; narrower marks of the path have arrived too.
        scope: Scope,
        /// When it was cut.
        until: Stamp,
    },
    /// Everything has arrived.
    Cleared,
}

/// Changes since they were taken last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In order.
    pub list: Vec<Change>,
    /// There were more than is kept, and all since then are missing: the copy is not complete until the next [`Change::Cleared`].
    pub overflowed: bool,
}

/// Writes changes down. Costs nothing until it is switched on.
#[derive(Debug)]
pub(super) struct Recorder {
    on: bool,
    changes: Changes,
    bytes: usize,
    most: usize,
    /// Nothing was recorded since the last `Cleared`.
    clear: bool,
}

/// What is kept between two visits of whoever takes it. A million marks a second fill it in a third of one.
const MOST_BYTES: usize = 32 << 20;

impl Default for Recorder {
    fn default() -> Self {
        Self { on: false, changes: Changes::default(), bytes: 0, most: MOST_BYTES, clear: false }
    }
}

impl Recorder {
    /// Keeps no more than so many bytes from now on.
    pub fn bound(&mut self, bytes: usize) {
        self.most = bytes.min(MOST_BYTES);
    }

    pub fn switch_on(&mut self) {
        self.on = true;
    }

    pub fn marked(&mut self, path: impl FnOnce() -> RelPathBuf, scope: Scope, since: Stamp) {
        self.record(|| Change::Marked { path: path(), scope, since });
    }

    pub fn absorbed(&mut self, path: impl FnOnce() -> RelPathBuf) {
        self.record(|| Change::Absorbed { path: path() });
    }

    pub fn settled(&mut self, path: &RelPath, scope: Scope, until: Stamp) {
        self.record(|| Change::Settled { path: path.to_owned(), scope, until });
    }

    /// Said as often as one likes.
    pub fn cleared(&mut self) {
        if self.on && !self.clear {
            (self.changes, self.bytes, self.clear) = (Changes { list: vec![Change::Cleared], overflowed: false }, 0, true);
        }
    }

    pub fn take(&mut self) -> Changes {
        self.bytes = 0;
        let overflowed = self.changes.overflowed;
        std::mem::replace(&mut self.changes, Changes { list: Vec::new(), overflowed })
    }

    fn record(&mut self, change: impl FnOnce() -> Change) {
        if !self.on {
            return;
        }
        self.clear = false;
        if self.changes.overflowed {
            return;
        }
        let change = change();
        let (Change::Marked { path, .. } | Change::Absorbed { path } | Change::Settled { path, .. }) = &change else { return };
        self.bytes += path.as_bytes().len() + size_of::<Change>();
        self.changes.list.push(change);
        if self.bytes > self.most {
            self.changes = Changes { list: Vec::new(), overflowed: true };
        }
    }
}
