//! The fanotify tier: one mark on each file system, directories told by handle, names told by the kernel.
//!
//! - Needs Linux 5.9, `CAP_SYS_ADMIN` for the mark and `CAP_DAC_READ_SEARCH` for opening handles.
//! - Sees changes through any mount of the file system, from any namespace.
//! - Keeps nothing open on the file system while idle.
//! - What cannot be placed is a loss of the roots on that file system, never passed over.

mod deliver;
mod group;
mod handle;
mod probe;
mod record;
mod resolve;
mod view;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use record::fuzz as fuzz_records;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use tracing::{debug, error, info, warn};

pub use probe::probe;

use self::{
    deliver::{Cache, Delivery, LONGEST_PATH},
    group::{NamedGroup, no_handle},
    view::{Absent, Identity, Shown, View},
};
pub use super::Finding;
use super::{
    CaptureError, Continuity, Event, Sink, Source, Tier, WatchedRoot,
    directory::{open_directory, path_of, relative},
    mounts::{self, Mount, MountTable},
};
use crate::model::{Ops, RelPath, RelPathBuf, RootId, Scope};

/// Some thousands of events a read.
const BUFFER: usize = 256 * 1024;

/// A fanotify group with its marks and the roots it serves.
pub struct Fanotify {
    group: NamedGroup,
    buffer: Box<[u8]>,
    roots: BTreeMap<RootId, Root>,
    /// Sorted by file system.
    views: Vec<View>,
    cache: Cache,
    mounts: MountTable,
}

struct Root {
    watched: WatchedRoot,
    hidden: Vec<RelPathBuf>,
    /// What is mounted inside, by mount point.
    inside: BTreeMap<PathBuf, Inside>,
}

/// The views as they are now.
struct Pass<'a> {
    /// Those that are as they were armed.
    shown: Vec<Shown<'a>>,
    /// Roots that are not.
    gone: Vec<RootId>,
    /// Roots with a view that could not be opened for want of something.
    short: BTreeSet<RootId>,
    /// Whether a mount inside a root is not where it was.
    moved: bool,
}

impl<'a> Pass<'a> {
    /// Opens every view. What is returned is sorted by file system and mount.
    fn open(views: &'a [View]) -> Self {
        let mut pass = Self { shown: Vec::with_capacity(views.len()), gone: Vec::new(), short: BTreeSet::new(), moved: false };
        for view in views {
            match view.open() {
                Ok(open) => pass.shown.push(open),
                Err(Absent::Gone(cause)) if view.is_root() => {
                    error!(root = %view.top.display(), %cause, "the watched directory is no longer the one that was armed");
                    pass.gone.push(view.root);
                }
                Err(Absent::Gone(cause)) => {
                    debug!(top = %view.top.display(), %cause, "a mount inside a watched directory went away, or was moved with it");
                    pass.moved = true;
                }
                Err(Absent::Short(errno)) => {
                    warn!(top = %view.top.display(), cause = errno.desc(), "a watched directory could not be opened now");
                    pass.short.insert(view.root);
                }
            }
        }
        pass.shown.retain(|open| !pass.gone.contains(&open.view.root));
        pass.shown.sort_by_key(|open| (open.view.fsid, open.mount));
        pass
    }
}

/// A mount inside a root.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Inside {
    id: i32,
    followed: bool,
}

impl fmt::Debug for Fanotify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanotify").field("group", &self.group).field("views", &self.views).finish_non_exhaustive()
    }
}

impl Fanotify {
    /// Makes the group. With `unlimited_queue` the kernel queues as long as it has memory; else it tells of an overflow after
    /// `fs.fanotify.max_queued_events`.
    pub fn new(unlimited_queue: bool) -> Result<Self, CaptureError> {
        let group = NamedGroup::new(unlimited_queue)?;
        let mounts = MountTable::open().map_err(|source| CaptureError::io("opening", Path::new(MountTable::PATH), source))?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { group, buffer, roots: BTreeMap::new(), views: Vec::new(), cache: Cache::new(), mounts })
    }

    /// Does without `FAN_RENAME`, as kernels before 5.17 do: for tests of that way.
    #[must_use]
    pub fn without_rename_event(mut self) -> Self {
        self.group.forgo_rename();
        self
    }

    /// Marks the file system of a directory and takes it as a view.
    fn arm(&mut self, root: RootId, top: &Path, at: RelPathBuf, across: bool) -> Result<View, CaptureError> {
        let fd = open_directory(top).map_err(|errno| CaptureError::io("opening", top, errno.into()))?;
        let fd = fd.as_fd();
        // The mark first: what is replaced from here on is noticed as such.
        self.group.mark(fd, top)?;
        let (identity, _) = Identity::of(fd).map_err(|errno| no_handle(errno, fd, top))?;
        identity.reopen(fd).map_err(|errno| no_handle(errno, fd, top))?;
        let top = path_of(fd).map_err(|errno| CaptureError::io("reading the path of", top, errno.into()))?;
        let fsid = handle::fsid(fd).map_err(|errno| CaptureError::io("asking for the file system of", &top, errno.into()))?;
        Ok(View { root, top, at, across, identity, fsid })
    }

    fn add_view(&mut self, view: View) {
        self.views.push(view);
        self.views.sort_by_key(|view| view.fsid);
        self.cache.clear();
    }

    /// Removes the views that `which` names, and the marks that no other view needs.
    fn remove_views(&mut self, which: impl Fn(&View) -> bool) {
        let mut removed: Vec<View> = self.views.extract_if(.., |view| which(view)).collect();
        removed.retain(|gone| !self.views.iter().any(|view| view.fsid == gone.fsid));
        for view in &removed {
            let unmarked = view.open().map(|shown| self.group.unmark(shown.as_fd()));
            debug!(top = %view.top.display(), ?unmarked, "mark taken off");
        }
        if self.views.is_empty() {
            // Also takes off what can no longer be reached by a path.
            if let Err(error) = self.group.unmark_all() {
                debug!(%error, "taking all marks off");
            }
        }
        self.cache.clear();
    }

    fn forget(&mut self, gone: &[RootId], sink: &mut dyn Sink) {
        for &root in gone {
            if self.roots.remove(&root).is_some() {
                sink.event(Event::RootGone { root });
            }
        }
        if !gone.is_empty() {
            self.remove_views(|view| gone.contains(&view.root));
        }
    }

    /// Compares what is mounted inside a root with what was known. `sink` is told where what is seen may have changed; not at arming.
    fn look_for_mounts(&mut self, id: RootId, table: &[Mount], mut sink: Option<&mut dyn Sink>) {
        let Some(root) = self.roots.get(&id) else { return };
        let Some(view) = self.views.iter().find(|view| view.root == id && view.is_root()) else { return };
        let Ok(mount) = view.open().map(|shown| shown.mount) else { return };
        let (top, across, dev) = (view.top.clone(), root.watched.cross_mounts, view.identity.dev);
        let device = table.iter().find(|entry| entry.id == mount).map(|entry| entry.device.clone());
        let mut known = root.inside.clone();
        let mut now: BTreeMap<PathBuf, Inside> = BTreeMap::new();
        let mut unfollowed: Vec<PathBuf> = Vec::new();
        let mut trees = Vec::new();
        for entry in mounts::below(table, &top, mount) {
            let Some(at) = relative(&top, &entry.point) else { continue };
            if unfollowed.iter().any(|point| entry.point.starts_with(point)) {
                continue;
            }
            let before = known.get(&entry.point).copied();
            if let Some(inside) = before.filter(|inside| inside.id == entry.id) {
                if !inside.followed {
                    unfollowed.push(entry.point.clone());
                }
                now.insert(entry.point.clone(), inside);
                known.remove(&entry.point);
                continue;
            }
            if before.is_some_and(|inside| inside.followed) {
                self.remove_views(|view| view.root == id && view.at == at);
            }
            // As rsync's -x does: what is mounted from the same file system is followed anyway.
            let same = device.as_ref() == Some(&entry.device);
            let followed = (same || across) && entry.point.is_dir() && self.follow(id, entry, &at, across, dev);
            if followed {
                trees.push(at);
            } else {
                unfollowed.push(entry.point.clone());
                if !same && !across {
                    info!(root = %top.display(), point = %entry.point.display(), kind = entry.kind, "not followed: another file system is mounted here");
                }
            }
            known.remove(&entry.point);
            now.insert(entry.point.clone(), Inside { id: entry.id, followed });
        }
        for (point, inside) in known {
            info!(root = %top.display(), point = %point.display(), "what was mounted here is gone");
            if let Some(at) = relative(&top, &point) {
                if inside.followed {
                    self.remove_views(|view| view.root == id && view.at == at);
                }
                trees.push(at);
            }
        }
        // What a mount covers, and what it uncovers, changes the places of directories.
        self.cache.clear();
        if let Some(root) = self.roots.get_mut(&id) {
            root.inside = now;
        }
        if let Some(sink) = sink.as_mut() {
            for path in &trees {
                sink.event(Event::Changed { root: id, path, scope: Scope::Tree, ops: Ops::RESCAN | Ops::DIRECTORY });
            }
        }
    }

    fn look_for_all_mounts(&mut self, sink: &mut dyn Sink) {
        match self.mounts.read() {
            Ok(table) => {
                for id in self.roots.keys().copied().collect::<Vec<_>>() {
                    self.look_for_mounts(id, &table, Some(&mut *sink));
                }
            }
            Err(error) => warn!(%error, "reading {}", MountTable::PATH),
        }
    }

    /// Takes a mount inside a root as a view. False where that is not possible or, on another device, not wanted.
    fn follow(&mut self, id: RootId, entry: &Mount, at: &RelPath, across: bool, dev: u64) -> bool {
        match self.arm(id, &entry.point, at.to_owned(), across) {
            Ok(view) if across || view.identity.dev == dev => {
                info!(point = %entry.point.display(), kind = entry.kind, "followed: mounted inside a watched directory");
                self.add_view(view);
                true
            }
            Ok(_) => false,
            Err(error) => {
                warn!(point = %entry.point.display(), kind = entry.kind, %error, "changes below this mount are not seen");
                false
            }
        }
    }
}

impl Source for Fanotify {
    fn tier(&self) -> Tier {
        Tier::Fanotify
    }

    fn add_root(&mut self, id: RootId, root: &WatchedRoot) -> Result<Continuity, CaptureError> {
        self.remove_root(id);
        let view = self.arm(id, &root.path, RelPathBuf::root(), root.cross_mounts)?;
        let hidden = root.hidden.iter().filter_map(|hidden| relative(&view.top, hidden)).collect();
        self.add_view(view);
        self.roots.insert(id, Root { watched: root.clone(), hidden, inside: BTreeMap::new() });
        let table = self.mounts.read().map_err(|source| CaptureError::io("reading", Path::new(MountTable::PATH), source))?;
        self.look_for_mounts(id, &table, None);
        Ok(Continuity::Began)
    }

    fn remove_root(&mut self, id: RootId) {
        if self.roots.remove(&id).is_some() {
            self.remove_views(|view| view.root == id);
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    fn cut(&mut self) -> io::Result<()> {
        Ok(()) // every change is told
    }

    /// In events, as [`read`](Self::read) counts: FIONREAD knows their fixed part only.
    fn barrier(&mut self) -> io::Result<u64> {
        self.group.waiting()
    }

    fn read(&mut self, sink: &mut dyn Sink) -> io::Result<u64> {
        let length = self.group.read(&mut self.buffer)?;
        if length == 0 {
            return Ok(0);
        }
        let Pass { shown, gone, short, moved } = Pass::open(&self.views);
        let mut delivery = Delivery {
            shown: &shown,
            roots: &self.roots,
            cache: &mut self.cache,
            sink,
            lost: short,
            renamed: false,
            path: Vec::with_capacity(LONGEST_PATH),
        };
        let mut events = 0;
        for record in record::records(&self.buffer[..length]) {
            match record {
                Ok(record) => {
                    events += 1;
                    delivery.record(&record);
                }
                Err(error) => {
                    error!(%error, "every watched directory is marked whole");
                    delivery.cache.clear();
                    delivery.lost.extend(self.roots.keys());
                }
            }
        }
        let (lost, renamed) = (delivery.lost, delivery.renamed);
        drop(shown);
        self.forget(&gone, sink);
        if moved || renamed && self.roots.values().any(|root| !root.inside.is_empty()) {
            self.look_for_all_mounts(sink);
        }
        for root in lost.into_iter().filter(|root| self.roots.contains_key(root)) {
            sink.event(Event::Lost { root });
        }
        Ok(events.max(1))
    }

    fn check_roots(&mut self, sink: &mut dyn Sink) {
        // What could not be opened just now is looked at again the next time.
        let Pass { shown, mut gone, moved, .. } = Pass::open(&self.views);
        let mut unmarked: Vec<(RootId, RelPathBuf)> = Vec::new();
        for open in shown.iter().filter(|open| !self.group.is_marked(open.as_fd())) {
            unmarked.push((open.view.root, open.view.at.clone()));
        }
        drop(shown);
        for (root, at) in &unmarked {
            if at.is_root() {
                error!(?root, "the watched file system was unmounted and mounted again");
                gone.push(*root);
            } else if let Some(known) = self.roots.get_mut(root) {
                // Forgotten, it is found again below as a mount that has just appeared.
                known.inside.remove(&known.watched.path.join(at.as_path()));
            }
        }
        self.forget(&gone, sink);
        self.remove_views(|view| unmarked.iter().any(|(root, at)| view.root == *root && view.at == *at));
        if self.mounts.changed() || moved || !unmarked.is_empty() {
            self.look_for_all_mounts(sink);
        }
    }
}
