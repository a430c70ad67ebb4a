//! Runs that work on the same paths at the same time.
//!
//! An older run may have read its list before a younger one's change: it can undo what the younger one did (delete a file that was new,
//! put back an old time). So what a younger run does where an older one still works is remembered as a shadow of the older run, and marked
//! again when that has ended. Pure.

use crate::{
    coalesce::{DirtySet, Taken},
    config::Settle,
    model::{Mark, Ops, RelPath, RelPathBuf, Scope, Stamp},
    plan::PlannedRun,
};

/// What a running rsync works on.
pub(super) struct Reach {
    /// Subtrees.
    trees: Vec<RelPathBuf>,
    /// Single files.
    files: Vec<RelPathBuf>,
    /// What younger runs did in here.
    shadows: DirtySet,
}

impl Reach {
    /// The reach of a run that works beside the rounds. Rounds follow one another and need none.
    pub fn of(run: &PlannedRun) -> Self {
        let paths = run.paths().map(ToOwned::to_owned).collect();
        // A level is taken for a subtree: that casts shadows too many, which cost a comparison each.
        let (trees, files) = if run.scope() == Scope::Entry { (Vec::new(), paths) } else { (paths, Vec::new()) };
        Self { trees, files, shadows: DirtySet::new(Settle::default()) }
    }

    /// Whether the run is sending this very file: sending it a second time at once would be of no use.
    pub fn is_sending(&self, path: &RelPath) -> bool {
        self.files.iter().any(|file| **file == *path)
    }

    /// Remembers what a younger run does here.
    pub fn shadow(&mut self, younger: &PlannedRun) {
        let mut shadows = Vec::new();
        for item in &younger.items {
            let mut cast = |path: &RelPath, scope, ops| {
                let mark = Mark { path: path.to_owned(), scope, ops: ops | Ops::RESCAN };
                shadows.push(Taken::new(mark, item.mark.since));
            };
            let listed = &*item.listed;
            if self.trees.iter().any(|tree| listed.is_within(tree)) || self.is_sending(listed) {
                // What the mark covers, not only what was done for it: the next look may find a directory where there was none.
                cast(listed, younger.scope().max(item.mark.mark.scope), item.mark.mark.ops);
            } else if younger.reaches_below(item) {
                for tree in self.trees.iter().filter(|tree| tree.is_within(listed)) {
                    cast(tree, Scope::Tree, Ops::empty());
                }
                for file in self.files.iter().filter(|file| file.is_within(listed)) {
                    cast(file, Scope::Entry, Ops::WRITE);
                }
            }
        }
        self.shadows.put_back(shadows);
    }

    /// Keeps a mark until the run has ended.
    pub fn defer(&mut self, mark: Taken) {
        self.shadows.put_back(vec![mark]);
    }

    /// When the oldest shadow was cast.
    pub fn oldest_shadow(&self) -> Option<Stamp> {
        self.shadows.oldest()
    }

    /// How many shadows there are.
    pub fn shadows(&self) -> usize {
        self.shadows.len()
    }

    /// What has to be marked again, now that the run has ended.
    pub fn ended(mut self) -> Vec<Taken> {
        self.shadows.cut(Stamp::MAX / 2, usize::MAX, Stamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Gone, Item},
        rsync::{Compare, Listing, Work},
    };

    fn run(work: Work, listed: &[(&str, bool)]) -> PlannedRun {
        let item = |&(path, missing): &(&str, bool)| {
            let path = RelPathBuf::new(path.as_bytes().to_vec()).unwrap();
            let scope = if matches!(work, Work::Trees(_)) { Scope::Tree } else { Scope::Entry };
            Item { listed: path.clone(), missing, directory: !missing, mark: Taken::new(Mark { path, scope, ops: Ops::WRITE }, 7) }
        };
        PlannedRun { work, listing: Listing::Plain, gone: Gone::Seen(0), items: listed.iter().map(item).collect() }
    }

    fn shadows(older: &PlannedRun, younger: &PlannedRun) -> Vec<(String, Scope)> {
        let mut reach = Reach::of(older);
        reach.shadow(younger);
        let ended = reach.ended();
        assert!(ended.iter().all(|taken| taken.since == 7), "a shadow is as old as the change that cast it");
        ended.into_iter().map(|taken| (taken.mark.path.to_string(), taken.mark.scope)).collect()
    }

    const ENTRIES: Work = Work::Entries(Compare::Changed);

    #[test]
    fn the_narrower_of_two_overlapping_paths_is_marked_again() {
        let entry = |path: &str| vec![(path.to_owned(), Scope::Entry)];
        let tree = |path: &str| vec![(path.to_owned(), Scope::Tree)];
        let full = run(Work::Trees(Compare::Quick), &[("", false)]);
        let sub = run(Work::Trees(Compare::Quick), &[("a/b", false)]);
        let file = run(ENTRIES, &[("a/b/big", false)]);
        assert_eq!(shadows(&full, &run(ENTRIES, &[("a/x", false)])), entry("a/x"));
        assert_eq!(shadows(&full, &sub), tree("a/b"));
        assert_eq!(shadows(&sub, &full), tree("a/b"));
        assert_eq!(shadows(&sub, &run(ENTRIES, &[("a", true)])), tree("a/b"), "deleted above");
        assert_eq!(shadows(&sub, &run(ENTRIES, &[("a", false)])), vec![], "a directory's own attributes");
        assert_eq!(shadows(&sub, &run(ENTRIES, &[("a/c", false), ("a/bc", true)])), vec![]);
        assert_eq!(shadows(&file, &run(ENTRIES, &[("a", true)])), entry("a/b/big"));
        assert_eq!(shadows(&file, &full), entry("a/b/big"));
        assert_eq!(shadows(&file, &run(ENTRIES, &[("a/b/bigger", false)])), vec![]);
    }
}
