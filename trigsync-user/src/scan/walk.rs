//! The walk over the source, by several threads.

use std::{
    ffi::CStr,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::{
    Progress,
    directory::{Device, Look, Moment, Opener, Piece, Reader, look},
    rule::{Due, Holder, Kind, UNSEEN, due},
    stack::{Stack, Taken},
    times::Times,
};
use crate::{
    config::Filter,
    model::{Mark, Ops, RelPath, RelPathBuf, Scope},
};

/// What the threads of a walk share.
pub(super) struct Walk<'a, F> {
    pub opener: Opener<'a>,
    pub filter: &'a Filter,
    /// `None` where every file system is gone into; else the only one that is.
    pub only: Option<Device>,
    pub cutoff: Moment,
    pub progress: &'a Progress,
    pub stop: &'a CancellationToken,
    pub found: F,
    pub stack: Stack<Directory>,
    pub mounts: Mutex<Vec<RelPathBuf>>,
}

/// A directory that waits to be read.
pub(super) struct Directory {
    pub path: RelPathBuf,
    /// What it is to the names in it.
    pub holder: Holder,
    pub device: Device,
    /// Another file system begins here.
    pub mounted: bool,
}

impl<F: Fn(Mark) + Sync> Walk<'_, F> {
    /// What one thread does.
    pub fn work(&self) {
        let mut reader = Reader::new();
        while let Some(mut taken) = self.stack.take() {
            self.directory(&mut taken, &mut reader);
            if self.stop.is_cancelled() {
                self.stack.end();
            }
        }
    }

    fn directory(&self, taken: &mut Taken<'_, Directory>, reader: &mut Reader) {
        let directory = match self.opener.open(&taken.item.path) {
            Ok(directory) => directory,
            Err(errno) => return self.failed(&taken.item.path, errno),
        };
        if taken.item.mounted {
            match Times::of(&directory) {
                // Nothing failed: rsync's own comparison finds what there is.
                Times::Doubtful(_) => return self.mark(taken.item.path.clone(), Scope::Tree, UNSEEN),
                times => taken.item.holder.silent = times == Times::NoExchanges,
            }
        }
        self.progress.entered();
        let read = reader.read(&directory, |piece| {
            self.piece(taken, &directory, piece);
            !self.stop.is_cancelled()
        });
        if let Err(errno) = read {
            self.failed(&taken.item.path, errno);
        }
    }

    fn piece(&self, taken: &mut Taken<'_, Directory>, directory: &OwnedFd, piece: &Piece) {
        let names = piece.names();
        self.progress.looked_at(names.len() as u64);
        for name in names {
            match look(directory, name) {
                Ok(found) => self.entry(taken, name, found),
                Err(errno) => {
                    let path = taken.item.path.join(name.to_bytes());
                    if !self.filter.excludes_in_kept(&path, false) {
                        self.failed(&path, errno);
                    }
                }
            }
        }
        if piece.damaged {
            self.failed(&taken.item.path, Errno::ILSEQ);
        }
    }

    fn entry(&self, taken: &mut Taken<'_, Directory>, name: &CStr, found: Look) {
        let new = found.changed.is_none_or(|changed| changed >= self.cutoff);
        if !found.directory && !new {
            return; // nearly always: no path is put together
        }
        let path = taken.item.path.join(name.to_bytes());
        if self.filter.excludes_in_kept(&path, found.directory) {
            return;
        }
        let mounted = found.directory && found.device != taken.item.device;
        if mounted {
            self.mounts.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        }
        let kind = match self.only {
            _ if !found.directory => Kind::Other,
            Some(only) if only != found.device => Kind::MountPoint,
            _ => Kind::Directory,
        };
        let Due { mark, enter } = due(kind, new, taken.item.holder);
        if let Some((scope, ops)) = mark {
            self.mark(path.clone(), scope, ops);
        }
        if enter {
            let holder = Holder { new, silent: taken.item.holder.silent };
            taken.added.push(Directory { path, holder, device: found.device, mounted });
        }
    }

    /// Something could not be read or looked at.
    fn failed(&self, path: &RelPath, errno: Errno) {
        // It changed since its name was read, which whoever captures has been told.
        if matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
            return self.progress.vanished();
        }
        tracing::debug!(%path, %errno, "cannot be looked at; it goes to rsync as a whole");
        self.progress.unreadable();
        self.mark(path.to_owned(), Scope::Tree, UNSEEN);
    }

    pub fn mark(&self, path: RelPathBuf, scope: Scope, ops: Ops) {
        self.progress.marked(scope);
        (self.found)(Mark { path, scope, ops });
    }
}
