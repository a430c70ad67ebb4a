//! One type of file in the place of another.

use std::{
    fs,
    os::{
        fd::AsRawFd,
        unix::{fs::symlink, net::UnixListener},
    },
    path::Path,
};

use nix::{
    sys::stat::{Mode, SFlag, mknod},
    unistd::mkfifo,
};

use super::{Change, NOTHING, Place};

fn file(place: &Place) {
    place.write("x", "a file\n");
}

fn directory(place: &Place) {
    place.write("x/keep", "not the one outside\n");
    place.write("x/y/z", "z\n");
}

fn link(place: &Place, target: impl AsRef<Path>) {
    symlink(target, place.at("x")).expect("a link");
}

fn link_to_outside(place: &Place) {
    link(place, &place.outside);
}

fn fifo(place: &Place) {
    mkfifo(&place.at("x"), Mode::from_bits_truncate(0o640)).expect("a fifo");
}

fn remove(place: &Place) {
    fs::remove_file(place.at("x")).expect("it was made before");
}

fn remove_directory(place: &Place) {
    fs::remove_dir_all(place.at("x")).expect("it was made before");
}

/// Types that change: nothing may be written or deleted through a symbolic link at the target.
pub const TYPES: &[Change] = &[
    Change { name: "make a link", before: file, act: |place| symlink("x", place.at("link")).expect("a link") },
    Change { name: "make a dangling link", before: NOTHING, act: |place| link(place, "nowhere/at/all") },
    Change {
        name: "point a link elsewhere",
        before: |place| link(place, "one"),
        act: |place| {
            remove(place);
            link(place, "two");
        },
    },
    Change {
        name: "file to link",
        before: file,
        act: |place| {
            remove(place);
            link(place, "elsewhere");
        },
    },
    Change {
        name: "link to file",
        before: link_to_outside,
        act: |place| {
            remove(place);
            file(place);
        },
    },
    Change {
        name: "link to outside to directory",
        before: link_to_outside,
        act: |place| {
            remove(place);
            directory(place);
        },
    },
    Change { name: "link to outside goes away", before: link_to_outside, act: remove },
    Change {
        name: "full directory to link to outside",
        before: directory,
        act: |place| {
            remove_directory(place);
            link_to_outside(place);
        },
    },
    Change {
        name: "full directory to link to outside and back",
        before: directory,
        act: |place| {
            remove_directory(place);
            link_to_outside(place);
            remove(place);
            directory(place);
            fs::remove_file(place.at("x/keep")).expect("just made");
        },
    },
    Change {
        name: "full directory to file",
        before: directory,
        act: |place| {
            remove_directory(place);
            file(place);
        },
    },
    Change {
        name: "empty directory to file",
        before: |place| fs::create_dir(place.at("x")).expect("a directory"),
        act: |place| {
            fs::remove_dir(place.at("x")).expect("it is empty");
            file(place);
        },
    },
    Change {
        name: "file to full directory",
        before: file,
        act: |place| {
            remove(place);
            directory(place);
        },
    },
    Change { name: "make a fifo", before: NOTHING, act: fifo },
    Change {
        name: "file to fifo",
        before: file,
        act: |place| {
            remove(place);
            fifo(place);
        },
    },
    Change {
        name: "fifo to file",
        before: fifo,
        act: |place| {
            remove(place);
            file(place);
        },
    },
    Change {
        name: "make a socket",
        before: NOTHING,
        // Bound through a descriptor of the directory, since a socket's address takes no long path.
        act: |place| {
            let directory = fs::File::open(&place.inside).expect("a directory in the source");
            drop(UnixListener::bind(format!("/proc/self/fd/{}/x", directory.as_raw_fd())).expect("a socket"));
        },
    },
    Change {
        name: "make a device",
        before: NOTHING,
        act: |place| {
            mknod(&place.at("x"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), nix::sys::stat::makedev(1, 3)).expect("mknod as root");
        },
    },
];
