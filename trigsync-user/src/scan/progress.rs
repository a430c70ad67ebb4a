//! How far a scan is, to be read while it runs.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::Serialize;

use crate::model::{RelPathBuf, Scope};

/// Counters of a scan that runs. They only grow.
#[derive(Debug, Default)]
pub struct Progress {
    entries: AtomicU64,
    directories: AtomicU64,
    marked_entries: AtomicU64,
    marked_levels: AtomicU64,
    marked_trees: AtomicU64,
    unreadable: AtomicU64,
    vanished: AtomicU64,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Names that were looked at, directories among them. The root is not counted.
    pub entries: u64,
    /// Directories whose names were read, the root among them.
    pub directories: u64,
    /// E marks made.
    pub marked_entries: u64,
    /// L marks made.
    pub marked_levels: u64,
    /// T marks made.
    pub marked_trees: u64,
    /// What could not be read or looked at, and was marked for that.
    pub unreadable: u64,
    /// What went away, or became something else, between the reading of its name and the look at it.
    pub vanished: u64,
}

impl Progress {
    /// The counts at this moment.
    pub fn counts(&self) -> Counts {
        Counts {
            entries: self.entries.load(Relaxed),
            directories: self.directories.load(Relaxed),
            marked_entries: self.marked_entries.load(Relaxed),
            marked_levels: self.marked_levels.load(Relaxed),
            marked_trees: self.marked_trees.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
            vanished: self.vanished.load(Relaxed),
        }
    }

    pub(super) fn looked_at(&self, entries: u64) {
        self.entries.fetch_add(entries, Relaxed);
    }

    pub(super) fn entered(&self) {
        self.directories.fetch_add(1, Relaxed);
    }

    pub(super) fn marked(&self, scope: Scope) {
        let counter = match scope {
            Scope::Entry => &self.marked_entries,
            Scope::Level => &self.marked_levels,
            Scope::Tree => &self.marked_trees,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn unreadable(&self) {
        self.unreadable.fetch_add(1, Relaxed);
    }

    pub(super) fn vanished(&self) {
        self.vanished.fetch_add(1, Relaxed);
    }
}

impl Counts {
    /// Marks of all kinds.
    pub fn marks(&self) -> u64 {
        self.marked_entries + self.marked_levels + self.marked_trees
    }
}

/// What a scan that went to its end came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What was looked at and marked.
    pub counts: Counts,
    /// How long it took.
    pub duration: Duration,
    /// Directories on which another file system is mounted, sorted, whether they were gone into or not. No time tells of a mount that came
    /// or went: where these are not those of the last scan, more than the marks is due.
    pub mounts: Vec<RelPathBuf>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { entries, directories, marked_entries, marked_levels, marked_trees, unreadable, vanished } = self.counts;
        write!(
            f,
            "{entries} entries in {directories} directories looked at in {:.1} s; marked: {marked_entries} entries, {marked_levels} levels, \
             {marked_trees} subtrees",
            self.duration.as_secs_f64()
        )?;
        if unreadable > 0 {
            write!(f, "; {unreadable} could not be read")?;
        }
        if vanished > 0 {
            write!(f, "; {vanished} went away meanwhile")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_found_and_no_more() {
        let progress = Progress::default();
        progress.entered();
        progress.looked_at(5);
        [Scope::Entry, Scope::Entry, Scope::Level, Scope::Tree].iter().for_each(|&scope| progress.marked(scope));
        let summary =
            |progress: &Progress| Summary { counts: progress.counts(), duration: Duration::from_millis(1250), mounts: Vec::new() };
        assert_eq!(
            summary(&progress).to_string(),
            "5 entries in 1 directories looked at in 1.2 s; marked: 2 entries, 1 levels, 1 subtrees"
        );
        progress.unreadable();
        progress.vanished();
        assert!(summary(&progress).to_string().ends_with("1 subtrees; 1 could not be read; 1 went away meanwhile"));
        assert_eq!(progress.counts().marks(), 4);
    }
}
