//! A file that is asked for at every target, from end to end: the delay that it measures, and what it says when nothing arrives any more.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;
use trigsync_tests::{
    mirror::{Launch, Mirror, Status},
    process::eventually,
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree, trigsync,
};

const FILE: &str = ".trigsync-canary";

const LIMIT: Duration = Duration::from_secs(30);

fn config(source: &Path, targets: &[(&str, &str)], keys: &str) -> String {
    let mut text = format!("[[sync]]\nname = \"www\"\nsource = {source:?}\nmax_delete = \"100%\"\n{keys}\n");
    for (name, to) in targets {
        text += &format!("[[sync.target]]\nname = \"{name}\"\nto = \"{to}\"\ntimeout = \"2s\"\n");
    }
    text
}

/// What the canary found at a target.
fn canary<'a>(status: &'a Status, target: &str) -> &'a Value {
    &status.target("www", target)["canary"]
}

fn until_it_has_arrived(mirror: &Mirror<'_>, target: &str) -> f64 {
    mirror.until("a canary has arrived", LIMIT, |status| canary(status, target)["last_delay_ms"].as_f64())
}

fn until_overdue(mirror: &Mirror<'_>, target: &str, overdue: bool) {
    mirror
        .until(&format!("overdue is {overdue}"), LIMIT, |status| (canary(status, target)["overdue_ms"].is_u64() == overdue).then_some(()));
}

/// Waits until the canary in the source has changed so often.
fn beats(source: &Path, count: usize) {
    let read = || fs::read(source.join(FILE)).unwrap_or_default();
    for _ in 0..count {
        let before = read();
        eventually("the canary changes", LIMIT, || (read() != before).then_some(()));
    }
}

#[test]
fn its_delay_is_told_and_a_target_that_is_frozen_makes_it_overdue() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, local, remote) = (room.source(), room.target(), room.directory("remote"));
    tree::web_site(&source);
    let server = RsyncDaemon::start(&room, &[Module::new("web", &remote)]);
    let targets = [("local", local.to_str().expect("a plain path")), ("remote", &server.url("web"))];
    let address = format!("127.0.0.1:{}", trigsync_tests::rsyncd::free_port());
    let mut mirror = Launch::config(&room, &format!("metrics = \"{address}\"\n{}", config(&source, &targets, "canary = \"1s\""))).start();
    for target in ["local", "remote"] {
        assert!(until_it_has_arrived(&mirror, target) < 30_000.0);
        until_overdue(&mirror, target, false);
        mirror.until("the arrival has its time", LIMIT, |status| {
            (canary(status, target)["last_arrival"].as_f64()? > 1_500_000_000.0).then_some(())
        });
    }
    let text = mirror.ask(&["status"]).expect(0).stdout;
    assert!(text.contains("local: canary took ") && text.contains("remote: canary took "), "{text}");
    let line = mirror.ask(&["check"]).stdout;
    assert!(line.contains(" 'canary_www_local'=") && line.contains(" 'canary_www_remote'="), "{line}");
    let metrics = metrics(&address);
    for name in ["delay_seconds", "last_arrival_timestamp_seconds", "overdue_seconds"] {
        assert!(metrics.contains(&format!("trigsync_target_canary_{name}{{sync=\"www\",target=\"remote\"}} ")), "{name}: {metrics}");
    }

    server.freeze();
    until_overdue(&mirror, "remote", true);
    mirror.until_logged("www: remote: the canary is overdue");
    mirror.until("the reason is told", LIMIT, |status| canary(status, "remote")["trouble"].is_string().then_some(()));
    assert!(mirror.ask(&["status"]).expect(0).stdout.contains("OVERDUE by"));
    let overdue = |words: &str, code| {
        eventually("check tells of it", LIMIT, || {
            let outcome = mirror.ask(&["check", "--warn-lag", words.split(' ').next()?, "--crit-lag", words.split(' ').nth(1)?]);
            (outcome.code == code && outcome.stdout.contains("www/remote has a canary that is overdue by")).then_some(outcome.stdout)
        })
    };
    overdue("1s 10m", 1);
    let line = overdue("1s 2s", 2);
    assert!(!line.contains("www/local has a canary"), "one target's trouble is its own: {line}");
    server.thaw();
    until_overdue(&mirror, "remote", false);
    mirror.until_logged("www: remote: the canary arrives again");
    assert_eq!(mirror.log().matches("remote: the canary is overdue").count(), 1);
    mirror.stop();
    assert!(source.join(FILE).is_file(), "it stays where it is");
}

fn metrics(address: &str) -> String {
    let mut connection = std::net::TcpStream::connect(address).expect("metrics are served");
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers in UTF-8");
    answer
}

/// The proof of life: nothing but capture brings it on its way.
#[test]
fn a_capture_that_hangs_makes_it_overdue() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let mirror = Launch::config(&room, &config(&source, &[("local", target.to_str().expect("plain"))], "canary = \"1s\"")).start();
    until_it_has_arrived(&mirror, "local");
    let tasks = fs::read_dir(format!("/proc/{}/task", mirror.pid())).expect("the daemon runs");
    let capture = tasks.flatten().find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == "capture"));
    let number = capture.expect("a thread that captures").file_name().to_str().and_then(|number| number.parse().ok());
    let capture = Pid::from_raw(number.expect("a number"));
    ptrace::seize(capture, ptrace::Options::empty()).expect("we are root");
    ptrace::interrupt(capture).expect("it is ours now");
    waitpid(capture, Some(WaitPidFlag::__WALL)).expect("it has stopped");
    until_overdue(&mirror, "local", true);
    mirror.until_logged("the canary is overdue");
    let status = mirror.status();
    let lane = status.target("www", "local");
    assert_eq!((&lane["state"], &lane["lag_ms"]), (&"ok".into(), &0.into()), "nobody else has noticed");
    ptrace::detach(capture, None).expect("it is still stopped");
    until_overdue(&mirror, "local", false);
}

#[test]
fn a_target_that_is_held_is_not_asked() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, asked) = (room.source(), room.target(), room.at("asked"));
    let real = skip::find_program("rsync").expect("rsync is there");
    room.program("rsync", &format!("echo \"$*\" >> '{}'\nexec '{}' \"$@\"", asked.display(), real.display()));
    let text = config(&source, &[("local", target.to_str().expect("plain"))], "canary = \"1s\"");
    let mirror = Launch::config(&room, &text).path_first(&room.programs()).start();
    let fetches = || fs::read_to_string(&asked).unwrap_or_default().lines().filter(|line| line.contains("--max-size")).count();
    until_it_has_arrived(&mirror, "local");
    assert!(fetches() >= 1);
    mirror.ask(&["hold"]).expect(0);
    // One may have begun before, and so may the beat that it asked for.
    beats(&source, 2);
    let before = fetches();
    beats(&source, 3);
    assert_eq!(fetches(), before);
    let status = mirror.status();
    assert!(canary(&status, "local")["overdue_ms"].is_null(), "{:#}", status.0);
    assert!(!mirror.ask(&["check", "--warn-lag", "1h", "--crit-lag", "1h"]).stdout.contains("has a canary that"));
    mirror.ask(&["release"]).expect(0);
    eventually("it is asked again", LIMIT, || (fetches() > before).then_some(()));
}

#[test]
fn what_stands_in_its_place_is_replaced_or_named_and_nothing_is_followed() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, outside) = (room.source(), room.target(), room.at("outside"));
    fs::write(&outside, "not ours").expect("a file in the room");
    symlink(&outside, source.join(FILE)).expect("a link in the source");
    symlink(&outside, source.join(format!("{FILE}.new"))).expect("a link in the source");
    let text = config(&source, &[("local", target.to_str().expect("plain"))], "canary = \"1s\"");
    let mirror = Launch::config(&room, &text).start();
    until_it_has_arrived(&mirror, "local");
    assert_eq!(fs::read_to_string(&outside).expect("it is there"), "not ours");
    assert!(fs::symlink_metadata(source.join(FILE)).expect("it is there").is_file());
    // A hard link to a file of somebody else's.
    fs::remove_file(source.join(FILE)).expect("ours");
    fs::hard_link(&outside, source.join(FILE)).expect("one file system");
    eventually("it is a file of its own again", LIMIT, || (fs::read(source.join(FILE)).ok()? != b"not ours").then_some(()));
    assert_eq!(fs::read_to_string(&outside).expect("it is there"), "not ours");
    // What cannot be replaced is named, and is no fault of the target's.
    eventually("a directory stands in its place", LIMIT, || {
        let _ = fs::remove_file(source.join(FILE));
        fs::create_dir(source.join(FILE)).ok()
    });
    fs::write(source.join(FILE).join("inside"), "").expect("our own directory");
    let reason = mirror.until("the trouble is named", LIMIT, |status| status.sync("www")["canary_trouble"].as_str().map(str::to_owned));
    assert!(reason.contains(FILE) && reason.contains("leave `canary` out"), "{reason}");
    let line = mirror.ask(&["check"]).expect(1).stdout;
    assert!(line.contains("the canary") && line.contains("cannot be written"), "{line}");
    fs::remove_dir_all(source.join(FILE)).expect("our own directory");
    mirror.until("it can be written again", LIMIT, |status| status.sync("www")["canary_trouble"].is_null().then_some(()));
    mirror.until_logged("the canary can be written again");
}

/// As when the source's file system is not mounted: the canary is written there, and is no reason to take the source for what it was.
#[test]
fn a_source_that_holds_nothing_else_is_empty() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    fs::write(target.join("only here"), "").expect("the target");
    let text = config(&source, &[("local", target.to_str().expect("plain"))], "canary = \"1s\"");
    fs::write(source.join(FILE), "of an earlier daemon").expect("the source");
    let mirror = Launch::config(&room, &text).start();
    let reason = mirror.until_stopped("www");
    assert!(reason.contains("is empty"), "{reason}");
    assert!(target.join("only here").exists());
}

#[test]
fn a_reload_changes_its_pace_and_switches_it_off() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let to = [("local", target.to_str().expect("plain"))];
    let launch = Launch::config(&room, &config(&source, &to, "canary = \"1h\""));
    let mut mirror = launch.start();
    until_it_has_arrived(&mirror, "local");
    launch.rewrite(&config(&source, &to, "canary = \"1s\""));
    mirror.reload();
    beats(&source, 3);
    until_it_has_arrived(&mirror, "local");
    launch.rewrite(&config(&source, &to, ""));
    mirror.reload();
    mirror.until("there is none any more", LIMIT, |status| canary(status, "local").is_null().then_some(()));
    assert!(source.join(FILE).is_file());
    mirror.flush();
    assert_eq!(fs::read(source.join(FILE)).expect("it stays"), fs::read(target.join(FILE)).expect("like any file"));
    mirror.stop();
    let left = fs::read_dir(room.state().join("canary")).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0, "fetches leave nothing behind");
}

/// The process whose working directory this is.
fn process_in(directory: &Path) -> Option<i32> {
    let numbers = fs::read_dir("/proc").expect("procfs").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_there = |number: &i32| fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|at: PathBuf| at == directory);
    numbers.into_iter().find(is_there)
}

fn parent(number: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The programs in the kernel leave out what descends from the daemon; here this test is in its place.
#[test]
fn its_writer_descends_from_nobody() {
    let room = Room::new();
    let source = room.source();
    let mut command = trigsync::command(&room);
    command.args(["write-canary", "--orphan"]).current_dir(&source).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let (mut input, mut output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    assert!(child.wait().expect("our own child").success());
    let writer = process_in(&source).expect("the writer waits for the content");
    let ancestors: Vec<_> = std::iter::successors(parent(writer), |number| parent(*number).filter(|number| *number > 0)).collect();
    assert!(!ancestors.is_empty() && !ancestors.contains(&std::process::id().cast_signed()), "{ancestors:?}");
    assert!(!source.join(FILE).exists());
    input.write_all(b"a beat\n").expect("it reads");
    drop(input);
    let mut said = String::new();
    output.read_to_string(&mut said).expect("it answers");
    assert_eq!((said.as_str(), fs::read_to_string(source.join(FILE)).expect("it is written").as_str()), ("written", "a beat\n"));
}
