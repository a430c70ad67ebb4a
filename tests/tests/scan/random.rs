//! Random trees and random changes. Names, sizes and times are few, so that what was moved somewhere stands where something alike stood:
//! only the content tells them apart.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use proptest::{
    prelude::*,
    test_runner::{FileFailurePersistence, TestCaseError, TestRunner},
};
use trigsync::model::{Mark, Scope};
use trigsync_tests::compare;

use crate::{
    lab::{Lab, set_back_one},
    model,
};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Places outside of the source that things are moved to and from.
const SLOTS: usize = 3;

/// One to four of the names.
type Where = Vec<usize>;

#[derive(Clone, Debug)]
enum Step {
    Write(Where, u8),
    MakeDirectories(Where),
    Remove(Where),
    RemoveAll(Where),
    Rename(Where, Where),
    Exchange(Where, Where),
    MoveOut(Where, usize),
    MoveIn(usize, Where),
    Link(Where),
    HardLink(Where, Where),
    Mode(Where, u32),
    /// The modification time becomes that of everything else; the root's too, by an empty path.
    SetBack(Where),
}

fn place() -> impl Strategy<Value = Where> {
    prop::collection::vec(0..NAMES.len(), 1..=4)
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|(at, content)| Step::Write(at, content)),
        4 => place().prop_map(Step::MakeDirectories),
        2 => place().prop_map(Step::Remove),
        1 => place().prop_map(Step::RemoveAll),
        6 => (place(), place()).prop_map(|(old, new)| Step::Rename(old, new)),
        3 => (place(), place()).prop_map(|(old, new)| Step::Exchange(old, new)),
        2 => (place(), slot()).prop_map(|(at, slot)| Step::MoveOut(at, slot)),
        4 => (slot(), place()).prop_map(|(slot, at)| Step::MoveIn(slot, at)),
        1 => place().prop_map(Step::Link),
        1 => (place(), place()).prop_map(|(old, new)| Step::HardLink(old, new)),
        1 => (place(), 0o700..0o777_u32).prop_map(|(at, mode)| Step::Mode(at, mode)),
        6 => prop::collection::vec(0..NAMES.len(), 0..=3).prop_map(Step::SetBack),
    ]
}

fn path(root: &Path, at: &[usize]) -> PathBuf {
    at.iter().fold(root.to_owned(), |path, &name| path.join(NAMES[name]))
}

/// Does the step; what the kernel refuses is refused.
fn act(step: &Step, source: &Path, outside: &Path) -> Option<()> {
    let at = |at: &[usize]| path(source, at);
    let slot = |slot: &usize| outside.join(slot.to_string());
    match step {
        Step::Write(file, content) => {
            let file = at(file);
            // Not through a link: the random trees have links to anything.
            let free = file.symlink_metadata().map_or(true, |metadata| metadata.is_file());
            fs::write(free.then_some(file)?, [*content; 2]).ok()
        }
        Step::MakeDirectories(directory) => fs::create_dir_all(at(directory)).ok(),
        Step::Remove(name) => fs::remove_file(at(name)).or_else(|_| fs::remove_dir(at(name))).ok(),
        Step::RemoveAll(name) => fs::remove_dir_all(at(name)).ok(),
        Step::Rename(old, new) => fs::rename(at(old), at(new)).ok(),
        Step::Exchange(one, other) => renameat2(AT_FDCWD, &at(one), AT_FDCWD, &at(other), RenameFlags::RENAME_EXCHANGE).ok(),
        Step::MoveOut(name, to) => fs::rename(at(name), slot(to)).ok(),
        Step::MoveIn(from, name) => fs::rename(slot(from), at(name)).ok(),
        Step::Link(name) => symlink("b", at(name)).ok(),
        Step::HardLink(old, new) => fs::hard_link(at(old), at(new)).ok(),
        Step::Mode(name, mode) => {
            let name = at(name);
            (!name.is_symlink()).then(|| fs::set_permissions(name, Permissions::from_mode(*mode)).ok())?
        }
        Step::SetBack(name) => at(name).symlink_metadata().is_ok().then(|| set_back_one(&at(name))),
    }
}

/// A source with some of everything, and directories outside that are alike.
fn make(source: &Path, outside: &Path, steps: &[Step]) {
    for (number, place) in (0_u8..).zip((0..SLOTS).map(|slot| outside.join(slot.to_string())).chain([source.to_owned()])) {
        for at in [[0, 0, 0], [0, 1, 0], [1, 0, 0], [2, 2, 2]] {
            let file = path(&place, &at);
            fs::create_dir_all(file.parent().expect("below the place")).expect("directories can be made");
            fs::write(file, [number; 2]).expect("a file can be written");
        }
    }
    for step in steps {
        act(step, source, outside);
    }
}

/// Random trees and changes, and for each what `test` says of them.
fn run(cases: u32, test: impl Fn(&[Step], &[Step]) -> Result<(), TestCaseError>) {
    let seeds = FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scan/random.seeds"));
    let config = ProptestConfig { cases, max_shrink_iters: 500, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() };
    let steps = (prop::collection::vec(step(), 0..12), prop::collection::vec(step(), 1..16));
    if let Err(error) = TestRunner::new(config).run(&steps, |(before, after)| test(&before, &after)) {
        panic!("{error}");
    }
}

/// Demands that the model's target is equal to the source once the marks were carried out, in whatever order.
fn equal_by_model(before: &[Step], after: &[Step]) -> Result<(), TestCaseError> {
    let lab = Lab::without_target(|source, outside| make(source, outside, before));
    let at_the_cutoff = model::read(&lab.source());
    after.iter().for_each(|step| _ = act(step, &lab.source(), &lab.outside()));
    let source = model::read(&lab.source());
    let mut marks = lab.scan().0;
    for _ in 0..2 {
        let mut target = at_the_cutoff.clone();
        model::carry_out(&marks, &source, &mut target);
        prop_assert!(target == source, "{marks:?}\nleave\n{target:?}\nfor\n{source:?}");
        marks.reverse();
    }
    no_more_than_needed(&marks)
}

/// No mark stands below a subtree that goes as a whole.
fn no_more_than_needed(marks: &[Mark]) -> Result<(), TestCaseError> {
    for tree in marks.iter().filter(|mark| mark.scope == Scope::Tree) {
        let below = marks.iter().find(|mark| mark.path != tree.path && mark.path.is_within(&tree.path));
        prop_assert!(below.is_none(), "{below:?} is covered by {tree:?}");
    }
    Ok(())
}

#[test]
fn marks_make_a_model_of_the_target_equal() {
    run(300, equal_by_model);
}

#[test]
fn marks_make_a_target_equal_through_rsync() {
    run(16, |before, after| {
        let lab = Lab::new(|source, outside| make(source, outside, before));
        after.iter().for_each(|step| _ = act(step, &lab.source(), &lab.outside()));
        let marks = lab.catch_up();
        let differences = compare::differences(&lab.source(), &lab.room.target());
        prop_assert!(differences.is_empty(), "{marks:?} leave\n    {}", differences.join("\n    "));
        Ok(())
    });
}
