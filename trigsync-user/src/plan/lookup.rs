//! What stands at a path of the source now, without following a symbolic link.
//!
//! Paths are asked for in sorted order: the directories of the last path stay open, so that one batch opens each directory once.

use std::os::fd::{AsFd, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, fstatat},
};

use super::is_shortage;
use crate::model::{RelPath, RelPathBuf};

/// What was found for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The path exists.
    Present(Kind),
    /// A parent is no directory: it stands for everything that was below it.
    Blocked(RelPathBuf),
    /// Missing, from this path on: the path itself or its topmost missing parent.
    Missing(RelPathBuf),
    /// Nobody can tell for now, for want of descriptors or memory.
    Unknown,
}

/// What kind of thing exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link, fifo, socket or device; or something that could not be looked at, which rsync is to report.
    Other,
}

/// A root that is being looked at.
pub(super) struct Lookup {
    root: OwnedFd,
    /// The directories of the last path, outermost first.
    open: Vec<(RelPathBuf, OwnedFd)>,
    /// The parent at which the last path ended early: what is found for all that is below it.
    dead_end: Option<(RelPathBuf, Found)>,
}

impl Lookup {
    pub fn new(root: OwnedFd) -> Self {
        Self { root, open: Vec::new(), dead_end: None }
    }

    pub fn find(&mut self, path: &RelPath) -> Found {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Found::Present(Kind::Directory) };
        if let Err(found) = self.enter(parent) {
            return found;
        }
        match fstatat(self.innermost(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Found::Present(match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR => Kind::Directory,
                SFlag::S_IFREG => Kind::File(u64::try_from(stat.st_size).unwrap_or(0)),
                _ => Kind::Other,
            }),
            Err(Errno::ENOENT) => Found::Missing(path.to_owned()),
            Err(errno) if is_shortage(errno) => Found::Unknown,
            Err(_) => Found::Present(Kind::Other),
        }
    }

    /// Opens the directories down to `directory`. Fails with what is found for all that is below one that cannot be opened.
    fn enter(&mut self, directory: &RelPath) -> Result<(), Found> {
        if let Some((at, found)) = &self.dead_end
            && directory.is_within(at)
        {
            return Err(found.clone());
        }
        self.dead_end = None;
        while self.open.last().is_some_and(|(path, _)| !directory.is_within(path)) {
            self.open.pop();
        }
        let entered = self.open.last().map_or(0, |(path, _)| path.components().count());
        for name in directory.components().skip(entered) {
            let path = self.open.last().map_or(RelPath::root(), |(path, _)| path).join(name);
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(self.innermost(), name, flags, Mode::empty()) {
                Ok(fd) => self.open.push((path, fd)),
                Err(errno) => {
                    let found = match errno {
                        Errno::ENOENT => Found::Missing(path.clone()),
                        shortage if is_shortage(shortage) => Found::Unknown,
                        _ => Found::Blocked(path.clone()),
                    };
                    self.dead_end = Some((path, found.clone()));
                    return Err(found);
                }
            }
        }
        Ok(())
    }

    fn innermost(&self) -> impl AsFd + '_ {
        self.open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }
}
