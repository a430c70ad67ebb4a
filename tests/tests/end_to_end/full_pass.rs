//! A full pass takes long, and nothing waits for it or is undone by it.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    room::Room,
    skip,
};

/// Waits for a condition that has to come true while the full pass still runs.
#[track_caller]
fn during_the_pass(mirror: &Mirror<'_>, what: &str, mut comes: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !comes() {
        assert!(begun.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(full_pass_runs(mirror), "the full pass ended before {what}: the test has shown nothing");
}

fn full_pass_runs(mirror: &Mirror<'_>) -> bool {
    mirror.status().target("site", "copy")["full_pass"] == true
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it lies in the room")).expect("a directory");
    fs::write(path, text).expect("a file");
}

#[test]
fn small_changes_do_not_wait_for_it_and_are_not_undone_by_it() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    // The pass goes through the names in their order: what it has passed, where it is, and what it has yet to come to.
    for name in ["a/first", "a/kept", "a/dir/x", "z/kept", "z/last", "z/dir/y", "z/stays"] {
        write(&source.join(name), name);
    }
    fs::create_dir(source.join("m")).expect("a directory");
    for index in 0..12 {
        fs::write(source.join(format!("m/{index}")), vec![b'x'; 2 << 20]).expect("a file");
    }
    let config = format!(
        "[[sync]]\nname = \"site\"\nsource = {source:?}\nmax_delete = \"100%\"\n[[sync.target]]\nto = {target:?}\nname = \"copy\"\nbandwidth_limit = \"3m\"\nconnections = 2\n"
    );
    let mirror = Launch::config(&room, &config).start();
    during_the_pass(&mirror, "the pass has begun", || target.join("a/first").exists() && full_pass_runs(&mirror));

    for place in ["a", "z"] {
        let (from, to) = (source.join(place), target.join(place));
        write(&from.join("new"), "new");
        write(&from.join("deep/new/one"), "one");
        during_the_pass(&mirror, "a new file arrives", || to.join("new").exists() && to.join("deep/new/one").exists());
        // The pass has listed this one with its old size and time, and comes to it when the new one is at the target.
        fs::write(from.join("kept"), "kept, and rewritten").expect("a file");
        during_the_pass(&mirror, "a listed file arrives rewritten", || {
            fs::read(to.join("kept")).is_ok_and(|text| text == b"kept, and rewritten")
        });
        fs::write(from.join("new"), "new again").expect("a file");
        during_the_pass(&mirror, "a rewritten file arrives", || fs::read(to.join("new")).is_ok_and(|text| text == b"new again"));
        fs::rename(from.join("dir"), from.join("renamed")).expect("a rename");
        during_the_pass(&mirror, "a renamed directory arrives", || to.join("renamed").exists() && !to.join("dir").exists());
        fs::remove_file(from.join("new")).expect("it is there");
        during_the_pass(&mirror, "a deletion arrives", || !to.join("new").exists());
    }
    fs::remove_file(source.join("z/stays")).expect("it is there");
    mirror.flush();
    assert!(!full_pass_runs(&mirror), "a flush waits for what could undo a change");
    compare::assert_equal(&source, &target);
}
