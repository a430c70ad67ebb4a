//! A child process that cannot outlive us.
//!
//! - It leads a process group of its own, so what it forked goes with it, and a Ctrl-C at the terminal reaches only us: we decide.
//! - It is signalled by the number of its group while it is not yet reaped, so the number cannot belong to anyone else.

use std::{
    os::unix::process::CommandExt,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

/// How long a child may take to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// A running child; ended when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts the command with nothing on its standard input.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        Ok(Self { child })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard output, where it was piped and not taken before.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The child's standard error, where it was piped and not taken before.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("waiting for a child")
    }

    /// Signals the process alone, not what it forked. One that has ended is not signalled.
    pub fn signal(&self, signal: Signal) {
        // Not reaped while `self` says it runs, so the number is still its own; an error means that it has ended.
        let _ = kill(self.group(), signal);
    }

    /// Signals the process and all of its group.
    pub fn signal_group(&self, signal: Signal) {
        // As above.
        let _ = killpg(self.group(), signal);
    }

    /// Waits for its end, but no longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Whether the child has ended; it stays a zombie, so that its number stays ours.
    fn is_dead(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.group()), flags), Ok(WaitStatus::StillAlive))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Errors mean that it has ended already, which is what we want.
        let _ = killpg(self.group(), Signal::SIGTERM);
        // One that was stopped hears nothing else.
        let _ = killpg(self.group(), Signal::SIGCONT);
        let deadline = Instant::now() + GRACE;
        while !self.is_dead() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn what_a_child_forked_ends_with_it() {
        let mut script = Command::new("sh");
        script.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut running = Running::start(&mut script).unwrap();
        let mut line = String::new();
        BufReader::new(running.stdout().unwrap()).read_line(&mut line).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap());
        let parent = running.group();
        drop(running);
        assert!(kill(parent, None).is_err());
        // The grandchild is reaped by init, which may take a moment, or stays a zombie where there is none.
        let deadline = Instant::now() + Duration::from_secs(5);
        while is_running(grandchild) {
            assert!(Instant::now() < deadline, "{grandchild} is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_running(pid: Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }
}
