//! One child process: fed, read and ended without a deadlock and without an orphan.
//!
//! - Standard input is written while both outputs are read. A child that closes its input early is judged by its exit, not by that.
//! - The child leads a session of its own: no terminal to ask for passwords on, and one signal reaches it and all its children.
//! - It gets SIGTERM when the thread that started it ends, so a killed daemon leaves nothing behind. Tokio's worker threads live as long
//!   as the runtime; start none from `spawn_blocking` or `block_in_place`.

use std::{
    ffi::OsString,
    future::Future,
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::Pid,
};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{TERMINATE_GRACE, lines::Lines};

/// How a process ended.
#[derive(Debug)]
pub(super) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// We stopped it, and it did not end well.
    Stopped,
    /// We ended it, for this reason.
    GivenUp(String),
    /// It could not be started.
    NotStarted(io::Error),
}

/// What is left of the outputs is read for this long after the child ended: a child of its own (ssh's connection master) may hold them.
const LINGER: Duration = Duration::from_millis(500);

/// A child that has been started and has got no input yet. Dropped, it is ended by SIGTERM.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    group: Group,
}

impl Process {
    /// Starts `binary`.
    pub fn start(binary: &Path, arguments: &[OsString]) -> io::Result<Self> {
        Self::spawn(command(binary, arguments))
    }

    /// The same in another working directory.
    pub fn start_in(directory: &Path, binary: &Path, arguments: &[OsString]) -> io::Result<Self> {
        let mut command = command(binary, arguments);
        command.current_dir(directory);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let group = Group(child.id());
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        Ok(Self { child, stdin, stdout, stderr, group })
    }

    /// Its number, as long as it has not been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        let has_ended = !matches!(self.child.try_wait(), Ok(None));
        if has_ended {
            // It has been waited for, and its number may be another's by now.
            self.group.0 = None;
        }
        has_ended
    }

    /// Runs it to its end, with `input` on its standard input, and hands over each line of both outputs as it comes. `stop` ends it early, and
    /// so does `given_up`, which resolves with the reason.
    pub async fn finish(
        self,
        input: Vec<u8>,
        stop: &CancellationToken,
        given_up: impl Future<Output = String>,
        mut each: impl FnMut(&[u8]),
    ) -> Exit {
        let Self { mut child, stdin, stdout, stderr, mut group } = self;
        let (mut stdout, mut stderr) = (Lines::new(stdout), Lines::new(stderr));
        let mut writing = std::pin::pin!(feed(stdin, input));
        let mut written = false;
        let mut stopping: Option<Exit> = None;
        let mut stopped = std::pin::pin!(async {
            tokio::select! {
                () = stop.cancelled() => Exit::Stopped,
                reason = given_up => Exit::GivenUp(reason),
            }
        });
        let mut killed = false;
        let mut status: Option<io::Result<ExitStatus>> = None;
        // The end of the grace while we stop, the end of lingering once the child has ended.
        let mut deadline = Instant::now();
        while status.is_none() || !(stdout.ended && stderr.ended) {
            tokio::select! {
                () = stdout.fill(), if !stdout.ended => stdout.take(&mut each),
                () = stderr.fill(), if !stderr.ended => stderr.take(&mut each),
                () = &mut writing, if !written => written = true,
                ended = child.wait(), if status.is_none() => {
                    group.0 = None;
                    status = Some(ended);
                    deadline = Instant::now() + LINGER;
                }
                why = &mut stopped, if stopping.is_none() && status.is_none() => {
                    stopping = Some(why);
                    deadline = Instant::now() + TERMINATE_GRACE;
                    group.signal(Signal::SIGTERM);
                }
                () = sleep_until(deadline), if status.is_some() || (stopping.is_some() && !killed) => {
                    if status.is_some() {
                        break;
                    }
                    killed = true;
                    group.signal(Signal::SIGKILL);
                }
            }
        }
        match (status, stopping) {
            (Some(Ok(status)), Some(why)) if !status.success() => why,
            (Some(Ok(status)), _) => status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code),
            (Some(Err(error)), _) => Exit::NotStarted(error),
            (None, why) => why.unwrap_or(Exit::Stopped),
        }
    }
}

/// Writes all and closes. A child that does not read to the end has said why on its outputs.
async fn feed(mut stdin: ChildStdin, input: Vec<u8>) {
    let _ = stdin.write_all(&input).await;
}

fn command(binary: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let changes_rsync = name.as_encoded_bytes().starts_with(b"RSYNC_") || name.as_encoded_bytes().starts_with(b"LC_");
        if changes_rsync || name == "LANG" || name == "LANGUAGE" {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only async-signal-safe system calls are made (setsid, prctl, getppid), and nothing is allocated:
    // an `io::Error` of a raw code or a kind holds no memory.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            prctl::set_pdeathsig(Signal::SIGTERM)?;
            // The parent may have died before the line above; then nobody would send the signal.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ECHILD)) }
        });
    }
    command
}

/// The session of a child that has not been waited for yet. Dropped early, it ends with the run.
#[derive(Debug)]
struct Group(Option<u32>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0.and_then(|leader| i32::try_from(leader).ok()) {
            // It may have ended a moment ago; then there is nobody to tell.
            let _ = nix::sys::signal::killpg(Pid::from_raw(leader), signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not SIGKILL: a local receiver, which is in this group, removes its temporary file first.
        self.signal(Signal::SIGTERM);
    }
}
