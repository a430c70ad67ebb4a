//! Attributes: modes, owners, times, extended ones, access control lists, flags.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
        },
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::AT_FDCWD,
    sys::{
        stat::{Mode, UtimensatFlags, fchmod, futimens, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchown},
};

use super::{Bench, E, Fault, Row};

pub const CASES: &[Row] = &[
    ("chmod, fchmod of files and directories", modes),
    ("chown, fchown, lchown", owners),
    ("utimensat of files, directories, symbolic links", times),
    ("setxattr, removexattr", xattrs),
    ("a POSIX ACL is set and removed", acls),
    ("FS_IOC_SETFLAGS", inode_flags),
    ("attributes of the root itself", root_itself),
    ("written through one of two names", two_names),
];

fn modes(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn owners(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn times(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn path_c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path")
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
fn set_and_remove(b: &mut Bench<'_>, attribute: &str, value: &[u8], unsupported: &str) -> Result<(), Fault> {
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

fn xattrs(b: &mut Bench<'_>) -> Result<(), Fault> {
    set_and_remove(b, "trusted.trigsync", b"value", "this file system has no extended attributes")
}

fn acls(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn inode_flags(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn root_itself(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::set_permissions(&b.root, Permissions::from_mode(0o711))?;
    b.expect(&[E("")])
}

fn two_names(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("a"), "")?;
    fs::hard_link(b.at("a"), b.at("b"))?;
    b.forget()?;
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(b.at("a"))?.write_all(b"x")?;
    assert_eq!(fs::metadata(b.at("b"))?.size(), 1);
    b.expect(&[E("a"), E("b")])
}
