//! `sync`, `verify`, `events` and `doctor`: what they find, what they print, and their exit codes.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use trigsync_tests::{
    compare,
    mirror::Launch,
    process::{Outcome, Process, eventually},
    room::Room,
    rsyncd::{self, Module, RsyncDaemon},
    skip, tree,
    trigsync::{command, source_and_targets, trigsync},
};

fn plain(path: &Path) -> &str {
    path.to_str().expect("the room's path is plain")
}

#[test]
fn sync_says_how_it_went() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    fs::write(target.join("alien"), "").expect("a file at the target");
    let sync =
        |targets: &[&str]| Outcome::of(command(&room).arg("sync").args(source_and_targets(&source, targets)), Duration::from_secs(60));
    sync(&[plain(&target)]).expect(0);
    compare::assert_equal(&source, &target);

    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &room.directory("module"))]);
    let dead = rsyncd::url(rsyncd::free_port(), "mirror");
    fs::write(source.join("new"), "new").expect("a file in the source");
    let outcome = sync(&[&dead, plain(&target), &server.url("mirror")]).expect(1);
    assert!(outcome.stderr.contains(&dead), "it names the dead target: {outcome}");
    compare::assert_equal(&source, &target);
    compare::assert_equal(&source, &room.at("module"));

    let outcome = sync(&[&server.url("no-such-module")]).expect(1);
    assert!(outcome.stderr.contains("no-such-module"), "it names the module: {outcome}");
    Outcome::of(command(&room).arg("sync").args(source_and_targets(Path::new("/no/such"), &[plain(&target)])), Duration::from_secs(60))
        .expect(2);

    for name in tree::names(&source) {
        let path = source.join(name);
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was made before");
    }
    let before = tree::names(&target);
    let mut guarded = command(&room);
    guarded.arg("sync").args(source_and_targets(&source, &[plain(&target)])).args(["--max-delete", "50%"]);
    Outcome::of(&mut guarded, Duration::from_secs(60)).expect(3);
    assert_eq!(tree::names(&target), before, "a guard stopped it, and yet something was deleted");
}

#[test]
fn verify_finds_drift_and_repairs_it() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mirror = Launch::flags(&room, &source, &[plain(&target)]).start();
    mirror.flush();
    mirror.ask(&["verify"]).expect(0);

    fs::write(target.join("css/alien"), "alien").expect("a file at the target");
    let found = mirror.ask(&["verify"]).expect(1);
    let line = found.stdout.lines().find(|line| line.ends_with("css/alien"));
    assert!(line.is_some_and(|line| line.starts_with(&format!("{}: ", target.display()))), "it lists the alien: {found}");
    assert!(target.join("css/alien").exists(), "without --repair nothing changes");
    mirror.ask(&["verify", "--repair"]);
    mirror.ask(&["verify"]).expect(0);
    assert!(!target.join("css/alien").exists());

    // The same size, the same time, another byte: only the content tells.
    let page = target.join("posts/2024/3.html");
    let time = fs::metadata(&page).and_then(|metadata| metadata.modified()).expect("it has arrived");
    let mut bytes = fs::read(&page).expect("it has arrived");
    bytes[10] ^= 0x20;
    fs::write(&page, bytes).expect("a file at the target");
    fs::File::open(&page).and_then(|file| file.set_modified(time)).expect("utimes");
    mirror.ask(&["verify"]).expect(0);
    let found = mirror.ask(&["verify", "--checksum"]).expect(1);
    assert!(found.stdout.lines().any(|line| line.ends_with("posts/2024/3.html")), "it lists the changed file: {found}");
    mirror.ask(&["verify", "--checksum", "--repair"]);
    compare::assert_equal(&source, &target);
    mirror.ask(&["verify", "--checksum"]).expect(0);
    drop(mirror);

    // And without a daemon, with the configuration on the command line.
    fs::remove_file(target.join("robots.txt")).expect("it has arrived");
    let verify =
        |target: &str| Outcome::of(command(&room).arg("verify").args(source_and_targets(&source, &[target])), Duration::from_secs(60));
    let found = verify(plain(&target)).expect(1);
    assert!(found.stdout.lines().any(|line| line.ends_with("robots.txt")), "it lists the missing file: {found}");
    verify(&rsyncd::url(rsyncd::free_port(), "mirror")).expect(2);
}

#[test]
fn events_prints_changes() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let source = room.source();
    let [json, text] = [&["--json"][..], &[]].map(|flags| {
        let log = room.at(format!("events-{}", flags.len()));
        let mut events = command(&room);
        events.arg("events").arg(&source).args(flags);
        events.stdout(fs::File::create(&log).expect("a file")).stderr(fs::File::create(log.with_extension("err")).expect("a file"));
        let process = Process::start(&mut events);
        eventually("`events` watches", Duration::from_secs(20), || {
            fs::read_to_string(log.with_extension("err")).ok().filter(|text| text.contains("watching"))
        });
        (process, log)
    });
    fs::write(source.join("made"), "made").expect("a file in the source");
    fs::create_dir(source.join("directory")).expect("a directory");
    fs::rename(source.join("directory"), source.join("moved")).expect("a rename");
    fs::write(source.join(OsStr::from_bytes(b"no utf-8 \xff\nand two lines")), "").expect("a file in the source");
    fs::remove_file(source.join("made")).expect("just made");
    fs::write(source.join("the end"), "").expect("a file in the source");
    let lines = |log: &Path| {
        eventually("the last change is printed", Duration::from_secs(10), || {
            fs::read_to_string(log).ok().filter(|text| text.contains("the end") && text.ends_with('\n'))
        })
    };
    let json_lines = lines(&json.1);
    let changes: Vec<serde_json::Value> = json_lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the line {line:?} of\n{json_lines}")))
        .collect();
    let ops = |path: &str| -> Vec<String> {
        let of_path = changes.iter().filter(|change| change["path"].as_str().is_some_and(|found| found.ends_with(path)));
        of_path
            .flat_map(|change| change["ops"].as_array().cloned().unwrap_or_default())
            .map(|op| op.as_str().unwrap_or("?").to_owned())
            .collect()
    };
    assert!(ops("made").iter().any(|op| op == "create"), "a creation is called create: {json_lines}");
    let moved = changes.iter().find(|change| change["path"].as_str().is_some_and(|path| path.ends_with("moved")));
    assert!(moved.is_some_and(|change| change["scope"] == "tree"), "a moved directory is a tree: {json_lines}");
    assert!(changes.iter().all(|change| change["scope"] == "entry" || change["scope"] == "tree"), "{json_lines}");
    let text_lines = lines(&text.1);
    assert!(text_lines.lines().any(|line| line.contains("create") && line.ends_with("made")), "{text_lines}");
    assert!(text_lines.lines().all(|line| line.contains(' ')), "a name with a line end stays in its line: {text_lines}");
}

#[test]
fn what_a_capture_left_in_the_kernel_is_removed_only_without_its_daemon() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let mirror = Launch::flags(&room, &room.source(), &[plain(&room.target())]).start();
    let refused = mirror.ask(&["uninstall-capture"]).expect(1);
    assert!(refused.stderr.contains(plain(&room.state())), "it names the state directory that is in use: {refused}");
    let outlives_it = mirror.ready.contains("tier=ebpf-fexit");
    drop(mirror);
    let first = trigsync(&room, ["uninstall-capture"]).expect(0);
    assert_eq!(first.stdout.contains("removed /sys/fs/bpf/trigsync/"), outlives_it, "{first}");
    let nothing = trigsync(&room, ["uninstall-capture"]).expect(0);
    assert!(nothing.stdout.contains("nothing was left in the kernel"), "{nothing}");
}

#[test]
fn doctor_tells_good_targets_from_bad_ones() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let source = room.source();
    tree::web_site(&source);
    let target = |name: &str| room.directory(format!("targets/{name}"));
    let lock = room.at("narrow.lock");
    let server = RsyncDaemon::start(
        &room,
        &[
            Module::new("good", &target("good")),
            Module::new("read-only", &target("read-only")).set("read only", "yes"),
            Module::new("secret", &target("secret")).secret("deploy", "open sesame"),
            Module::new("nobody", &target("nobody")).set("uid", "nobody"),
            Module::new("no-delete", &target("no-delete")).set("refuse options", "delete"),
            Module::new("narrow", &target("narrow"))
                .secret("deploy", "open sesame")
                .set("max connections", "2")
                .set("lock file", plain(&lock)),
        ],
    );
    let right = room.secret("right", "open sesame\n");
    let wrong = room.secret("wrong", "open barley\n");
    let doctor = |to: &str, more: &str| {
        let text = format!("[[sync]]\nsource = {source:?}\n[[sync.target]]\nname = \"it\"\nto = \"{to}\"\n{more}");
        fs::write(Launch::file(&room), text).expect("a file in the room");
        trigsync(&room, ["doctor", "--config", plain(&Launch::file(&room))])
    };
    let secret = server.url_as("deploy", "secret");
    let local = target("local").display().to_string();
    for (to, more) in [(&server.url("good"), String::new()), (&secret, format!("password_file = {right:?}\n")), (&local, String::new())] {
        let outcome = doctor(to, &more).expect(0);
        for word in ["OK", "ebpf-fexit", "ebpf-kprobe", "fanotify", "rsync", "it"] {
            assert!(outcome.stdout.contains(word), "{word:?} is missing: {outcome}");
        }
    }
    let narrow = server.url_as("deploy", "narrow");
    let fits = doctor(&narrow, &format!("password_file = {right:?}\nconnections = 2\n")).expect(0);
    assert!(fits.stdout.contains("connections: 2 at once"), "{fits}");
    let dead = rsyncd::url(rsyncd::free_port(), "m");
    let bad: [(&str, &str, &[&str]); 7] = [
        (&server.url("read-only"), "", &["read only", "read-only"]),
        (&secret, &format!("password_file = {wrong:?}\n"), &["auth", "password"]),
        (&server.url("no-such-module"), "", &["no-such-module"]),
        (&server.url("nobody"), "", &["permission", "write"]),
        (&server.url("no-delete"), "", &["delet"]),
        (&dead, "", &["refused", "connect"]),
        (&narrow, &format!("password_file = {right:?}\nconnections = 3\n"), &["max connections = 4"]),
    ];
    for (to, more, words) in bad {
        let outcome = doctor(to, more).expect(1);
        // The address is in the answer too, and must not stand in for the fault.
        let said = (outcome.stdout.clone() + &outcome.stderr).replace(to, "ADDRESS").to_lowercase();
        let named = words.iter().any(|word| said.contains(word)) || (to.contains("no-such-module") && said.contains("module"));
        assert!(named, "the fault is not named, as one of {words:?}: {outcome}");
    }
    for name in ["good", "secret", "local", "nobody", "no-delete", "read-only"] {
        assert!(tree::names(&target(name)).is_empty(), "the doctor left something at {name}");
    }
    trigsync(&room, ["doctor"]).expect(0);
}
