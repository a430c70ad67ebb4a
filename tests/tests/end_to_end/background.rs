//! sersync's course in trigsync's hands, step by step: its file with six edits, `sersync2 -d -r -o confxml.xml`, and a machine that starts it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgid, getsid},
};
use trigsync_tests::{
    compare,
    process::{Outcome, eventually, must},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
    trigsync::{binary, trigsync},
};

const LIMIT: Duration = Duration::from_secs(20);
const SHIPPED: &str = include_str!("../../../trigsync-user/tests/sersync/shipped.xml");

/// A daemon in the background, by the file with its number. Whatever becomes of the test, it ends with this.
struct Background(PathBuf);

impl Background {
    fn of(room: &Room) -> Self {
        Self(room.state().join("trigsync.pid"))
    }

    fn process(&self) -> Option<Pid> {
        fs::read_to_string(&self.0).ok()?.trim().parse().ok().map(Pid::from_raw)
    }

    fn kill9(&self) {
        let process = self.process().expect("it runs in the background");
        kill(process, Signal::SIGKILL).expect("it is ours");
        eventually("it is gone", LIMIT, || kill(process, None).is_err().then_some(()));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}

/// Runs a program with these words in the room.
fn run(room: &Room, program: &Path, words: &[&str]) -> Outcome {
    Outcome::of(Command::new(program).args(words).current_dir(room.path()).env_remove("NOTIFY_SOCKET"), LIMIT)
}

/// The shipped file with the six lines edited that the course edits, and where a port is not the usual one, a seventh.
fn edited(source: &Path, password_file: &Path, port: &str) -> String {
    let edits = [
        (r#"watch="$DIR/www""#, format!("watch=\"{}\"", source.display())),
        (r#"name="tongbu1""#, "name=\"backup\"".to_owned()),
        (r#"params="-artuz""#, "params=\"-az\"".to_owned()),
        (r#"auth start="false" users="root""#, "auth start=\"true\" users=\"rsync_backup\"".to_owned()),
        (r#"passwordfile="$DIR/rsync.pas""#, format!("passwordfile=\"{}\"", password_file.display())),
        (r#"timeout start="false""#, "timeout start=\"true\"".to_owned()),
        (r#"userDefinedPort start="false" port="874""#, format!("userDefinedPort start=\"true\" port=\"{port}\"")),
    ];
    edits.iter().fold(SHIPPED.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

#[test]
fn the_courses_lab_step_by_step() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let module = Module::new("backup", &target).secret("rsync_backup", "oldboy").set("max connections", "10");
    let server = RsyncDaemon::start(&room, &[module]);
    let port = server.url("").rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("it has a port").to_owned();
    let password_file = room.secret("rsync.password", "oldboy\n");
    fs::write(room.at("confxml.xml"), edited(&source, &password_file, &port)).expect("a file in the room");
    let sersync2 = room.at("sersync2");
    symlink(binary(), &sersync2).expect("a link in the room");
    tree::web_site(&source);
    let state = room.state();
    let state = state.to_str().expect("plain");
    let daemon = Background::of(&room);
    let start = || run(&room, &sersync2, &["-d", "-r", "-n", "5", "-o", "confxml.xml", "--state-dir", state]).expect(0);
    let flush = || trigsync(&room, ["flush"]).expect(0);
    let check = || trigsync(&room, ["check"]);

    let started = start();
    assert!(started.stdout.starts_with("ready tier="), "{started}");
    let process = daemon.process().expect("it says its number");
    assert!(started.stdout.contains(&format!("process {process}; its log is {state}/trigsync.log")), "{started}");
    assert_eq!((getsid(Some(process)), getpgid(Some(process))), (Ok(process), Ok(process)), "a session of its own");
    assert_eq!(fs::read_link(format!("/proc/{process}/cwd")).expect("it runs"), Path::new("/"));
    assert_eq!(fs::metadata(room.state().join("trigsync.log")).expect("a log").permissions().mode() & 0o777, 0o600);
    flush();
    compare::assert_equal(&source, &target);

    fs::write(source.join("new"), "new").expect("a file in the source");
    fs::write(source.join("index.html"), "changed").expect("a file in the source");
    fs::remove_file(source.join("new")).expect("just made");
    tree::many_files(&source.join("at once"), 2000);
    flush();
    compare::assert_equal(&source, &target);
    let history = trigsync(&room, ["history", "--failed"]).expect(0);
    assert!(history.stdout.starts_with("0 batches"), "nothing has failed: {history}");
    let fine = check().expect(0);
    assert!(fine.stdout.contains("OK"), "{fine}");

    daemon.kill9();
    let dead = check().expect(2);
    assert!(dead.stdout.contains("CRITICAL"), "{dead}");
    fs::write(source.join("meanwhile"), "nobody looks").expect("a file in the source");
    fs::remove_dir_all(source.join("at once/d0")).expect("it is there");
    start();
    flush();
    compare::assert_equal(&source, &target);
    check().expect(0);
    trigsync(&room, ["stop"]).expect(0);
    assert!(daemon.process().is_none(), "its number goes with it");
}

#[test]
fn what_cannot_start_says_so_to_whoever_called() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let _daemon = Background::of(&room);
    let state = room.state();
    let state = state.to_str().expect("plain");
    let missing = run(&room, &binary(), &["sersync", "-d", "-o", "confxml.xml", "--state-dir", state]).expect(2);
    assert!(missing.stderr.contains("confxml.xml") && missing.stdout.is_empty(), "{missing}");
    let wrong = run(&room, &binary(), &["run", "--detach", "--source", "nowhere", "--target", "x::y", "--state-dir", state]).expect(2);
    assert!(wrong.stderr.contains("nowhere") && !wrong.stderr.contains("confxml.xml"), "only what this one said: {wrong}");
}

/// A root directory of a machine that is not this one.
fn machine(room: &Room, systemd: bool) -> PathBuf {
    let root = room.directory("machine");
    if systemd {
        room.directory("machine/usr/lib/systemd/system");
    }
    root
}

fn configuration(room: &Room) -> PathBuf {
    let file = room.at("it's a.toml");
    fs::write(&file, format!("[[sync]]\nsource = {:?}\ntargets = [{:?}]\n", room.source(), room.target())).expect("a file in the room");
    file
}

fn words<'a>(command: &'a str, root: &'a Path, config: Option<&'a Path>) -> Vec<&'a str> {
    let config = config.into_iter().flat_map(|file| ["--config", file.to_str().expect("plain")]);
    [command, "--root", root.to_str().expect("plain")].into_iter().chain(config).collect()
}

#[test]
fn a_unit_is_installed_and_taken_away() {
    if skip::without_program(&["systemctl", "systemd-analyze"]) {
        return;
    }
    let room = Room::new();
    let (root, config) = (machine(&room, true), configuration(&room));
    let install = || trigsync(&room, words("install-service", &root, Some(&config)));
    let unit = root.join("etc/systemd/system/trigsync.service");
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/trigsync.service");
    install().expect(0);
    let text = fs::read_to_string(&unit).expect("a unit");
    assert!(text.contains("run --config") && text.contains(&format!("\"{}\"", config.display())), "{text}");
    assert!(fs::symlink_metadata(&wanted).is_ok(), "it is enabled");
    let verified = Outcome::of(Command::new("systemd-analyze").arg("verify").arg(&unit), LIMIT);
    assert!(!verified.stderr.contains("trigsync.service"), "systemd has something to say of it: {verified}");
    install().expect(0);

    let uninstall = || trigsync(&room, words("uninstall-service", &root, None));
    uninstall().expect(0);
    assert!(!unit.exists() && fs::symlink_metadata(&wanted).is_err(), "nothing is left");
    assert!(uninstall().expect(0).stdout.contains("no service trigsync was installed"));

    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").expect("a unit of somebody else's");
    for refused in [install(), uninstall()] {
        let refused = refused.expect(1);
        assert!(refused.stderr.contains("was not written by"), "{refused}");
    }
    assert_eq!(fs::read_to_string(&unit).expect("it stays").lines().count(), 2);
    fs::write(&config, "[[sync]]\n").expect("a file in the room");
    fs::remove_file(&unit).expect("just made");
    install().expect(2);
    assert!(!unit.exists(), "a configuration that is wrong installs nothing");
}

#[test]
fn where_there_is_no_systemd_a_line_starts_it() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (root, config) = (machine(&room, false), configuration(&room));
    let rc_local = room.directory("machine/etc/rc.d").join("rc.local");
    fs::write(&rc_local, "#!/bin/sh\ntrue\nexit 0\n").expect("as the system ships it");
    tree::web_site(&room.source());
    let daemon = Background::of(&room);
    let installed = trigsync(&room, words("install-service", &root, Some(&config))).expect(0);
    assert!(installed.stdout.contains("there is no systemd here"), "{installed}");
    // What the machine does.
    must(&mut Command::new(&rc_local));
    assert!(daemon.process().is_some());
    trigsync(&room, ["flush"]).expect(0);
    compare::assert_equal(&room.source(), &room.target());
    trigsync(&room, ["stop"]).expect(0);
    trigsync(&room, words("uninstall-service", &root, None)).expect(0);
    assert_eq!(fs::read_to_string(&rc_local).expect("it stays"), "#!/bin/sh\ntrue\nexit 0\n");
}
