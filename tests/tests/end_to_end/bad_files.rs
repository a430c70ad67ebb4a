//! Files that cannot be sent: they hold up no other, are set aside with their reason, and arrive once they can.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    process::eventually,
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

fn configuration(source: &Path, to: &str) -> String {
    format!("[[sync]]\nname = \"site\"\nsource = {source:?}\n[[sync.target]]\nname = \"it\"\nto = \"{to}\"\n")
}

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

#[test]
fn a_file_that_cannot_be_read() {
    if skip::without_root() || skip::without_program(&["setpriv"]) {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    // An rsync whose root may not read everything.
    let real = skip::find_program("rsync").expect("rsync is there");
    room.program("rsync", &format!("exec setpriv --bounding-set=-dac_override,-dac_read_search '{}' \"$@\"", real.display()));
    let config = configuration(&source, target.to_str().expect("plain"));
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
    let config = configuration(&source, &server.url("mirror"));
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
    let mirror = Launch::config(&room, &configuration(&source, target.to_str().expect("plain"))).start();
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
