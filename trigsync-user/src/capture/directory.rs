//! Directories as every tier opens and names them.

use std::{
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, readlink},
    sys::stat::Mode,
};

use crate::model::RelPathBuf;

/// Opens a directory, not through a symbolic link, for reading: what `open_by_handle_at` accepts (it refuses `O_PATH`), and what programs
/// in the kernel see.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
}

/// The path by which the kernel calls an open directory.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str()).map(PathBuf::from)
}

/// `path` as seen from `top`; `None` where it is not below.
pub(super) fn relative(top: &Path, path: &Path) -> Option<RelPathBuf> {
    RelPathBuf::new(path.strip_prefix(top).ok()?.as_os_str().as_bytes().to_vec()).ok()
}

/// Whether a failure says that the machine is short of something, which it may not be the next time.
pub(super) fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR)
}
