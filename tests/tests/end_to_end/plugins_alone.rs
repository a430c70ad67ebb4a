//! Syncs without targets: plugins that are told of every change, without a mirror and without rsync.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    process::Outcome,
    room::Room,
    rsyncd::free_port,
    skip::{self, Cause},
    tree,
    trigsync::{command, trigsync},
};

const LIMIT: Duration = Duration::from_secs(20);

const HOSTILE: [&[u8]; 7] = [b"plain", b"new\nline", b"quo'te\"s", b"$(touch pwned)", b"-rf", b"not utf-8 \xff\xfe", b" blanks \t"];

/// A change as the plugin was told of it: its path, `written` or `deleted`, and whether it stands for what is below.
type Told = (Vec<u8>, String, bool);

/// A plugin that keeps what it is told.
struct Teller<'a> {
    room: &'a Room,
}

impl Teller<'_> {
    fn plugin(&self) -> String {
        let program = self.room.program("tell", &format!("/bin/cat >> '{}'", self.room.at("told").display()));
        format!("[[sync.plugin]]\nname = \"tell\"\nkind = \"exec\"\ncommand = [{program:?}]\ninput = \"json\"\n")
    }

    fn all(&self) -> Vec<Told> {
        let bytes = fs::read(self.room.at("told")).unwrap_or_default();
        let batches = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().map(|batch| batch.expect("JSON"));
        let changes = batches.flat_map(|batch| batch["changes"].as_array().cloned().expect("changes"));
        let told = changes.map(|change| {
            let path = match &change["path"] {
                Value::String(text) => text.clone().into_bytes(),
                bytes => serde_json::from_value(bytes.clone()).expect("bytes"),
            };
            (path, change["change"].as_str().expect("a word").to_owned(), change["below"].as_bool().expect("a truth"))
        });
        told.collect()
    }

    fn forget(&self) {
        fs::write(self.room.at("told"), "").expect("a file in the room");
    }

    fn heard(&self, path: &[u8], change: &str, below: bool) -> bool {
        self.all().contains(&(path.to_vec(), change.to_owned(), below))
    }

    /// What it was told of this path, and of what is below it.
    fn of(&self, path: &str) -> Vec<Told> {
        let below = format!("{path}/").into_bytes();
        self.all().into_iter().filter(|(told, ..)| told == path.as_bytes() || told.starts_with(&below)).collect()
    }
}

/// A sync `www` with these lines, and what stands above it.
fn config(room: &Room, above: &str, keys: &str, plugin: &str) -> String {
    format!("{above}[[sync]]\nname = \"www\"\nsource = {:?}\n{keys}{plugin}", room.source())
}

/// Waits until everything was told, and the plugins have ended their runs.
fn told_all(mirror: &Mirror<'_>) {
    mirror.flush();
    mirror.until("the plugins were told", LIMIT, |status| {
        let plugins = status.sync("www")["plugins"].as_array().cloned().unwrap_or_default();
        plugins.iter().all(|plugin| plugin["pending"] == 0).then_some(())
    });
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).expect("a file in the source");
}

#[test]
fn every_change_is_told_without_a_mirror_and_without_rsync() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, teller) = (room.source(), Teller { room: &room });
    fs::create_dir(source.join("before")).expect("a directory in the source");
    write(&source.join("before/file"), "before");
    let text = config(&room, "", "exclude = [\"*.tmp\", \"/cache/\"]\n", &teller.plugin());
    let launch = Launch::config(&room, &text).env("PATH", room.directory("no programs"));
    let mut mirror = launch.start();
    assert!(mirror.ready.contains("targets=0 plugins=1"), "{}", mirror.ready);
    told_all(&mirror);
    assert_eq!(teller.all(), [], "what was there before is no change");

    fs::create_dir(source.join("d")).expect("a directory in the source");
    told_all(&mirror);
    for name in HOSTILE {
        fs::write(source.join("d").join(OsStr::from_bytes(name)), name).expect("a file in the source");
    }
    told_all(&mirror);
    for name in HOSTILE {
        assert!(teller.heard(&[b"d/", name].concat(), "written", false), "{:?}: {:?}", OsStr::from_bytes(name), teller.all());
    }
    assert!(!source.join("pwned").exists() && !source.join("d/pwned").exists(), "a name was run");

    teller.forget();
    write(&source.join("before/file"), "changed");
    fs::remove_file(source.join("d/plain")).expect("it is there");
    write(&source.join("left.tmp"), "excluded");
    fs::create_dir(source.join("cache")).expect("a directory in the source");
    write(&source.join("cache/file"), "excluded");
    told_all(&mirror);
    assert!(teller.heard(b"before/file", "written", false) && teller.heard(b"d/plain", "deleted", false), "{:?}", teller.all());
    assert!(teller.of("left.tmp").is_empty() && teller.of("cache").is_empty(), "{:?}", teller.all());

    fs::rename(source.join("d"), source.join("e")).expect("it is there");
    told_all(&mirror);
    assert!(teller.heard(b"d", "deleted", true) && teller.heard(b"e", "written", true), "{:?}", teller.all());
    assert!(mirror.rsyncs().is_empty());

    // What changes while nobody runs nobody is told of.
    mirror.stop();
    teller.forget();
    write(&source.join("meanwhile"), "nobody looks");
    let mirror = launch.start();
    write(&source.join("afterwards"), "somebody does");
    told_all(&mirror);
    assert!(teller.heard(b"afterwards", "written", false) && teller.of("meanwhile").is_empty(), "{:?}", teller.all());
    drop(mirror);
}

#[test]
fn every_command_says_what_holds_without_a_target() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, teller) = (room.source(), Teller { room: &room });
    let address = format!("127.0.0.1:{}", free_port());
    let text = config(&room, &format!("metrics = \"{address}\"\n"), "", &teller.plugin());
    let mirror = Launch::config(&room, &text).start();
    write(&source.join("file"), "file");
    told_all(&mirror);

    let status = mirror.status();
    let sync = status.sync("www");
    assert!(sync["targets"] == serde_json::json!([]) && sync["announcer"]["state"] == "ok", "{sync:#}");
    assert!(sync["announcer"]["told"].as_u64() > Some(0) && sync["plugins"][0]["told"].as_u64() > Some(0), "{sync:#}");
    let text = mirror.ask(&["status"]).expect(0).stdout;
    assert!(text.contains("no targets, plugins alone: ok") && text.contains("plugin tell (exec ") && !text.contains("target  "), "{text}");
    let line = mirror.ask(&["check"]).expect(0).stdout;
    for words in ["TRIGSYNC OK - 0 targets, 1 plugins without targets", "'lag_www'=", "'backlog_www'=0;", "'plugin_pending_www_tell'=0;"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let mut connection = TcpStream::connect(&address).expect("metrics are served");
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut metrics = String::new();
    connection.read_to_string(&mut metrics).expect("it answers in UTF-8");
    for line in
        ["trigsync_announcer_told_total{sync=\"www\"}", "trigsync_announcer_lag_seconds{sync=\"www\"} 0", "trigsync_plugin_told_total"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    assert!(mirror.ask(&["hold"]).expect(0).stdout.contains("held: the plugins of www"));
    teller.forget();
    write(&source.join("held"), "held");
    mirror.until("it is held", LIMIT, |status| (status.sync("www")["announcer"]["state"] == "held").then_some(()));
    let flushed = mirror.flush_within(Duration::from_secs(5)).expect(1);
    assert!(flushed.stderr.contains("www: the plugins of www: 1 changes have not arrived: held by the operator"), "{flushed}");
    let line = mirror.ask(&["check"]).expect(1).stdout;
    assert!(line.starts_with("TRIGSYNC WARNING - www: its plugins: is held by the operator"), "{line}");
    assert_eq!(teller.all(), []);
    assert!(mirror.ask(&["release"]).expect(0).stdout.contains("released: the plugins of www"));
    told_all(&mirror);
    assert!(teller.heard(b"held", "written", false));
    assert!(mirror.ask(&["retry"]).expect(0).stdout.contains("the plugins of www"));
    mirror.ask(&["history"]).expect(0);
    for arguments in [&["audit"][..], &["hold", "--target", "x"], &["verify"]] {
        let answer = mirror.ask(arguments).expect(1);
        assert!(answer.stderr.contains("target"), "{answer}");
    }

    let file = Launch::file(&room);
    let with_file = |command: &str| trigsync(&room, [command.as_ref(), "--config".as_ref(), file.as_os_str()]);
    for command in ["sync", "verify", "rsyncd-snippet"] {
        let answer = with_file(command).expect(1);
        assert!(answer.stderr.starts_with("trigsync: no sync has a target: "), "{answer}");
    }
    let mut doctor = command(&room);
    doctor.env("PATH", room.directory("no programs")).args(["doctor".as_ref(), "--config".as_ref(), file.as_os_str()]);
    let doctor = Outcome::of(&mut doctor, LIMIT);
    assert!(doctor.stdout.contains("OK    www: plugin tell: /") && doctor.stdout.contains("rsync: not needed"), "{doctor}");
    assert!(!doctor.stdout.contains("FAULT rsync") && !doctor.stdout.contains("FAULT www"), "{doctor}");
    // Beside a sync that has a target.
    let (other, target) = (room.directory("other"), room.target());
    let both = fs::read_to_string(&file).expect("it is there") + &format!("[[sync]]\nsource = {other:?}\ntargets = [{target:?}]\n");
    fs::write(&file, &both).expect("a file in the room");
    for command in ["sync", "verify"] {
        let answer = with_file(command).expect(0);
        assert!(answer.stderr.contains("trigsync: www: left out, it has no targets"), "{answer}");
    }
    let unknown = fs::read_to_string(&file).expect("it is there").replace("programs/tell", "programs/nowhere");
    fs::write(&file, unknown).expect("a file in the room");
    let doctor = with_file("doctor").expect(1);
    assert!(doctor.stdout.contains("FAULT www: plugin tell: ") && doctor.stdout.contains("is not there"), "{doctor}");
}

#[test]
fn a_root_that_was_replaced_is_told_as_a_whole() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, teller) = (room.source(), Teller { room: &room });
    let mirror = Launch::config(&room, &config(&room, "", "", &teller.plugin())).start();
    write(&source.join("file"), "file");
    told_all(&mirror);
    teller.forget();
    fs::rename(&source, room.at("elsewhere")).expect("it is there");
    fs::create_dir(&source).expect("a directory in the room");
    mirror.until_stopped("www");
    mirror.ask(&["check"]).expect(2);
    assert_eq!(teller.all(), [], "an empty directory in its place says nothing");
    mirror.release();
    told_all(&mirror);
    assert!(teller.heard(b".", "written", true), "{:?}", teller.all());
    write(&source.join("new"), "new");
    told_all(&mirror);
    assert!(teller.heard(b"new", "written", false), "{:?}", teller.all());
}

#[test]
fn what_the_kernel_lost_is_told_as_the_source_itself() {
    if skip::without_root() {
        return;
    }
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").ok().and_then(|text| text.trim().parse::<usize>().ok());
    let Some(limit) = limit.filter(|limit| *limit <= 20_000) else {
        return skip::skip(&Cause::Unavoidable(format!("the kernel's queue holds {limit:?} events, too many to overflow it")));
    };
    let room = Room::new();
    let (source, teller) = (room.source(), Teller { room: &room });
    let told = room.at("told in part");
    let program = room.program("part", &format!("/bin/cat >> '{}'", told.display()));
    let part = format!("[[sync.plugin]]\nname = \"part\"\nkind = \"exec\"\ncommand = [{program:?}]\nwhole = false\n");
    let text = config(&room, "backend = \"fanotify\"\nunlimited_queue = false\n", "", &(teller.plugin() + &part));
    let mirror = Launch::config(&room, &text).start();
    write(&source.join("file"), "file");
    told_all(&mirror);
    mirror.signal(Signal::SIGSTOP);
    tree::many_files(&source.join("many"), limit + 1_000);
    mirror.signal(Signal::SIGCONT);
    told_all(&mirror);
    assert!(mirror.status().0["capture"]["overflows"].as_u64() > Some(0), "no overflow: the test has shown nothing");
    assert!(teller.heard(b".", "written", true), "{:?}", mirror.status().0);
    let told = fs::read(&told).expect("it was told");
    assert!(told.split(|byte| *byte == 0).all(|path| path != b"./" && path != b"."), "it wants no whole directories");
}

#[test]
fn a_reload_adds_targets_and_takes_them_away() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, teller) = (room.source(), room.target(), Teller { room: &room });
    let alone = config(&room, "", "", &teller.plugin());
    let mirrored = config(&room, "", &format!("targets = [{target:?}]\n"), &teller.plugin());
    let launch = Launch::config(&room, &alone);
    let mirror = launch.start();
    write(&source.join("one"), "one");
    told_all(&mirror);
    assert!(teller.heard(b"one", "written", false));

    let mut reloads = 0;
    let mut reload = |text: &str| {
        reloads += 1;
        launch.rewrite(text);
        mirror.reload();
        mirror
            .until("it was reloaded", LIMIT, |_| (mirror.log().matches("the configuration was reloaded").count() == reloads).then_some(()));
    };
    reload(&mirrored);
    told_all(&mirror);
    compare::assert_equal(&source, &target);
    assert!(teller.heard(b".", "written", true), "the full pass: {:?}", teller.all());
    write(&source.join("two"), "two");
    told_all(&mirror);
    assert!(teller.heard(b"two", "written", false) && target.join("two").exists());

    mirror.ask(&["hold"]).expect(0);
    write(&source.join("three"), "three");
    mirror.until("it waits", LIMIT, |status| (status.sync("www")["targets"][0]["pending"].as_u64() > Some(0)).then_some(()));
    reload(&alone);
    told_all(&mirror);
    assert!(teller.heard(b"three", "written", false), "what had not arrived was not told before: {:?}", teller.all());
    write(&source.join("four"), "four");
    told_all(&mirror);
    assert!(teller.heard(b"four", "written", false) && !target.join("three").exists() && mirror.rsyncs().is_empty());

    // The same, with other times: it goes on with what it had.
    reload(&config(&room, "", "settle = { quiet = \"30ms\" }\n", &teller.plugin()));
    write(&source.join("five"), "five");
    told_all(&mirror);
    assert!(teller.heard(b"five", "written", false) && !teller.all().iter().any(|(path, ..)| path == b"d"), "{:?}", teller.all());
    mirror.ask(&["check"]).expect(0);
}
