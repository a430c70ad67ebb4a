//! Things that go away, and some that come back.

use std::fs;

use super::{Change, NOTHING, Place};
use crate::tree;

fn deep(place: &Place) {
    place.write("1/2/3/4/5/6/7/8/9/file", "deep\n");
    place.write("1/2/side", "side\n");
    place.write("stays", "stays\n");
    fs::create_dir_all(place.at("1/2/empty/empty")).expect("a directory");
}

/// Deletions and new directories.
pub const DELETIONS: &[Change] = &[
    Change { name: "file", before: deep, act: |place| fs::remove_file(place.at("1/2/side")).expect("it was made before") },
    Change { name: "deep tree", before: deep, act: |place| fs::remove_dir_all(place.at("1")).expect("it was made before") },
    Change { name: "empty directory", before: deep, act: |place| fs::remove_dir(place.at("1/2/empty/empty")).expect("it is empty") },
    Change {
        name: "a directory of 300 files",
        before: |place| tree::many_files(&place.at("many"), 300),
        act: |place| fs::remove_dir_all(place.at("many")).expect("it was made before"),
    },
    Change {
        name: "everything but the directory itself",
        before: deep,
        act: |place| {
            fs::remove_dir_all(place.at("1")).expect("it was made before");
            fs::remove_file(place.at("stays")).expect("it was made before");
        },
    },
    Change {
        name: "tree, made again with less in it",
        before: deep,
        act: |place| {
            fs::remove_dir_all(place.at("1")).expect("it was made before");
            place.write("1/2/new", "new\n");
        },
    },
    Change {
        name: "file, made again",
        before: deep,
        act: |place| {
            fs::remove_file(place.at("stays")).expect("it was made before");
            place.write("stays", "came back\n");
        },
    },
    Change {
        name: "made and gone at once",
        before: NOTHING,
        act: |place| {
            deep(place);
            fs::remove_dir_all(place.at("1")).expect("just made");
        },
    },
    Change {
        name: "an open file, written to afterwards",
        before: deep,
        act: |place| {
            let file = fs::OpenOptions::new().append(true).open(place.at("stays")).expect("it was made before");
            fs::remove_file(place.at("stays")).expect("it was made before");
            std::io::Write::write_all(&mut &file, b"nobody will read this\n").expect("a write");
        },
    },
    Change { name: "mkdir", before: NOTHING, act: |place| fs::create_dir(place.at("empty")).expect("a directory") },
    Change {
        name: "mkdir of many levels, a file at the end",
        before: NOTHING,
        act: |place| place.write("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/file", "deep\n"),
    },
    Change {
        name: "a hundred levels",
        before: NOTHING,
        act: |place| {
            let path = (0..100).map(|level| format!("level-{level}/")).collect::<String>();
            place.write(&format!("{path}file"), "very deep\n");
        },
    },
    Change { name: "an unpacked site", before: NOTHING, act: |place| tree::web_site(&place.at("site")) },
];
