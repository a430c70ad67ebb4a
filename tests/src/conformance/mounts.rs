//! File systems inside the root, and roots that go away.

use std::{fs, path::PathBuf};

use nix::mount::{MntFlags, umount2};
use trigsync::{
    capture::WatchedRoot,
    model::{Ops, RootId, Scope},
};

use super::{
    Bench, E, Fault, Row, T,
    bench::{ROOT, Recorder, check},
    places::Mounted,
};

pub const CASES: &[Row] = &[
    ("a file system mounted inside the root is not followed", not_followed),
    ("a file system mounted inside the root is followed on demand", followed),
    ("a file system that was there from the start is followed on demand", followed_from_start),
    ("nothing is kept open: the root's file system can be unmounted", can_be_unmounted),
    ("the root is renamed", root_renamed),
    ("an ancestor of the root is renamed", ancestor_renamed),
    ("the root is deleted", root_deleted),
    ("the root is deleted and made anew", root_made_anew),
    ("the root is unmounted", root_unmounted),
    ("the root is unmounted and mounted again", root_mounted_again),
    ("something is mounted over the root", root_covered),
];

/// Looks at the roots, as happens once a second.
fn look(b: &mut Bench<'_>) -> Result<Recorder, Fault> {
    let mut seen = b.read_all()?;
    b.source.check_roots(&mut seen);
    Ok(seen)
}

fn expect_gone(b: &mut Bench<'_>) -> Result<(), Fault> {
    let seen = look(b)?;
    expect_only_gone(b, &seen)
}

fn expect_only_gone(b: &mut Bench<'_>, seen: &Recorder) -> Result<(), Fault> {
    if seen.gone != [ROOT] {
        return Err(Fault::Failed(format!("told to be gone: {:?}", seen.gone)));
    }
    // A directory inside that was removed is another matter: a deletion, which nobody carries out any more.
    if let Some(mark) = seen.marks.iter().find(|mark| mark.2 == Scope::Tree && !mark.3.contains(Ops::DELETE)) {
        return Err(Fault::Failed(format!("marked: {mark:?}")));
    }
    // Once only, and silence from then on.
    let again = look(b)?;
    if again.gone.is_empty() && again.marks.is_empty() && again.lost.is_empty() {
        Ok(())
    } else {
        Err(Fault::Failed("something was told after the root was gone".to_owned()))
    }
}

fn not_followed(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("point"))?;
    b.forget()?;
    let _mounted = Mounted::tmpfs(&b.at("point"), "size=1m")?;
    check(&look(b)?, &[], |_| false)?;
    fs::write(b.at("point/f"), "x")?;
    b.expect_nothing()
}

fn crossing(b: &Bench<'_>) -> WatchedRoot {
    WatchedRoot { cross_mounts: true, ..WatchedRoot::all(b.root.clone()) }
}

/// The kernel's fanotify has to know the file system that is mounted; before 5.13 it does not know tmpfs.
fn tmpfs_can_be_watched(b: &mut Bench<'_>) -> Result<(), Fault> {
    let _mounted = Mounted::tmpfs(&b.outside.clone(), "size=1m")?;
    b.source.add_root(RootId(9), &WatchedRoot::all(b.outside.clone()))?;
    b.source.remove_root(RootId(9));
    Ok(())
}

fn followed(b: &mut Bench<'_>) -> Result<(), Fault> {
    tmpfs_can_be_watched(b)?;
    fs::create_dir(b.at("point"))?;
    b.arm_as(crossing(b))?;
    for _ in 0..2 {
        let mounted = Mounted::tmpfs(&b.at("point"), "size=1m")?;
        check(&look(b)?, &[T("point")], |_| false)?;
        fs::create_dir(b.at("point/d"))?;
        fs::write(b.at("point/d/f"), "x")?;
        b.expect(&[E("point/d"), E("point/d/f")])?;
        // Unmounted plainly: nothing may be kept open.
        umount2(&b.at("point"), MntFlags::empty())?;
        check(&look(b)?, &[T("point")], |_| false)?;
        drop(mounted);
    }
    fs::write(b.at("point/f"), "x")?;
    b.expect(&[E("point/f")])
}

fn followed_from_start(b: &mut Bench<'_>) -> Result<(), Fault> {
    tmpfs_can_be_watched(b)?;
    fs::create_dir_all(b.at("a/point"))?;
    let _mounted = Mounted::tmpfs(&b.at("a/point"), "size=1m")?;
    b.arm_as(crossing(b))?;
    fs::write(b.at("a/point/f"), "x")?;
    fs::write(b.at("a/g"), "x")?;
    b.expect(&[E("a/point/f"), E("a/g")])?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.forget()?;
    fs::write(b.at("b/point/h"), "x")?;
    let seen = b.read_all()?;
    let wanted = [E("b/point/h")];
    // The mount moved along with the directory: told by its new name, or covered by a mark of the whole mount.
    let result = check(&seen, &wanted, |_| false).or_else(|_| check(&seen, &[T("b/point")], |_| true));
    // Back, so that the guard finds it.
    fs::rename(b.at("b"), b.at("a"))?;
    result
}

fn on_tmpfs(b: &mut Bench<'_>) -> Result<(Mounted, PathBuf), Fault> {
    let mounted = Mounted::tmpfs(&b.outside.clone(), "size=1m")?;
    b.arm(&b.outside.clone())?;
    fs::write(b.outside.join("f"), "")?;
    b.expect(&[E("f")])?;
    Ok((mounted, b.outside.clone()))
}

fn can_be_unmounted(b: &mut Bench<'_>) -> Result<(), Fault> {
    let (_mounted, path) = on_tmpfs(b)?;
    Ok(umount2(&path, MntFlags::empty())?)
}

fn root_renamed(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    fs::rename(&b.root, b.outside.join("elsewhere"))?;
    fs::write(b.outside.join("elsewhere/f"), "x")?;
    expect_gone(b)
}

fn ancestor_renamed(b: &mut Bench<'_>) -> Result<(), Fault> {
    let root = b.outside.join("above/root");
    fs::create_dir_all(&root)?;
    b.arm(&root)?;
    fs::rename(b.outside.join("above"), b.outside.join("below"))?;
    expect_gone(b)
}

fn root_deleted(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    fs::remove_dir_all(&b.root)?;
    expect_gone(b)
}

fn root_made_anew(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::remove_dir(&b.root)?;
    fs::create_dir(&b.root)?;
    fs::write(b.at("f"), "")?;
    let seen = look(b)?;
    // An overlay's directories have no generation: where the number is given again, the kernel means the same directory, and so does the tier.
    if seen.gone.is_empty() && check(&seen, &[E("f")], |_| true).is_ok() {
        fs::write(b.at("g"), "")?;
        return b.expect(&[E("g")]);
    }
    expect_only_gone(b, &seen)
}

fn root_unmounted(b: &mut Bench<'_>) -> Result<(), Fault> {
    let (_mounted, path) = on_tmpfs(b)?;
    umount2(&path, MntFlags::empty())?;
    expect_gone(b)
}

fn root_mounted_again(b: &mut Bench<'_>) -> Result<(), Fault> {
    let (_mounted, path) = on_tmpfs(b)?;
    umount2(&path, MntFlags::empty())?;
    let _again = Mounted::tmpfs(&path, "size=1m")?;
    expect_gone(b)
}

fn root_covered(b: &mut Bench<'_>) -> Result<(), Fault> {
    let _cover = Mounted::tmpfs(&b.root.clone(), "size=1m")?;
    fs::write(b.at("f"), "")?;
    expect_gone(b)
}
