//! Files that cannot be sent: they hold up no other, are set aside with their reason, and arrive once they can.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror, one_target},
    process::{eventually, must},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

/// Waits until one path is set aside, for a reason that holds `words`.
#[track_caller]
fn until_set_aside(mirror: &Mirror<'_>, words: &str) {
    mirror.until(&format!("a file is set aside: {words}"), Duration::from_secs(20), |status| {
        let set_aside = status.target("site", "it")["set_aside"].as_array()?.clone();
        let [pair] = &set_aside[..] else { return None };
        pair[1].as_str().filter(|reason| reason.contains(words)).map(|_| ())
    });
}

/// Makes files, and waits until every one is there.
#[track_caller]
fn others_arrive(source: &Path, target: &Path, prefix: &str) {
    for number in 0..10 {
        let name = format!("{prefix}-{number}");
        fs::write(source.join(&name), &name).expect("a file in the source");
        eventually(&format!("{name} arrives beside a file that cannot"), Duration::from_secs(10), || {
            target.join(&name).exists().then_some(())
        });
    }
}

/// An rsync whose root may not read everything.
fn rsync_that_reads_not_everything(room: &Room) {
    let real = skip::find_program("rsync").expect("rsync is there");
    room.program("rsync", &format!("exec setpriv --bounding-set=-dac_override,-dac_read_search '{}' \"$@\"", real.display()));
}

#[test]
fn a_file_that_cannot_be_read() {
    if skip::without_root() || skip::without_program(&["setpriv"]) {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    rsync_that_reads_not_everything(&room);
    let config = one_target(&source, target.to_str().expect("plain"), "");
    let mirror = Launch::config(&room, &config).path_first(&room.programs()).start();
    mirror.flush();
    let locked = source.join("locked");
    fs::write(&locked, "locked").expect("a file in the source");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("it was just made");
    until_set_aside(&mirror, "Permission denied");
    others_arrive(&source, &target, "good");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o644)).expect("it was just made");
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_file_whose_name_is_too_long_for_the_receiver() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    // Each byte of the name is two at the receiver, and no file system here takes more than 255. trigsync itself would not have the option.
    let real = skip::find_program("rsync").expect("rsync is there");
    room.program("rsync", &format!("exec '{}' --iconv=iso-8859-1 \"$@\"", real.display()));
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target).set("charset", "utf-8")]);
    let config = one_target(&source, &server.url("mirror"), "");
    let mirror = Launch::config(&room, &config).path_first(&room.programs()).start();
    mirror.flush();
    let name = |length| source.join(OsStr::from_bytes(&vec![0xe9; length]));
    fs::write(name(100), "").expect("a file in the source");
    eventually("a shorter name is converted, and arrives", Duration::from_secs(10), || {
        target.join("\u{e9}".repeat(100)).exists().then_some(())
    });
    fs::write(name(200), "").expect("a file in the source");
    until_set_aside(&mirror, "File name too long");
    others_arrive(&source, &target, "good");
    fs::remove_file(name(200)).expect("it was just made");
    fs::remove_file(name(100)).expect("it was just made");
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_file_that_never_rests_holds_up_no_other() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mirror = Launch::config(&room, &one_target(&source, target.to_str().expect("plain"), "")).start();
    mirror.flush();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::create(source.join("restless")).expect("a file in the source");
            while !done.load(Ordering::Relaxed) {
                file.write_all(&[b'x'; 10_000]).expect("a file in the source");
                thread::sleep(Duration::from_millis(2));
            }
        });
        // Ends the writer where something fails, so that the scope does not wait for ever.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..10 {
                let name = format!("good-{number}");
                fs::write(source.join(&name), &name).expect("a file in the source");
                eventually(&format!("{name} arrives beside a file that never rests"), Duration::from_secs(5), || {
                    target.join(&name).exists().then_some(())
                });
            }
            eventually("what is there of it arrives too", Duration::from_secs(10), || {
                target.join("restless").metadata().is_ok_and(|found| found.len() > 0).then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn failures_are_written_down_in_a_file_that_no_shell_can_run() {
    if skip::without_root() || skip::without_program(&["setpriv"]) {
        return;
    }
    let room = Room::new();
    let (source, target, failures) = (room.source(), room.target(), room.at("failures.sh"));
    tree::web_site(&source);
    rsync_that_reads_not_everything(&room);
    // As sersync left it.
    fs::write(&failures, "#!/bin/bash\n").expect("a file in the room");
    fs::set_permissions(&failures, fs::Permissions::from_mode(0o777)).expect("it was just made");
    let site = one_target(&source, target.to_str().expect("plain"), "").replace("[[sync.target]]", "retry_max = \"2s\"\n[[sync.target]]");
    // Another program takes rsync's place meanwhile.
    let site = site + "warm = 0\n";
    let config = |failures: &Path| format!("fail_log = {failures:?}\n{site}");
    let launch = Launch::config(&room, &config(&failures)).path_first(&room.programs());
    let mirror = launch.start();
    mirror.flush();
    let pwned = room.at("pwned");
    // A slash in it would end the name.
    let locked = source.join("locked\ntouch pwned\n`touch pwned`$(touch pwned)");
    fs::write(&locked, "locked").expect("a file in the source");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("it was just made");
    until_set_aside(&mirror, "Permission denied");
    let lines = |file: &Path, words: &[&str]| {
        eventually(&format!("{words:?} stands in {}", file.display()), Duration::from_secs(20), || {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(text)
        })
    };
    let escaped = "\tsite\tit\tfailed\tlocked\\ntouch pwned\\n`touch pwned`$(touch pwned)\t";
    let text = lines(&failures, &[escaped, "Permission denied"]);
    assert!(text.lines().skip(1).all(|line| line.starts_with("# 20")), "{text}");
    assert_eq!(fs::metadata(&failures).expect("it is there").permissions().mode() & 0o7777, 0o600);
    must(Command::new("sh").arg(&failures).current_dir(room.path()));
    assert!(!pwned.exists(), "a name was run");
    others_arrive(&source, &target, "good");

    // The next attempt is never further away than is configured.
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o644)).expect("it was just made");
    lines(&failures, &["\tarrived\tlocked\\n"]);
    compare::assert_equal(&source, &target);
    room.program("rsync", "echo 'rsync: it broke' >&2; exit 12");
    fs::write(source.join("index.html"), "rewritten").expect("a file in the source");
    lines(&failures, &["\tsite\tit\tretrying\t-\trsync: it broke"]);
    rsync_that_reads_not_everything(&room);
    lines(&failures, &["\tsite\tit\tok\t-\t", "rsync: it broke"]);
    // What was cut off has the names of the root compared too: they are to be through with it.
    mirror.flush();

    // Another file is taken by a reload; one that is no file is refused once, and stops nothing.
    let (moved, secret) = (room.at("moved"), room.secret("secret", "mine\n"));
    symlink(&secret, &moved).expect("a link in the room");
    launch.rewrite(&config(&moved));
    mirror.reload();
    mirror.until_logged("moved is a symbolic link");
    for name in ["one", "two"] {
        fs::write(source.join(name), name).expect("a file in the source");
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o000)).expect("it was just made");
        until_set_aside(&mirror, "Permission denied");
        fs::remove_file(source.join(name)).expect("it was just made");
        mirror.flush();
    }
    assert_eq!(fs::read_to_string(&secret).expect("it is there"), "mine\n");
    let log = mirror.log();
    assert_eq!(log.matches("moved is a symbolic link").count(), 1, "{log}");
    assert!(!log.contains("daemon-wide keys have changed"), "{log}");
    fs::remove_file(&moved).expect("it is there");
    fs::write(source.join("three"), "three").expect("a file in the source");
    fs::set_permissions(source.join("three"), fs::Permissions::from_mode(0o000)).expect("it was just made");
    lines(&moved, &["\tfailed\tthree\t"]);
    others_arrive(&source, &target, "better");
}
