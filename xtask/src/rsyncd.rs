//! A real `rsync --daemon` on the loopback interface, with one module, for as long as the value lives.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{interrupt, process::Running};

/// A loopback daemon whose only module is `www`.
#[derive(Debug)]
pub struct Rsyncd {
    _running: Running,
    port: u16,
}

impl Rsyncd {
    /// Serves `served` writable as root; its configuration and log go to `state`. Returns once it accepts connections.
    pub fn start(state: &Path, served: &Path) -> Result<Self> {
        let port = free_port()?;
        let configuration = state.join("rsyncd.conf");
        let log = state.join("rsyncd.log");
        fs::write(&configuration, configuration_text(served, &log)).with_context(|| format!("writing {}", configuration.display()))?;
        let mut command = Command::new("rsync");
        command
            .args(["--daemon", "--no-detach", "--address=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--config={}", configuration.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            interrupt::check()?;
            if let Some(status) = running.ended()? {
                bail!("rsync --daemon ended at once ({status}): {}", fs::read_to_string(&log).unwrap_or_default().trim());
            }
            if Instant::now() > deadline {
                bail!("rsync --daemon does not accept connections on 127.0.0.1:{port}");
            }
            interrupt::sleep(Duration::from_millis(20))?;
        }
        Ok(Self { _running: running, port })
    }

    /// The address of the module.
    pub fn address(&self) -> String {
        format!("rsync://127.0.0.1:{}/www", self.port)
    }
}

fn configuration_text(served: &Path, log: &Path) -> String {
    format!(
        "uid = 0\ngid = 0\nuse chroot = no\nreverse lookup = no\nlog file = {}\n\n[www]\npath = {}\nread only = no\n",
        log.display(),
        served.display()
    )
}

/// A port that was free a moment ago. rsync cannot say which one it took, so it has to be told.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
