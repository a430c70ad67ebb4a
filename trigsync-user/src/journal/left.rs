//! What the last daemon left in the journal, read once at a start.

use std::time::SystemTime;

use super::AuditPoint;
use crate::{
    capture::Position,
    model::{Mark, Ops, RelPathBuf, Scope},
};

/// What is known of the time before this start.
#[derive(Debug, Default)]
pub struct Left {
    pub(super) passed: Option<Passed>,
    pub(super) lanes: Vec<LaneLeft>,
    /// Why there is nothing, where there was something.
    pub(super) set_aside: Option<String>,
}

/// How the last daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The machine was not booted since.
    pub same_boot: bool,
    /// It had stopped, and what it wrote was on the disk.
    pub clean: bool,
    /// Everything that happened before this was captured, by the clock as it goes now; none where that is not known.
    pub until: Option<SystemTime>,
    /// Where it had read the kernel's ring to.
    pub position: Option<Position>,
}

/// One lane.
#[derive(Debug)]
pub struct LaneLeft {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    /// How it was configured.
    pub meaning: String,
    /// Whether there were more marks than the journal could keep.
    pub is_incomplete: bool,
    /// Where the last daemon had not found all that changed since then, by the clock as it goes now.
    pub searching_since: Option<SystemTime>,
    /// Whether the operator wants nothing to be sent.
    pub is_held: bool,
    /// How far its audit was.
    pub audit: Option<AuditPoint>,
    pub(super) marks: Vec<(RelPathBuf, Scope)>,
}

impl Left {
    /// How the last daemon ended; none where nothing is known of one.
    pub fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// Whether there was a daemon that did not end by itself.
    pub fn is_unclean(&self) -> bool {
        self.set_aside.is_some() || self.passed.as_ref().is_some_and(|passed| !passed.clean)
    }

    /// Why nothing is known, where the journal was of no use.
    pub fn set_aside(&self) -> Option<&str> {
        self.set_aside.as_deref()
    }

    /// One lane of a sync, without marks.
    #[cfg(test)]
    pub(crate) fn for_tests(sync: &str, target: &str, meaning: &str, is_incomplete: bool, passed: Option<Passed>) -> Self {
        let [sync, target, meaning] = [sync, target, meaning].map(str::to_owned);
        Self {
            passed,
            lanes: vec![LaneLeft {
                sync,
                target,
                meaning,
                is_incomplete,
                searching_since: None,
                is_held: false,
                audit: None,
                marks: Vec::new(),
            }],
            set_aside: None,
        }
    }

    /// What one target had not got.
    pub fn of(&self, sync: &str, target: &str) -> Option<&LaneLeft> {
        self.lanes.iter().find(|lane| lane.sync == sync && lane.target == target)
    }
}

impl LaneLeft {
    /// The marks. What was seen at each path is not kept: files are compared by content, except in a full pass, which would read everything.
    pub fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().map(|(path, scope)| {
            let ops = if path.is_root() { Ops::RESCAN } else { Ops::WRITE | Ops::RESCAN };
            Mark { path: path.clone(), scope: *scope, ops }
        })
    }

    /// How many marks there are.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}
