//! What is marked for an entry, from its change time and that of the directory that holds it. Pure.
//!
//! Only change times count. A modification time is what anybody says it is: `tar`, `rsync -a` and `cp -a` set that of a directory back after
//! they wrote into it. A change time cannot be set, and is renewed by everything that renews the modification time.
//!
//! | entry | its change time | its directory's | mark |
//! |---|---|---|---|
//! | any but a directory | new | | E: written, replaced by a rename, linked, or only `chmod` |
//! | directory | new | old | L: names in it came or went, or its own attributes changed; gone into |
//! | directory | new | new | T: as above, or it was moved here with all that is in it, whose times are old |
//! | directory | old | | none; gone into |
//! | the root | new | | L: nobody can have moved it here and left its identity as it was |
//!
//! A name that went away leaves a new change time at its directory. A level pass makes a directory that the target lacks, but puts nothing
//! into it: such a directory is new at its place, and so a T.

use crate::model::{Ops, Scope};

/// Written, as far as anyone can tell, and finished; to be compared by content, since size and time may be those of the old one.
pub(super) const CHANGED: Ops = Ops::WRITE.union(Ops::CLOSE_WRITE).union(Ops::RESCAN);
/// Names came or went.
const NAMES: Ops = Ops::DIRECTORY.union(Ops::RESCAN);
/// Perhaps another directory than before: what is in it is compared by content.
const MOVED: Ops = Ops::MOVED_TO.union(Ops::DIRECTORY).union(Ops::RESCAN);
/// Could not be looked at: rsync is to try, by its own comparison.
pub(super) const UNSEEN: Ops = Ops::DIRECTORY.union(Ops::RESCAN);

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything but a directory.
    Other,
    /// A directory that is looked into.
    Directory,
    /// A directory that another file system is mounted on, which is left alone.
    MountPoint,
}

/// What is to be done about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub mark: Option<(Scope, Ops)>,
    /// Whether to go into it.
    pub enter: bool,
}

/// `new`: its change time is not before the cutoff. `parent_new`: the same for the directory that holds it.
pub(super) fn due(kind: Kind, new: bool, parent_new: bool) -> Due {
    let mark = match kind {
        _ if !new => None,
        Kind::Other => Some((Scope::Entry, CHANGED)),
        // rsync would go into it if it were listed as anything more.
        Kind::MountPoint => Some((Scope::Entry, Ops::ATTRIB | UNSEEN)),
        Kind::Directory if parent_new => Some((Scope::Tree, MOVED)),
        Kind::Directory => Some((Scope::Level, NAMES)),
    };
    let covered = matches!(mark, Some((Scope::Tree, _)));
    Due { mark, enter: kind == Kind::Directory && !covered }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(kind: Kind, new: bool, parent_new: bool) -> (Option<Scope>, bool) {
        let Due { mark, enter } = due(kind, new, parent_new);
        (mark.map(|(scope, _)| scope), enter)
    }

    #[test]
    fn every_row_of_the_table() {
        use Scope::{Entry, Level, Tree};
        for (kind, new, parent_new, expected) in [
            (Kind::Other, false, true, (None, false)),
            (Kind::Other, true, false, (Some(Entry), false)),
            (Kind::Other, true, true, (Some(Entry), false)),
            (Kind::Directory, false, false, (None, true)),
            (Kind::Directory, false, true, (None, true)),
            (Kind::Directory, true, false, (Some(Level), true)),
            (Kind::Directory, true, true, (Some(Tree), false)),
            (Kind::MountPoint, false, true, (None, false)),
            (Kind::MountPoint, true, true, (Some(Entry), false)),
        ] {
            assert_eq!(scope(kind, new, parent_new), expected, "{kind:?} {new} {parent_new}");
        }
    }

    #[test]
    fn size_and_time_are_not_trusted_where_content_may_be_another() {
        let ops = |kind| due(kind, true, true).mark.unwrap().1;
        for kind in [Kind::Other, Kind::Directory] {
            assert!(ops(kind).changes_content() && ops(kind).contains(Ops::RESCAN), "{kind:?}");
        }
        assert!(!ops(Kind::MountPoint).changes_content());
        assert!(!ops(Kind::Other).leaves_open(), "it need not wait until it is quiet");
    }
}
