//! The edges: hostile names, long and deep paths.

use std::{fs, os::fd::OwnedFd};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use trigsync::model::Scope;

use super::{Bench, E, Fault, Row, T};

pub const CASES: &[Row] = &[
    ("hostile names", hostile_names),
    ("a path of 4,095 bytes", long_path),
    ("a path longer than any system call takes", too_long_path),
    ("a tree 200 levels deep", deep_tree),
];

fn hostile_names(b: &mut Bench<'_>) -> Result<(), Fault> {
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
fn descend(b: &Bench<'_>, name: &str, levels: usize) -> Result<OwnedFd, Fault> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir = open(&b.root, flags, Mode::empty())?;
    for _ in 0..levels {
        mkdirat(&dir, name, Mode::S_IRWXU)?;
        dir = openat(&dir, name, flags, Mode::empty())?;
    }
    Ok(dir)
}

/// Removes what `descend` made: a path that is too long has to be shortened first, bit by bit.
fn ascend(b: &Bench<'_>, name: &str) -> Result<(), Fault> {
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

fn long_path(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn too_long_path(b: &mut Bench<'_>) -> Result<(), Fault> {
    let name = "d".repeat(200);
    let deep = descend(b, &name, 60)?;
    let seen = b.read_all()?;
    let trees = seen.marks.iter().filter(|mark| mark.2 == Scope::Tree).count();
    openat(&deep, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR)?;
    let later = b.read_all()?;
    drop(deep);
    ascend(b, &name)?;
    let tree = later.marks.iter().find(|mark| mark.2 == Scope::Tree);
    match tree {
        Some((_, path, _, _)) if trees > 0 && path.as_bytes().starts_with(b"ddd") && seen.lost.is_empty() && later.lost.is_empty() => {
            Ok(())
        }
        other => Err(Fault::Failed(format!("no ancestor was marked as a tree: {other:?}, lost {:?}", later.lost))),
    }
}

/// The file is marked, or an ancestor of it as a tree, not the root: deeper than a tier walks, that is what it can say.
fn expect_deep(b: &mut Bench<'_>, file: &str) -> Result<(), Fault> {
    let seen = b.read_all()?;
    let covers = |scope: Scope, path: &[u8]| match scope {
        Scope::Entry => path == file.as_bytes(),
        Scope::Level => false,
        Scope::Tree => !path.is_empty() && file.as_bytes().starts_with(path) && file.as_bytes()[path.len()..].starts_with(b"/"),
    };
    let surplus = seen.marks.iter().find(|(_, path, scope, _)| !covers(*scope, path.as_bytes()));
    match surplus {
        _ if !seen.lost.is_empty() || seen.marks.is_empty() => {
            Err(Fault::Failed(format!("{} marks, lost {:?}", seen.marks.len(), seen.lost)))
        }
        Some(mark) => Err(Fault::Failed(format!("marked without reason: {mark:?}"))),
        None => Ok(()),
    }
}

fn deep_tree(b: &mut Bench<'_>) -> Result<(), Fault> {
    let path = vec!["d"; 200].join("/");
    fs::create_dir_all(b.at(&path))?;
    b.forget()?;
    let file = path + "/f";
    fs::write(b.at(&file), "x")?;
    expect_deep(b, &file)?;
    fs::rename(b.at("d"), b.at("e"))?;
    b.expect(&[E("d"), T("e")])?;
    let file = file.replacen('d', "e", 1);
    fs::write(b.at(&file), "y")?;
    expect_deep(b, &file)
}
