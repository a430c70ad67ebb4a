//! Going on in the background.
//!
//! The process does not divide itself: it starts its own program again, in a session of its own, and lives until that one is ready or has
//! failed. So whoever calls, an rc.local for one, hears how it went, by text and by exit code.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::Context;

use super::{FAILED, args::Background};
use crate::runtime::{StateDir, StateDirError};

const LOG: &str = "trigsync.log";
const PID: &str = "trigsync.pid";

/// Whether this process is only to start the one in the background.
pub fn is_wanted(background: Background) -> bool {
    if !background.detach || background.detached {
        return false;
    }
    // Who sets it waits for a word from this very process, and would end what it has left behind.
    let told_when_ready = env::var_os("NOTIFY_SOCKET").is_some();
    if told_when_ready {
        tracing::info!("stays in the foreground: the service manager is told when it is ready");
    }
    !told_when_ready
}

/// Starts the same command in the background, and ends when that is ready, with 0, or has ended, with its exit code and what it had to say.
pub fn start(state_dir: &Path) -> anyhow::Result<ExitCode> {
    StateDir::make(state_dir)?;
    let path = state_dir.join(LOG);
    let open = || -> io::Result<(File, u64)> {
        let log = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let length = log.metadata()?.len();
        Ok((log, length))
    };
    let (mut log, begins) = open().map_err(|source| StateDirError::Unusable { path: state_dir.to_owned(), source })?;
    let mut words = env::args_os();
    let name = words.next().unwrap_or_else(|| OsString::from("trigsync"));
    let program = env::current_exe().context("cannot find this program again")?;
    let mut child = Command::new(&program)
        .arg0(name)
        .args(words)
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut ready = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut ready)?;
    }
    if ready.is_empty() {
        let status = child.wait()?;
        log.seek(SeekFrom::Start(begins))?;
        io::copy(&mut log, &mut io::stderr())?;
        return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(FAILED)));
    }
    print!("{ready}");
    println!("goes on in the background as process {}; its log is {}", child.id(), path.display());
    Ok(ExitCode::SUCCESS)
}

/// Leaves the caller's session and directory: for the process in the background, before it does anything else.
pub fn leave() -> anyhow::Result<()> {
    nix::unistd::setsid().context("cannot begin a session of its own")?;
    env::set_current_dir("/").context("cannot go to the root directory")
}

/// Tells others the number of this process, as long as it lives.
pub struct PidFile(PathBuf);

impl PidFile {
    /// For whoever has taken the state directory.
    pub fn write(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(PID);
        let write = || -> io::Result<()> {
            // Of a daemon that was killed.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            io::Write::write_all(&mut File::create_new(&path)?, format!("{}\n", std::process::id()).as_bytes())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The next one takes it away where this cannot.
        let _ = fs::remove_file(&self.0);
    }
}
