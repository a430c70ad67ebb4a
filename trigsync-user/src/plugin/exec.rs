//! A program that is started with its arguments, never through a shell. It leads a process group of its own, which ends with the run.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, process::Stdio, sync::Mutex, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use super::{Place, payload, runner::Failure};
use crate::{
    config::{EACH, ExecInput, PluginConfig},
    lock::lock,
    model::Arrived,
};

/// How much is kept of the end of what it says on standard error.
const SAID: usize = 1024;

/// How long that is waited for when it has ended: what it left in the background may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Ends the group of a program that has not ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once it was waited for: the number may be another's by then.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended meanwhile.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// One run, to its end. Dropped, it is ended.
pub(super) async fn run(
    config: &PluginConfig,
    place: &Place,
    words: &[String],
    input: ExecInput,
    batch: &[Arrived],
) -> Result<(), Failure> {
    let each = batch.first().filter(|_| config.action.is_for_one());
    let path = each.map(|arrived| payload::argument(arrived, place, config.absolute)).unwrap_or_default();
    let mut words = words.iter().map(|word| filled(word, &path));
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words).current_dir(&place.source).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("TRIGSYNC_SYNC", &place.sync);
    if let Some(arrived) = each {
        command.env("TRIGSYNC_CHANGE", payload::change(arrived));
    }
    let bytes = match (input, each) {
        (ExecInput::Json, _) => payload::json(batch, place, config.absolute, config.after.as_deref()),
        (ExecInput::Paths, None) => payload::list(batch, place, config.absolute, 0),
        (ExecInput::Paths, Some(_)) => Vec::new(),
    };
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", program.display()));
    let mut group = Group(command.spawn().map_err(failed)?);
    let (stdin, stderr) = (group.0.stdin.take(), group.0.stderr.take());
    let said = Mutex::new(Vec::new());
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // It need not read.
                let _ = stdin.write_all(&bytes).await;
            }
        };
        tokio::join!(write, listen(stderr, &said));
    };
    tokio::pin!(talk);
    let mut has_talked = false;
    let status = loop {
        tokio::select! {
            status = group.0.wait() => break status.map_err(failed)?,
            () = &mut talk, if !has_talked => has_talked = true,
        }
    };
    if status.success() {
        return Ok(());
    }
    if !has_talked {
        let _ = timeout(LAST_WORDS, talk).await;
    }
    let said = String::from_utf8_lossy(&lock(&said)).trim().lines().last().map(|line| format!(": {line}")).unwrap_or_default();
    Err(Failure::new(format!("{} ended with {status}{said}", program.display())))
}

async fn listen(stderr: Option<ChildStderr>, said: &Mutex<Vec<u8>>) {
    let Some(mut stderr) = stderr else { return };
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let mut said = lock(said);
        said.extend_from_slice(&buffer[..length]);
        let excess = said.len().saturating_sub(SAID);
        said.drain(..excess);
    }
}

/// A word with the path in its place.
fn filled(word: &str, path: &[u8]) -> OsString {
    let parts: Vec<_> = word.split(EACH).map(str::as_bytes).collect();
    OsString::from_vec(parts.join(path))
}
