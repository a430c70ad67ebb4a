//! What a next daemon does, after every way in which one can end: no change is missed, and no more is compared than has to be.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs as unix,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

/// Capture that ends with the daemon, wherever the test runs.
const ENDS_WITH_IT: [&str; 4] = ["--max-delete", "100%", "--backend", "fanotify"];

fn plain(path: &Path) -> &str {
    path.to_str().expect("the room's path is plain")
}

/// Everything that a search has to find by times that are new where the content is old.
fn change_while_nobody_looks(source: &Path, outside: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::remove_dir_all(source.join("posts/2024")).expect("it was made before");
    fs::rename(source.join("css"), source.join("styles")).expect("a rename");
    fs::write(source.join("index.html"), "rewritten while nobody looked").expect("a file");
    // Moved in, with all that is in it older than anything.
    fs::create_dir_all(outside.join("deep/er")).expect("a directory");
    fs::write(outside.join("deep/er/old"), "old").expect("a file");
    for path in ["deep/er/old", "deep/er", "deep"] {
        let file = File::open(outside.join(path)).expect("just made");
        file.set_times(FileTimes::new().set_modified(long_ago)).expect("our own file");
    }
    fs::rename(outside.join("deep"), source.join("moved-in")).expect("one file system");
    unix::symlink("nowhere", source.join("link")).expect("a link");
    fs::create_dir_all(source.join("a/b/c/d")).expect("a directory");
}

fn last_decision(mirror: &Mirror<'_>) -> String {
    let log = mirror.log();
    let line = log.lines().rfind(|line| line.contains("left unsent by the last daemon")).expect("it says what is due");
    line.to_owned()
}

#[test]
fn what_changed_while_no_daemon_ran_is_searched_for_and_nothing_else_is_sent() {
    if skip::without_root() {
        return;
    }
    for kill in [false, true] {
        let room = Room::new();
        let (source, target, outside) = (room.source(), room.target(), room.directory("outside"));
        tree::web_site(&source);
        fs::write(source.join("large"), tree::noise(3_000_000, 7)).expect("a file in the source");
        let launch = Launch::flags(&room, &source, &[plain(&target)]).and(ENDS_WITH_IT);
        let mut mirror = launch.start();
        assert!(last_decision(&mirror).contains("a full pass: no daemon has kept a journal before"), "{}", last_decision(&mirror));
        mirror.flush();
        if kill {
            // The journal is written a few times a second.
            thread::sleep(Duration::from_secs(1));
            mirror.kill9();
        } else {
            mirror.stop();
            drop(mirror);
        }
        change_while_nobody_looks(&source, &outside);
        let mirror = launch.start();
        mirror.flush();
        compare::assert_equal(&source, &target);
        let decision = last_decision(&mirror);
        assert!(decision.contains("a search for what changed since") && decision.contains("nothing was captured"), "{decision}");
        mirror.until_logged("names are looked at again");
        let status = mirror.status();
        let sent = status.0["syncs"][0]["targets"][0]["bytes"].as_u64().expect("a number");
        assert!(sent < 300_000, "{sent} bytes were sent: more than what changed");
        assert!(status.0["syncs"][0]["search"].is_null(), "{}", status.0);
    }
}

#[test]
fn what_a_dead_target_has_not_got_is_known_after_a_kill() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mut server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    let launch = Launch::flags(&room, &source, &[&server.url("mirror")]).and(ENDS_WITH_IT);
    let mirror = launch.start();
    mirror.flush();
    server.kill9();
    for round in 0..3 {
        tree::many_files(&source.join(format!("made-{round}")), 30);
        fs::remove_dir_all(source.join("posts").join("2024")).ok();
        thread::sleep(Duration::from_millis(300));
    }
    mirror.until("the target is known to be dead", Duration::from_secs(20), |status| {
        (status.0["syncs"][0]["targets"][0]["state"] == "retrying").then_some(())
    });
    // A visit of the journal after the last change.
    thread::sleep(Duration::from_secs(1));
    mirror.kill9();
    server.restart();
    let mirror = launch.start();
    let decision = last_decision(&mirror);
    let left: usize = decision.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(left >= 3, "{decision}");
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_journal_that_was_damaged_is_set_aside_and_everything_compared() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let launch = Launch::flags(&room, &source, &[plain(&target)]).and(ENDS_WITH_IT);
    let mut mirror = launch.start();
    mirror.flush();
    mirror.stop();
    drop(mirror);
    fs::write(room.state().join("journal.db"), "once there was a journal here").expect("the state directory");
    fs::write(target.join("stray"), "only a full pass finds this").expect("the target");
    fs::write(source.join("new"), "new").expect("the source");
    let mirror = launch.start();
    assert!(mirror.log().contains("was set aside as"), "{}", mirror.log());
    assert!(last_decision(&mirror).contains("a full pass: the journal was of no use"), "{}", last_decision(&mirror));
    mirror.flush();
    compare::assert_equal(&source, &target);
    assert!(room.state().join("journal.db.unusable").exists());
}

#[test]
fn the_history_is_there_with_and_without_a_daemon() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let launch = Launch::flags(&room, &source, &[plain(&target)]).and(ENDS_WITH_IT);
    let mut mirror = launch.start();
    mirror.flush();
    fs::write(source.join("page.html"), "a page").expect("the source");
    mirror.flush();
    let path = source.join("page.html");
    let ask = |what: &[&str]| trigsync_tests::trigsync::trigsync(&room, [&["history"], what].concat()).expect(0).stdout;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !ask(&["--path", plain(&path)]).contains("page.html") {
        assert!(std::time::Instant::now() < deadline, "not in the history: {}", ask(&[]));
        thread::sleep(Duration::from_millis(100));
    }
    mirror.stop();
    drop(mirror);
    assert!(ask(&["--path", "page.html", "--target", plain(&target)]).contains("page.html"));
    assert!(!ask(&["--path", "other.html"]).contains("page.html"));
    assert!(ask(&["--failed"]).starts_with("0 batches"));
    let lines = ask(&["--json"]);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a batch")).expect("JSON");
    assert_eq!(first["arrived"], 1);
}

#[test]
fn a_hold_and_a_release_are_known_to_the_next_daemon_as_soon_as_they_are_answered() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let launch = Launch::flags(&room, &source, &[plain(&target)]).and(ENDS_WITH_IT);
    let mut mirror = launch.start();
    mirror.flush();
    for round in 0..3 {
        mirror.ask(&["hold"]).expect(0);
        mirror.kill9();
        fs::write(source.join("meanwhile"), round.to_string()).expect("the source");
        mirror = launch.start();
        let status = mirror.status();
        assert_eq!(status.0["syncs"][0]["targets"][0]["state"], "held", "{:#}", status.0);
        mirror.ask(&["release"]).expect(0);
        mirror.kill9();
        mirror = launch.start();
        let status = mirror.status();
        assert_ne!(status.0["syncs"][0]["targets"][0]["state"], "held", "{:#}", status.0);
        mirror.flush();
        compare::assert_equal(&source, &target);
    }
}

#[test]
fn a_directory_that_comes_where_one_went_while_nobody_looked_has_nothing_of_it() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    for site in ["docroot", "sites/one"] {
        fs::create_dir_all(source.join(site).join("deep/er")).expect("the source");
        fs::write(source.join(site).join("deep/er/old.html"), "old").expect("the source");
    }
    let launch = Launch::flags(&room, &source, &[plain(&target)]).and(ENDS_WITH_IT);
    let mut mirror = launch.start();
    mirror.flush();
    // What the search finds waits for long, as where the target is dead.
    mirror.ask(&["hold"]).expect(0);
    mirror.stop();
    fs::remove_dir_all(source.join("docroot")).expect("it was made before");
    fs::rename(source.join("sites/one"), source.join("sites/one.before")).expect("a rename");
    mirror = launch.start();
    mirror.until("the search has ended", Duration::from_secs(20), |status| status.0["syncs"][0]["search"].is_null().then_some(()));
    for site in ["docroot", "sites/one"] {
        fs::create_dir_all(source.join(site).join("deep")).expect("the source");
        fs::write(source.join(site).join("deep/new.html"), "new").expect("the source");
    }
    mirror.ask(&["release"]).expect(0);
    mirror.flush();
    compare::assert_equal(&source, &target);
}
