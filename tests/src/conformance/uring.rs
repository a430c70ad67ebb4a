//! The same operations through io_uring.

use std::{ffi::CString, fs, os::unix::ffi::OsStrExt as _, path::Path};

use io_uring::{IoUring, opcode, squeue, types};

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[("io_uring: openat, write, close", opened), ("io_uring: mkdirat, linkat, renameat, unlinkat", named)];

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

fn opened(b: &mut Bench) -> Result<(), Fault> {
    let mut ring = ring()?;
    let path = text(&b.at("f"));
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_CREAT | libc::O_WRONLY).mode(0o600);
    let fd = submit(&mut ring, &open.build(), "openat")?;
    b.expect(&[E("f")])?;
    let data = b"content";
    submit(&mut ring, &opcode::Write::new(types::Fd(fd), data.as_ptr(), data.len() as u32).build(), "write")?;
    let before_close = b.expect(&[E("f")]);
    submit(&mut ring, &opcode::Close::new(types::Fd(fd)).build(), "close")?;
    b.expect(&[E("f")])?;
    before_close
}

fn named(b: &mut Bench) -> Result<(), Fault> {
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
