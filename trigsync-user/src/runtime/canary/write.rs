//! The writing of the canary, in a process that capture takes for anybody's.
//!
//! - fanotify tells of every process alike, the daemon and its children included. The programs in the kernel leave out the daemon and what
//!   descends from it (`trigsync-ebpf/src/own.rs`, by `real_parent`, four generations up), its rsync processes among them. So the writer is an orphan: the
//!   daemon starts a process, that one starts the writer and ends, and the daemon hands over the content only after it has waited for that end. By then the
//!   kernel has given the writer to `init` or to another ancestor of the daemon's.
//! - The first process of a container would get its own orphans back and wait for none. Only fanotify works there, so it lets its child write.
//! - The file is made anew and renamed: links that others put in its place are replaced, never followed.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    process::{Command, Stdio},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    config::{CANARY, CANARY_NEW},
    dispatch::SyncContext,
    plan::open_same_root,
};

/// This program, also after another was put in its place.
const OURSELVES: &str = "/proc/self/exe";

/// The command that is not for people.
const COMMAND: &str = "write-canary";

/// What the writer says when it is done.
const WRITTEN: &str = "written";

/// Writes `content` into the source. Has ended when the file has it.
pub(super) async fn write(context: &SyncContext, content: &[u8]) -> Result<(), String> {
    let root = open_same_root(&context.config.source, context.gate().root).map_err(|error| error.to_string())?;
    let is_first = std::process::id() == 1;
    let io = |error: io::Error| format!("its writer cannot be run: {error}");
    let mut command = tokio::process::Command::new(OURSELVES);
    command.arg(COMMAND).args((!is_first).then_some("--orphan"));
    // By the descriptor: the directory that was armed, whatever its path leads to by now.
    command.current_dir(format!("/proc/self/fd/{}", root.as_raw_fd()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(io)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("its writer has no pipes".into());
    };
    if !is_first {
        child.wait().await.map_err(io)?;
    }
    // One that has ended has said why.
    let _ = input.write_all(content).await;
    drop(input);
    let mut said = String::new();
    output.take(LONGEST).read_to_string(&mut said).await.map_err(io)?;
    if is_first {
        child.wait().await.map_err(io)?;
    }
    match said.trim() {
        WRITTEN => Ok(()),
        "" => Err("its writer ended without a word".into()),
        reason => Err(reason.to_owned()),
    }
}

/// Bytes of a content or an answer.
const LONGEST: u64 = 4096;

/// The other side, in a process of its own: writes what comes on standard input as the canary of the directory that it runs in, and says on standard
/// output how it went. As an `orphan` it leaves that to a process that it does not wait for.
pub fn write_canary(orphan: bool) {
    let result = if orphan { Command::new(OURSELVES).arg(COMMAND).spawn().map(|_| None) } else { replace().map(Some) };
    let answer = match result {
        Ok(None) => return,
        Ok(Some(())) => WRITTEN.to_owned(),
        Err(error) => error.to_string(),
    };
    // Whoever asked may have gone.
    let _ = io::stdout().write_all(answer.as_bytes());
}

fn replace() -> io::Result<()> {
    let mut content = Vec::new();
    io::stdin().take(LONGEST).read_to_end(&mut content)?;
    if !content.ends_with(b"\n") {
        return Err(io::Error::other("the daemon has gone"));
    }
    match fs::remove_file(CANARY_NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(CANARY_NEW)?;
    let written = file.write_all(&content);
    // For whoever the target's server runs as.
    let written = written.and_then(|()| file.set_permissions(Permissions::from_mode(0o644))).and_then(|()| fs::rename(CANARY_NEW, CANARY));
    if written.is_err() {
        // The next attempt tries it too.
        let _ = fs::remove_file(CANARY_NEW);
    }
    written
}
