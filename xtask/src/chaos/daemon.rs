//! The trigsync under test: started again and again, with the same state directory, one log, and a queue of events that may be tiny.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{interrupt, mirror::Status, process::Running};

/// How long it may take until it is ready: the kernel looks long at programs where it is slow.
const READY: Duration = Duration::from_secs(120);
/// fanotify's limit of events, for groups made from then on.
const QUEUE: &str = "/proc/sys/fs/fanotify/max_queued_events";
/// What kernels begin with.
const QUEUE_DEFAULT: &str = "16384";
/// So many events fanotify's queue holds where it is tiny.
const TINY_QUEUE: &str = "128";
/// So many bytes the ring of an eBPF tier holds where it is tiny.
const TINY_RING: &str = "32768";

/// How it is started.
#[derive(Debug)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its state directory.
    pub state: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Where its standard error is appended.
    pub log: PathBuf,
    /// `--backend`, where one is asked for.
    pub backend: Option<String>,
    /// `TRIGSYNC_SABOTAGE`, where one is asked for.
    pub sabotage: Option<String>,
}

/// A running one; ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
    /// Whether its queue of events is tiny.
    pub tiny: bool,
    /// The line that it printed when it was ready.
    pub ready: String,
}

/// An rsync that the daemon has started, by itself or through another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    id: Pid,
    /// In the kernel's ticks since the machine started: with it an id belongs to one process only.
    started: u64,
}

impl Launch {
    /// Starts it and waits until it is ready. An error where it ends before.
    pub fn start(&self, tiny: bool) -> Result<Daemon> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("the daemon's log")?;
        let mut command = self.command();
        command.arg("run").arg("--config").arg(&self.config).args(self.backend.iter().flat_map(|backend| ["--backend", backend]));
        command.envs(self.sabotage.iter().map(|kind| ("TRIGSYNC_SABOTAGE", kind)));
        if tiny {
            command.args(["--capture-ring", TINY_RING]);
        }
        // Told to the kernel for as long as the daemon takes to make its group, and no longer: the limit is that of the machine.
        let _limit = tiny.then(|| Limit::set(TINY_QUEUE)).transpose()?;
        let mut running = Running::start(command.stdout(Stdio::piped()).stderr(log))?;
        let stdout = BufReader::new(running.stdout().expect("standard output is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let deadline = Instant::now() + READY;
        loop {
            interrupt::check()?;
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(ready) => return Ok(Daemon { running, tiny, ready }),
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("trigsync is not ready after {READY:?}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = running.wait(Duration::from_secs(5))?;
                    bail!("trigsync ended before it was ready: {}", status.map_or("it hangs".to_owned(), |status| status.to_string()));
                }
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--state-dir").arg(&self.state);
        command
    }

    /// Runs another command of it to its end.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        interrupt::check()?;
        self.command().args(arguments).stdin(Stdio::null()).output().context("trigsync does not start")
    }

    /// Takes a capture out of the kernel that would outlive the daemon. Where there is none, nothing happens.
    pub fn uninstall_capture(&self) {
        // Called at the end, also after Ctrl-C; what fails would be told to nobody.
        let _ = self.command().arg("uninstall-capture").stdin(Stdio::null()).output();
    }

    /// Its status, where it tells one.
    pub fn status(&self) -> Option<Status> {
        let output = self.ask(&["status", "--json"]).ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }
}

impl Daemon {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.running.ended()
    }

    /// Signals it alone.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// SIGKILL, and waits for the end of it.
    pub fn kill(mut self) -> Result<()> {
        self.running.signal(Signal::SIGKILL);
        self.running.wait(Duration::from_secs(10))?.map(drop).context("trigsync survives SIGKILL")
    }

    /// SIGTERM, and how it ended.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.running.signal(Signal::SIGTERM);
        self.running.wait(Duration::from_secs(60))?.context("trigsync still runs a minute after SIGTERM")
    }

    /// The rsync processes that it has started.
    pub fn children(&self) -> Vec<Child> {
        let processes = processes();
        let mut parents = vec![self.running.id().cast_signed()];
        let mut found = Vec::new();
        while let Some(parent) = parents.pop() {
            for process in processes.iter().filter(|process| process.parent == parent) {
                parents.push(process.child.id.as_raw());
                if process.name == "rsync" {
                    found.push(process.child);
                }
            }
        }
        found
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.running.id())).map_or(0, Iterator::count)
    }

    /// How many files it may have open from now on; what it starts inherits that.
    pub fn limit_files(&self, limit: u64) -> Result<()> {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg(format!("--pid={}", self.running.id())).arg(format!("--nofile={limit}:"));
        let output = prlimit.stdin(Stdio::null()).output().context("prlimit does not start")?;
        if !output.status.success() {
            bail!("prlimit failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Child {
    /// Signals it, where it is still itself. Tells whether it was.
    pub fn signal(self, signal: Signal) -> bool {
        process(self.id.as_raw()).is_some_and(|process| process.child == self) && kill(self.id, signal).is_ok()
    }
}

struct Process {
    child: Child,
    parent: i32,
    name: String,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn process(id: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process { child: Child { id: Pid::from_raw(id), started }, parent, name: before.split_once('(')?.1.to_owned() })
}

/// fanotify's limit while it is another one.
struct Limit {
    before: OsString,
}

impl Limit {
    fn set(limit: &str) -> Result<Self> {
        let mut before = fs::read_to_string(QUEUE).with_context(|| format!("reading {QUEUE}"))?;
        if before.trim() == limit {
            // One of us was killed before it could put it back.
            before = QUEUE_DEFAULT.to_owned();
        }
        fs::write(QUEUE, limit).with_context(|| format!("writing {QUEUE}"))?;
        Ok(Self { before: before.into() })
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // It could be written before.
        let _ = fs::write(QUEUE, self.before.as_encoded_bytes());
    }
}

/// The end of a log, for people.
pub fn tail(log: &Path, count: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(|line| format!("    {line}")).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_parent_and_its_start() {
        let mut sleeping = Running::start(Command::new("sleep").arg("600")).unwrap();
        let found = process(sleeping.id().cast_signed()).unwrap();
        assert_eq!((found.parent, found.name.as_str()), (std::process::id().cast_signed(), "sleep"));
        let other = Child { started: found.child.started + 1, ..found.child };
        assert!(!other.signal(Signal::SIGKILL));
        assert!(sleeping.ended().unwrap().is_none());
        assert!(found.child.signal(Signal::SIGKILL));
        assert!(sleeping.wait(Duration::from_secs(5)).unwrap().is_some());
    }
}
