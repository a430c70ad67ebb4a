//! The watched roots: learned from the kernel when they are armed, and looked at again and again, because a path is only a name.
//!
//! - From the return of [`Roots::add`] on no change below the root is missed.
//! - A root that is no longer the directory that was armed is told once, and nothing after it.
//! - What is mounted inside is followed as rsync would, and told when it comes or goes.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use tracing::{debug, error, info, warn};

use super::{
    kernel::{Found, Kernel, Unknown, map_failed},
    places::{self, Inside, Kind, Spot, View, Watched},
    slots::{Kept, Slots},
};
use crate::{
    capture::{
        CaptureError, Continuity, Event, Sink, WatchedRoot,
        directory::relative,
        mounts::{self, Mount, MountTable},
    },
    model::{Ops, RelPathBuf, RootId, Scope},
};

/// What is told at the next read, for want of somebody to tell it to now.
#[derive(Debug)]
pub(super) enum Later {
    /// Records of a number, from before the root was asked for.
    Kept(u16, Kept),
    /// Everything below a root may have changed.
    Lost(RootId),
}

/// All roots, with what is in them.
pub(super) struct Roots {
    pub watched: BTreeMap<RootId, Watched>,
    pub slots: Slots,
    pub later: Vec<Later>,
    views: Vec<View>,
    mounts: MountTable,
}

impl Roots {
    /// None, but for the numbers of those that a capture of before knows.
    pub fn new(slots: Slots) -> Result<Self, CaptureError> {
        let mounts = MountTable::open().map_err(|source| CaptureError::io("opening", Path::new(MountTable::PATH), source))?;
        Ok(Self { watched: BTreeMap::new(), slots, later: Vec::new(), views: Vec::new(), mounts })
    }

    pub fn add(&mut self, kernel: &mut Kernel, id: RootId, root: &WatchedRoot) -> Result<Continuity, CaptureError> {
        self.remove(kernel, id)?;
        let table = self.mounts.read().map_err(|source| CaptureError::io("reading", Path::new(MountTable::PATH), source))?;
        let found = kernel.learn(&root.path).map_err(|unknown| unknown.at(&root.path))?;
        let resumed = self.slots.is_inherited(&found.key);
        let top = found.path.clone();
        let hidden: Vec<RelPathBuf> = root.hidden.iter().filter_map(|hidden| relative(&top, hidden)).collect();
        let across = root.cross_mounts;
        self.views.push(view(id, Kind::Root, RelPathBuf::root(), found, &table));
        self.watched.insert(id, Watched { root: root.clone(), hidden: hidden.clone(), inside: BTreeMap::new(), covers: Vec::new() });
        for at in hidden {
            // One that is not there yet is told, and sorted out later.
            if let Ok(found) = kernel.learn(&top.join(at.as_path())) {
                self.views.push(view(id, Kind::Hidden, at, found, &table));
            }
        }
        let known = self.views.len();
        self.look_for_mounts(kernel, id, &table);
        // A mount that the capture of before did not know came while no daemon ran.
        let new = self.views[known..].iter().any(|view| !self.slots.is_inherited(&view.key));
        if let Err(error) = self.apply(kernel) {
            self.remove(kernel, id)?;
            return Err(error);
        }
        if resumed && across && new {
            self.later.push(Later::Lost(id));
        }
        Ok(if resumed { Continuity::Resumed } else { Continuity::Began })
    }

    pub fn remove(&mut self, kernel: &mut Kernel, id: RootId) -> Result<(), CaptureError> {
        if self.watched.remove(&id).is_none() {
            return Ok(());
        }
        self.views.retain(|view| view.root != id);
        self.later.retain(|later| !matches!(later, Later::Lost(root) if *root == id));
        self.apply(kernel)
    }

    /// Looks whether every directory is still what it was, and what is mounted now.
    pub fn check(&mut self, kernel: &mut Kernel, sink: &mut dyn Sink) {
        let (mut gone, mut moved) = (Vec::new(), false);
        for mut view in std::mem::take(&mut self.views) {
            match (kernel.learn(&view.top), view.kind) {
                (Ok(found), _) if found.key == view.key => {
                    view.mount = found.mount;
                    self.views.push(view);
                }
                (Err(unknown @ (Unknown::Short(_) | Unknown::Untold | Unknown::Map(_))), _) => {
                    warn!(top = %view.top.display(), cause = ?unknown, "a watched directory could not be looked at now");
                    self.views.push(view);
                }
                (found, kind) => {
                    let cause = found.err().map_or("another directory stands there".to_owned(), |unknown| why(&unknown));
                    moved = true;
                    match kind {
                        Kind::Root => {
                            error!(root = %view.top.display(), cause, "the watched directory is no longer the one that was armed");
                            gone.push((view.root, view.spot));
                        }
                        Kind::Mount => {
                            debug!(top = %view.top.display(), cause, "a mount inside a watched directory went away, or was moved with it");
                            let inside = self.watched.get_mut(&view.root).and_then(|watched| watched.inside.get_mut(&view.top));
                            // So that whatever is found there counts as another one.
                            inside.into_iter().for_each(|inside| inside.id = -1);
                        }
                        Kind::Hidden => debug!(top = %view.top.display(), cause, "a hidden directory went away"),
                    }
                }
            }
        }
        self.forget(&gone, sink);
        self.find_hidden(kernel);
        if self.mounts.changed() || moved {
            self.look_for_all_mounts(kernel, sink);
        }
        if moved && let Err(error) = self.apply(kernel) {
            // Tried again with the next change; until then too much is told, not too little.
            warn!(%error, "telling the kernel what is watched");
        }
        match self.slots.lose_patience(kernel, Instant::now()) {
            Ok(false) => {}
            Ok(true) => {
                for (root, _) in self.watched.iter().filter(|(_, watched)| watched.root.cross_mounts) {
                    sink.event(Event::Lost { root: *root });
                }
            }
            Err(error) => warn!(%error, "removing directories that were watched before"),
        }
    }

    /// After directories were renamed: what lies inside a root may be elsewhere now.
    pub fn follow_renames(&mut self, kernel: &mut Kernel, sink: &mut dyn Sink) {
        self.check(kernel, sink);
        match self.mounts.read() {
            Ok(table) => {
                for view in &mut self.views {
                    view.spot = Spot::of(&view.top, view.mount, &table);
                }
                if let Err(error) = self.apply(kernel) {
                    warn!(%error, "telling the kernel what is watched");
                }
            }
            Err(error) => warn!(%error, "reading {}", MountTable::PATH),
        }
    }

    /// Roots that are no longer there. Walks have ended at them until now: another root that they are in by now has not heard of what
    /// happened in them.
    fn forget(&mut self, gone: &[(RootId, Option<Spot>)], sink: &mut dyn Sink) {
        for (root, _) in gone {
            self.watched.remove(root);
            self.views.retain(|view| view.root != *root);
            sink.event(Event::RootGone { root: *root });
        }
        for (id, watched) in &self.watched {
            let device = |view: &View| view.spot.as_ref().map(|spot| spot.device.clone());
            let own: Vec<_> = self.views.iter().filter(|view| view.root == *id).filter_map(device).collect();
            if gone.iter().any(|(_, spot)| spot.as_ref().is_none_or(|spot| own.contains(&spot.device))) {
                debug!(root = %watched.root.path.display(), "on the file system of a root that is gone");
                sink.event(Event::Lost { root: *id });
            }
        }
    }

    /// Hidden directories that were not there when they were looked for.
    fn find_hidden(&mut self, kernel: &mut Kernel) {
        let missing: Vec<(RootId, RelPathBuf, PathBuf)> = self
            .watched
            .iter()
            .flat_map(|(id, watched)| watched.hidden.iter().map(move |at| (*id, at.clone(), watched.root.path.join(at.as_path()))))
            .filter(|(id, at, _)| !self.views.iter().any(|view| view.root == *id && view.kind == Kind::Hidden && view.at == *at))
            .collect();
        let mut found_any = false;
        for (id, at, top) in missing {
            let Ok(found) = kernel.learn(&top) else { continue };
            let table = self.mounts.read().unwrap_or_default();
            self.views.push(view(id, Kind::Hidden, at, found, &table));
            found_any = true;
        }
        if found_any && let Err(error) = self.apply(kernel) {
            warn!(%error, "hiding a directory in the kernel");
        }
    }

    fn look_for_all_mounts(&mut self, kernel: &mut Kernel, sink: &mut dyn Sink) {
        let table = match self.mounts.read() {
            Ok(table) => table,
            Err(error) => return warn!(%error, "reading {}", MountTable::PATH),
        };
        for view in &mut self.views {
            view.spot = Spot::of(&view.top, view.mount, &table);
        }
        let mut trees = Vec::new();
        for id in self.watched.keys().copied().collect::<Vec<_>>() {
            let below = self.look_for_mounts(kernel, id, &table);
            trees.extend(below.into_iter().map(|path| (id, path)));
        }
        if let Err(error) = self.apply(kernel) {
            warn!(%error, "telling the kernel what is watched");
        }
        for (root, path) in trees {
            sink.event(Event::Changed { root, path: &path, scope: Scope::Tree, ops: Ops::RESCAN | Ops::DIRECTORY });
        }
    }

    /// Compares what is mounted inside a root with what was known. Returns where what is seen may have changed.
    fn look_for_mounts(&mut self, kernel: &mut Kernel, id: RootId, table: &[Mount]) -> Vec<RelPathBuf> {
        let mut trees = Vec::new();
        let is_root = |view: &&View| view.root == id && view.kind == Kind::Root;
        let (Some(top), Some(watched)) = (self.views.iter().find(is_root).cloned(), self.watched.get(&id)) else { return trees };
        let across = watched.root.cross_mounts;
        let mut known = watched.inside.clone();
        let mut now: BTreeMap<PathBuf, Inside> = BTreeMap::new();
        let mut unfollowed: Vec<PathBuf> = Vec::new();
        let mut covers = Vec::new();
        for entry in mounts::below(table, &top.top, top.mount) {
            let Some(at) = relative(&top.top, &entry.point) else { continue };
            covers.push(at.clone());
            if unfollowed.iter().any(|point| entry.point.starts_with(point)) {
                continue;
            }
            let before = known.remove(&entry.point);
            let followed = match before {
                Some(inside) if inside.id == entry.id => inside.followed,
                _ => {
                    self.views.retain(|view| !(view.root == id && view.kind == Kind::Mount && view.at == at));
                    // As rsync's -x does: what is mounted from the same file system is followed anyway.
                    let same = top.spot.as_ref().is_some_and(|spot| spot.device == entry.device);
                    let followed = (same || across) && entry.point.is_dir() && self.follow(kernel, &top, entry, &at, across, table);
                    if followed || before.is_some_and(|before| before.followed) {
                        trees.push(at);
                    }
                    if !followed && !same && !across {
                        info!(root = %top.top.display(), point = %entry.point.display(), kind = entry.kind, "not followed: another file system is mounted here");
                    }
                    followed
                }
            };
            if !followed {
                unfollowed.push(entry.point.clone());
            }
            now.insert(entry.point.clone(), Inside { id: entry.id, followed });
        }
        for point in known.into_keys() {
            info!(root = %top.top.display(), point = %point.display(), "what was mounted here is gone");
            let Some(at) = relative(&top.top, &point) else { continue };
            self.views.retain(|view| !(view.root == id && view.kind == Kind::Mount && view.at == at));
            trees.push(at);
        }
        if let Some(watched) = self.watched.get_mut(&id) {
            (watched.inside, watched.covers) = (now, covers);
        }
        trees
    }

    /// Takes a mount inside a root as a view. False where that is not possible or, on another device, not wanted.
    fn follow(&mut self, kernel: &mut Kernel, top: &View, entry: &Mount, at: &RelPathBuf, across: bool, table: &[Mount]) -> bool {
        match kernel.learn(&entry.point) {
            Ok(found) if across || found.dev == top.dev => {
                info!(point = %entry.point.display(), kind = entry.kind, "followed: mounted inside a watched directory");
                self.views.push(view(top.root, Kind::Mount, at.clone(), found, table));
                true
            }
            Ok(_) => false,
            Err(unknown) => {
                warn!(point = %entry.point.display(), kind = entry.kind, cause = why(&unknown), "changes below this mount are not seen");
                false
            }
        }
    }

    /// Makes the kernel's maps fit.
    fn apply(&mut self, kernel: &mut Kernel) -> Result<(), CaptureError> {
        let wanted = places::arrange(&self.views, &self.watched);
        let found = self.slots.apply(kernel, wanted).map_err(map_failed)?;
        // After all of it, and on its own: what the programs noted to be outside every root counts in this epoch only.
        kernel.raise_epoch().map_err(map_failed)?;
        self.later.extend(found.into_iter().map(|(slot, kept)| Later::Kept(slot, kept)));
        Ok(())
    }
}

fn view(root: RootId, kind: Kind, at: RelPathBuf, found: Found, table: &[Mount]) -> View {
    let spot = Spot::of(&found.path, found.mount, table);
    View { root, kind, top: found.path, at, key: found.key, dev: found.dev, mount: found.mount, spot }
}

fn why(unknown: &Unknown) -> String {
    match unknown {
        Unknown::Absent(errno) | Unknown::Short(errno) => errno.desc().to_owned(),
        Unknown::Untold => "the programs in the kernel do not tell of it".to_owned(),
        Unknown::Map(error) => io::Error::other(error.to_string()).to_string(),
    }
}
