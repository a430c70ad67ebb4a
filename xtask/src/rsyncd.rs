//! A real `rsync --daemon` on the loopback interface, with one module, for as long as the value lives.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::{interrupt, process::Running};

/// A loopback daemon whose only module is `www`.
#[derive(Debug)]
pub struct Rsyncd {
    running: Running,
    state: PathBuf,
    port: u16,
}

impl Rsyncd {
    /// Serves `served` writable as root; its configuration and log go to `state`. Returns once it accepts connections.
    pub fn start(state: &Path, served: &Path) -> Result<Self> {
        Self::start_with(state, served, "use chroot = no\n")
    }

    /// The same with further lines for the module.
    pub fn start_with(state: &Path, served: &Path, parameters: &str) -> Result<Self> {
        let port = free_port()?;
        let configuration = state.join("rsyncd.conf");
        let text = configuration_text(served, &state.join("rsyncd.log"), parameters);
        fs::write(&configuration, text).with_context(|| format!("writing {}", configuration.display()))?;
        Ok(Self { running: listening(state, port)?, state: state.to_owned(), port })
    }

    /// The address of the module.
    pub fn address(&self) -> String {
        format!("rsync://127.0.0.1:{}/www", self.port)
    }

    /// Ends it and its connections at once.
    pub fn kill(&mut self) -> Result<()> {
        if self.running.ended()?.is_none() {
            self.running.signal_group(Signal::SIGKILL);
            self.running.wait(Duration::from_secs(5))?;
        }
        Ok(())
    }

    /// Starts it again on the same port, after it was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.running = listening(&self.state, self.port)?;
        Ok(())
    }

    /// Stops it and its connections in their tracks: the port stays open, and nothing answers.
    pub fn freeze(&self) {
        self.running.signal_group(Signal::SIGSTOP);
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.running.signal_group(Signal::SIGCONT);
    }
}

/// A daemon with the configuration in `state`, once it accepts connections.
fn listening(state: &Path, port: u16) -> Result<Running> {
    let mut command = Command::new("rsync");
    command
        .args(["--daemon", "--no-detach", "--address=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--config={}", state.join("rsyncd.conf").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        interrupt::check()?;
        if let Some(status) = running.ended()? {
            let log = fs::read_to_string(state.join("rsyncd.log")).unwrap_or_default();
            bail!("rsync --daemon ended at once ({status}): {}", log.trim());
        }
        if Instant::now() > deadline {
            bail!("rsync --daemon does not accept connections on 127.0.0.1:{port}");
        }
        interrupt::sleep(Duration::from_millis(20))?;
    }
    Ok(running)
}

fn configuration_text(served: &Path, log: &Path, parameters: &str) -> String {
    format!(
        "uid = 0\ngid = 0\nreverse lookup = no\nlog file = {}\n\n[www]\npath = {}\nread only = no\n{parameters}",
        log.display(),
        served.display()
    )
}

/// A port that was free a moment ago. rsync cannot say which one it took, so it has to be told.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
