//! The same operations through io_uring.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::Path,
};

use io_uring::{IoUring, opcode, squeue, types};
use nix::unistd::pipe;

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[
    ("io_uring: openat, write, close", opened),
    ("io_uring: writev, write through a fixed buffer, fallocate, splice", written_otherwise),
    ("io_uring: O_DIRECT", direct),
    ("io_uring: mkdirat, linkat, renameat, unlinkat", named),
    ("io_uring: symlinkat", linked),
    ("io_uring: only reads", reads),
    ("io_uring: failed operations", refused),
];

fn ring() -> Result<IoUring, Fault> {
    IoUring::new(4).map_err(|error| Fault::NotCovered(format!("no io_uring here ({error})")))
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path")
}

/// Runs one operation to its end. Old kernels answer EINVAL to one they do not know.
fn submit(ring: &mut IoUring, entry: &squeue::Entry, what: &str) -> Result<i32, Fault> {
    // SAFETY: whatever the entry points to lives in the caller until this returns, and by then the operation is complete.
    unsafe { ring.submission().push(entry) }.map_err(|error| Fault::Failed(error.to_string()))?;
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().map(|done| done.result());
    match result {
        Some(result) if result >= 0 => Ok(result),
        Some(result) if result == -libc::EINVAL => Err(Fault::NotCovered(format!("this kernel's io_uring has no {what}"))),
        other => Err(Fault::Failed(format!("{what}: {other:?}"))),
    }
}

fn opened(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut ring = ring()?;
    let path = text(&b.at("f"));
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_CREAT | libc::O_WRONLY).mode(0o600);
    let fd = submit(&mut ring, &open.build(), "openat")?;
    b.expect(&[E("f")])?;
    let data = b"content";
    submit(&mut ring, &opcode::Write::new(types::Fd(fd), data.as_ptr(), data.len() as u32).build(), "write")?;
    // Where a thread of the kernel does it, the last steps come after the completion.
    let before_close = b.expect_soon(&[E("f")]);
    submit(&mut ring, &opcode::Close::new(types::Fd(fd)).build(), "close")?;
    b.expect_soon(&[E("f")])?;
    before_close
}

fn named(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut ring = ring()?;
    let at = types::Fd(libc::AT_FDCWD);
    let [dir, file, link, moved] = ["d", "d/f", "d/l", "m"].map(|name| text(&b.at(name)));
    submit(&mut ring, &opcode::MkDirAt::new(at, dir.as_ptr()).mode(0o700).build(), "mkdirat")?;
    b.expect(&[E("d")])?;
    fs::write(b.at("d/f"), "")?;
    b.forget()?;
    submit(&mut ring, &opcode::LinkAt::new(at, file.as_ptr(), at, link.as_ptr()).build(), "linkat")?;
    b.expect_with(&[E("d/l")], |path| path == b"d/f")?;
    submit(&mut ring, &opcode::RenameAt::new(at, link.as_ptr(), at, moved.as_ptr()).build(), "renameat")?;
    b.expect(&[E("d/l"), E("m")])?;
    submit(&mut ring, &opcode::UnlinkAt::new(at, moved.as_ptr()).build(), "unlinkat")?;
    b.expect(&[E("m")])
}

fn written_otherwise(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut ring = ring()?;
    let mut file = File::create(b.at("f"))?;
    b.forget()?;
    let fd = types::Fd(file.as_raw_fd());
    let mut data = *b"content";
    let vectors = [libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() }; 2];
    submit(&mut ring, &opcode::Writev::new(fd, vectors.as_ptr(), 2).build(), "writev")?;
    b.expect_soon(&[E("f")])?;
    // SAFETY: the buffer lives until the ring is gone, and nothing else uses it meanwhile.
    unsafe { ring.submitter().register_buffers(&vectors[..1]) }?;
    submit(&mut ring, &opcode::WriteFixed::new(fd, data.as_ptr(), data.len() as u32, 0).build(), "write through a fixed buffer")?;
    b.expect_soon(&[E("f")])?;
    let (read_end, write_end) = pipe()?;
    File::from(write_end).write_all(b"through a pipe")?;
    let from = types::Fd(read_end.as_raw_fd());
    submit(&mut ring, &opcode::Splice::new(from, -1, fd, 20, 14).build(), "splice")?;
    b.expect_soon(&[E("f")])?;
    match submit(&mut ring, &opcode::Fallocate::new(fd, 1 << 16).build(), "fallocate") {
        Ok(_) => b.expect_soon(&[E("f")])?,
        Err(_) => b.expect_nothing()?,
    }
    file.write_all(b"plain")?;
    drop(file);
    b.expect(&[E("f")])
}

fn direct(b: &mut Bench<'_>) -> Result<(), Fault> {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let mut ring = ring()?;
    let opened = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(b.at("f"));
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(Fault::NotCovered("this file system has no O_DIRECT".to_owned()));
        }
        result => result?,
    };
    b.forget()?;
    let page = Box::new(Page([7; 4096]));
    for round in 0..3_u64 {
        let write = opcode::Write::new(types::Fd(file.as_raw_fd()), page.0.as_ptr(), 4096).offset(round * 4096);
        submit(&mut ring, &write.build(), "write")?;
        b.expect_soon(&[E("f")])?;
    }
    Ok(())
}

fn linked(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut ring = ring()?;
    let (target, link) = (text(Path::new("nowhere")), text(&b.at("l")));
    submit(&mut ring, &opcode::SymlinkAt::new(types::Fd(libc::AT_FDCWD), target.as_ptr(), link.as_ptr()).build(), "symlinkat")?;
    b.expect(&[E("l")])
}

fn reads(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut ring = ring()?;
    fs::write(b.at("f"), "content")?;
    b.forget()?;
    let path = text(&b.at("f"));
    let fd = submit(&mut ring, &opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_RDONLY).build(), "openat")?;
    let mut data = [0_u8; 7];
    submit(&mut ring, &opcode::Read::new(types::Fd(fd), data.as_mut_ptr(), 7).build(), "read")?;
    submit(&mut ring, &opcode::Close::new(types::Fd(fd)).build(), "close")?;
    b.expect_nothing()
}

fn refused(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut ring = ring()?;
    fs::write(b.at("f"), "content")?;
    let (file, data, none) = (File::open(b.at("f"))?, [0_u8; 7], text(&b.at("none")));
    b.forget()?;
    let at = types::Fd(libc::AT_FDCWD);
    let refused = [
        submit(&mut ring, &opcode::Write::new(types::Fd(file.as_raw_fd()), data.as_ptr(), 7).build(), "write"),
        submit(&mut ring, &opcode::UnlinkAt::new(at, none.as_ptr()).build(), "unlinkat"),
        submit(&mut ring, &opcode::OpenAt::new(at, none.as_ptr()).flags(libc::O_WRONLY).build(), "openat"),
    ];
    if refused.iter().any(Result::is_ok) {
        return Err(Fault::Failed("something was not refused".to_owned()));
    }
    b.expect_nothing()
}
