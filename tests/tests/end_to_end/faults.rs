//! What goes wrong in life, and that the target is equal afterwards.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use trigsync_tests::{
    compare,
    mirror::Launch,
    process::{eventually, must},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

/// Changes of every kind below `root/load`, one after the other, until `done` says so.
fn load(root: &Path, done: &AtomicBool) {
    let base = root.join("load");
    for round in 0.. {
        let directory = base.join(format!("{round}"));
        tree::many_files(&directory, 40);
        fs::write(base.join("log"), format!("round {round}\n").repeat(round % 500)).expect("a file in the source");
        fs::write(directory.join("noise"), tree::noise(100_000, round as u64)).expect("a file in the source");
        match round % 4 {
            0 => fs::remove_dir_all(&directory).expect("just made"),
            1 => fs::rename(&directory, base.join(format!("renamed-{round}"))).expect("just made"),
            _ => {}
        }
        if done.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `meanwhile` while changes go on below `source`.
fn under_load<T>(source: &Path, meanwhile: impl FnOnce() -> T) -> T {
    /// Ends the load also where `meanwhile` panics, so that the scope does not wait for ever.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| load(source, &done));
        let _end = End(&done);
        thread::sleep(Duration::from_millis(300));
        meanwhile()
    })
}

fn flags<'a>(room: &'a Room, target: &str) -> Launch<'a> {
    Launch::flags(room, &room.source(), &[target]).and(["--max-delete", "100%"])
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("the room's path is plain")
}

#[test]
fn the_daemon_is_killed_under_load() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let launch = flags(&room, plain(&target)).and(["--initial-sync", "auto"]);
    under_load(&source, || {
        for alone in [false, true, false] {
            let mirror = launch.start();
            thread::sleep(Duration::from_millis(700));
            if alone { mirror.kill9_alone() } else { mirror.kill9() }
        }
    });
    let mirror = launch.start();
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn changes_made_while_the_daemon_was_dead_arrive() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let launch = flags(&room, plain(&target)).and(["--initial-sync", "auto"]);
    let mut mirror = launch.start();
    mirror.flush();
    mirror.stop();
    drop(mirror);
    fs::remove_dir_all(source.join("posts/2024")).expect("it was made before");
    fs::rename(source.join("css"), source.join("styles")).expect("a rename");
    fs::write(source.join("index.html"), "rewritten while nobody looked").expect("a file");
    let mirror = launch.start();
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn sigterm_under_load_keeps_the_rest_for_the_next_start() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let config = format!(
        "stop_timeout = \"3s\"\n[[sync]]\nsource = {source:?}\nmax_delete = \"100%\"\n\
         [[sync.target]]\nto = {target:?}\nbandwidth_limit = \"2m\"\n"
    );
    let mut mirror = Launch::config(&room, &config).start();
    mirror.flush();
    // More than can be sent before the stop.
    fs::write(source.join("large"), tree::noise(14_000_000, 5)).expect("a file in the source");
    tree::many_files(&source.join("many"), 3_000);
    fs::remove_dir_all(source.join("posts")).expect("it was made before");
    let status = mirror.terminate(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "SIGTERM ends it with 0");
    let left = compare::differences(&source, &target).len();
    drop(mirror);
    assert!(left > 0, "everything had arrived before the stop: the test has shown nothing");
    let mirror = Launch::config(&room, &config).and(["--initial-sync", "never"]).start();
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn sigterm_ends_it_though_a_target_hangs() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    let config = format!("stop_timeout = \"2s\"\n[[sync]]\nsource = {source:?}\ntargets = [\"{}\"]\n", server.url("mirror"));
    let mut mirror = Launch::config(&room, &config).start();
    mirror.flush();
    server.freeze();
    fs::write(source.join("new"), "new").expect("a file in the source");
    thread::sleep(Duration::from_millis(500));
    let status = mirror.terminate(Duration::from_secs(6));
    server.thaw();
    assert_eq!(status.code(), Some(0), "SIGTERM ends it with 0");
}

#[test]
fn rsync_processes_are_killed_at_random() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mirror = flags(&room, plain(&target)).start();
    let killed = under_load(&source, || {
        let mut killed = 0;
        let begun = Instant::now();
        for round in 0.. {
            // Between two kills the lane waits ever longer, so they take their time.
            if killed > 8 || begun.elapsed() > Duration::from_secs(30) {
                break;
            }
            let processes = mirror.rsyncs();
            if let Some(id) = processes.get(round % processes.len().max(1)) {
                let signal = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL][round % 3];
                // It may have ended by itself in between.
                killed += usize::from(kill(Pid::from_raw(*id), signal).is_ok());
            }
            thread::sleep(Duration::from_millis(50));
        }
        killed
    });
    assert!(killed > 5, "only {killed} rsync processes were there to be killed: the test has shown nothing");
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn the_rsync_daemon_is_killed_and_comes_back() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mut server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    let mirror = flags(&room, &server.url("mirror")).start();
    under_load(&source, || {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(400));
            server.kill9();
            thread::sleep(Duration::from_millis(300));
            server.restart();
        }
    });
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_peer_that_falls_silent_is_given_up_and_tried_again() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    let to = server.url("mirror");
    let config =
        format!("[[sync]]\nname = \"site\"\nsource = {source:?}\n[[sync.target]]\nname = \"m\"\nto = \"{to}\"\ntimeout = \"3s\"\n");
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    server.freeze();
    fs::write(source.join("new"), "new").expect("a file in the source");
    let reason = mirror.until("the silent peer is given up", Duration::from_secs(60), |status| {
        let target = status.target("site", "m");
        (target["state"] == "retrying").then(|| target["reason"].as_str().unwrap_or_default().to_owned())
    });
    server.thaw();
    assert!(!reason.is_empty());
    mirror.flush();
    compare::assert_equal(&source, &target);
}

/// `/proc/sys/fs/fanotify/max_queued_events`, lowered; one test at a time, restored at the end.
struct ShortQueue {
    before: String,
    _one_at_a_time: nix::fcntl::Flock<File>,
}

impl ShortQueue {
    const FILE: &str = "/proc/sys/fs/fanotify/max_queued_events";

    fn of(events: u32) -> Result<Self, skip::Cause> {
        let lock = File::create(std::env::temp_dir().join("trigsync-test-max-queued-events.lock")).expect("a lock file");
        let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error).expect("a lock");
        let missing = |error| skip::Cause::Unavoidable(format!("{} cannot be changed: {error}", Self::FILE));
        let before = fs::read_to_string(Self::FILE).map_err(missing)?;
        fs::write(Self::FILE, events.to_string()).map_err(missing)?;
        Ok(Self { before, _one_at_a_time: lock })
    }
}

impl Drop for ShortQueue {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, self.before.trim());
    }
}

#[test]
fn the_kernels_queue_overflows() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let config = format!("unlimited_queue = false\n[[sync]]\nsource = {source:?}\ntargets = [{target:?}]\nmax_delete = \"100%\"\n");
    let launch = Launch::config(&room, &config);
    // The kernel reads the limit when the daemon opens its queue; afterwards the old value can come back.
    let short = match ShortQueue::of(100) {
        Ok(short) => short,
        Err(cause) => return skip::skip(&cause),
    };
    let mirror = launch.start();
    drop(short);
    mirror.flush();
    for round in 0..2 {
        mirror.signal(Signal::SIGSTOP);
        tree::many_files(&source.join(format!("many-{round}")), 1_000);
        fs::rename(source.join("css"), source.join("styles")).expect("a rename");
        fs::rename(source.join("styles"), source.join("css")).expect("a rename");
        if round == 1 {
            fs::remove_dir_all(source.join("many-0")).expect("it was made before");
        }
        mirror.signal(Signal::SIGCONT);
        mirror.flush();
        compare::assert_equal_for(&source, &target, "after an overflow");
    }
    assert!(mirror.status().0["capture"]["overflows"].as_u64() > Some(0), "no overflow: the test has shown nothing");
}

/// How many files the daemon may open from now on, beside those that it has open.
fn limit_files(process: i64, more: usize) {
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("the daemon runs").count();
    must(Command::new("prlimit").args([format!("--pid={process}"), format!("--nofile={}:", open + more)]));
}

#[test]
fn a_daemon_without_descriptors_waits_and_loses_nothing() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mirror = flags(&room, plain(&target)).start();
    mirror.flush();
    let process = mirror.status().0["pid"].as_i64().expect("the status tells the process id");
    let shortages = || mirror.log().matches("Too many open files").count();
    for more in 0..3 {
        // Enough for the question, not for what a batch needs.
        let before = shortages();
        limit_files(process, more);
        fs::create_dir_all(source.join(format!("{more}/a/b/c"))).expect("directories in the source");
        fs::write(source.join(format!("{more}/a/b/c/file")), "content").expect("a file in the source");
        eventually("the daemon says what it is short of", Duration::from_secs(20), || (shortages() > before).then_some(()));
        limit_files(process, 1000);
        mirror.flush();
        compare::assert_equal_for(&source, &target, &format!("after {more} descriptors were left"));
    }
}
