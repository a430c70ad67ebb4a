//! Which directories the programs have to know, and where what they tell of is seen: a pure computation.
//!
//! A walk in the kernel ends at the first directory that it knows, so a record is relative to the innermost one. That directory may be seen
//! below several roots: because it is one, because it is mounted inside one, or because it lies inside one on the same file system.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use trigsync_common::values::{LONGEST_EXCLUDED, Root, RootKey};

use crate::{
    capture::{WatchedRoot, directory::relative, mounts::Mount},
    model::{RelPath, RelPathBuf, RootId},
};

/// Why a directory is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is watched.
    Root,
    /// It is mounted inside a watched one.
    Mount,
    /// What is in it is not told.
    Hidden,
}

/// A directory for a root.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub root: RootId,
    pub kind: Kind,
    /// Absolute, without symbolic links.
    pub top: PathBuf,
    /// The same, relative to the root.
    pub at: RelPathBuf,
    pub key: RootKey,
    /// `st_dev`.
    pub dev: u64,
    /// Number of the mount it was opened through.
    pub mount: i32,
    /// Where it is on its file system, if the table of mounts tells.
    pub spot: Option<Spot>,
}

/// A directory's place on its file system, whatever is mounted where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// `major:minor`.
    pub device: String,
    pub path: PathBuf,
}

impl Spot {
    /// Of `top`, opened through the mount of this number.
    pub fn of(top: &Path, mount: i32, table: &[Mount]) -> Option<Self> {
        let entry = table.iter().find(|entry| entry.id == mount)?;
        let path = entry.inner.join(top.strip_prefix(&entry.point).ok()?);
        Some(Self { device: entry.device.clone(), path })
    }
}

/// A root, and what is in it.
#[derive(Debug)]
pub(super) struct Watched {
    pub root: WatchedRoot,
    pub hidden: Vec<RelPathBuf>,
    /// Mount points, outer ones first: what lies below is not of the file system around.
    pub inside: BTreeMap<PathBuf, Inside>,
    /// The same, relative to the root.
    pub covers: Vec<RelPathBuf>,
}

/// A mount inside a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// Number of the mount; -1 where it is no longer what it was.
    pub id: i32,
    pub followed: bool,
}

/// Where a known directory is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub root: RootId,
    /// Relative to the root.
    pub at: RelPathBuf,
    /// The mount point through which it is seen there, relative to the root.
    pub through: RelPathBuf,
}

impl Place {
    /// Whether `path`, relative to the root, is covered by a mount on its way.
    pub fn is_covered(&self, path: &RelPath, covers: &[RelPathBuf]) -> bool {
        covers.iter().any(|cover| **cover != *self.through && cover.is_within(&self.through) && path.is_within(cover))
    }
}

/// What the kernel has to be told of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// [`Root::HIDDEN`], [`Root::SEES_OWN`], [`Root::MARKS_OWN`].
    pub flags: u16,
    pub places: Vec<Place>,
    /// Names that no place wants.
    pub excluded: BTreeSet<Vec<u8>>,
}

/// All directories that the programs have to know.
pub(super) fn arrange(views: &[View], roots: &BTreeMap<RootId, Watched>) -> BTreeMap<RootKey, Wanted> {
    let mut wanted = BTreeMap::new();
    for view in views {
        if wanted.contains_key(&view.key) {
            continue;
        }
        let places = places(views, view);
        let of_place = |place: &Place| roots.get(&place.root);
        let is_seen = views.iter().any(|other| other.key == view.key && other.kind != Kind::Hidden);
        let is_hidden = |place: &Place| of_place(place).is_some_and(|root| root.hidden.iter().any(|hidden| place.at.is_within(hidden)));
        if !is_seen {
            // Where one root hides it and another does not, the records are sorted out later.
            if places.iter().all(is_hidden) {
                wanted.insert(view.key, Wanted { flags: Root::HIDDEN, places: Vec::new(), excluded: BTreeSet::new() });
            }
            continue;
        }
        let see_own = || places.iter().filter_map(of_place).map(|root| root.root.sees_own);
        let names = |root: &Watched| root.root.excluded.iter().filter(|name| fits(name)).cloned().collect();
        let excluded = places.iter().filter_map(of_place).map(names).reduce(|a: BTreeSet<Vec<u8>>, b| &a & &b);
        let flags = match (see_own().any(|sees| sees), see_own().all(|sees| sees)) {
            (true, true) => Root::SEES_OWN,
            (true, false) => Root::SEES_OWN | Root::MARKS_OWN,
            (false, _) => 0,
        };
        wanted.insert(view.key, Wanted { flags, places, excluded: excluded.unwrap_or_default() });
    }
    wanted
}

/// Longer names are not dropped in the kernel.
fn fits(name: &[u8]) -> bool {
    (1..=LONGEST_EXCLUDED).contains(&name.len())
}

fn places(views: &[View], known: &View) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut add = |place: Place| {
        if !places.iter().any(|other| other.root == place.root && other.at == place.at) {
            places.push(place);
        }
    };
    for view in views.iter().filter(|view| view.kind != Kind::Hidden) {
        if view.key == known.key {
            add(Place { root: view.root, at: view.at.clone(), through: view.at.clone() });
        } else if let Some(below) = below(view, known) {
            add(Place { root: view.root, at: join(&view.at, below.as_bytes()), through: view.at.clone() });
        }
    }
    places
}

/// Where `known` is on its file system, as seen from `view`.
fn below(view: &View, known: &View) -> Option<RelPathBuf> {
    let (above, spot) = (view.spot.as_ref()?, known.spot.as_ref()?);
    (above.device == spot.device).then(|| relative(&above.path, &spot.path))?
}

/// `path` below `at`; both may be the root itself.
pub(super) fn join(at: &RelPath, path: &[u8]) -> RelPathBuf {
    if path.is_empty() { at.to_owned() } else { at.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> RootKey {
        RootKey { inode, device: 1, generation: 0 }
    }

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes().to_vec()).unwrap()
    }

    fn view(root: u32, kind: Kind, at: &str, inode: u64, spot: &str) -> View {
        let spot = Some(Spot { device: "8:1".to_owned(), path: PathBuf::from(spot) });
        View { root: RootId(root), kind, top: PathBuf::new(), at: path(at), key: key(inode), dev: 1, mount: 1, spot }
    }

    fn watched(hidden: &[&str], excluded: &[&str], sees_own: bool) -> Watched {
        let excluded = excluded.iter().map(|name| name.as_bytes().to_vec()).collect();
        let root = WatchedRoot { excluded, sees_own, ..WatchedRoot::all(PathBuf::from("/srv")) };
        Watched { root, hidden: hidden.iter().map(|name| path(name)).collect(), inside: BTreeMap::new(), covers: Vec::new() }
    }

    fn shown(wanted: &Wanted) -> Vec<String> {
        wanted.places.iter().map(|place| format!("{} {} {}", place.root.0, place.at, place.through)).collect()
    }

    #[test]
    fn a_root_inside_another_is_seen_below_both() {
        let roots = BTreeMap::from([(RootId(1), watched(&[], &["cache", "tmp"], false)), (RootId(2), watched(&[], &["tmp"], true))]);
        let views = [view(1, Kind::Root, "", 10, "/srv"), view(2, Kind::Root, "", 11, "/srv/a/b")];
        let wanted = arrange(&views, &roots);
        assert_eq!(shown(&wanted[&key(10)]), ["1 . ."]);
        assert_eq!(wanted[&key(10)].flags, 0);
        assert_eq!(shown(&wanted[&key(11)]), ["1 a/b .", "2 . ."]);
        assert_eq!(wanted[&key(11)].flags, Root::SEES_OWN | Root::MARKS_OWN);
        assert_eq!(wanted[&key(11)].excluded, BTreeSet::from([b"tmp".to_vec()]));
        assert_eq!(wanted[&key(10)].excluded.len(), 2);
    }

    #[test]
    fn a_bind_mount_from_inside_the_root_has_two_places() {
        let roots = BTreeMap::from([(RootId(1), watched(&[], &[], false))]);
        let views = [view(1, Kind::Root, "", 10, "/srv"), view(1, Kind::Mount, "point", 11, "/srv/data")];
        assert_eq!(shown(&arrange(&views, &roots)[&key(11)]), ["1 data .", "1 point point"]);
    }

    #[test]
    fn a_directory_is_hidden_where_every_root_hides_it() {
        let mut roots = BTreeMap::from([(RootId(1), watched(&["state"], &[], false))]);
        let mut views = vec![view(1, Kind::Root, "", 10, "/srv"), view(1, Kind::Hidden, "state", 11, "/srv/state")];
        assert_eq!(arrange(&views, &roots)[&key(11)].flags, Root::HIDDEN);
        roots.insert(RootId(2), watched(&[], &[], false));
        views.push(view(2, Kind::Root, "", 12, "/"));
        assert!(!arrange(&views, &roots).contains_key(&key(11)));
        views.push(view(2, Kind::Root, "", 11, "/srv/state"));
        assert_eq!(arrange(&views, &roots)[&key(11)].flags, 0);
    }

    #[test]
    fn names_that_do_not_fit_are_not_dropped() {
        let long = "x".repeat(33);
        let roots = BTreeMap::from([(RootId(1), watched(&[], &[&long, "", "y"], false))]);
        let wanted = arrange(&[view(1, Kind::Root, "", 10, "/srv")], &roots);
        assert_eq!(wanted[&key(10)].excluded, BTreeSet::from([b"y".to_vec()]));
    }

    #[test]
    fn a_mount_on_the_way_covers() {
        let covers = [path("point"), path("point/inner")];
        let around = Place { root: RootId(1), at: path(""), through: path("") };
        let mounted = Place { root: RootId(1), at: path("point"), through: path("point") };
        assert!(around.is_covered(&path("point/f"), &covers) && around.is_covered(&path("point"), &covers));
        assert!(!around.is_covered(&path("pointless"), &covers));
        assert!(!mounted.is_covered(&path("point/f"), &covers));
        assert!(mounted.is_covered(&path("point/inner/f"), &covers));
    }

    #[test]
    fn a_spot_is_found_through_a_bind_mount() {
        let table = [Mount {
            id: 5,
            parent: 1,
            device: "8:1".to_owned(),
            inner: PathBuf::from("/data"),
            point: PathBuf::from("/mnt"),
            kind: String::new(),
        }];
        let spot = Spot::of(Path::new("/mnt/a"), 5, &table).unwrap();
        assert_eq!(spot, Spot { device: "8:1".to_owned(), path: PathBuf::from("/data/a") });
        assert_eq!(Spot::of(Path::new("/mnt/a"), 6, &table), None);
    }
}
