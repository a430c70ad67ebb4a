//! From a directory's handle to the places below watched roots at which it is seen.
//!
//! - A place is checked: opened by its name, it is the directory that the handle names.
//! - A directory that is gone, covered by a mount, or outside every root has no place. Its deletion or its way out is told in its parent.
//! - A directory too deep to be named has the place of its nearest ancestor that can be.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{FileStat, Mode, fstat},
};

use super::{
    handle,
    record::Handle,
    view::{Shown, View},
};
use crate::{
    capture::directory::path_of,
    model::{RelPathBuf, RootId},
};

/// Attempts before a directory that is renamed all the time is given up (and its root marked whole).
const ATTEMPTS: usize = 8;

/// Levels that one climb takes: so many `../` are a path that is short enough.
const MOST_LEVELS: usize = 1024;

/// Where a directory is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub root: RootId,
    /// Relative to the root.
    pub dir: RelPathBuf,
    /// False where `dir` is only the nearest ancestor that can be named.
    pub exact: bool,
}

/// Why the places of a directory are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("{0}: {1}")]
    Failed(&'static str, Errno),
    #[error("its path changed each time it was looked at")]
    Restless,
}

fn failed(action: &'static str) -> impl Fn(Errno) -> Unresolved {
    move |errno| Unresolved::Failed(action, errno)
}

/// Every place at which the views show the directory. `shown` must be sorted so that the views of one mount stand together.
pub(super) fn places(shown: &[Shown<'_>], handle: &Handle<'_>) -> Result<Vec<Place>, Unresolved> {
    let mut places = Vec::new();
    for group in shown.chunk_by(|a, b| a.view.fsid == b.view.fsid && a.mount == b.mount) {
        if group[0].view.fsid == handle.fsid {
            places_on_mount(group, handle, &mut places)?;
        }
    }
    Ok(places)
}

fn places_on_mount(group: &[Shown<'_>], handle: &Handle<'_>, places: &mut Vec<Place>) -> Result<(), Unresolved> {
    let before = places.len();
    'attempt: for attempt in 1..=ATTEMPTS {
        let found = match Found::open(group[0].as_fd(), handle) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            // Not always what it says: ext4 answers so while a new inode takes over the number of one that was deleted. That takes a
            // moment; then the handle is stale.
            Err(Unresolved::Failed(_, Errno::ENOMEM)) if attempt < ATTEMPTS => {
                thread::sleep(Duration::from_micros(50 << attempt));
                continue;
            }
            Err(error) => return Err(error),
        };
        for shown in group {
            match found.place(shown)? {
                Placed::Here(place) => places.push(place),
                Placed::Nowhere => {}
                Placed::Moved => {
                    places.truncate(before);
                    continue 'attempt;
                }
            }
        }
        return Ok(());
    }
    Err(Unresolved::Restless)
}

/// A directory that was opened by its handle, and the path by which the kernel calls it on that mount.
struct Found {
    fd: OwnedFd,
    /// The nearest ancestor that can be named, where the directory itself is too deep.
    ancestor: Option<OwnedFd>,
    path: PathBuf,
}

enum Placed {
    Here(Place),
    Nowhere,
    Moved,
}

impl Found {
    /// `None` where the directory is gone.
    fn open(mount: BorrowedFd<'_>, handle: &Handle<'_>) -> Result<Option<Self>, Unresolved> {
        let fd = match handle::open(mount, handle.kind, handle.bytes) {
            Ok(fd) => fd,
            Err(Errno::ESTALE) => return Ok(None),
            Err(errno) => return Err(Unresolved::Failed("opening a directory by its handle", errno)),
        };
        match path_of(fd.as_fd()) {
            Ok(path) => Ok(Some(Self { fd, ancestor: None, path })),
            Err(Errno::ENAMETOOLONG) => match nameable(fd.as_fd()) {
                Ok((ancestor, path)) => Ok(Some(Self { fd, ancestor: Some(ancestor), path })),
                Err(Errno::ENOENT | Errno::ESTALE) => Ok(None),
                Err(errno) => Err(Unresolved::Failed("climbing from a deep directory", errno)),
            },
            Err(errno) => Err(Unresolved::Failed("reading the path of a directory in /proc/self/fd", errno)),
        }
    }

    /// Where one view shows the directory. The kernel's path alone is no proof: it has a suffix where the directory was deleted, starts at
    /// another top where the view is a bind mount and the directory is not below it, and does not tell of mounts that cover it.
    fn place(&self, shown: &Shown<'_>) -> Result<Placed, Unresolved> {
        let view = shown.view;
        let named = self.ancestor.as_ref().unwrap_or(&self.fd);
        let Ok(relative) = self.path.strip_prefix(&view.top) else {
            // The climb may have passed the root.
            let below = self.ancestor.is_some() && self.is_below(view)?;
            return Ok(if below { self.here(view, Path::new("")) } else { Placed::Nowhere });
        };
        let is = fstat(named).map_err(failed("looking at a directory"))?;
        match look_up(shown.as_fd(), relative) {
            Ok(by_name) if same(&by_name, is.st_dev, is.st_ino) => {}
            // Something is mounted on the way: what is below is not to be seen here.
            Err(Errno::EXDEV) => return Ok(Placed::Nowhere),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE) => {
                let gone = is.st_nlink == 0 || !self.is_below(view)?;
                return Ok(if gone { Placed::Nowhere } else { Placed::Moved });
            }
            Err(errno) => return Err(Unresolved::Failed("opening a directory by its path", errno)),
        }
        if is.st_dev != view.identity.dev && !view.across {
            return Ok(Placed::Nowhere);
        }
        Ok(self.here(view, relative))
    }

    fn here(&self, view: &View, relative: &Path) -> Placed {
        let mut bytes = view.at.as_bytes().to_vec();
        if !bytes.is_empty() && !relative.as_os_str().is_empty() {
            bytes.push(b'/');
        }
        bytes.extend(relative.as_os_str().as_bytes());
        match RelPathBuf::new(bytes) {
            Ok(dir) => Placed::Here(Place { root: view.root, dir, exact: self.ancestor.is_none() }),
            // The kernel's paths have no such components; another look can do no harm.
            Err(_) => Placed::Moved,
        }
    }

    /// Whether a climb from the directory meets the view's top.
    fn is_below(&self, view: &View) -> Result<bool, Unresolved> {
        let look = |fd: &OwnedFd| fstat(fd).map_err(failed("looking at a directory"));
        let mut above: Option<OwnedFd> = None;
        loop {
            let current = above.as_ref().unwrap_or(&self.fd);
            let stat = look(current)?;
            if same(&stat, view.identity.dev, view.identity.ino) {
                return Ok(true);
            }
            let next = match up(current.as_fd(), 1) {
                Ok(next) => next,
                Err(Errno::ENOENT | Errno::ESTALE) => return Ok(false),
                Err(errno) => return Err(Unresolved::Failed("climbing from a directory", errno)),
            };
            if same(&look(&next)?, stat.st_dev, stat.st_ino) {
                return Ok(false);
            }
            above = Some(next);
        }
    }
}

fn same(stat: &FileStat, dev: u64, ino: u64) -> bool {
    stat.st_dev == dev && stat.st_ino == ino
}

fn up(fd: BorrowedFd<'_>, levels: usize) -> Result<OwnedFd, Errno> {
    openat(fd, "../".repeat(levels).as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// The nearest ancestor of a directory that can be named. In growing steps, then by halves: whoever makes a tree of a hundred thousand levels
/// shall not hold the capture up.
fn nameable(fd: BorrowedFd<'_>) -> Result<(OwnedFd, PathBuf), Errno> {
    let too_long = |result: &Result<PathBuf, Errno>| *result == Err(Errno::ENAMETOOLONG);
    let mut low: Option<OwnedFd> = None;
    let mut step = 1;
    loop {
        let from = low.as_ref().map_or(fd, AsFd::as_fd);
        let above = up(from, step)?;
        let path = path_of(above.as_fd());
        if too_long(&path) {
            low = Some(above);
            step = (step * 2).min(MOST_LEVELS);
            continue;
        }
        let mut best = (above, path?);
        let mut levels = 1..step;
        while !levels.is_empty() {
            let middle = levels.start + levels.len() / 2;
            let above = up(from, middle)?;
            let path = path_of(above.as_fd());
            if too_long(&path) {
                levels.start = middle + 1;
            } else {
                levels.end = middle;
                best = (above, path?);
            }
        }
        return Ok(best);
    }
}

/// The directory at `relative`, with neither links nor mounts on the way.
fn look_up(top: BorrowedFd<'_>, relative: &Path) -> Result<FileStat, Errno> {
    if relative.as_os_str().is_empty() {
        return fstat(top);
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    fstat(openat2(top, relative, how)?)
}
