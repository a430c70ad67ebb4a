//! The audit: finds what differs, tells lost changes from those that are on their way, gives way to the lane, and goes on where it was.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    process::eventually,
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

const MINUTE: Duration = Duration::from_secs(60);

fn config(source: &Path, target: &str, audit: &str, more: &str) -> String {
    format!(
        "[[sync]]\nname = 'www'\nsource = '{}'\naudit = {audit}\n[[sync.target]]\nto = '{target}'\nname = 'copy'\n{more}\n",
        source.display()
    )
}

fn audit_of(mirror: &Mirror<'_>) -> Value {
    mirror.status().target("www", "copy")["audit"].clone()
}

#[test]
fn lost_changes_are_found_counted_and_sent_again() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.directory("module"));
    tree::web_site(&source);
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target).set("max connections", "1")]);
    let text = config(&source, &server.url("mirror"), "{ every = '30d' }", "connections = 1");
    let mirror = Launch::config(&room, &text).start();
    mirror.flush();
    let nothing = mirror.ask(&["audit"]).expect(0);
    assert!(nothing.stdout.contains(", 0 lost changes"), "{nothing}");
    mirror.ask(&["check"]).expect(0);

    fs::write(target.join("css/alien"), "alien").expect("a file at the target");
    fs::create_dir_all(target.join("aliens/deep/deeper")).expect("directories at the target");
    fs::write(target.join("aliens/deep/deeper/file"), "alien").expect("a file at the target");
    fs::remove_dir_all(target.join("posts/2024")).expect("it has arrived");
    fs::set_permissions(target.join("index.html"), fs::Permissions::from_mode(0o600)).expect("it has arrived");
    let found = mirror.ask(&["audit"]).expect(1);
    assert!(found.stdout.starts_with("www: copy: "), "{found}");
    mirror.flush();
    compare::assert_equal(&source, &target);

    let audit = audit_of(&mirror);
    let lost: Vec<_> = audit["latest"].as_array().expect("a list").iter().map(|lost| lost["path"].as_str().expect("text")).collect();
    for path in ["css/alien", "aliens", "posts/2024", "index.html"] {
        assert!(lost.contains(&path), "{path} is not among {lost:?}");
    }
    assert!(!lost.contains(&"aliens/deep"), "what goes with a directory is one finding: {lost:?}");
    assert!(mirror.log().contains("lost changes, which are sent now"), "{}", mirror.log());
    let check = mirror.ask(&["check"]).expect(1);
    assert!(check.stdout.contains("lost changes") && check.stdout.contains("'audit_findings_www_copy'="), "{check}");
    let again = mirror.ask(&["audit", "--target", "copy"]).expect(0);
    assert!(again.stdout.contains(", 0 lost changes"), "{again}");
    mirror.ask(&["audit", "--target", "none"]).expect(1);
}

#[test]
fn contents_are_compared_where_that_is_asked_for() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let text = config(&source, target.to_str().expect("plain"), "{ checksum = true }", "");
    let mirror = Launch::config(&room, &text).start();
    mirror.flush();
    let page = target.join("index.html");
    let metadata = fs::metadata(&page).expect("it has arrived");
    let mut bytes = fs::read(&page).expect("it has arrived");
    bytes[0] ^= 1;
    fs::write(&page, bytes).expect("written");
    fs::File::options().write(true).open(&page).and_then(|file| file.set_modified(metadata.modified()?)).expect("its time is set back");
    mirror.ask(&["audit"]).expect(1);
    mirror.flush();
    compare::assert_equal(&source, &target);
    mirror.ask(&["audit"]).expect(0);
}

/// Set when it is dropped, whatever went wrong.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Changes without end, of every kind, in directories that are renamed while they are written to.
fn churn(source: &Path, stop: &AtomicBool) {
    let mut number = 0_u64;
    while !stop.load(Relaxed) {
        number += 1;
        let directory = source.join(format!("busy/{}", number % 7));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join((number % 50).to_string()), format!("{number}")).expect("written");
        if number.is_multiple_of(11) {
            let other = source.join(format!("busy/{}", 100 + number % 3));
            // There may be another one.
            let _ = fs::remove_dir_all(&other);
            fs::rename(&directory, &other).expect("renamed");
        }
        if number.is_multiple_of(5) {
            fs::write(source.join("index.html"), format!("{number}")).expect("written");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn changes_on_their_way_are_not_lost_ones() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let text = config(&source, target.to_str().expect("plain"), "{ every = '0s', names = 1000000, share = '100%' }", "");
    let mirror = Launch::config(&room, &text).start();
    mirror.flush();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = End(&stop);
        scope.spawn(|| churn(&source, &stop));
        for _ in 0..3 {
            // Each looks up to five times at what never rests, and waits for all that has changed each time.
            mirror.audit_within(5 * MINUTE).expect(0);
        }
    });
    mirror.flush();
    mirror.ask(&["audit"]).expect(0);
    compare::assert_equal(&source, &target);
    let audit = audit_of(&mirror);
    assert!(audit["findings"] == 0 && audit["cycles"].as_u64() >= Some(4), "{audit}");
}

#[test]
fn it_gives_way_to_the_lane() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.directory("module"));
    for number in 0..20_000 {
        let directory = source.join(format!("{}", number / 2000));
        if number % 2000 == 0 {
            fs::create_dir(&directory).expect("made");
        }
        fs::write(directory.join(number.to_string()), "").expect("written");
    }
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    // One after the other, all the time, on the only connection.
    let text = config(&source, &server.url("mirror"), "{ every = '0s', names = 1000000000, share = '100%' }", "connections = 1");
    let mirror = Launch::config(&room, &text).start();
    mirror.flush_within(MINUTE).expect(0);
    eventually("a first cycle", MINUTE, || (audit_of(&mirror)["cycles"].as_u64() > Some(0)).then_some(()));
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let begun = Instant::now();
        fs::write(source.join("changed"), number.to_string()).expect("written");
        eventually("the change at the target", MINUTE, || {
            (fs::read_to_string(target.join("changed")).ok()? == number.to_string()).then_some(())
        });
        slowest = slowest.max(begun.elapsed());
    }
    let status = mirror.status();
    assert_eq!(status.target("www", "copy")["failures"], 0, "{status:?}");
    assert!(slowest < Duration::from_secs(3), "a change waited for {slowest:?}");
    let cycles = audit_of(&mirror)["cycles"].as_u64();
    eventually("another cycle", MINUTE, || (audit_of(&mirror)["cycles"].as_u64() > cycles).then_some(()));
}

#[test]
fn it_goes_on_where_the_last_daemon_left_it() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    for number in 0..300 {
        let directory = source.join(format!("{number:03}"));
        fs::create_dir(&directory).expect("made");
        fs::write(directory.join("file"), "").expect("written");
    }
    // Slices of 40 names, one in four seconds, after the root with its 300.
    let text = config(&source, target.to_str().expect("plain"), "{ every = '0s', names = 10, share = '100%' }", "");
    let launch = Launch::config(&room, &text);
    let place = |mirror: &Mirror<'_>| audit_of(mirror)["after"].as_str().map(str::to_owned);
    let mirror = launch.start();
    mirror.flush();
    let first = eventually("a first slice", MINUTE, || place(&mirror));
    // The journal has the first for sure when there is a second.
    eventually("a second slice", MINUTE, || place(&mirror).filter(|place| *place > first));
    let began = audit_of(&mirror)["begun_at_ms"].clone();
    mirror.kill9();
    let mut mirror = launch.start();
    let second = eventually("a slice of the next daemon", MINUTE, || place(&mirror));
    assert!(second > first, "it was after {first:?}, and is after {second:?}");
    assert_eq!(audit_of(&mirror)["begun_at_ms"], began, "a cycle that is gone on with has begun when it began");
    mirror.stop();
}
