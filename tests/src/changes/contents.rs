//! Changes of what a file holds.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
};

use super::{Change, NOTHING, Place};
use crate::tree::noise;

fn file(place: &Place) {
    place.write("file", "before\n");
}

fn open(place: &Place) -> File {
    OpenOptions::new().write(true).open(place.at("file")).expect("it was made before")
}

/// Files written in every way.
pub const CONTENTS: &[Change] = &[
    Change { name: "create", before: NOTHING, act: |place| place.write("file", "new\n") },
    Change { name: "create empty", before: NOTHING, act: |place| place.write("file", "") },
    Change { name: "create large", before: NOTHING, act: |place| place.write("file", noise(3_000_000, 7)) },
    Change { name: "rewrite", before: file, act: |place| place.write("file", "something longer than before\n") },
    Change { name: "rewrite with nothing", before: file, act: |place| place.write("file", "") },
    Change { name: "fill an empty file", before: |place| place.write("file", ""), act: |place| place.write("file", "full\n") },
    Change {
        name: "rewrite keeping size and mtime",
        before: file,
        act: |place| {
            let time = fs::metadata(place.at("file")).and_then(|metadata| metadata.modified()).expect("it was made before");
            let mut file = open(place);
            file.write_all(b"AFTER!\n").expect("a write");
            file.set_modified(time).expect("utimes");
        },
    },
    Change {
        name: "append",
        before: file,
        act: |place| {
            let mut file = OpenOptions::new().append(true).open(place.at("file")).expect("it was made before");
            file.write_all(b"more\n").expect("a write");
        },
    },
    Change {
        name: "write into the middle of a large file",
        before: |place| place.write("file", noise(2_000_000, 8)),
        act: |place| {
            let mut file = open(place);
            file.seek(SeekFrom::Start(1_000_000)).expect("a seek");
            file.write_all(b"here").expect("a write");
        },
    },
    Change { name: "truncate", before: file, act: |place| open(place).set_len(3).expect("ftruncate") },
    Change { name: "grow by a hole", before: file, act: |place| open(place).set_len(1_000_000).expect("ftruncate") },
    Change {
        name: "ten thousand writes",
        before: NOTHING,
        act: |place| {
            let mut file = File::create(place.at("file")).expect("a file in the source");
            (0..10_000).for_each(|number| writeln!(file, "line {number}").expect("a write"));
        },
    },
    Change {
        name: "create through another descriptor's name",
        before: NOTHING,
        act: |place| {
            let file = File::create(place.at("first name")).expect("a file in the source");
            fs::rename(place.at("first name"), place.at("second name")).expect("a rename");
            (&file).write_all(b"written after the rename\n").expect("a write");
        },
    },
];
