//! Files: made, written, copied and cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{IoSlice, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{fs::FileExt as _, net::UnixListener},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, SpliceFFlags, copy_file_range, fallocate, open, splice},
    sys::{
        sendfile::sendfile,
        stat::{Mode, SFlag, mknod},
    },
    unistd::{ftruncate, pipe, truncate},
};

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[
    ("create, then close, with and without writing", created),
    ("open(O_CREAT|O_RDONLY)", created_for_reading),
    ("open(O_CREAT) of a file that exists", created_again),
    ("mknod of a file, a fifo, a socket, devices", special_files),
    ("write, pwrite, writev, then close", written),
    ("a file that was written before the directories above it were renamed, and after", written_and_moved),
    ("sendfile, splice, copy_file_range, then close", copied_in_the_kernel),
    ("FICLONE", cloned),
    ("fallocate, all modes", allocated),
    ("a file that stays open is marked before it is closed", appended),
    ("truncate, ftruncate, open(O_TRUNC)", truncated),
];

fn created(b: &mut Bench<'_>) -> Result<(), Fault> {
    File::create(b.at("empty"))?;
    b.expect(&[E("empty")])?;
    fs::write(b.at("full"), "x")?;
    b.expect(&[E("full")])
}

fn created_for_reading(b: &mut Bench<'_>) -> Result<(), Fault> {
    open(&b.at("r"), OFlag::O_CREAT | OFlag::O_RDONLY, Mode::S_IRUSR)?;
    b.expect(&[E("r")])
}

fn created_again(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("r"), "content")?;
    b.forget()?;
    // Nothing changes, yet on kernels that do not say whether an open made the file, it may be told: a repeat is harmless.
    open(&b.at("r"), OFlag::O_CREAT | OFlag::O_RDONLY, Mode::S_IRUSR)?;
    b.expect_with(&[], |path| path == b"r")
}

fn special_files(b: &mut Bench<'_>) -> Result<(), Fault> {
    let kinds = [
        ("file", SFlag::S_IFREG),
        ("fifo", SFlag::S_IFIFO),
        ("socket", SFlag::S_IFSOCK),
        ("char", SFlag::S_IFCHR),
        ("block", SFlag::S_IFBLK),
    ];
    for (name, kind) in kinds {
        mknod(&b.at(name), kind, Mode::S_IRUSR, libc::makedev(1, 3))?;
        b.expect(&[E(name)])?;
    }
    let _listener = UnixListener::bind(b.at("listener"))?;
    b.expect(&[E("listener")])
}

fn written(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "old content")?;
    b.forget()?;
    let mut file = OpenOptions::new().write(true).open(b.at("f"))?;
    file.write_all(b"a")?;
    b.expect(&[E("f")])?;
    file.write_all_at(b"b", 5)?;
    b.expect(&[E("f")])?;
    let _ = file.write_vectored(&[IoSlice::new(b"c"), IoSlice::new(b"d")])?;
    b.expect(&[E("f")])?;
    drop(file);
    b.expect(&[E("f")])
}

fn written_and_moved(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.at("a/inner"))?;
    let mut file = File::create(b.at("a/inner/f"))?;
    b.forget()?;
    file.write_all(b"x")?;
    b.expect(&[E("a/inner/f")])?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.forget()?;
    file.write_all(b"x")?;
    b.expect(&[E("b/inner/f")])?;
    fs::rename(b.at("b/inner/f"), b.at("f"))?;
    b.forget()?;
    file.write_all(b"x")?;
    b.expect(&[E("f")])
}

fn copied_in_the_kernel(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("from"), vec![7; 8192])?;
    fs::write(b.at("to"), "")?;
    b.forget()?;
    let from = File::open(b.at("from"))?;
    let to = OpenOptions::new().write(true).open(b.at("to"))?;
    assert_eq!(sendfile(&to, &from, None, 100)?, 100);
    b.expect(&[E("to")])?;
    assert_eq!(copy_file_range(&from, None, &to, None, 100)?, 100);
    b.expect(&[E("to")])?;
    let (read_end, write_end) = pipe()?;
    File::from(write_end).write_all(b"through a pipe")?;
    assert_eq!(splice(&read_end, None, &to, None, 14, SpliceFFlags::empty())?, 14);
    b.expect(&[E("to")])?;
    drop((from, to));
    b.expect(&[E("to")])
}

nix::ioctl_write_int!(ficlone, 0x94, 9);

fn cloned(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("from"), vec![7; 8192])?;
    let from = File::open(b.at("from"))?;
    let to = File::create(b.at("to"))?;
    b.forget()?;
    // SAFETY: FICLONE takes a descriptor as its number; both files are open.
    match unsafe { ficlone(to.as_raw_fd(), from.as_raw_fd() as u64) } {
        Ok(_) => {}
        Err(errno) => return Err(Fault::NotCovered(format!("this file system shares no blocks between files ({errno})"))),
    }
    drop(to);
    b.expect(&[E("to")])
}

fn allocated(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), vec![7; 1 << 20])?;
    let file = OpenOptions::new().read(true).write(true).open(b.at("f"))?;
    b.forget()?;
    let modes = [
        FallocateFlags::empty(),
        FallocateFlags::FALLOC_FL_KEEP_SIZE,
        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        FallocateFlags::FALLOC_FL_ZERO_RANGE,
        FallocateFlags::FALLOC_FL_COLLAPSE_RANGE,
        FallocateFlags::FALLOC_FL_INSERT_RANGE,
    ];
    let mut done = 0;
    for mode in modes {
        let (at, length) = if mode.is_empty() { (1 << 20, 1 << 16) } else { (1 << 16, 1 << 16) };
        match fallocate(file.as_fd(), mode, at, length) {
            Ok(()) => {
                done += 1;
                b.expect(&[E("f")])?;
            }
            Err(Errno::EOPNOTSUPP) => b.expect_nothing()?,
            Err(errno) => return Err(Fault::Failed(format!("{mode:?}: {errno}"))),
        }
    }
    if done == 0 { Err(Fault::NotCovered("this file system has no mode of fallocate".to_owned())) } else { Ok(()) }
}

fn appended(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut log = OpenOptions::new().create(true).append(true).open(b.at("log"))?;
    b.expect(&[E("log")])?;
    for _ in 0..3 {
        log.write_all(b"line\n")?;
        b.expect(&[E("log")])?;
    }
    Ok(())
}

fn truncated(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "some content")?;
    b.forget()?;
    truncate(&b.at("f"), 4)?;
    b.expect(&[E("f")])?;
    let file = OpenOptions::new().write(true).open(b.at("f"))?;
    ftruncate(&file, 2)?;
    b.expect(&[E("f")])?;
    let _again = OpenOptions::new().write(true).truncate(true).open(b.at("f"))?;
    b.expect(&[E("f")])
}
