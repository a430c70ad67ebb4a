//! File handles: the few system calls around them that have no safe wrapper elsewhere.

use std::{
    ffi::c_int,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{errno::Errno, sys::statfs::fstatfs};

use super::record::MAX_HANDLE;

/// A directory's handle: inode and generation, so a directory that was deleted and made anew differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnedHandle {
    kind: i32,
    bytes: Box<[u8]>,
}

impl OwnedHandle {
    /// Opens the directory again, on the mount of `mount`.
    pub fn open(&self, mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        open(mount, self.kind, &self.bytes)
    }
}

/// `struct file_handle` with room for the longest one.
#[repr(C)]
struct RawHandle {
    length: u32,
    kind: c_int,
    bytes: [u8; MAX_HANDLE],
}

/// The handle of an open directory, and the number of the mount that it was opened on.
pub(super) fn of(fd: BorrowedFd<'_>) -> Result<(OwnedHandle, i32), Errno> {
    let mut raw = RawHandle { length: MAX_HANDLE as u32, kind: 0, bytes: [0; MAX_HANDLE] };
    let mut mount = 0;
    // SAFETY: the path is a NUL-terminated literal; `raw` begins as `struct file_handle` does and has the room for data that `length` says;
    // both outlive the call, which keeps no pointer.
    let result = unsafe {
        libc::name_to_handle_at(
            fd.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut raw).cast::<libc::file_handle>(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(result)?;
    let bytes = raw.bytes.get(..raw.length as usize).ok_or(Errno::EOVERFLOW)?;
    Ok((OwnedHandle { kind: raw.kind, bytes: bytes.into() }, mount))
}

/// Opens what a handle names, as a path only, on the mount of `mount` (which must not be `O_PATH` itself).
pub(super) fn open(mount: BorrowedFd<'_>, kind: i32, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle { length: bytes.len() as u32, kind, bytes: [0; MAX_HANDLE] };
    raw.bytes.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(bytes);
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `raw` begins as `struct file_handle` does, holds the `length` bytes it announces, and outlives the call, which only reads it.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast::<libc::file_handle>(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `f_fsid`, as fanotify reports it.
pub(super) fn fsid(fd: BorrowedFd<'_>) -> Result<[u8; 8], Errno> {
    let id = fstatfs(fd)?.filesystem_id();
    // SAFETY: `fsid_t` is two C ints without padding, 8 bytes in all (the compiler checks the size); every bit pattern is a valid array.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(id) })
}
