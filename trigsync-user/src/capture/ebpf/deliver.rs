//! From a record to events: below which roots it is seen, and by which path.

use tracing::debug;

use super::{
    decode::{self, Change, Malformed},
    places::Watched,
    roots::Roots,
};
use crate::{
    capture::{Event, Sink},
    model::{Ops, RelPath, RootId, Scope},
};

/// Longest path that a system call takes, without its NUL. What would be longer is told by its directory.
const LONGEST_PATH: usize = libc::PATH_MAX as usize - 1;

/// One delivery.
pub(super) struct Delivery<'a> {
    pub roots: &'a mut Roots,
    pub sink: &'a mut dyn Sink,
    /// Whether a directory was renamed or removed in which something else may be watched.
    pub renamed: bool,
    /// Reused for every record.
    pub name: Vec<u8>,
    pub path: Vec<u8>,
}

impl Delivery<'_> {
    pub fn record(&mut self, bytes: &[u8]) {
        let mut name = std::mem::take(&mut self.name);
        match decode::record(bytes, &mut name) {
            Ok(change) if self.roots.slots.places(change.slot).is_some() => self.change(&change),
            Ok(change) => self.roots.slots.keep(change.slot, bytes),
            Err(malformed) => self.malformed(&malformed),
        }
        self.name = name;
    }

    /// Delivers a change wherever it is seen.
    pub fn change(&mut self, change: &Change<'_>) {
        let Roots { watched, slots, .. } = &mut *self.roots;
        let Some(places) = slots.places(change.slot) else { return };
        let is_name = change.ops.intersects(Ops::MOVED_FROM | Ops::MOVED_TO | Ops::DELETE);
        for place in places {
            if change.path.is_root() && place.at.is_root() && is_name {
                // A root's own name is not in it. What has become of the root is looked at when this was read.
                continue;
            }
            let Some(Watched { hidden, covers, root, .. }) = watched.get(&place.root) else { continue };
            if change.is_own && !root.sees_own {
                continue;
            }
            if place.at.is_root() && hidden.is_empty() && covers.is_empty() {
                self.sink.event(Event::Changed { root: place.root, path: change.path, scope: change.scope, ops: change.ops });
                continue;
            }
            let scope = join(&mut self.path, &place.at, change.path, change.scope);
            let Ok(path) = RelPath::new(&self.path) else { continue };
            let is_hidden = hidden.iter().any(|hidden| path.is_within(hidden));
            if !is_hidden && !place.is_covered(path, covers) {
                self.sink.event(Event::Changed { root: place.root, path, scope, ops: change.ops });
            }
        }
        let moved = change.ops.contains(Ops::DIRECTORY) && change.ops.intersects(Ops::MOVED_FROM | Ops::MOVED_TO);
        self.renamed |= change.path.is_root() && is_name || moved && slots.has_inner();
    }

    /// Everything below a directory may have changed.
    pub fn tree(&mut self, slot: u16, path: &RelPath) {
        if self.roots.slots.places(slot).is_none() {
            self.roots.slots.keep_loss(Some(slot));
        }
        self.change(&Change { slot, path, scope: Scope::Tree, ops: Ops::RESCAN | Ops::DIRECTORY, is_own: false });
    }

    /// Everything below the roots of a number may have changed; of all of them where it is not known.
    pub fn lost(&mut self, slot: Option<u16>) {
        self.roots.slots.keep_loss(slot);
        let mut roots: Vec<RootId> = match slot {
            Some(slot) => self.roots.slots.places(slot).unwrap_or_default().iter().map(|place| place.root).collect(),
            None => self.roots.watched.keys().copied().collect(),
        };
        roots.sort_unstable();
        roots.dedup();
        for root in roots {
            self.sink.event(Event::Lost { root });
        }
    }

    pub fn malformed(&mut self, malformed: &Malformed) {
        debug!(slot = malformed.slot, "a record that makes no sense: its roots are marked whole");
        self.lost(malformed.slot);
    }
}

/// Puts `path` below `at` into `joined`. What is too long is told as a tree of an ancestor.
fn join(joined: &mut Vec<u8>, at: &RelPath, path: &RelPath, scope: Scope) -> Scope {
    joined.clear();
    joined.extend_from_slice(at.as_bytes());
    if !at.is_root() && !path.is_root() {
        joined.push(b'/');
    }
    joined.extend_from_slice(path.as_bytes());
    if joined.len() <= LONGEST_PATH {
        return scope;
    }
    let end = joined[..=LONGEST_PATH].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    joined.truncate(end);
    Scope::Tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_too_long_is_told_by_its_directory() {
        let long = ["d"; 2045].join("/");
        let (at, path) = (RelPath::new(b"top/mid").unwrap(), RelPath::new(long.as_bytes()).unwrap());
        let mut joined = Vec::new();
        assert_eq!(join(&mut joined, at, path, Scope::Entry), Scope::Tree);
        assert!(joined.len() <= LONGEST_PATH && joined.starts_with(b"top/mid/d/d"), "{}", joined.len());
        assert!(joined.ends_with(b"d"));
        assert_eq!(join(&mut joined, at, RelPath::root(), Scope::Entry), Scope::Entry);
        assert_eq!(joined, b"top/mid");
        assert_eq!(join(&mut joined, RelPath::root(), at, Scope::Tree), Scope::Tree);
        assert_eq!(joined, b"top/mid");
    }
}
