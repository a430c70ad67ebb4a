//! A daemon that does not die unnoticed, and does what the operator orders.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    room::Room,
    skip, tree,
};

fn plain(path: &Path) -> &str {
    path.to_str().expect("the room's path is plain")
}

fn launch(room: &Room) -> Launch<'_> {
    tree::web_site(&room.source());
    let target = room.target();
    Launch::flags(room, &room.source(), &[plain(&target)]).and(["--max-delete", "100%"])
}

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    /// Heard, and not asked for yet.
    heard: RefCell<VecDeque<String>>,
}

impl Manager {
    fn new(room: &Room) -> Self {
        let path = room.at("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in the room");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("our own socket");
        Self { socket, path, heard: RefCell::default() }
    }

    /// Everything that comes within a time, and what came before and was not asked for.
    fn hears_for(&self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        let mut buffer = [0; 4096];
        while Instant::now() < until {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                self.heard.borrow_mut().extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
            }
        }
        self.heard.take().into()
    }

    /// Waits for a line; what comes after it is kept.
    #[track_caller]
    fn hears(&self, what: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while Instant::now() < until {
            let mut heard = self.hears_for(Duration::from_millis(200));
            if let Some(at) = heard.iter().position(|line| line.starts_with(what)) {
                self.heard.borrow_mut().extend(heard.drain(at + 1..));
                return;
            }
            all.extend(heard);
        }
        panic!("{what} was not heard, but {all:?}");
    }
}

fn feeds(heard: &[String]) -> usize {
    heard.iter().filter(|line| *line == "WATCHDOG=1").count()
}

#[test]
fn the_service_manager_hears_of_every_step_and_of_life() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let manager = Manager::new(&room);
    let mut mirror = launch(&room).env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "1000000").start();
    manager.hears("READY=1");
    manager.hears("STATUS=1 targets");
    mirror.flush();
    manager.hears_for(Duration::ZERO);
    let heard = manager.hears_for(Duration::from_secs(3));
    assert!((3..=8).contains(&feeds(&heard)), "{heard:?}");
    mirror.reload();
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    mirror.stop();
    manager.hears("STOPPING=1");
}

/// The thread of the daemon that is called so.
fn thread_called(mirror: &Mirror<'_>, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", mirror.pid())).expect("the daemon runs");
    let found = tasks.flatten().find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    let number = found.unwrap_or_else(|| panic!("no thread {name}")).file_name();
    Pid::from_raw(number.to_str().and_then(|number| number.parse().ok()).expect("a number"))
}

#[test]
fn a_capture_that_hangs_ends_the_feeding_of_the_watchdog() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let manager = Manager::new(&room);
    let mirror = launch(&room).env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "600000").start();
    mirror.flush();
    assert!(feeds(&manager.hears_for(Duration::from_secs(2))) >= 3);
    // One thread stops; the others go on.
    let capture = thread_called(&mirror, "capture");
    ptrace::seize(capture, ptrace::Options::empty()).expect("we are root");
    ptrace::interrupt(capture).expect("it is ours now");
    waitpid(capture, Some(WaitPidFlag::__WALL)).expect("it has stopped");
    // One may have been on its way.
    manager.hears_for(Duration::from_millis(700));
    let heard = manager.hears_for(Duration::from_secs(3));
    ptrace::detach(capture, None).expect("it is still stopped");
    assert_eq!(feeds(&heard), 0, "{heard:?}");
    assert!(heard.iter().any(|line| line.starts_with("STATUS=")), "the daemon's own loop goes on: {heard:?}");
    manager.hears("WATCHDOG=1");
    mirror.until_logged("capture does not move");
}

/// Connects until no more connections are taken.
fn fill_queue(socket: &Path) -> Vec<OwnedFd> {
    let address = UnixAddr::new(socket).expect("a short path");
    let mut connections = Vec::new();
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let connection = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
        match connect(connection.as_raw_fd(), &address) {
            Ok(()) => connections.push(connection),
            Err(_) => return connections,
        }
        assert!(connections.len() < 10_000, "the queue has no end");
    }
}

#[test]
fn a_check_tells_what_is_wrong_and_how_bad_it_is() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let mirror = launch(&room).start();
    mirror.flush();
    let line = mirror.ask(&["check"]).expect(0).stdout;
    assert!(line.starts_with("TRIGSYNC OK - 1 targets, capture by ") && line.lines().count() == 1, "{line}");
    for figure in [" |", "'lag_source_", "=0.000s;60;300;0", "'backlog_source_", "'capture_losses'=0c;;;0"] {
        assert!(line.contains(figure), "{figure}: {line}");
    }
    mirror.ask(&["hold"]).expect(0);
    fs::write(room.source().join("new"), "new").expect("the source");
    let line = mirror.ask(&["check"]).expect(1).stdout;
    assert!(line.starts_with("TRIGSYNC WARNING - ") && line.contains("held by the operator"), "{line}");
    mirror.until("the change is seen", Duration::from_secs(10), |status| {
        (status.0["syncs"][0]["targets"][0]["lag_ms"].as_u64() > Some(0)).then_some(())
    });
    let line = mirror.ask(&["check", "--crit-lag", "1ms"]).expect(2).stdout;
    assert!(line.starts_with("TRIGSYNC CRITICAL - ") && line.contains("s behind"), "{line}");
    assert!(mirror.ask(&["check", "--warn-backlog", "5", "--crit-backlog", "1"]).expect(2).stdout.contains("1 changes to come"));
    // A daemon that takes the question and never answers.
    kill(Pid::from_raw(mirror.pid()), Signal::SIGSTOP).expect("it is ours");
    let begun = Instant::now();
    let silent = mirror.ask(&["check", "--timeout", "1s"]);
    kill(Pid::from_raw(mirror.pid()), Signal::SIGCONT).expect("it is ours");
    assert!(silent.expect(2).stdout.contains("did not answer within 1s") && begun.elapsed() < Duration::from_secs(8));
    // Nor one that takes no questions any more, because too many wait.
    kill(Pid::from_raw(mirror.pid()), Signal::SIGSTOP).expect("it is ours");
    let full = fill_queue(&room.state().join("control.sock"));
    let begun = Instant::now();
    let silent = mirror.ask(&["check", "--timeout", "1s"]);
    kill(Pid::from_raw(mirror.pid()), Signal::SIGCONT).expect("it is ours");
    drop(full);
    assert!(silent.expect(2).stdout.contains("did not answer within 1s") && begun.elapsed() < Duration::from_secs(8));
    mirror.kill9();
    let dead = trigsync_tests::trigsync::trigsync(&room, ["check"]).expect(2).stdout;
    assert!(dead.starts_with("TRIGSYNC CRITICAL - no trigsync daemon answers"), "{dead}");
}

#[test]
fn what_is_held_is_sent_when_it_is_released_also_by_a_next_daemon() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let launch = launch(&room);
    let mirror = launch.start();
    mirror.flush();
    let target = room.target();
    let name = plain(&target);
    assert!(mirror.ask(&["hold", "--target", "nobody"]).expect(1).stderr.contains("there is no target `nobody`"));
    assert!(mirror.ask(&["hold", "--target", name]).expect(0).stdout.starts_with("held: "));
    assert!(mirror.ask(&["hold"]).expect(0).stdout.contains("held already"));
    fs::write(room.source().join("new"), "new").expect("the source");
    let begun = Instant::now();
    let told = mirror.flush_within(Duration::from_secs(30)).expect(1);
    assert!(told.stderr.contains("held by the operator") && begun.elapsed() < Duration::from_secs(5), "{told}");
    assert!(mirror.ask(&["retry"]).expect(0).stdout.starts_with("tried now: "));
    mirror.reload();
    mirror.until("it is held after a reload", Duration::from_secs(10), |status| {
        (status.0["syncs"][0]["targets"][0]["state"] == "held").then_some(())
    });
    mirror.kill9();
    let mirror = launch.start();
    mirror.until("it is held after a kill", Duration::from_secs(10), |status| {
        (status.0["syncs"][0]["targets"][0]["state"] == "held").then_some(())
    });
    assert!(!target.join("new").exists());
    assert!(mirror.ask(&["release"]).expect(0).stdout.starts_with("released: "));
    mirror.flush();
    compare::assert_equal(&room.source(), &target);
    assert!(mirror.ask(&["release"]).expect(0).stdout.contains("nothing was stopped or held"));
}

/// What a scraper gets.
fn get(address: &str, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut connection = std::net::TcpStream::connect(address).expect("metrics are served");
    write!(connection, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers in UTF-8");
    answer
}

#[test]
fn metrics_are_served_where_an_address_is_named() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let address = format!("127.0.0.1:{}", trigsync_tests::rsyncd::free_port());
    let text = format!(
        "metrics = \"{address}\"\n[[sync]]\nname = \"w\\\"ww\"\nsource = {source:?}\ntargets = [{target:?}]\nmax_delete = \"100%\"\n"
    );
    let mirror = Launch::config(&room, &text).start();
    mirror.flush();
    let answer = get(&address, "GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/openmetrics-text"), "{answer}");
    let value = |name: &str| {
        let line = answer.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {answer}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let labels = format!("{{sync=\"w\\\"ww\",target=\"{}\"", target.display());
    assert!(value(&format!("trigsync_target_sent_total{labels}")) >= 1.0);
    assert_eq!(value(&format!("trigsync_target_lag_seconds{labels}")), 0.0);
    assert_eq!(value(&format!("trigsync_target_state{labels},state=\"ok\"")), 1.0);
    let infinite = answer
        .lines()
        .find(|line| line.starts_with("trigsync_target_delay_seconds_bucket") && line.contains("le=\"+Inf\""))
        .expect("a histogram");
    assert_eq!(infinite.rsplit(' ').next().and_then(|count| count.parse().ok()), Some(value("trigsync_target_delay_seconds_count")));
    assert!(answer.trim_end().ends_with("# EOF"), "{answer}");
    assert!(get(&address, "GET /").starts_with("HTTP/1.1 404") && get(&address, "POST /metrics").starts_with("HTTP/1.1 405"));
}

#[test]
fn a_program_hears_of_trouble_and_of_its_end() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, told) = (room.source(), room.target(), room.at("told"));
    tree::web_site(&source);
    let program = room.program("tell", &format!("echo \"$1\" >> '{0}'\ncat >> '{0}'", told.display()));
    let text = format!(
        "on_state_change = [{program:?}, \"an argument; not a $(shell)\"]\n[[sync]]\nname = \"www\"\nsource = {source:?}\ntargets = [{target:?}]\n"
    );
    let mirror = Launch::config(&room, &text).start();
    mirror.flush();
    mirror.ask(&["hold"]).expect(0);
    let lines = |count: usize| {
        trigsync_tests::process::eventually("the program is told", Duration::from_secs(15), || {
            let lines: Vec<_> = fs::read_to_string(&told).unwrap_or_default().lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    };
    let first = lines(2);
    assert_eq!(first[0], "an argument; not a $(shell)");
    let change: serde_json::Value = serde_json::from_str(&first[1]).expect("JSON");
    assert_eq!((&change["sync"], &change["from"], &change["to"]), (&"www".into(), &"ok".into(), &"held".into()), "{change}");
    assert_eq!(change["target"], plain(&target));
    mirror.ask(&["release"]).expect(0);
    let change: serde_json::Value = serde_json::from_str(&lines(4)[3]).expect("JSON");
    assert_eq!((&change["from"], &change["to"]), (&"held".into(), &"ok".into()), "{change}");
}
