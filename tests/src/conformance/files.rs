//! Files: made, written, cut, and their attributes.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::{IoSlice, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
        },
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, FallocateFlags, OFlag, SpliceFFlags, copy_file_range, fallocate, open, splice},
    sys::{
        sendfile::sendfile,
        stat::{Mode, SFlag, UtimensatFlags, fchmod, futimens, mknod, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchown, ftruncate, pipe, truncate},
};

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[
    ("create, then close, with and without writing", created),
    ("open(O_CREAT|O_RDONLY)", created_for_reading),
    ("mknod of a fifo, a socket, devices", special_files),
    ("write, pwrite, writev, then close", written),
    ("sendfile, splice, copy_file_range, then close", copied_in_the_kernel),
    ("FICLONE", cloned),
    ("fallocate, all modes", allocated),
    ("a file that stays open is marked before it is closed", appended),
    ("a store through a mapping, when the mapping goes", mapped),
    ("a store through a living mapping", mapping_lives),
    ("truncate, ftruncate, open(O_TRUNC)", truncated),
    ("chmod, fchmod of files and directories", modes),
    ("chown, fchown, lchown", owners),
    ("utimensat of files, directories, symbolic links", times),
    ("setxattr, removexattr", xattrs),
    ("a POSIX ACL is set and removed", acls),
    ("FS_IOC_SETFLAGS", inode_flags),
    ("attributes of the root itself", root_itself),
    ("written through one of two names", two_names),
];

fn path_c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path")
}

fn created(b: &mut Bench) -> Result<(), Fault> {
    File::create(b.at("empty"))?;
    b.expect(&[E("empty")])?;
    fs::write(b.at("full"), "x")?;
    b.expect(&[E("full")])
}

fn created_for_reading(b: &mut Bench) -> Result<(), Fault> {
    open(&b.at("r"), OFlag::O_CREAT | OFlag::O_RDONLY, Mode::S_IRUSR)?;
    b.expect(&[E("r")])
}

fn special_files(b: &mut Bench) -> Result<(), Fault> {
    let kinds = [("fifo", SFlag::S_IFIFO), ("socket", SFlag::S_IFSOCK), ("char", SFlag::S_IFCHR), ("block", SFlag::S_IFBLK)];
    for (name, kind) in kinds {
        mknod(&b.at(name), kind, Mode::S_IRUSR, libc::makedev(1, 3))?;
        b.expect(&[E(name)])?;
    }
    Ok(())
}

fn written(b: &mut Bench) -> Result<(), Fault> {
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

fn copied_in_the_kernel(b: &mut Bench) -> Result<(), Fault> {
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

fn cloned(b: &mut Bench) -> Result<(), Fault> {
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

fn allocated(b: &mut Bench) -> Result<(), Fault> {
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

fn appended(b: &mut Bench) -> Result<(), Fault> {
    let mut log = OpenOptions::new().create(true).append(true).open(b.at("log"))?;
    b.expect(&[E("log")])?;
    for _ in 0..3 {
        log.write_all(b"line\n")?;
        b.expect(&[E("log")])?;
    }
    Ok(())
}

/// Stores through a shared mapping of a file whose descriptor is closed; `while_mapped` runs before the mapping goes.
fn store(b: &mut Bench, while_mapped: impl FnOnce(&mut Bench) -> Result<(), Fault>) -> Result<(), Fault> {
    fs::write(b.at("m"), vec![0; 4096])?;
    b.forget()?;
    let file = OpenOptions::new().read(true).write(true).open(b.at("m"))?;
    // SAFETY: a new mapping at an address that the kernel chooses, of a file of 4,096 bytes.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last().into());
    }
    drop(file);
    b.expect_with(&[], |path| path == b"m")?;
    // SAFETY: the mapping is writable and 4,096 bytes long.
    unsafe { page.cast::<u8>().write_volatile(7) };
    let result = while_mapped(b);
    // SAFETY: the mapping that was made above; nothing refers to it any more.
    unsafe { libc::munmap(page, 4096) };
    result
}

fn mapped(b: &mut Bench) -> Result<(), Fault> {
    store(b, |_| Ok(()))?;
    b.expect(&[E("m")])
}

fn mapping_lives(b: &mut Bench) -> Result<(), Fault> {
    store(b, |b| b.expect(&[E("m")]))
}

fn truncated(b: &mut Bench) -> Result<(), Fault> {
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

fn modes(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    fs::create_dir_all(b.at("d/inner"))?;
    b.forget()?;
    for name in ["f", "d", "d/inner"] {
        fs::set_permissions(b.at(name), Permissions::from_mode(0o700))?;
        b.expect(&[E(name)])?;
        fchmod(File::open(b.at(name))?, Mode::S_IRUSR | Mode::S_IXUSR)?;
        b.expect(&[E(name)])?;
    }
    Ok(())
}

fn owners(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    fs::create_dir(b.at("d"))?;
    symlink("f", b.at("l"))?;
    b.forget()?;
    for name in ["f", "d", "l"] {
        std::os::unix::fs::lchown(b.at(name), Some(7), Some(7))?;
        b.expect(&[E(name)])?;
    }
    std::os::unix::fs::chown(b.at("l"), Some(8), None)?;
    b.expect(&[E("f")])?;
    fchown(File::open(b.at("d"))?, Some(Uid::from_raw(9)), Some(Gid::from_raw(9)))?;
    b.expect(&[E("d")])
}

fn times(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    fs::create_dir(b.at("d"))?;
    symlink("f", b.at("l"))?;
    b.forget()?;
    let then = TimeSpec::new(1_000_000_000, 5);
    for name in ["f", "d", "l"] {
        utimensat(AT_FDCWD, &b.at(name), &then, &then, UtimensatFlags::NoFollowSymlink)?;
        b.expect(&[E(name)])?;
        utimensat(AT_FDCWD, &b.at(name), &TimeSpec::UTIME_OMIT, &TimeSpec::new(1, 2), UtimensatFlags::NoFollowSymlink)?;
        b.expect(&[E(name)])?;
    }
    futimens(File::open(b.at("f"))?, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?;
    b.expect(&[E("f")])
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    let (path, name) = (path_c(path), CString::new(name).expect("no NUL in a name"));
    // SAFETY: both strings end with NUL, the value has the length that is given, and all outlive the call.
    Errno::result(unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

fn remove_xattr(path: &Path, name: &str) -> Result<(), Errno> {
    let (path, name) = (path_c(path), CString::new(name).expect("no NUL in a name"));
    // SAFETY: both strings end with NUL and outlive the call.
    Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Sets and removes an attribute on a file and a directory.
fn set_and_remove(b: &mut Bench, attribute: &str, value: &[u8], unsupported: &str) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    fs::create_dir(b.at("d"))?;
    b.forget()?;
    for name in ["f", "d"] {
        match set_xattr(&b.at(name), attribute, value) {
            Err(Errno::EOPNOTSUPP) => return Err(Fault::NotCovered(unsupported.to_owned())),
            result => result?,
        }
        b.expect(&[E(name)])?;
        remove_xattr(&b.at(name), attribute)?;
        b.expect(&[E(name)])?;
    }
    Ok(())
}

fn xattrs(b: &mut Bench) -> Result<(), Fault> {
    set_and_remove(b, "trusted.trigsync", b"value", "this file system has no extended attributes")
}

fn acls(b: &mut Bench) -> Result<(), Fault> {
    // Version 2; user::rwx, user:7:r--, group::r--, mask::r--, other::---
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [(1_u16, 7_u16, u32::MAX), (2, 4, 7), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    set_and_remove(b, "system.posix_acl_access", &acl, "this file system has no ACLs")
}

nix::ioctl_read!(get_flags, b'f', 1, libc::c_long);
nix::ioctl_write_ptr!(set_flags, b'f', 2, libc::c_long);

fn inode_flags(b: &mut Bench) -> Result<(), Fault> {
    const NODUMP: libc::c_long = 0x40;
    let file = File::create(b.at("f"))?;
    b.forget()?;
    let mut flags = 0;
    // SAFETY: the kernel reads and writes an int at an address that has room for a long, which is what the request's number says.
    let set = unsafe {
        get_flags(file.as_raw_fd(), &raw mut flags).and_then(|_| {
            flags |= NODUMP;
            set_flags(file.as_raw_fd(), &raw const flags)
        })
    };
    if let Err(errno) = set {
        return Err(Fault::NotCovered(format!("this file system has no inode flags ({errno})")));
    }
    b.expect(&[E("f")])
}

fn root_itself(b: &mut Bench) -> Result<(), Fault> {
    fs::set_permissions(&b.root, Permissions::from_mode(0o711))?;
    b.expect(&[E("")])
}

fn two_names(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("a"), "")?;
    fs::hard_link(b.at("a"), b.at("b"))?;
    b.forget()?;
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(b.at("a"))?.write_all(b"x")?;
    assert_eq!(fs::metadata(b.at("b"))?.size(), 1);
    b.expect(&[E("a"), E("b")])
}
