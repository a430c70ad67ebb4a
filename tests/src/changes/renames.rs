//! Renames of files and directories.

use std::{fs, os::unix::fs::symlink, path::Path};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{Change, NOTHING, Place};

fn rename(place: &Place, old: &str, new: &str) {
    fs::rename(place.at(old), place.at(new)).unwrap_or_else(|error| panic!("{old} -> {new}: {error}"));
}

fn exchange(place: &Place, one: &str, other: &str) {
    renameat2(AT_FDCWD, &place.at(one), AT_FDCWD, &place.at(other), RenameFlags::RENAME_EXCHANGE).expect("both names exist");
}

fn directory(base: &Path, word: &str) {
    for path in ["a/b/c", "a/d"] {
        fs::create_dir_all(base.join(path)).expect("a directory");
    }
    for path in ["top", "a/one", "a/b/two", "a/b/c/three"] {
        fs::write(base.join(path), format!("{word} {path}\n")).expect("a file");
    }
}

/// `old`, a directory with content.
fn old(place: &Place) {
    directory(&place.at("old"), "old");
}

/// `old` and `new`, directories with different content.
fn old_and_new(place: &Place) {
    old(place);
    directory(&place.at("new"), "new");
    place.write("new/only here", "new\n");
}

/// `x` and `y`, files.
fn files(place: &Place) {
    place.write("x", "x\n");
    place.write("y", "this is y\n");
}

/// Names that change.
pub const RENAMES: &[Change] = &[
    Change { name: "file", before: files, act: |place| rename(place, "x", "z") },
    Change { name: "file over another", before: files, act: |place| rename(place, "x", "y") },
    Change {
        name: "file into another directory",
        before: |place| {
            files(place);
            old(place);
        },
        act: |place| rename(place, "x", "old/a/x"),
    },
    Change { name: "directory", before: old, act: |place| rename(place, "old", "new") },
    Change {
        name: "directory, then written below the new name",
        before: old,
        act: |place| {
            rename(place, "old", "new");
            place.write("new/a/b/two", "written after the rename\n");
            place.write("new/a/four", "made after the rename\n");
        },
    },
    Change {
        name: "directory written to, then renamed",
        before: old,
        act: |place| {
            place.write("old/a/b/two", "written before the rename\n");
            fs::remove_file(place.at("old/a/one")).expect("it was made before");
            rename(place, "old", "new");
        },
    },
    Change {
        name: "directory to a name that the target still has",
        before: old_and_new,
        act: |place| {
            fs::remove_dir_all(place.at("new")).expect("it was made before");
            rename(place, "old", "new");
        },
    },
    Change {
        name: "directory over an empty one",
        before: |place| {
            old(place);
            fs::create_dir(place.at("new")).expect("a directory");
        },
        act: |place| rename(place, "old", "new"),
    },
    Change {
        name: "directory over one emptied a moment ago",
        before: old_and_new,
        act: |place| {
            for name in ["a", "top", "only here"] {
                let path = place.at("new").join(name);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was made before");
            }
            rename(place, "old", "new");
        },
    },
    Change { name: "directory into another", before: old_and_new, act: |place| rename(place, "old", "new/a/moved") },
    Change {
        name: "in a circle",
        before: old_and_new,
        act: |place| {
            rename(place, "old", "aside");
            rename(place, "new", "old");
            rename(place, "aside", "new");
        },
    },
    Change {
        name: "along a chain",
        before: old,
        act: |place| {
            for (one, next) in [("old", "1"), ("1", "2"), ("2", "3"), ("3", "last")] {
                rename(place, one, next);
            }
        },
    },
    Change {
        name: "there and back",
        before: old,
        act: |place| {
            rename(place, "old", "away");
            rename(place, "away", "old");
        },
    },
    Change { name: "exchange two files", before: files, act: |place| exchange(place, "x", "y") },
    Change { name: "exchange two directories", before: old_and_new, act: |place| exchange(place, "old", "new") },
    Change {
        name: "exchange a file and a directory",
        before: |place| {
            files(place);
            old(place);
        },
        act: |place| exchange(place, "x", "old"),
    },
    Change {
        name: "exchange a link and the directory it points to",
        before: |place| {
            old(place);
            symlink("old", place.at("link")).expect("a link");
        },
        act: |place| exchange(place, "link", "old"),
    },
    Change {
        name: "file in from outside",
        before: |place| fs::write(place.outside.join("file"), "from outside\n").expect("a file outside"),
        act: |place| fs::rename(place.outside.join("file"), place.at("file")).expect("one file system"),
    },
    Change {
        name: "directory in from outside",
        before: |place| directory(&place.outside.join("tree"), "outside"),
        act: |place| fs::rename(place.outside.join("tree"), place.at("tree")).expect("one file system"),
    },
    Change { name: "file out", before: files, act: |place| fs::rename(place.at("x"), place.outside.join("x")).expect("one file system") },
    Change {
        name: "directory out",
        before: old,
        act: |place| fs::rename(place.at("old"), place.outside.join("old")).expect("one file system"),
    },
    Change {
        name: "an editor's save: backup, new file, backup gone",
        before: files,
        act: |place| {
            place.write("4913", "");
            fs::remove_file(place.at("4913")).expect("just made");
            rename(place, "x", "x~");
            place.write("x", "edited\n");
            fs::remove_file(place.at("x~")).expect("just made");
        },
    },
    Change {
        name: "an editor's save: temporary file over the old one",
        before: files,
        act: |place| {
            let temporary = fs::File::create(place.at(".x.swp")).expect("a file in the source");
            std::io::Write::write_all(&mut &temporary, b"edited\n").expect("a write");
            temporary.sync_all().expect("fsync");
            rename(place, ".x.swp", "x");
        },
    },
    Change {
        name: "release by link: a new one renamed over the old",
        before: |place| {
            old_and_new(place);
            symlink("old", place.at("current")).expect("a link");
        },
        act: |place| {
            symlink("new", place.at("next")).expect("a link");
            rename(place, "next", "current");
        },
    },
    Change {
        name: "made and renamed at once",
        before: NOTHING,
        act: |place| {
            old(place);
            rename(place, "old", "new");
            rename(place, "new/a/b", "new/b");
        },
    },
];
