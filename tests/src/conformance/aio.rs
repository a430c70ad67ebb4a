//! Asynchronous writes by the kernel's own interface, as libaio and databases use it.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fs::{self, File, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    ptr,
};

use nix::errno::Errno;

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[
    ("libaio: IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV", written),
    ("libaio: O_DIRECT", direct),
    ("libaio: only reads, and a failed write", nothing),
];

/// `struct iocb` of the kernel, little-endian.
#[repr(C)]
#[derive(Default)]
struct Block {
    data: u64,
    key: u32,
    flags: u32,
    operation: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    eventfd: u32,
}

/// `struct io_event` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Done {
    data: u64,
    block: u64,
    result: i64,
    second: i64,
}

const READ: u16 = 0;
const WRITE: u16 = 1;
const WRITE_VECTOR: u16 = 8;

/// A context, destroyed with this.
struct Context(libc::c_ulong);

impl Context {
    fn new() -> Result<Self, Fault> {
        let mut context = 0;
        // SAFETY: the kernel writes one number to an address that has room for it.
        match Errno::result(unsafe { libc::syscall(libc::SYS_io_setup, 4, &raw mut context) }) {
            Ok(_) => Ok(Self(context)),
            Err(errno) => Err(Fault::NotCovered(format!("no asynchronous input and output here ({errno})"))),
        }
    }

    /// Runs one operation to its end.
    ///
    /// # Safety
    /// `buffer` has to be what the operation says, of `length` bytes or vectors, until this returns.
    unsafe fn run(&self, operation: u16, file: &File, buffer: *const u8, length: usize, offset: i64) -> Result<i64, Fault> {
        let mut block =
            Block { operation, file: file.as_raw_fd() as u32, buffer: buffer as u64, length: length as u64, offset, ..Block::default() };
        let mut blocks = [&raw mut block];
        let mut done = [Done::default()];
        // SAFETY: one block, which lives until its completion has been fetched; the caller answers for the buffer.
        let submitted = unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, blocks.as_mut_ptr()) };
        Errno::result(submitted)?;
        // SAFETY: room for one completion; no time limit.
        let fetched = unsafe { libc::syscall(libc::SYS_io_getevents, self.0, 1, 1, done.as_mut_ptr(), ptr::null_mut::<libc::timespec>()) };
        Errno::result(fetched)?;
        Ok(done[0].result)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context that was made in `new`; nothing of it is under way any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

fn wrote(result: i64, length: usize) -> Result<(), Fault> {
    if usize::try_from(result) == Ok(length) { Ok(()) } else { Err(Fault::Failed(format!("the write answered {result}"))) }
}

fn written(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "old content")?;
    let file = OpenOptions::new().write(true).open(b.at("f"))?;
    b.forget()?;
    let context = Context::new()?;
    let data = b"asynchronous";
    // SAFETY: the data outlives the call.
    wrote(unsafe { context.run(WRITE, &file, data.as_ptr(), data.len(), 0) }?, data.len())?;
    b.expect_soon(&[E("f")])?;
    let vectors = [libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() }; 2];
    // SAFETY: the vectors and the data outlive the call; a write does not change them.
    wrote(unsafe { context.run(WRITE_VECTOR, &file, vectors.as_ptr().cast(), vectors.len(), 5) }?, 2 * data.len())?;
    b.expect_soon(&[E("f")])?;
    drop(file);
    b.expect(&[E("f")])
}

/// A page that is aligned as O_DIRECT wants it.
struct Aligned(*mut u8);

impl Aligned {
    const LAYOUT: Layout = match Layout::from_size_align(4096, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a power of two"),
    };

    fn new() -> Self {
        // SAFETY: the layout is not empty.
        Self(unsafe { alloc_zeroed(Self::LAYOUT) })
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

fn direct(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), vec![1; 4096])?;
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(b.at("f"));
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(Fault::NotCovered("this file system has no O_DIRECT".to_owned()));
        }
        result => result?,
    };
    b.forget()?;
    let (context, page) = (Context::new()?, Aligned::new());
    for round in 0..3 {
        // SAFETY: the page has 4,096 bytes and outlives the call.
        wrote(unsafe { context.run(WRITE, &file, page.0, 4096, round * 4096) }?, 4096)?;
        b.expect_soon(&[E("f")])?;
    }
    Ok(())
}

fn nothing(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "content")?;
    let context = Context::new()?;
    let (reader, mut data) = (File::open(b.at("f"))?, [0_u8; 7]);
    b.forget()?;
    // SAFETY: the buffer has room for as many bytes as are asked for, and outlives the call.
    wrote(unsafe { context.run(READ, &reader, data.as_mut_ptr(), data.len(), 0) }?, data.len())?;
    // SAFETY: as above; the descriptor is not open for writing, so that the kernel refuses.
    let refused = unsafe { context.run(WRITE, &reader, data.as_ptr(), data.len(), 0) };
    let mut again = [0; 7];
    reader.read_exact_at(&mut again, 0)?;
    if refused.is_ok_and(|result| result >= 0) || &again != b"content" {
        return Err(Fault::Failed("a descriptor for reading took a write".to_owned()));
    }
    b.expect_nothing()
}
