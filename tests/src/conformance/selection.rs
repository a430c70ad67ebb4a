//! What is told of what happens below a root: hidden and excluded directories, the process' own changes, several roots.

use std::fs;

use trigsync::{capture::WatchedRoot, model::RootId};

use super::{
    Bench, E, Fault, Row, T, Want,
    bench::{ROOT, Recorder, by_a_stranger, check, errno, in_child},
};

pub const CASES: &[Row] = &[
    ("an excluded directory name", excluded),
    ("the process' own changes, and its descendants'", own),
    ("renames between a root and one inside it", between_roots),
    ("one directory as two roots", twice),
    ("a root is added later, and removed", later),
    ("a hidden directory", hidden),
    ("several roots on one file system, one inside another", several_roots),
];

fn hidden(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("state"))?;
    b.arm_as(WatchedRoot { hidden: vec![b.at("state")], ..WatchedRoot::all(b.root.clone()) })?;
    fs::create_dir(b.at("state/inner"))?;
    fs::write(b.at("state/inner/journal"), "x")?;
    fs::rename(b.at("state/inner"), b.at("state/other"))?;
    fs::set_permissions(b.at("state"), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    b.expect_nothing()?;
    fs::write(b.at("statement"), "x")?;
    b.expect(&[E("statement")])
}

fn several_roots(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.at("inner/d"))?;
    b.forget()?;
    let other = RootId(2);
    let watched = |path| WatchedRoot::all(path);
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

/// What was told for one of several roots.
fn told(seen: &Recorder, root: RootId) -> Recorder {
    let marks = seen.marks.iter().filter(|mark| mark.0 == root).cloned().collect();
    Recorder { marks, lost: seen.lost.clone(), gone: seen.gone.clone() }
}

fn expect_of(seen: &Recorder, root: RootId, wanted: &[Want]) -> Result<(), Fault> {
    check(&told(seen, root), wanted, |_| false)
}

fn excluded(b: &mut Bench<'_>) -> Result<(), Fault> {
    let names = [&b".git"[..], b"node_modules"].map(<[u8]>::to_vec);
    b.arm_as(WatchedRoot { excluded: names.to_vec(), ..WatchedRoot::all(b.root.clone()) })?;
    fs::create_dir_all(b.at("a/node_modules/inner"))?;
    fs::create_dir(b.at(".git"))?;
    // Of the directory itself it does no harm to be told.
    b.expect_with(&[E("a")], |path| [&b"a/node_modules"[..], b".git"].contains(&path))?;
    fs::write(b.at("a/node_modules/inner/f"), "x")?;
    fs::write(b.at(".git/index"), "x")?;
    fs::rename(b.at(".git/index"), b.at(".git/other"))?;
    fs::remove_dir_all(b.at("a/node_modules/inner"))?;
    b.expect_nothing()?;
    // Names that only begin so, and files.
    fs::create_dir(b.at(".github"))?;
    fs::write(b.at(".github/f"), "x")?;
    fs::write(b.at("node_modules"), "x")?;
    b.expect(&[E(".github"), E(".github/f"), E("node_modules")])?;
    // Out of an excluded directory, and into one.
    fs::rename(b.at(".git/other"), b.at("other"))?;
    b.expect(&[E("other")])?;
    fs::rename(b.at("other"), b.at("a/node_modules/other"))?;
    b.expect(&[E("other")])?;
    fs::rename(b.at("a/node_modules"), b.at("a/plain"))?;
    b.expect_with(&[T("a/plain")], |path| path == b"a/node_modules")?;
    fs::write(b.at("a/plain/other"), "y")?;
    b.expect(&[E("a/plain/other")])?;
    fs::rename(b.at("a"), b.at("c"))?;
    b.expect(&[E("a"), T("c")])
}

fn own(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    b.arm_as(WatchedRoot { sees_own: false, ..WatchedRoot::all(b.root.clone()) })?;
    fs::write(b.at("d/mine"), "x")?;
    fs::rename(b.at("d"), b.at("e"))?;
    let file = b.at("e/thread");
    std::thread::spawn(move || fs::write(file, "x")).join().expect("writing does not panic")?;
    in_child(|| {
        fs::write(b.at("e/child"), "x").map_err(errno)?;
        in_child(|| fs::write(b.at("e/grandchild"), "x").map_err(errno))
    })?;
    b.expect_nothing()?;
    by_a_stranger(|| {
        fs::write(b.at("e/mine"), "stranger").map_err(errno)?;
        fs::rename(b.at("e/child"), b.at("e/taken")).map_err(errno)
    })?;
    b.expect(&[E("e/mine"), E("e/child"), E("e/taken")])?;
    // Another sync's transfers are changes of this root, and what lies around it may be told too.
    fs::create_dir(b.at("e/target"))?;
    b.source.add_root(RootId(2), &WatchedRoot::all(b.at("e/target")))?;
    fs::write(b.at("e/target/f"), "x")?;
    let seen = b.read_all()?;
    check(&told(&seen, ROOT), &[], |path| path == b"e/target/f")?;
    expect_of(&seen, RootId(2), &[E("f")])
}

fn between_roots(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.at("inner"))?;
    fs::create_dir_all(b.at("d/deep"))?;
    fs::write(b.at("f"), "")?;
    b.source.add_root(RootId(2), &WatchedRoot::all(b.at("inner")))?;
    b.forget()?;
    fs::rename(b.at("f"), b.at("inner/g"))?;
    fs::rename(b.at("d"), b.at("inner/e"))?;
    let seen = b.read_all()?;
    expect_of(&seen, ROOT, &[E("f"), E("inner/g"), E("d"), T("inner/e")])?;
    expect_of(&seen, RootId(2), &[E("g"), T("e")])?;
    fs::write(b.at("inner/e/deep/h"), "")?;
    let seen = b.read_all()?;
    expect_of(&seen, ROOT, &[E("inner/e/deep/h")])?;
    expect_of(&seen, RootId(2), &[E("e/deep/h")])?;
    fs::rename(b.at("inner/e"), b.at("d"))?;
    let seen = b.read_all()?;
    expect_of(&seen, ROOT, &[E("inner/e"), T("d")])?;
    expect_of(&seen, RootId(2), &[E("e")])
}

fn twice(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    b.source.add_root(RootId(2), &WatchedRoot::all(b.root.clone()))?;
    b.forget()?;
    fs::write(b.at("d/f"), "")?;
    fs::rename(b.at("d"), b.at("e"))?;
    let seen = b.read_all()?;
    for root in [ROOT, RootId(2)] {
        check(&told(&seen, root), &[E("d"), T("e")], |path| [&b"d/f"[..], b"e/f"].contains(&path))?;
    }
    b.source.remove_root(RootId(2));
    fs::write(b.at("e/f"), "x")?;
    let seen = b.read_all()?;
    expect_of(&seen, ROOT, &[E("e/f")])?;
    expect_of(&seen, RootId(2), &[])
}

fn later(b: &mut Bench<'_>) -> Result<(), Fault> {
    let root = b.outside.join("later");
    fs::create_dir_all(root.join("d"))?;
    fs::write(root.join("d/f"), "")?;
    b.expect_nothing()?;
    for _ in 0..3 {
        b.source.add_root(RootId(2), &WatchedRoot::all(root.clone()))?;
        fs::write(root.join("d/f"), "x")?;
        fs::write(b.at("f"), "x")?;
        let seen = b.read_all()?;
        expect_of(&seen, ROOT, &[E("f")])?;
        expect_of(&seen, RootId(2), &[E("d/f")])?;
        fs::write(root.join("d/f"), "y")?;
        // What is still queued goes with the root.
        b.source.remove_root(RootId(2));
        fs::write(root.join("d/f"), "z")?;
        b.expect_nothing()?;
    }
    Ok(())
}
