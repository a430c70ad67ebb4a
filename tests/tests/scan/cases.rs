//! One change at a time: what it is marked as, and that a real rsync makes of that what it should.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::lab::{Lab, set_back_one, write_old};

/// Two directories of files that are alike in name, size and time, and one more such outside.
fn twins(source: &Path, outside: &Path) {
    for (place, content) in [(source.join("one"), "1"), (source.join("two"), "2"), (outside.join("three"), "3")] {
        for file in ["a", "sub/b", "sub/deep/c"] {
            write_old(&place.join(file), content);
        }
    }
    write_old(&source.join("quiet/file"), "q");
}

/// Does `change` in a tree of [`twins`], and demands these marks, and that the target becomes equal by them.
#[track_caller]
fn case(change: impl FnOnce(&Path, &Path), expected: &[&str]) {
    let lab = Lab::new(twins);
    change(&lab.source(), &lab.outside());
    assert_eq!(lab.marked(), expected);
    lab.assert_caught_up("one change");
}

fn exchange(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

#[test]
fn a_quiet_tree_has_no_marks() {
    case(|_, _| {}, &[]);
}

#[test]
fn a_write_that_keeps_size_and_time() {
    case(|source, _| write_old(&source.join("one/sub/b"), "x"), &["E one/sub/b"]);
}

#[test]
fn files_that_came_and_went() {
    case(|source, _| write_old(&source.join("one/new"), "n"), &["L one", "E one/new"]);
    case(|source, _| fs::remove_file(source.join("one/a")).unwrap(), &["L one"]);
    case(|source, _| fs::remove_dir_all(source.join("one/sub/deep")).unwrap(), &["L one/sub"]);
    case(|source, _| symlink("a", source.join("one/link")).unwrap(), &["L one", "E one/link"]);
    case(|source, _| fs::hard_link(source.join("one/a"), source.join("two/sub/x")).unwrap(), &["E one/a", "L two/sub", "E two/sub/x"]);
}

#[test]
fn a_file_replaced_by_an_older_one_of_its_size_and_time() {
    case(|source, _| fs::rename(source.join("two/a"), source.join("one/a")).unwrap(), &["L one", "E one/a", "L two"]);
    case(|source, _| exchange(&source.join("two/a"), &source.join("one/sub/b")), &["L one/sub", "E one/sub/b", "L two", "E two/a"]);
}

#[test]
fn directories_that_were_moved_in_with_old_files() {
    let into_one = |source: &Path, outside: &Path| fs::rename(outside.join("three"), source.join("one/three")).unwrap();
    case(into_one, &["L one", "T one/three"]);
    case(|source, outside| fs::rename(outside.join("three"), source.join("three")).unwrap(), &["L .", "T three"]);
    case(|source, _| fs::rename(source.join("one/sub"), source.join("quiet/sub")).unwrap(), &["L one", "L quiet", "T quiet/sub"]);
}

#[test]
fn another_directory_under_the_same_name() {
    let replace = |source: &Path, outside: &Path| {
        fs::rename(source.join("one"), outside.join("gone")).unwrap();
        fs::rename(outside.join("three"), source.join("one")).unwrap();
    };
    case(replace, &["L .", "T one"]);
    case(|source, _| exchange(&source.join("one/sub"), &source.join("two/sub")), &["L one", "T one/sub", "L two", "T two/sub"]);
}

#[test]
fn a_modification_time_that_was_set_back_hides_nothing() {
    // As `rsync -a`, `tar` and `cp -a` leave a directory behind that they wrote into.
    let deleted = |source: &Path, _: &Path| {
        fs::remove_file(source.join("one/a")).unwrap();
        set_back_one(&source.join("one"));
    };
    case(deleted, &["L one"]);
    let moved_in = |source: &Path, outside: &Path| {
        fs::remove_dir_all(source.join("one/sub")).unwrap();
        fs::rename(outside.join("three/sub"), source.join("one/sub")).unwrap();
        [source.join("one"), source.join("one/sub")].iter().for_each(|path| set_back_one(path));
    };
    case(moved_in, &["L one", "T one/sub"]);
}

#[test]
fn attributes() {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    case(|source, _| mode(&source.join("one/a"), 0o600), &["E one/a"]);
    case(|source, _| mode(&source.join("one/sub"), 0o700), &["L one/sub"]);
    case(|source, _| mode(source, 0o711), &["L ."]);
}

#[test]
fn a_directory_becomes_a_file_and_a_file_a_directory() {
    let to_file = |source: &Path, _: &Path| {
        fs::remove_dir_all(source.join("one")).unwrap();
        write_old(&source.join("one"), "now a file");
    };
    case(to_file, &["L .", "E one"]);
    let to_directory = |source: &Path, outside: &Path| {
        fs::remove_file(source.join("one/a")).unwrap();
        fs::rename(outside.join("three"), source.join("one/a")).unwrap();
    };
    case(to_directory, &["L one", "T one/a"]);
    let to_link = |source: &Path, _: &Path| {
        fs::remove_dir_all(source.join("one")).unwrap();
        symlink("two", source.join("one")).unwrap();
    };
    case(to_link, &["L .", "E one"]);
}

#[test]
fn what_is_new_travels_with_what_is_in_it() {
    let new = |source: &Path, outside: &Path| {
        fs::create_dir_all(source.join("one/new/deeper")).unwrap();
        fs::rename(outside.join("three"), source.join("one/new/deeper/three")).unwrap();
    };
    case(new, &["L one", "T one/new"]);
    let renamed = |source: &Path, outside: &Path| {
        new(source, outside);
        fs::rename(source.join("one"), source.join("other")).unwrap();
    };
    case(renamed, &["L .", "T other"]);
}
