//! inotify and fanotify as other programs use them, to be measured: one directory, and one file system.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify as Instance},
};

/// A watch on one directory.
pub struct Inotify(Instance, Buffer);

type Buffer = Box<[u8; 1 << 16]>;

fn buffer() -> Buffer {
    Box::new([0; 1 << 16])
}

impl Inotify {
    pub fn on(directory: &Path) -> nix::Result<Self> {
        let instance = Instance::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let wanted = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE;
        instance.add_watch(directory, wanted)?;
        Ok(Self(instance, buffer()))
    }

    pub fn read_all(&mut self) -> io::Result<()> {
        drain(self.0.as_fd().as_raw_fd(), &mut self.1[..])
    }
}

/// A mark on a file system, with names.
pub struct Fanotify(OwnedFd, Buffer);

impl Fanotify {
    pub fn on(directory: &Path) -> nix::Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_DFID_NAME | libc::FAN_NONBLOCK | libc::FAN_CLOEXEC;
        // SAFETY: takes two numbers and returns a descriptor that nobody else has.
        let group = unsafe { Errno::result(libc::fanotify_init(flags, libc::O_RDONLY as u32)).map(|fd| OwnedFd::from_raw_fd(fd)) }?;
        let wanted = libc::FAN_CREATE
            | libc::FAN_DELETE
            | libc::FAN_MODIFY
            | libc::FAN_CLOSE_WRITE
            | libc::FAN_ATTRIB
            | libc::FAN_MOVE
            | libc::FAN_ONDIR;
        let path = CString::new(directory.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let how = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
        // SAFETY: the path ends with NUL and outlives the call.
        Errno::result(unsafe { libc::fanotify_mark(group.as_raw_fd(), how, wanted, libc::AT_FDCWD, path.as_ptr()) })?;
        Ok(Self(group, buffer()))
    }

    pub fn read_all(&mut self) -> io::Result<()> {
        drain(self.0.as_raw_fd(), &mut self.1[..])
    }
}

/// Reads until nothing waits.
fn drain(fd: i32, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        // SAFETY: the buffer has room for as many bytes as are asked for.
        match Errno::result(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) }) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
