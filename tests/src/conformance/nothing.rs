//! What changes nothing, and must not be told.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{PermissionsExt, lchown, symlink},
    },
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::AT_FDCWD,
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, Signal, signal},
        stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat},
        time::TimeSpec,
    },
    unistd::{setresuid, truncate},
};

use super::{Bench, Fault, Row, bench::in_child, places::Mounted};

pub const CASES: &[Row] = &[
    ("failed operations: ENOENT, EEXIST, ENOTEMPTY, EPERM, EFBIG", failed),
    ("failed renames, links, attributes", failed_changes),
    ("a failed write: ENOSPC", no_space),
    ("only reads", reads),
    ("only the time of access is set", access_time),
    ("only reads: a mapping, a lock, fsync, a program that is run", other_reads),
    ("beside the root, and names that begin as the root's", beside),
];

fn failed(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    fs::write(b.at("d/f"), "x")?;
    fs::write(b.at("file"), "x")?;
    b.forget()?;
    assert!(fs::create_dir(b.at("d")).is_err());
    assert!(fs::remove_dir(b.at("d")).is_err());
    assert!(fs::remove_file(b.at("none")).is_err());
    assert!(fs::rename(b.at("none"), b.at("x")).is_err());
    assert!(fs::hard_link(b.at("d/f"), b.at("file")).is_err());
    assert!(OpenOptions::new().write(true).create_new(true).open(b.at("file")).is_err());
    assert!(File::create(b.at("none/f")).is_err());
    b.expect_nothing()?;
    in_child(|| {
        setresuid(65534.into(), 65534.into(), 65534.into())?;
        let refused = [fs::remove_file(b.at("file")), fs::write(b.at("new"), ""), fs::write(b.at("file"), ""), fs::create_dir(b.at("e"))];
        let chmod = fs::set_permissions(b.at("file"), PermissionsExt::from_mode(0o777));
        if refused.iter().chain([&chmod]).all(Result::is_err) { Ok(()) } else { Err(Errno::EEXIST) }
    })?;
    b.expect_nothing()?;
    let mut file = OpenOptions::new().append(true).open(b.at("file"))?;
    in_child(|| {
        // SAFETY: ignoring a signal runs no handler.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
        setrlimit(Resource::RLIMIT_FSIZE, 1, 1)?;
        if file.write(b"more").is_err() { Ok(()) } else { Err(Errno::EEXIST) }
    })?;
    b.expect_nothing()
}

fn no_space(b: &mut Bench<'_>) -> Result<(), Fault> {
    let _mounted = Mounted::tmpfs(&b.outside.clone(), "size=64k,nr_inodes=4")?;
    b.arm(&b.outside.clone())?;
    let mut file = File::create(b.outside.join("f"))?;
    while file.write(&[0; 4096]).is_ok() {}
    while fs::create_dir(b.outside.join(format!("d{}", fs::read_dir(&b.outside)?.count()))).is_ok() {}
    b.forget()?;
    assert!(file.write(&[0; 4096]).is_err());
    assert!(File::create(b.outside.join("another")).is_err());
    assert!(fs::create_dir(b.outside.join("directory")).is_err());
    b.expect_nothing()
}

fn reads(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    fs::write(b.at("d/f"), "x")?;
    symlink("f", b.at("d/l"))?;
    b.forget()?;
    for entry in fs::read_dir(b.at("d"))? {
        entry?.metadata()?;
    }
    let mut content = String::new();
    File::open(b.at("d/f"))?.read_to_string(&mut content)?;
    fs::read_link(b.at("d/l"))?;
    assert!(fs::exists(b.at("d/f"))? && !fs::exists(b.at("none"))?);
    b.expect_nothing()
}

fn access_time(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "x")?;
    b.forget()?;
    // It is not mirrored.
    utimensat(AT_FDCWD, &b.at("f"), &TimeSpec::new(1, 2), &TimeSpec::UTIME_OMIT, UtimensatFlags::FollowSymlink)?;
    b.expect_nothing()
}

fn beside(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.outside.join("f"), "")?;
    let mut name = b.root.clone().into_os_string();
    name.push("x");
    fs::create_dir(&name)?;
    fs::write(std::path::Path::new(&name).join("f"), "")?;
    b.expect_nothing()
}

fn failed_changes(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.at("full/inner"))?;
    fs::create_dir(b.at("d"))?;
    fs::write(b.at("f"), "x")?;
    b.forget()?;
    let refused = [
        fs::rename(b.at("d"), b.at("full")),
        fs::rename(b.at("d"), b.at("d/below")),
        fs::rename(b.at("f"), b.at("d")),
        fs::rename(b.at("f"), "/proc/f"),
        fs::hard_link(b.at("d"), b.at("link")),
        fs::hard_link("/proc/version", b.at("link")),
        symlink("target", b.at("f")),
        fs::remove_dir(b.at("f")),
        fs::remove_file(b.at("d")),
        truncate(&b.at("d"), 0).map_err(Into::into),
        mknod(&b.at("f"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).map_err(Into::into),
        fs::create_dir(b.at("n".repeat(256))),
    ];
    if let Some(done) = refused.iter().position(Result::is_ok) {
        return Err(Fault::Failed(format!("number {done} was not refused")));
    }
    b.expect_nothing()?;
    in_child(|| {
        setresuid(65534.into(), 65534.into(), 65534.into())?;
        let refused = [
            fs::set_permissions(b.at("d"), PermissionsExt::from_mode(0o777)),
            lchown(b.at("f"), Some(65534), None),
            utimensat(AT_FDCWD, &b.at("f"), &TimeSpec::new(1, 2), &TimeSpec::new(1, 2), UtimensatFlags::FollowSymlink).map_err(Into::into),
            truncate(&b.at("f"), 0).map_err(Into::into),
            fs::rename(b.at("f"), b.at("g")),
            symlink("target", b.at("g")),
        ];
        if refused.iter().all(Result::is_err) { Ok(()) } else { Err(Errno::EEXIST) }
    })?;
    b.expect_nothing()
}

fn other_reads(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::copy("/proc/self/exe", b.at("program"))?;
    b.forget()?;
    let file = File::open(b.at("program"))?;
    // SAFETY: a new private mapping for reading, of which nothing is used.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last().into());
    }
    // SAFETY: the page is mapped for reading, and unmapped once.
    unsafe {
        page.cast::<u8>().read_volatile();
        libc::munmap(page, 4096);
    }
    file.lock()?;
    file.sync_all()?;
    file.unlock()?;
    drop(file);
    b.expect_nothing()?;
    // It does not know this word, and ends.
    let ran = Command::new(b.at("program")).arg("--no-such-flag").stdout(Stdio::null()).stderr(Stdio::null()).status();
    // A mount with noexec will not run it at all.
    drop(ran);
    b.expect_nothing()
}
