//! Processes that a test starts.
//!
//! - Each leads a process group of its own and dies with the thread that started it, so that nothing outlives a test.
//! - Ended by id: the group, and those descendants that have left it.

use std::{
    fs,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill, killpg},
    },
    unistd::Pid,
};

/// A running process and everything it has started.
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` as the leader of a process group.
    pub fn start(command: &mut Command) -> Self {
        command.process_group(0);
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and touches no memory of the parent.
        unsafe { command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        Self { child, ended: None }
    }

    /// The process id, which is the group's id as well.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal` to the process alone.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            kill(self.pid(), signal).unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.id()));
        }
    }

    /// Sends `signal` to the whole group.
    pub fn signal_group(&self, signal: Signal) {
        if self.ended.is_none() {
            killpg(self.pid(), signal).unwrap_or_else(|error| panic!("cannot send {signal} to group {}: {error}", self.id()));
        }
    }

    /// How it ended; nothing where it still runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the child is ours to wait for");
        }
        self.ended
    }

    /// Waits until it has ended; nothing where it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the process, its group and its descendants with SIGKILL, and waits for it.
    pub fn kill(&mut self) {
        if self.ended().is_some() {
            // What it left behind in its group; the group's id cannot be in use again while a member of it lives.
            let _ = killpg(self.pid(), Signal::SIGKILL);
            return;
        }
        let descendants = self.descendants();
        let _ = killpg(self.pid(), Signal::SIGKILL);
        for (id, _) in descendants {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        self.ended = self.child.wait().ok();
    }

    /// The ids and names of all processes that descend from this one and still run.
    pub fn descendants(&self) -> Vec<(i32, String)> {
        let all: Vec<_> = fs::read_dir("/proc").expect("/proc is there").flatten().filter_map(|entry| stat(&entry.path())).collect();
        let mut found = Vec::new();
        let mut parents = vec![self.pid().as_raw()];
        while let Some(parent) = parents.pop() {
            for (id, name, _) in all.iter().filter(|(_, _, of)| *of == parent) {
                parents.push(*id);
                found.push((*id, name.clone()));
            }
        }
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Id, name and parent of the process that `/proc/ID` stands for, zombies left out.
fn stat(directory: &std::path::Path) -> Option<(i32, String, i32)> {
    let id = directory.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read(directory.join("stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (before, after) = text.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then(|| (id, before.split_once('(').map_or("", |(_, name)| name).to_owned(), parent))
}

/// A line for each thread of a process and of its children: name, state, where in the kernel it waits.
pub fn states(process: i64) -> Vec<String> {
    let read = |path: std::path::PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut lines = Vec::new();
    let mut processes = vec![process];
    while let Some(id) = processes.pop() {
        for thread in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let children = read(thread.join("children"));
            processes.extend(children.split_whitespace().filter_map(|child| child.parse::<i64>().ok()));
            let state = read(thread.join("stat")).rsplit_once(')').map(|(_, rest)| rest.trim().chars().take(1).collect::<String>());
            let stack = read(thread.join("stack")).lines().take(4).map(str::to_owned).collect::<Vec<_>>().join(" < ");
            let (name, call) = (read(thread.join("comm")), read(thread.join("syscall")));
            lines.push(format!("    {} {name}: {}, {call}, {stack}", thread.display(), state.unwrap_or_default()));
        }
    }
    lines
}

/// What a command that has ended said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; 128 plus the signal where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The command, for messages.
    pub command: String,
}

impl Outcome {
    /// Runs `command` to its end; one that takes longer than `limit` fails the test.
    pub fn of(command: &mut Command, limit: Duration) -> Self {
        let words = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(command);
        let stdout = collect(process.child().stdout.take());
        let stderr = collect(process.child().stderr.take());
        let status = process.wait(limit);
        process.kill();
        let [stdout, stderr] = [stdout, stderr].map(|thread| thread.join().expect("reading a pipe does not panic"));
        let Some(status) = status else { panic!("{words} has not ended after {limit:?}\nstdout: {stdout}\nstderr: {stderr}") };
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it has ended");
        Self { code, stdout, stderr, command: words }
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == code, "exit code {} instead of {code}: {self}", self.code);
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, command } = self;
        write!(f, "{command}\nexit code: {code}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a program that prepares a test; anything but exit code 0 fails the test.
#[track_caller]
pub fn must(command: &mut Command) -> String {
    Outcome::of(command, Duration::from_secs(300)).expect(0).stdout
}

/// Looks again and again until `look` finds something; fails the test after `limit`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not so within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
