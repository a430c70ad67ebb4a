//! Stores through a shared mapping, which no system call tells of.

use std::{
    fs::{self, OpenOptions},
    os::fd::AsRawFd as _,
    path::Path,
    ptr,
};

use nix::errno::Errno;

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[
    ("a store through a mapping, when the mapping goes", mapped),
    ("a store through a living mapping", mapping_lives),
    ("a further store after the pages were written back", stored_again),
];

/// A page of a file, shared and writable, whose descriptor is closed.
struct Page(*mut libc::c_void);

impl Page {
    fn of(path: &Path) -> Result<Self, Fault> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // SAFETY: a new mapping at an address that the kernel chooses, of a file of 4,096 bytes.
        let page = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED { Err(Errno::last().into()) } else { Ok(Self(page)) }
    }

    fn store(&self, value: u8) {
        // SAFETY: the mapping is writable, 4,096 bytes long, and lives as long as `self`.
        unsafe { self.0.cast::<u8>().write_volatile(value) };
    }

    /// Writes what was stored to the file system; the next store to the page is one to a clean page.
    fn write_back(&self) -> Result<(), Errno> {
        // SAFETY: the mapping that was made in `of`.
        Errno::result(unsafe { libc::msync(self.0, 4096, libc::MS_SYNC) }).map(drop)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made in `of`; nothing refers to it any more.
        unsafe { libc::munmap(self.0, 4096) };
    }
}

/// A mapped file to which nothing was stored yet.
fn map(b: &mut Bench<'_>) -> Result<Page, Fault> {
    fs::write(b.at("m"), vec![0; 4096])?;
    b.forget()?;
    let page = Page::of(&b.at("m"))?;
    b.expect_with(&[], |path| path == b"m")?;
    Ok(page)
}

fn mapped(b: &mut Bench<'_>) -> Result<(), Fault> {
    let page = map(b)?;
    page.store(7);
    drop(page);
    b.expect(&[E("m")])
}

fn mapping_lives(b: &mut Bench<'_>) -> Result<(), Fault> {
    let page = map(b)?;
    page.store(7);
    b.expect(&[E("m")])
}

fn stored_again(b: &mut Bench<'_>) -> Result<(), Fault> {
    let page = map(b)?;
    page.store(7);
    b.forget()?;
    for value in 0..3 {
        page.write_back()?;
        b.forget()?;
        page.store(value);
        b.expect(&[E("m")])?;
    }
    Ok(())
}
