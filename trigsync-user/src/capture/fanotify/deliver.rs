//! From the kernel's records to events: which place, which scope.
//!
//! Directories are looked up in a bounded cache that every directory rename near a root empties. Emptying it in the queue's order is
//! enough: a directory is resolved after its event was read, so a rename that happened before is in the path already, and one that happens
//! later queues an event that is read later and empties the cache. What was placed by an outdated path in between is covered by the mark
//! that this very rename makes: the subtree, at its new place, after everything that was misplaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
};

use lru::LruCache;
use tracing::debug;

use super::{
    Root,
    record::{Named, Record},
    resolve::{self, Place},
    view::Shown,
};
use crate::{
    capture::{Event, Sink},
    model::{Ops, RelPath, RootId, Scope},
};

/// Directories whose places are remembered; some 200 bytes each.
const CACHED_DIRECTORIES: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Longest path that a system call takes, without its NUL. What would be longer is told by its directory.
pub(super) const LONGEST_PATH: usize = libc::PATH_MAX as usize - 1;

/// The places of directories, by handle. No place: outside every root.
pub(super) struct Cache(LruCache<Box<[u8]>, Arc<[Place]>>);

impl Cache {
    pub fn new() -> Self {
        Self(LruCache::new(CACHED_DIRECTORIES))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// One delivery of what was read: the views are open, the sink is there.
pub(super) struct Delivery<'a> {
    /// Sorted by file system and mount.
    pub shown: &'a [Shown<'a>],
    pub roots: &'a BTreeMap<RootId, Root>,
    pub cache: &'a mut Cache,
    pub sink: &'a mut dyn Sink,
    /// Roots below which something happened that could not be placed.
    pub lost: BTreeSet<RootId>,
    /// Whether a directory was renamed in or near a root; mounts inside it move along.
    pub renamed: bool,
    pub path: Vec<u8>,
}

impl Delivery<'_> {
    pub fn record(&mut self, record: &Record<'_>) {
        if record.mask & libc::FAN_Q_OVERFLOW != 0 {
            // Renames may be among what was lost.
            self.renamed = true;
            self.cache.clear();
            self.lost.extend(self.shown.iter().map(|shown| shown.view.root));
            return;
        }
        let directory = record.mask & libc::FAN_ONDIR != 0;
        let mut ops = ops(record.mask);
        ops.set(Ops::DIRECTORY, directory);
        let mut touched = false;
        if let Some(named) = &record.at {
            touched |= self.changed(named, ops);
        }
        let kept = ops - (Ops::MOVED_FROM | Ops::MOVED_TO);
        if let Some(named) = &record.old {
            touched |= self.changed(named, kept | Ops::MOVED_FROM);
        }
        if let Some(named) = &record.new {
            touched |= self.changed(named, kept | Ops::MOVED_TO);
        }
        let renamed = libc::FAN_RENAME | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
        if directory && touched && record.mask & renamed != 0 {
            self.renamed = true;
            self.cache.clear();
        }
    }

    /// Delivers a change of a name. False if it is certain that no root shows the directory.
    fn changed(&mut self, named: &Named<'_>, ops: Ops) -> bool {
        let Some(places) = self.places(named) else { return true };
        for place in places.iter() {
            self.path.clear();
            self.path.extend_from_slice(place.dir.as_bytes());
            // Also where a directory went away: another may stand there when the mark is looked at, and what was in the old one was told by a
            // handle that is stale by now, or by its new path.
            let whole = ops.contains(Ops::DIRECTORY) && ops.intersects(Ops::MOVED_TO | Ops::MOVED_FROM | Ops::DELETE);
            let mut scope = if whole { Scope::Tree } else { Scope::Entry };
            if !place.exact || self.path.len() + 1 + named.name.len() > LONGEST_PATH {
                scope = Scope::Tree;
            } else if named.name != b"." {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(named.name);
            }
            let Ok(path) = RelPath::new(&self.path) else {
                self.lost.insert(place.root);
                continue;
            };
            let hidden = self.roots.get(&place.root).is_none_or(|root| root.hidden.iter().any(|hidden| path.is_within(hidden)));
            if !hidden {
                self.sink.event(Event::Changed { root: place.root, path, scope, ops });
            }
        }
        !places.is_empty()
    }

    /// The places of a name's directory; `None` if they cannot be known, in which case the roots in question count as lost.
    fn places(&mut self, named: &Named<'_>) -> Option<Arc<[Place]>> {
        if let Some(places) = self.cache.0.get(named.dir.key) {
            return Some(Arc::clone(places));
        }
        match resolve::places(self.shown, &named.dir) {
            Ok(places) => {
                let places: Arc<[Place]> = places.into();
                self.cache.0.put(named.dir.key.into(), Arc::clone(&places));
                Some(places)
            }
            Err(error) => {
                debug!(%error, name = %named.name.escape_ascii(), "a change could not be placed: its roots are marked whole");
                let concerned = self.shown.iter().filter(|shown| shown.view.fsid == named.dir.fsid);
                self.lost.extend(concerned.map(|shown| shown.view.root));
                None
            }
        }
    }
}

fn ops(mask: u64) -> Ops {
    let table = [
        (libc::FAN_CREATE, Ops::CREATE),
        (libc::FAN_MODIFY, Ops::WRITE),
        (libc::FAN_CLOSE_WRITE, Ops::CLOSE_WRITE),
        (libc::FAN_DELETE, Ops::DELETE),
        (libc::FAN_MOVED_FROM, Ops::MOVED_FROM),
        (libc::FAN_MOVED_TO, Ops::MOVED_TO),
        (libc::FAN_ATTRIB, Ops::ATTRIB),
    ];
    table.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, ops)| ops).collect()
}
