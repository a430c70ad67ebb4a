//! The fanotify group: made, marked, probed, read.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{
        fanotify::{EventFFlags, Fanotify as Group, InitFlags, MarkFlags, MaskFlags},
        statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs},
    },
    unistd::read,
};

use super::record::METADATA;
use crate::capture::CaptureError;

nix::ioctl_read_bad!(bytes_waiting, libc::FIONREAD, libc::c_int);

/// A fanotify group that reports directories and names.
#[derive(Debug)]
pub(super) struct NamedGroup {
    group: Group,
    /// `FAN_RENAME`, or what older kernels have in its place.
    moves: MaskFlags,
}

impl AsFd for NamedGroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

impl NamedGroup {
    pub fn new(unlimited_queue: bool) -> Result<Self, CaptureError> {
        let mut flags = InitFlags::from_bits_retain(libc::FAN_REPORT_DFID_NAME);
        flags |= InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        flags.set(InitFlags::FAN_UNLIMITED_QUEUE, unlimited_queue);
        match Group::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC) {
            Ok(group) => Ok(Self { group, moves: MaskFlags::FAN_RENAME }),
            Err(Errno::EPERM) => Err(CaptureError::Privilege { action: "watching with fanotify", capability: "CAP_SYS_ADMIN" }),
            Err(Errno::EINVAL) => Err(CaptureError::Kernel { what: "fanotify with directories and names", needs: "Linux 5.9 or newer" }),
            Err(Errno::ENOSYS) => Err(CaptureError::Kernel { what: "fanotify", needs: "CONFIG_FANOTIFY" }),
            Err(errno) => {
                let limit = Path::new("/proc/sys/fs/fanotify/max_user_groups");
                Err(CaptureError::io("making a fanotify group, limited by", limit, errno.into()))
            }
        }
    }

    /// Does without `FAN_RENAME`, as on kernels before 5.17.
    pub fn forgo_rename(&mut self) {
        self.moves = MaskFlags::FAN_MOVED_FROM | MaskFlags::FAN_MOVED_TO;
    }

    /// Whether `FAN_RENAME` is used. Known after the first mark.
    pub fn has_rename(&self) -> bool {
        self.moves == MaskFlags::FAN_RENAME
    }

    fn mask(&self) -> MaskFlags {
        MaskFlags::FAN_CREATE
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_MODIFY
            | MaskFlags::FAN_CLOSE_WRITE
            | MaskFlags::FAN_ATTRIB
            | MaskFlags::FAN_ONDIR
            | self.moves
    }

    /// Marks the file system of `dir`; marking it again changes nothing.
    pub fn mark(&mut self, dir: BorrowedFd<'_>, path: &Path) -> Result<(), CaptureError> {
        let mut marked = self.marking(MarkFlags::FAN_MARK_ADD, self.mask(), dir);
        if marked == Err(Errno::EINVAL) && self.has_rename() {
            self.forgo_rename();
            marked = self.marking(MarkFlags::FAN_MARK_ADD, self.mask(), dir);
        }
        marked.map_err(|errno| refused(errno, dir, path))
    }

    /// Takes the mark off the file system of `dir`.
    pub fn unmark(&self, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        self.marking(MarkFlags::FAN_MARK_REMOVE, self.mask(), dir)
    }

    /// Whether the file system of `dir` still bears the mark: one that was unmounted everywhere and mounted again does not.
    pub fn is_marked(&self, dir: BorrowedFd<'_>) -> bool {
        // Takes away a bit that is never set: answers ENOENT where there is no mark, and changes nothing where there is one.
        self.marking(MarkFlags::FAN_MARK_REMOVE, MaskFlags::FAN_DELETE_SELF, dir) != Err(Errno::ENOENT)
    }

    /// Takes all marks off.
    pub fn unmark_all(&self) -> Result<(), Errno> {
        let flags = MarkFlags::FAN_MARK_FLUSH | MarkFlags::FAN_MARK_FILESYSTEM;
        self.group.mark(flags, MaskFlags::empty(), io::stdin(), None::<&Path>)
    }

    fn marking(&self, action: MarkFlags, mask: MaskFlags, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        self.group.mark(action | MarkFlags::FAN_MARK_FILESYSTEM, mask, dir, None::<&Path>)
    }

    /// Reads once; 0 when nothing waits.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match read(&self.group, buffer) {
            Ok(length) => Ok(length),
            Err(Errno::EAGAIN) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Events that wait. The kernel tells it in bytes, but counts the fixed part of each event only.
    pub fn waiting(&self) -> io::Result<u64> {
        let mut bytes = 0;
        // SAFETY: FIONREAD writes one C int to the address it is given, which is that of one.
        unsafe { bytes_waiting(self.group.as_fd().as_raw_fd(), &raw mut bytes) }?;
        Ok(u64::try_from(bytes).unwrap_or(0) / METADATA as u64)
    }
}

fn refused(errno: Errno, dir: BorrowedFd<'_>, path: &Path) -> CaptureError {
    let overlay = fstatfs(dir).is_ok_and(|stat| stat.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    let reason = match errno {
        Errno::EPERM => return CaptureError::Privilege { action: "watching a whole file system", capability: "CAP_SYS_ADMIN" },
        Errno::EINVAL => return CaptureError::Kernel { what: "marking a file system for names", needs: "Linux 5.9 or newer" },
        Errno::EXDEV => {
            "it is a btrfs subvolume, and only the whole file system can be watched: mount its top (`-o subvolid=5`) and watch that"
        }
        Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EOVERFLOW if overlay => {
            "an overlay gives no file handles that could be opened again: watch it on the file system that its upper directory is on"
        }
        Errno::ENODEV => "it has no identifier (f_fsid) by which events could name it; tmpfs has one on newer kernels",
        Errno::EOPNOTSUPP | Errno::EOVERFLOW => "it gives no file handles that could be opened again",
        errno => return CaptureError::io("marking the file system of", path, errno.into()),
    };
    CaptureError::FileSystem { path: path.to_owned(), reason: reason.to_owned() }
}

/// Why a root's handle could not be made or opened.
pub(super) fn no_handle(errno: Errno, dir: BorrowedFd<'_>, path: &Path) -> CaptureError {
    match errno {
        Errno::EPERM => CaptureError::Privilege { action: "opening directories by their handle", capability: "CAP_DAC_READ_SEARCH" },
        Errno::EOPNOTSUPP => refused(errno, dir, path),
        Errno::ESTALE => {
            CaptureError::FileSystem { path: path.to_owned(), reason: "it does not open again what its handles name".to_owned() }
        }
        errno => CaptureError::io("opening by its handle", path, errno.into()),
    }
}
