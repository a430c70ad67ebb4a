//! What stops a sync rather than delete: nothing is deleted, and the operator is told.

use std::{fs, io::Write, os::unix::fs::symlink, path::Path, time::Duration};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    mount::Tmpfs,
    room::Room,
    skip, tree,
    trigsync::{assert_refused, trigsync},
};

/// A source of a hundred files, fifty of them in `half`, twenty-five in `quarter`.
fn hundred(source: &Path) {
    for (directory, count) in [("half", 50), ("quarter", 25), ("rest", 25)] {
        fs::create_dir_all(source.join(directory)).expect("a directory");
        for number in 0..count {
            fs::write(source.join(directory).join(number.to_string()), directory).expect("a file");
        }
    }
}

fn config(source: &Path, target: &Path, max_delete: &str) -> String {
    format!("[[sync]]\nname = \"site\"\nsource = {source:?}\ntargets = [{target:?}]\nmax_delete = \"{max_delete}\"\n")
}

/// How many entries a tree has.
fn count(root: &Path) -> usize {
    let children = fs::read_dir(root).into_iter().flatten().flatten();
    children.map(|entry| 1 + if entry.file_type().is_ok_and(|kind| kind.is_dir()) { count(&entry.path()) } else { 0 }).sum()
}

/// Stopped, and the target keeps all of its `entries` however long one waits.
#[track_caller]
fn assert_stopped(mirror: &Mirror<'_>, target: &Path, entries: usize) -> String {
    let reason = mirror.until_stopped("site");
    mirror.flush_within(Duration::from_secs(2)).expect(1);
    assert_eq!(count(target), entries, "something was deleted at the target, or sent, after the guard stopped the sync");
    reason
}

#[test]
fn a_root_that_was_replaced() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    hundred(&source);
    let mirror = Launch::config(&room, &config(&source, &target, "100%")).start();
    mirror.flush();
    let entries = count(&target);
    fs::rename(&source, room.at("aside")).expect("a rename");
    fs::create_dir(&source).expect("a directory");
    fs::write(source.join("impostor"), "impostor").expect("a file");
    // A change in the old root, which is what is still watched.
    fs::write(room.at("aside/half/new"), "new").expect("a file");
    assert_stopped(&mirror, &target, entries);
    assert!(!target.join("impostor").exists());
}

#[test]
fn a_root_that_went_away() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    hundred(&source);
    let mirror = Launch::config(&room, &config(&source, &target, "100%")).start();
    mirror.flush();
    let entries = count(&target);
    fs::rename(&source, room.at("aside")).expect("a rename");
    fs::write(room.at("aside/half/new"), "new").expect("a file");
    assert_stopped(&mirror, &target, entries);
    fs::rename(room.at("aside"), &source).expect("a rename");
    mirror.release();
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_root_that_was_unmounted() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let tmpfs = Tmpfs::mount(&source, 16);
    hundred(&source);
    let mirror = Launch::config(&room, &config(&source, &target, "100%")).start();
    mirror.flush();
    let entries = count(&target);
    // Somebody still has a file open and goes on writing, as after `umount -l`: the event comes, the root is not there.
    let mut open = fs::File::create(source.join("half/0")).expect("a file in the source");
    mirror.flush();
    tmpfs.unmount();
    open.write_all(b"into the void").expect("a write");
    drop(open);
    let reason = assert_stopped(&mirror, &target, entries);
    assert!(reason.contains(source.to_str().expect("plain")), "the reason names the source: {reason}");
}

#[test]
fn a_root_that_was_emptied() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    hundred(&source);
    let mirror = Launch::config(&room, &config(&source, &target, "50%")).start();
    mirror.flush();
    let entries = count(&target);
    // In one stroke, so that no batch sees a half of it.
    mirror.signal(nix::sys::signal::Signal::SIGSTOP);
    for name in tree::names(&source) {
        fs::remove_dir_all(source.join(name)).expect("it was made before");
    }
    mirror.signal(nix::sys::signal::Signal::SIGCONT);
    assert_stopped(&mirror, &target, entries);
    mirror.release();
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn an_empty_source_at_the_start() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    hundred(&target);
    let entries = count(&target);
    let text = config(&source, &target, "50%");
    let launch = Launch::config(&room, &text);
    let sync = trigsync(&room, ["sync", "--config", Launch::file(&room).to_str().expect("plain")]).expect(3);
    assert!(sync.stderr.contains(source.to_str().expect("plain")), "it names the source: {sync}");
    assert_eq!(count(&target), entries, "`sync` deleted something");
    let mirror = launch.start();
    assert_stopped(&mirror, &target, entries);
    mirror.release();
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_batch_that_deletes_too_much() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    hundred(&source);
    let mirror = Launch::config(&room, &config(&source, &target, "10%")).start();
    mirror.flush();

    // A few deletions are fine.
    fs::remove_file(source.join("half/1")).expect("it was made before");
    mirror.flush();
    let entries = count(&target);

    fs::rename(source.join("half"), room.at("half")).expect("a rename");
    let reason = assert_stopped(&mirror, &target, entries);
    assert!(reason.contains("release"), "the reason names the remedy: {reason}");
    mirror.release();
    mirror.flush();
    compare::assert_equal(&source, &target);
    assert_eq!(mirror.status().sync("site")["state"], "running");

    // The release was for that batch: the next one is guarded again.
    let entries = count(&target);
    fs::rename(source.join("quarter"), room.at("quarter")).expect("a rename");
    assert_stopped(&mirror, &target, entries);
    fs::rename(room.at("quarter"), source.join("quarter")).expect("a rename");
    mirror.ask(&["release", "--sync", "site"]).expect(0);
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn one_sync_that_is_stopped_does_not_stop_another() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let (other_source, other_target) = (room.directory("other-source"), room.directory("other-target"));
    hundred(&source);
    hundred(&other_source);
    let other = format!("[[sync]]\nname = \"other\"\nsource = {other_source:?}\ntargets = [{other_target:?}]\n");
    let mirror = Launch::config(&room, &(config(&source, &target, "10%") + &other)).start();
    mirror.flush();
    fs::rename(source.join("half"), room.at("half")).expect("a rename");
    mirror.until_stopped("site");
    fs::write(other_source.join("new"), "new").expect("a file");
    mirror.flush_within(Duration::from_secs(5)).expect(1);
    compare::assert_equal(&other_source, &other_target);
    assert_eq!(mirror.status().sync("other")["state"], "running");
}

#[test]
fn trees_that_overlap_are_refused() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let source = room.source();
    let other = room.directory("other");
    let [inside, target] = [room.directory("source/inside"), room.target()];
    symlink(&inside, room.at("link")).expect("a link");
    let two = |second: &Path, its_target: &Path| {
        config(&source, &target, "50%") + &format!("[[sync]]\nname = \"second\"\nsource = {second:?}\ntargets = [{its_target:?}]\n")
    };
    let cases = [
        ("target inside source", config(&source, &inside, "50%")),
        ("target inside source, not made yet", config(&source, &source.join("not/yet"), "50%")),
        ("target inside source, by a link", config(&source, &room.at("link"), "50%")),
        ("target is source", config(&source, &source, "50%")),
        ("source inside target", config(&source, &room.path(), "50%")),
        ("two syncs to one target", two(&other, &target)),
        ("two syncs to one target, written otherwise", two(&other, &room.at("other/../target/"))),
    ];
    for (name, text) in cases {
        let outcome = Launch::config(&room, &text).refused();
        println!("{name}: {outcome}");
        assert_refused(&outcome, 2, &[]);
    }
    assert!(tree::names(&target).is_empty(), "something was sent");
}
