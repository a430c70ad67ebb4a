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
//! | directory | old | new, and the file system is silent about exchanges | T: it may have been exchanged with another one of its directory |
//! | the root | new | | L: nobody can have moved it here and left its identity as it was |
//!
//! Where only an exchange is to be feared, rsync compares by size and time, as it does in a full pass: for files that is the level pass.
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

/// The directory that holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its change time is not before the cutoff.
    pub new: bool,
    /// An exchange of two of its names renews no change time but its own.
    pub silent: bool,
}

impl Holder {
    /// Of the root: nobody can have moved it.
    pub const NONE: Self = Self { new: false, silent: false };
}

/// `new`: its change time is not before the cutoff.
pub(super) fn due(kind: Kind, new: bool, holder: Holder) -> Due {
    let mark = match kind {
        Kind::Directory if !new && holder.new && holder.silent => Some((Scope::Tree, UNSEEN)),
        _ if !new => None,
        Kind::Other => Some((Scope::Entry, CHANGED)),
        // rsync would go into it if it were listed as anything more.
        Kind::MountPoint => Some((Scope::Entry, Ops::ATTRIB | UNSEEN)),
        Kind::Directory if holder.new => Some((Scope::Tree, MOVED)),
        Kind::Directory => Some((Scope::Level, NAMES)),
    };
    let covered = matches!(mark, Some((Scope::Tree, _)));
    Due { mark, enter: kind == Kind::Directory && !covered }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Holder = Holder::NONE;
    const NEW: Holder = Holder { new: true, silent: false };

    fn scope(kind: Kind, new: bool, holder: Holder) -> (Option<Scope>, bool) {
        let Due { mark, enter } = due(kind, new, holder);
        (mark.map(|(scope, _)| scope), enter)
    }

    #[test]
    fn every_row_of_the_table() {
        use Scope::{Entry, Level, Tree};
        for (kind, new, holder, expected) in [
            (Kind::Other, false, NEW, (None, false)),
            (Kind::Other, true, OLD, (Some(Entry), false)),
            (Kind::Other, true, NEW, (Some(Entry), false)),
            (Kind::Directory, false, OLD, (None, true)),
            (Kind::Directory, false, NEW, (None, true)),
            (Kind::Directory, true, OLD, (Some(Level), true)),
            (Kind::Directory, true, NEW, (Some(Tree), false)),
            (Kind::MountPoint, false, NEW, (None, false)),
            (Kind::MountPoint, true, NEW, (Some(Entry), false)),
        ] {
            assert_eq!(scope(kind, new, holder), expected, "{kind:?} {new} {holder:?}");
        }
    }

    #[test]
    fn an_exchange_may_go_unsaid() {
        let silent = |new| Holder { new, silent: true };
        assert_eq!(due(Kind::Directory, false, silent(true)), Due { mark: Some((Scope::Tree, UNSEEN)), enter: false });
        assert_eq!(due(Kind::Directory, true, silent(true)), due(Kind::Directory, true, NEW));
        assert_eq!(scope(Kind::Directory, false, silent(false)), (None, true));
        assert_eq!(scope(Kind::Other, false, silent(true)), (None, false), "the level pass compares it");
    }

    #[test]
    fn size_and_time_are_not_trusted_where_content_may_be_another() {
        let ops = |kind| due(kind, true, NEW).mark.unwrap().1;
        for kind in [Kind::Other, Kind::Directory] {
            assert!(ops(kind).changes_content() && ops(kind).contains(Ops::RESCAN), "{kind:?}");
        }
        assert!(!ops(Kind::MountPoint).changes_content());
        assert!(!ops(Kind::Other).leaves_open(), "it need not wait until it is quiet");
    }
}
