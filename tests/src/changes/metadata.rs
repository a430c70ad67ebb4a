//! Modes, owners, times and links.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
};

use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};

use super::{Change, Place};

fn all(place: &Place) {
    place.write("file", "file\n");
    place.write("directory/file", "file\n");
    symlink("file", place.at("link")).expect("a link");
}

fn mode(place: &Place, path: &str, mode: u32) {
    fs::set_permissions(place.at(path), fs::Permissions::from_mode(mode)).expect("chmod");
}

fn times(place: &Place, path: &str, seconds: i64, nanoseconds: i64) {
    let time = TimeSpec::new(seconds, nanoseconds);
    utimensat(AT_FDCWD, &place.at(path), &time, &time, UtimensatFlags::NoFollowSymlink).expect("utimes");
}

/// Everything about a file but its bytes.
pub const METADATA: &[Change] = &[
    Change { name: "chmod of a file", before: all, act: |place| mode(place, "file", 0o600) },
    Change { name: "chmod of a file to nothing", before: all, act: |place| mode(place, "file", 0) },
    Change { name: "chmod of a file to setuid", before: all, act: |place| mode(place, "file", 0o4755) },
    Change { name: "chmod of a directory", before: all, act: |place| mode(place, "directory", 0o3770) },
    Change { name: "chmod of a directory to nothing", before: all, act: |place| mode(place, "directory", 0) },
    Change { name: "chown of a file", before: all, act: |place| chown(place.at("file"), Some(1234), Some(4321)).expect("chown") },
    Change { name: "chown of a directory", before: all, act: |place| chown(place.at("directory"), Some(1234), None).expect("chown") },
    Change { name: "chown of a link", before: all, act: |place| lchown(place.at("link"), Some(1234), Some(4321)).expect("lchown") },
    Change {
        name: "chown of a setuid file",
        before: |place| {
            all(place);
            mode(place, "file", 0o6755);
        },
        act: |place| {
            chown(place.at("file"), Some(1234), Some(4321)).expect("chown");
            mode(place, "file", 0o4711);
        },
    },
    Change { name: "times of a file", before: all, act: |place| times(place, "file", 1_000_000_000, 123_456_789) },
    Change {
        name: "times of a file, one nanosecond",
        before: |place| {
            all(place);
            times(place, "file", 1_000_000_000, 0);
        },
        act: |place| times(place, "file", 1_000_000_000, 1),
    },
    Change { name: "times of a file before 1970", before: all, act: |place| times(place, "file", -86_400, 0) },
    Change { name: "times of a file in 2100", before: all, act: |place| times(place, "file", 4_102_444_800, 0) },
    Change { name: "times of a directory", before: all, act: |place| times(place, "directory", 1_100_000_000, 5) },
    Change { name: "times of a link", before: all, act: |place| times(place, "link", 1_200_000_000, 0) },
    Change {
        name: "make a hard link",
        before: all,
        act: |place| fs::hard_link(place.at("file"), place.at("directory/same")).expect("a hard link"),
    },
    Change {
        name: "remove one name of two",
        before: |place| {
            all(place);
            fs::hard_link(place.at("file"), place.at("same")).expect("a hard link");
        },
        act: |place| fs::remove_file(place.at("file")).expect("it was made before"),
    },
    Change {
        name: "rename, chmod, chown and write together",
        before: all,
        act: |place| {
            fs::rename(place.at("file"), place.at("new")).expect("a rename");
            mode(place, "new", 0o604);
            chown(place.at("new"), Some(77), Some(88)).expect("chown");
            place.write("new", "all of it\n");
            mode(place, "directory", 0o711);
        },
    },
];
