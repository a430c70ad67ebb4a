//! Who may ask the daemon: its owner, and the members of a group where the configuration names one.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use trigsync_tests::{
    mirror::Launch,
    process::Outcome,
    room::Room,
    skip,
    trigsync::{self, assert_refused},
};

/// A group that nobody is in.
const GROUP: u32 = 61_234;

/// Runs `trigsync ARGUMENTS` as nobody, who is in `group` too.
fn as_nobody(room: &Room, group: u32, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", &format!("--groups={group}"), "--"]);
    command.arg(program(room)).arg("--state-dir").arg(room.state()).args(arguments).current_dir("/");
    Outcome::of(&mut command, Duration::from_secs(60))
}

/// The binary, where everybody can run it.
fn program(room: &Room) -> PathBuf {
    let copy = room.at("trigsync");
    if !copy.exists() {
        fs::copy(trigsync::binary(), &copy).expect("room for a copy");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("our own file");
    }
    copy
}

/// Group and mode.
fn access(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    (metadata.gid(), metadata.mode() & 0o7777)
}

#[test]
fn members_of_the_group_may_ask_and_nobody_else() {
    if skip::without_root() || skip::without_program(&["setpriv"]) {
        return;
    }
    let room = Room::new();
    let (source, target, state) = (room.source(), room.target(), room.state());
    fs::write(source.join("a"), "a").expect("the source");
    let sync = format!("[[sync]]\nsource = {source:?}\ntargets = [{target:?}]\nmax_delete = \"100%\"\n");
    let grouped = format!("control_group = {GROUP}\n{sync}");
    let launch = Launch::config(&room, &grouped);
    let mut mirror = launch.start();
    mirror.flush();
    assert_eq!((access(&state), access(&state.join("control.sock"))), ((GROUP, 0o710), (GROUP, 0o660)));
    for entry in fs::read_dir(&state).expect("we are root").flatten().filter(|entry| entry.file_name() != "control.sock") {
        assert_eq!(access(&entry.path()).1 & 0o077, 0, "{}", entry.path().display());
    }
    assert!(as_nobody(&room, GROUP, &["check"]).expect(0).stdout.starts_with("TRIGSYNC OK"));
    as_nobody(&room, GROUP, &["flush"]).expect(0);
    as_nobody(&room, GROUP, &["hold"]).expect(0);
    assert!(as_nobody(&room, GROUP, &["status"]).expect(0).stdout.contains("held"));
    as_nobody(&room, GROUP, &["release"]).expect(0);
    let mut list = Command::new("setpriv");
    list.args(["--reuid=65534", "--regid=65534", &format!("--groups={GROUP}"), "ls"]).arg(&state);
    assert_ne!(Outcome::of(&mut list, Duration::from_secs(10)).code, 0, "it may pass, not list");

    let stranger = as_nobody(&room, GROUP + 1, &["check"]).expect(3).stdout;
    assert!(stranger.starts_with("TRIGSYNC UNKNOWN - ") && stranger.contains("`control_group`"), "{stranger}");
    assert_refused(&as_nobody(&room, GROUP + 1, &["status"]), 2, &["control_group"]);
    assert_refused(&as_nobody(&room, GROUP + 1, &["stop"]), 2, &["control_group"]);

    launch.rewrite(&sync);
    mirror.reload();
    mirror.until_logged("daemon-wide keys have changed; they take effect at the next start");
    as_nobody(&room, GROUP, &["check"]).expect(0);
    mirror.stop();
    let mirror = launch.start();
    mirror.flush();
    assert_eq!((access(&state).1, access(&state.join("control.sock"))), (0o700, (0, 0o600)));
    as_nobody(&room, GROUP, &["check"]).expect(3);
}

#[test]
fn a_state_directory_that_others_use_too_stays_as_it_is() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, state) = (room.source(), room.target(), room.directory("state"));
    fs::set_permissions(&state, fs::Permissions::from_mode(0o1777)).expect("our own directory");
    let text = format!("control_group = {GROUP}\n[[sync]]\nsource = {source:?}\ntargets = [{target:?}]\n");
    let _mirror = Launch::config(&room, &text).start();
    assert_eq!((access(&state), access(&state.join("control.sock"))), ((0, 0o1777), (GROUP, 0o660)));
}
