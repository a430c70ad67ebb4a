//! A running `trigsync run`, and the questions that a test asks it.
//!
//! - Started means: the `ready` line has come, so every change from now on must arrive.
//! - The daemon's log goes to a file; where the test fails, its end is shown.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Write, stderr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    process::{Outcome, Process, eventually},
    room::Room,
    trigsync,
};

/// How long the daemon may take until it is ready: under an emulator the kernel looks long at programs.
const READY: Duration = Duration::from_secs(180);

/// How long a flush may take where a test does not say otherwise.
pub const ARRIVAL: Duration = Duration::from_secs(60);
/// How long a command that has a time limit of its own may take beyond it.
const GRACE: Duration = Duration::from_secs(30);

/// The daemon's log, in its room.
pub const LOG: &str = "trigsync.log";

/// How a daemon is to be started; the same launch may be started again after its daemon has ended.
pub struct Launch<'a> {
    room: &'a Room,
    command: &'static str,
    arguments: Vec<OsString>,
    path_first: Option<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
}

impl<'a> Launch<'a> {
    /// With a configuration file.
    pub fn config(room: &'a Room, text: &str) -> Self {
        let launch = Self {
            room,
            command: "run",
            arguments: vec!["--config".into(), Self::file(room).into()],
            path_first: None,
            environment: Vec::new(),
        };
        launch.rewrite(text);
        launch
    }

    /// With flags alone: one source, its targets.
    pub fn flags(room: &'a Room, source: &Path, targets: &[&str]) -> Self {
        Self { room, command: "run", arguments: trigsync::source_and_targets(source, targets), path_first: None, environment: Vec::new() }
    }

    /// As `trigsync sersync`, with the same file and this text for its confxml.xml.
    pub fn sersync(room: &'a Room, text: &str) -> Self {
        let launch = Self { command: "sersync", ..Self::config(room, text) };
        Self { arguments: vec!["-o".into(), Self::file(room).into()], ..launch }
    }

    /// The configuration file of [`Launch::config`].
    pub fn file(room: &Room) -> PathBuf {
        room.at("trigsync.toml")
    }

    /// Replaces the configuration file, for a reload.
    pub fn rewrite(&self, text: &str) {
        fs::write(Self::file(self.room), text).expect("a configuration in the room");
    }

    /// Adds arguments.
    pub fn and<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Puts `directory` before everything else in the daemon's PATH.
    pub fn path_first(mut self, directory: &Path) -> Self {
        self.path_first = Some(directory.to_owned());
        self
    }

    /// Sets a variable in the daemon's environment.
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut command = trigsync::command(self.room);
        command.arg(self.command).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(first) = &self.path_first {
            let rest = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(first.clone()).chain(std::env::split_paths(&rest));
            command.env("PATH", std::env::join_paths(path).expect("no colon in the room's path"));
        }
        command
    }

    /// Starts the daemon and waits until it is ready; the initial pass is `auto` unless an argument says otherwise.
    pub fn start(&self) -> Mirror<'a> {
        let log = self.room.at(LOG);
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log in the room");
        let mut process = Process::start(self.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file));
        let stdout = BufReader::new(process.child().stdout.take().expect("it is piped"));
        let (lines, stdout_lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut mirror = Mirror { room: self.room, process, log, ready: String::new(), stdout: stdout_lines };
        match mirror.stdout.recv_timeout(READY) {
            Ok(line) if line.starts_with("ready") => mirror.ready = line,
            Ok(line) => panic!("the first line on standard output is not the ready line: {line}"),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("not ready after {READY:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                panic!("ended before it was ready: {:?}", mirror.process.wait(Duration::from_secs(1)))
            }
        }
        mirror
    }

    /// Runs the daemon to an end that should come by itself: it must not start.
    pub fn refused(&self) -> Outcome {
        Outcome::of(&mut self.command(), READY)
    }
}

/// A running daemon.
pub struct Mirror<'a> {
    room: &'a Room,
    process: Process,
    log: PathBuf,
    /// The `ready` line.
    pub ready: String,
    stdout: mpsc::Receiver<String>,
}

impl Mirror<'_> {
    /// Asks the daemon: `trigsync ARGUMENTS`.
    pub fn ask(&self, arguments: &[&str]) -> Outcome {
        trigsync::trigsync(self.room, arguments)
    }

    /// Waits until everything has arrived everywhere; fails the test where it does not.
    #[track_caller]
    pub fn flush(&self) {
        self.flush_within(ARRIVAL).expect(0);
    }

    /// `trigsync flush --timeout LIMIT`.
    pub fn flush_within(&self, limit: Duration) -> Outcome {
        self.within("flush", limit)
    }

    /// `trigsync audit --timeout LIMIT`.
    pub fn audit_within(&self, limit: Duration) -> Outcome {
        self.within("audit", limit)
    }

    fn within(&self, command: &str, limit: Duration) -> Outcome {
        let mut asks = trigsync::command(self.room);
        asks.args([command, "--timeout", &format!("{}s", limit.as_secs())]);
        Outcome::of(&mut asks, limit + GRACE)
    }

    /// `trigsync status --json`.
    #[track_caller]
    pub fn status(&self) -> Status {
        let answer = self.ask(&["status", "--json"]).expect(0);
        Status(serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("status is no JSON: {error}: {answer}")))
    }

    /// Waits until the status is as `look` wants it.
    #[track_caller]
    pub fn until<T>(&self, what: &str, limit: Duration, mut look: impl FnMut(&Status) -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status();
            if let Some(found) = look(&status) {
                return found;
            }
            assert!(Instant::now() < deadline, "status not so within {limit:?}: {what}\n{:#}", status.0);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a guard has stopped `sync`, and returns the reason it gives.
    #[track_caller]
    pub fn until_stopped(&self, sync: &str) -> String {
        let reason = self.until(&format!("{sync} is stopped"), Duration::from_secs(20), |status| {
            let sync = status.sync(sync);
            (sync["state"] == "stopped").then(|| sync["reason"].as_str().unwrap_or_default().to_owned())
        });
        assert!(!reason.trim().is_empty(), "a stopped sync gives a reason");
        reason
    }

    /// `trigsync release`.
    #[track_caller]
    pub fn release(&self) {
        self.ask(&["release"]).expect(0);
    }

    /// SIGTERM, and how it ended; fails the test where it takes longer than `limit`.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(limit).unwrap_or_else(|| panic!("still running {limit:?} after SIGTERM"))
    }

    /// `trigsync stop`, after which the daemon must be gone.
    #[track_caller]
    pub fn stop(&mut self) {
        self.ask(&["stop"]).expect(0);
        let status = self.process.wait(Duration::from_secs(2)).expect("`trigsync stop` returns when the daemon has ended");
        assert!(status.success(), "after `trigsync stop` the daemon ended with {status}");
        let rest: Vec<_> = self.stdout.try_iter().collect();
        assert!(rest.is_empty(), "standard output after the ready line: {rest:?}");
    }

    /// The daemon's process number.
    pub fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    /// SIGKILL for the daemon and for what it has started, as when the machine's out-of-memory killer takes the whole unit.
    pub fn kill9(mut self) {
        self.process.kill();
    }

    /// SIGKILL for the daemon alone; its rsync processes live on until they notice.
    pub fn kill9_alone(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(Duration::from_secs(5)).expect("SIGKILL ends it");
    }

    /// SIGHUP: reload.
    pub fn reload(&self) {
        self.process.signal(Signal::SIGHUP);
    }

    /// SIGSTOP or SIGCONT and the like, for the daemon alone.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Process ids of the rsync processes that the daemon has started on this machine.
    pub fn rsyncs(&self) -> Vec<i32> {
        self.process.descendants().into_iter().filter(|(_, name)| name == "rsync").map(|(id, _)| id).collect()
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until the log holds `text`.
    #[track_caller]
    pub fn until_logged(&self, text: &str) {
        self.until_logged_after(0, text);
    }

    /// The same for what stands after so many bytes of the log, which the daemons of a room write one after the other.
    #[track_caller]
    pub fn until_logged_after(&self, bytes: usize, text: &str) {
        let said = || self.log().get(bytes..).is_some_and(|log| log.contains(text)).then_some(());
        eventually(&format!("the log says {text:?}"), Duration::from_secs(10), said);
    }
}

impl Drop for Mirror<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("?").to_owned();
            let _ = writeln!(stderr(), "--- the daemon's log, its last lines ({name}):\n{}", last_lines(&self.log, 80));
        }
    }
}

/// The configuration of one sync, `site`, with one target, `it`, and more keys of that target.
pub fn one_target(source: &Path, to: &str, more: &str) -> String {
    format!("[[sync]]\nname = \"site\"\nsource = {source:?}\n[[sync.target]]\nname = \"it\"\nto = \"{to}\"\n{more}")
}

/// The end of a log, indented.
pub fn last_lines(log: &Path, count: usize) -> String {
    let text = read(log);
    let lines: Vec<_> = text.lines().map(|line| format!("    {line}")).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn read(log: &Path) -> String {
    fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// What `trigsync status --json` says.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// One sync. Fails the test where there is none of this name.
    #[track_caller]
    pub fn sync(&self, name: &str) -> &Value {
        self.find_sync(name).unwrap_or_else(|| panic!("no sync {name} in {:#}", self.0))
    }

    /// One sync, if there is one of this name.
    pub fn find_sync(&self, name: &str) -> Option<&Value> {
        self.0["syncs"].as_array()?.iter().find(|sync| sync["name"] == name)
    }

    /// One target of a sync. Fails the test where there is none of this name.
    #[track_caller]
    pub fn target(&self, sync: &str, name: &str) -> &Value {
        self.find_target(sync, name).unwrap_or_else(|| panic!("no target {name} of {sync} in {:#}", self.0))
    }

    /// One target of a sync, if there is one of this name.
    pub fn find_target(&self, sync: &str, name: &str) -> Option<&Value> {
        self.find_sync(sync)?["targets"].as_array()?.iter().find(|target| target["name"] == name)
    }
}
