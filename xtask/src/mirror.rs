//! A running `trigsync run`, driven from outside: its `ready` line, its status, and the commands that speak to it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{interrupt, process::Running};

/// What `trigsync status --json` tells, as far as it is shown or measured here.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Process id of the daemon.
    pub pid: u32,
    /// Where changes come from.
    pub capture: Capture,
    /// One for each source.
    pub syncs: Vec<Sync>,
}

/// The capture's counters.
#[derive(Clone, Debug, Deserialize)]
pub struct Capture {
    /// Events below the source.
    pub changes: u64,
    /// Overflows of the kernel's queue.
    pub overflows: u64,
}

/// One source.
#[derive(Clone, Debug, Deserialize)]
pub struct Sync {
    /// `running` or `stopped`.
    pub state: String,
    /// Why it is stopped.
    pub reason: Option<String>,
    /// Its targets.
    pub targets: Vec<Target>,
}

/// One target's counters.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Target {
    /// `ok`, `behind`, `retrying` or `held`.
    pub state: String,
    /// What is wrong.
    pub reason: Option<String>,
    /// Marks that wait.
    pub pending: u64,
    /// Marks on their way.
    pub in_flight: u64,
    /// Directories that took the place of what was marked in them.
    #[serde(default)]
    pub degraded: u64,
    /// Whether a full pass is running.
    pub full_pass: bool,
    /// Marks that arrived.
    pub sent: u64,
    /// Batches that arrived.
    pub batches: u64,
    /// rsync processes started.
    pub processes: u64,
    /// How long changes took.
    pub delay: Delay,
}

/// Delays in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Delay {
    /// Half arrived within.
    pub p50_ms: f64,
    /// 99 % arrived within.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// The last batch's oldest.
    pub last_ms: f64,
}

impl Status {
    /// The first target of the first source: the only one that the demonstration and the benchmarks have.
    pub fn target(&self) -> Result<&Target> {
        self.syncs.first().and_then(|sync| sync.targets.first()).context("the daemon's status names no target")
    }
}

impl Target {
    /// Whether nothing waits and nothing is on its way.
    pub fn is_settled(&self) -> bool {
        self.pending == 0 && self.in_flight == 0 && !self.full_pass
    }
}

/// A daemon of our own; ended when dropped.
#[derive(Debug)]
pub struct Mirror {
    running: Running,
    binary: PathBuf,
    state: PathBuf,
    log: PathBuf,
    ready: String,
}

impl Mirror {
    /// Starts `trigsync run` with `arguments`, its state and log in `state`, and returns once it is ready.
    pub fn start<A: AsRef<OsStr>>(binary: &Path, state: &Path, arguments: impl IntoIterator<Item = A>, patience: Duration) -> Result<Self> {
        let log = state.join("log");
        fs::create_dir_all(state).with_context(|| format!("creating {}", state.display()))?;
        let mut command = Command::new(binary);
        command.arg("--state-dir").arg(state).arg("run").args(arguments);
        let running = Running::start(command.stdout(Stdio::piped()).stderr(File::create(&log)?))?;
        let mut mirror = Self { running, binary: binary.to_owned(), state: state.to_owned(), log, ready: String::new() };
        mirror.ready = mirror.wait_for_ready(patience)?;
        Ok(mirror)
    }

    fn wait_for_ready(&mut self, patience: Duration) -> Result<String> {
        let stdout = self.running.stdout().expect("standard output is piped");
        let (sender, lines) = mpsc::channel();
        // Reads on after the first line: the daemon must never find the pipe closed or full.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more after the `ready` line.
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + patience;
        loop {
            interrupt::check()?;
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.starts_with("ready") => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    bail!("trigsync is not ready after {patience:?}:\n{}", self.log_tail())
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(Duration::from_millis(100));
                    let status = self.running.ended()?.map_or_else(|| "closed its standard output".to_owned(), |status| status.to_string());
                    bail!("trigsync did not get ready ({status}):\n{}", self.log_tail());
                }
            }
        }
    }

    /// The line that it printed when capture was armed.
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// The daemon's process id.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// The end of its log, for people.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Runs a command that speaks to this daemon, to its end.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        interrupt::check()?;
        let output = Command::new(&self.binary)
            .arg("--state-dir")
            .arg(&self.state)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} does not start", self.binary.display()))?;
        interrupt::check()?;
        Ok(output)
    }

    /// As [`ask`](Self::ask), but any exit code other than 0 is an error with what it printed.
    pub fn demand(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.ask(arguments)?;
        if !output.status.success() {
            let said = [output.stderr.as_slice(), output.stdout.as_slice()].map(String::from_utf8_lossy).join("\n");
            bail!(
                "trigsync {} failed ({}): {}\nThe daemon's log ends with:\n{}",
                arguments.join(" "),
                output.status,
                said.trim(),
                self.log_tail()
            );
        }
        Ok(output)
    }

    /// The daemon's status.
    pub fn status(&self) -> Result<Status> {
        let output = self.demand(&["status", "--json"])?;
        serde_json::from_slice(&output.stdout).context("trigsync status --json prints what is not a status")
    }

    /// Returns when everything changed before the call has arrived.
    pub fn flush(&self, patience: Duration) -> Result<()> {
        self.demand(&["flush", "--timeout", &format!("{}s", patience.as_secs())]).map(drop)
    }

    /// Ends the daemon by its own command.
    pub fn stop(self) -> Result<()> {
        self.demand(&["stop"]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_as_the_daemon_prints_it() {
        let text = r#"{"version":"0.1.0","pid":7,"uptime_ms":1,"capture":{"tier":"fanotify","events":9,"changes":5,"overflows":0},
            "syncs":[{"name":"www","source":"/srv/www","state":"stopped","reason":"the source is empty","targets":[{"name":"t","address":"/t",
            "state":"ok","reason":null,"since_ms":1,"pending":0,"in_flight":0,"set_aside":[],"full_pass":false,"lag_ms":0,"changes":5,"sent":3,
            "batches":2,"processes":2,"bytes":10,"failures":0,"delay":{"count":3,"p50_ms":5.5,"p99_ms":9.0,"max_ms":9.0,"last_ms":4.25}}]}]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!((status.pid, status.capture.changes), (7, 5));
        assert_eq!((status.syncs[0].state.as_str(), status.syncs[0].reason.as_deref()), ("stopped", Some("the source is empty")));
        assert!(status.target().unwrap().is_settled());
        assert_eq!(status.target().unwrap().delay.last_ms, 4.25);
    }

    #[test]
    fn a_running_sync_has_no_reason() {
        let sync: Sync = serde_json::from_str(r#"{"name":"www","source":"/s","state":"running","targets":[]}"#).unwrap();
        assert_eq!((sync.state.as_str(), sync.reason), ("running", None));
    }
}
