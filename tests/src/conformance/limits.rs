//! The edges: what must be nothing, hostile names, long and deep paths, hidden directories, overflow.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, open, openat},
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, Signal, signal},
        stat::{Mode, UtimensatFlags, mkdirat, utimensat},
        time::TimeSpec,
    },
    unistd::{UnlinkatFlags, setresuid, unlinkat},
};
use trigsync::{capture::WatchedRoot, model::RootId};

use super::{
    Bench, E, Fault, Row, T,
    bench::{ROOT, errno, in_child},
    places::Mounted,
};

pub const CASES: &[Row] = &[
    ("failed operations: ENOENT, EEXIST, ENOTEMPTY, EPERM, EFBIG", failed),
    ("a failed write: ENOSPC", no_space),
    ("only reads", reads),
    ("beside the root, and names that begin as the root's", beside),
    ("hostile names", hostile_names),
    ("a path of 4,095 bytes", long_path),
    ("a path longer than any system call takes", too_long_path),
    ("a tree 200 levels deep", deep_tree),
    ("a hidden directory", hidden),
    ("several roots on one file system, one inside another", several_roots),
    ("overflow", overflow),
];

fn failed(b: &mut Bench) -> Result<(), Fault> {
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
        let chmod = fs::set_permissions(b.at("file"), std::os::unix::fs::PermissionsExt::from_mode(0o777));
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

fn no_space(b: &mut Bench) -> Result<(), Fault> {
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

fn reads(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    fs::write(b.at("d/f"), "x")?;
    std::os::unix::fs::symlink("f", b.at("d/l"))?;
    b.forget()?;
    for entry in fs::read_dir(b.at("d"))? {
        entry?.metadata()?;
    }
    let mut content = String::new();
    File::open(b.at("d/f"))?.read_to_string(&mut content)?;
    fs::read_link(b.at("d/l"))?;
    assert!(fs::exists(b.at("d/f"))? && !fs::exists(b.at("none"))?);
    // The time of access alone is not mirrored.
    utimensat(AT_FDCWD, &b.at("d/f"), &TimeSpec::new(1, 2), &TimeSpec::UTIME_OMIT, UtimensatFlags::FollowSymlink)?;
    b.expect_nothing()
}

fn beside(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.outside.join("f"), "")?;
    let mut name = b.root.clone().into_os_string();
    name.push("x");
    fs::create_dir(&name)?;
    fs::write(std::path::Path::new(&name).join("f"), "")?;
    b.expect_nothing()
}

fn hostile_names(b: &mut Bench) -> Result<(), Fault> {
    let long = vec![b'n'; 255];
    let names: &[&[u8]] = &[
        &long,
        b"\xff\xfe",
        b"new\nline",
        b"tab\t",
        b"-rf",
        b"#hash",
        b";semi",
        b":colon",
        b" ",
        b"...",
        b"gone (deleted)",
        b"\\134",
        b"\x01",
        b"*?[a]",
        b"$(x)`y`",
        b"'\"",
    ];
    for name in names {
        fs::create_dir(b.at(name))?;
        let file = [name, &b"/"[..], name].concat();
        fs::write(b.at(&file), "")?;
        b.expect(&[E(name), E(&file)])?;
        let moved = [b"moved", &name[..name.len().min(240)]].concat();
        fs::rename(b.at(name), b.at(&moved))?;
        b.expect(&[E(name), T(&moved)])?;
    }
    Ok(())
}

/// Makes directories below `dir` step by step, so that no path is too long for the system.
fn descend(b: &Bench, name: &str, levels: usize) -> Result<OwnedFd, Fault> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir = open(&b.root, flags, Mode::empty())?;
    for _ in 0..levels {
        mkdirat(&dir, name, Mode::S_IRWXU)?;
        dir = openat(&dir, name, flags, Mode::empty())?;
    }
    Ok(dir)
}

/// Removes what `descend` made: a path that is too long has to be shortened first, bit by bit.
fn ascend(b: &Bench, name: &str) -> Result<(), Fault> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut above = vec![open(&b.root, flags, Mode::empty())?];
    while let Ok(next) = openat(above.last().expect("it begins with the root"), name, flags, Mode::empty()) {
        above.push(next);
    }
    while let Some(dir) = above.pop() {
        let _ = unlinkat(&dir, "f", UnlinkatFlags::NoRemoveDir);
        if let Some(parent) = above.last() {
            unlinkat(parent, name, UnlinkatFlags::RemoveDir)?;
        }
    }
    Ok(())
}

fn long_path(b: &mut Bench) -> Result<(), Fault> {
    // The longest that one system call takes: 4,095 bytes from the slash on.
    let mut left = 4095 - b.root.as_os_str().len();
    let mut dir = String::new();
    while left > 300 {
        dir.push_str(&"d".repeat(200));
        fs::create_dir(b.at(&dir))?;
        dir.push('/');
        left -= 201;
    }
    let file = dir + &"f".repeat((left - 1).min(255));
    let file = if left - 1 > 255 { format!("{}/{}", &file[..file.len() - 155], "g".repeat(left - 102)) } else { file };
    if let Some(parent) = b.at(&file).parent() {
        fs::create_dir_all(parent)?;
    }
    b.forget()?;
    assert_eq!(b.at(&file).as_os_str().len(), 4095);
    fs::write(b.at(&file), "")?;
    b.expect(&[E(&file)])
}

fn too_long_path(b: &mut Bench) -> Result<(), Fault> {
    let name = "d".repeat(200);
    let deep = descend(b, &name, 60)?;
    let seen = b.read_all()?;
    let trees = seen.marks.iter().filter(|mark| mark.2 == trigsync::model::Scope::Tree).count();
    openat(&deep, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR)?;
    let later = b.read_all()?;
    drop(deep);
    ascend(b, &name)?;
    let tree = later.marks.iter().find(|mark| mark.2 == trigsync::model::Scope::Tree);
    match tree {
        Some((_, path, _, _)) if trees > 0 && path.as_bytes().starts_with(b"ddd") && seen.lost.is_empty() && later.lost.is_empty() => {
            Ok(())
        }
        other => Err(Fault::Failed(format!("no ancestor was marked as a tree: {other:?}, lost {:?}", later.lost))),
    }
}

fn deep_tree(b: &mut Bench) -> Result<(), Fault> {
    let path = vec!["d"; 200].join("/");
    fs::create_dir_all(b.at(&path))?;
    b.forget()?;
    let file = path + "/f";
    fs::write(b.at(&file), "x")?;
    b.expect(&[E(&file)])?;
    fs::rename(b.at("d"), b.at("e"))?;
    b.expect(&[E("d"), T("e")])?;
    let file = file.replacen('d', "e", 1);
    fs::write(b.at(&file), "y")?;
    b.expect(&[E(&file)])
}

fn hidden(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir(b.at("state"))?;
    b.arm_as(WatchedRoot { path: b.root.clone(), hidden: vec![b.at("state")], cross_mounts: false })?;
    fs::create_dir(b.at("state/inner"))?;
    fs::write(b.at("state/inner/journal"), "x")?;
    fs::rename(b.at("state/inner"), b.at("state/other"))?;
    fs::set_permissions(b.at("state"), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    b.expect_nothing()?;
    fs::write(b.at("statement"), "x")?;
    b.expect(&[E("statement")])
}

fn several_roots(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.at("inner/d"))?;
    b.forget()?;
    let other = RootId(2);
    let watched = |path| WatchedRoot { path, hidden: Vec::new(), cross_mounts: false };
    b.source.add_root(other, &watched(b.at("inner")))?;
    b.source.add_root(RootId(3), &watched(b.outside.clone()))?;
    fs::write(b.at("inner/d/f"), "")?;
    fs::write(b.outside.join("g"), "")?;
    let seen = b.read_all()?;
    let mut marks: Vec<String> = seen.marks.iter().map(|(root, path, _, _)| format!("{} {path}", root.0)).collect();
    marks.sort();
    marks.dedup();
    if marks != ["1 inner/d/f", "2 d/f", "3 g"] {
        return Err(Fault::Failed(format!("marked: {marks:?}")));
    }
    // One goes; the mark stays for the others.
    b.source.remove_root(RootId(3));
    b.source.remove_root(other);
    fs::write(b.outside.join("g"), "x")?;
    fs::write(b.at("inner/d/f"), "x")?;
    b.expect(&[E("inner/d/f")])
}

fn overflow(b: &mut Bench) -> Result<(), Fault> {
    // The queue's length is read when the group is made; this one was made with the default, 16,384 events.
    in_child(|| {
        for number in 0..20_000 {
            fs::write(b.at(format!("f{number}")), "").map_err(errno)?;
        }
        Ok(())
    })?;
    let seen = b.read_all()?;
    if !seen.lost.contains(&ROOT) {
        return Err(Fault::Failed(format!("{} marks, and no loss was told", seen.marks.len())));
    }
    fs::write(b.at("later"), "")?;
    b.expect(&[E("later")])
}
