//! An rsync has connected ahead of the change that it carries, and is nobody's trouble where there is none.
//!
//! A program named `rsync` stands before the real one, and takes long to start once it is told to: what arrives then was carried by one that
//! had been started before.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror, one_target},
    process::{eventually, must},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Sooner than one that is started now could be.
const SOON: Duration = Duration::from_secs(5);

/// Waits until so many have connected ahead.
#[track_caller]
fn until_parked(mirror: &Mirror<'_>, count: u64) {
    mirror.until(&format!("{count} have connected ahead"), LIMIT, |status| (status.target("site", "it")["parked"] == count).then_some(()));
}

/// Waits until one waits for its list: it stands in the source then.
#[track_caller]
fn until_ready(mirror: &Mirror<'_>, source: &Path) {
    mirror.flush();
    until_parked(mirror, 1);
    let stands_there = |id: &i32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|place| place == source);
    eventually("it is ready", LIMIT, || mirror.rsyncs().iter().any(stands_there).then_some(()));
}

/// From now on an rsync takes six seconds to start, as long as the file is there.
fn slow_to_start(room: &Room) -> PathBuf {
    let (slow, real) = (room.at("slow"), skip::find_program("rsync").expect("rsync is there"));
    room.program("rsync", &format!("[ -e '{}' ] && sleep 6\nexec '{}' \"$@\"", slow.display(), real.display()));
    slow
}

/// Writes a file, and waits until it is there.
#[track_caller]
fn arrives(source: &Path, target: &Path, name: &str) -> Duration {
    fs::write(source.join(name), name).expect("a file in the source");
    let begun = Instant::now();
    eventually(&format!("{name} arrives"), LIMIT, || fs::read(target.join(name)).is_ok_and(|text| text == name.as_bytes()).then_some(()));
    begun.elapsed()
}

#[test]
fn a_change_goes_by_what_has_connected_before_it() {
    if skip::without_root() {
        return;
    }
    for over_daemon in [true, false] {
        let room = Room::new();
        let (source, target, slow) = (room.source(), room.target(), slow_to_start(&room));
        tree::web_site(&source);
        let server = over_daemon.then(|| RsyncDaemon::start(&room, &[Module::new("mirror", &target)]));
        let to = server.as_ref().map_or_else(|| target.to_str().expect("plain").to_owned(), |server| server.url("mirror"));
        let mirror = Launch::config(&room, &one_target(&source, &to, "")).path_first(&room.programs()).start();
        mirror.flush();
        until_ready(&mirror, &source);
        fs::write(&slow, "").expect("a file in the room");
        let took = arrives(&source, &target, "new");
        assert!(took < SOON, "{to}: {took:?}");
        fs::remove_file(&slow).expect("it was just made");
        // A deletion, and a new directory, go the same way: one after the other, since there is but one rsync for both.
        let changes: [fn(&Path) -> io::Result<()>; 2] =
            [|tree| fs::remove_file(tree.join("new")), |tree| fs::create_dir(tree.join("directory"))];
        for (change, stands) in changes.into_iter().zip(["new", "directory"]) {
            // The next one was slow to start.
            until_ready(&mirror, &source);
            fs::write(&slow, "").expect("a file in the room");
            change(&source).expect("a change in the source");
            let begun = Instant::now();
            let is_there = source.join(stands).exists();
            eventually("it arrives", LIMIT, || (target.join(stands).exists() == is_there).then_some(()));
            assert!(begun.elapsed() < SOON, "{to}: {stands}: {:?}", begun.elapsed());
            fs::remove_file(&slow).expect("it was just made");
        }
        mirror.flush();
        assert_eq!(mirror.status().target("site", "it")["failures"], 0);
        compare::assert_equal(&source, &target);
    }
}

#[test]
fn whatever_becomes_of_it_no_change_is_late_or_lost() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    // It hangs up on whoever says nothing for a second.
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target).set("timeout", "1")]);
    let mirror = Launch::config(&room, &one_target(&source, &server.url("mirror"), "")).start();
    mirror.flush();
    for number in 0..3 {
        thread::sleep(Duration::from_secs(3));
        arrives(&source, &target, &format!("after silence {number}"));
    }
    // Somebody ends it. One that is at work would be another matter.
    mirror.flush();
    until_parked(&mirror, 1);
    for id in mirror.rsyncs() {
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
    thread::sleep(Duration::from_millis(200));
    arrives(&source, &target, "after a kill");
    mirror.flush();
    let status = mirror.status();
    assert_eq!((&status.target("site", "it")["failures"], &status.target("site", "it")["state"]), (&0.into(), &"ok".into()));
    compare::assert_equal(&source, &target);
}

#[test]
fn a_target_that_is_held_has_none_and_neither_has_one_where_it_is_switched_off() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let to = target.to_str().expect("plain");
    let launch = Launch::config(&room, &one_target(&source, to, ""));
    let mut mirror = launch.start();
    mirror.flush();
    until_parked(&mirror, 1);
    mirror.ask(&["hold"]).expect(0);
    until_parked(&mirror, 0);
    eventually("it has ended", LIMIT, || mirror.rsyncs().is_empty().then_some(()));
    mirror.ask(&["release"]).expect(0);
    until_parked(&mirror, 1);
    launch.rewrite(&one_target(&source, to, "warm = 0\n"));
    mirror.reload();
    until_parked(&mirror, 0);
    arrives(&source, &target, "cold");
    mirror.flush();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(mirror.status().target("site", "it")["parked"], 0);
    mirror.stop();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_directory_that_takes_the_targets_place_is_not_passed_by() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mirror = Launch::config(&room, &one_target(&source, target.to_str().expect("plain"), "")).start();
    mirror.flush();
    until_ready(&mirror, &source);
    let old = room.at("old");
    fs::rename(&target, &old).expect("it is there");
    must(Command::new("cp").arg("-a").args([&old, &target]));
    arrives(&source, &target, "to the new one");
    mirror.flush();
    assert!(!old.join("to the new one").exists());
    compare::assert_equal(&source, &target);
}
