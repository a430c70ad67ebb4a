//! The machine that figures were measured on: without it they say little.

use std::{fmt, path::Path, process::Command, thread};

use anyhow::{Context, Result};
use serde::Serialize;

/// Where, and with what, was measured.
#[derive(Default, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    processors: usize,
    rsync: String,
    trigsync: String,
}

impl Machine {
    /// This machine, and the versions of the programs that are measured.
    pub(crate) fn this(trigsync: &Path) -> Result<Self> {
        let kernel = nix::sys::utsname::uname().context("uname")?;
        Ok(Self {
            kernel: kernel.release().to_string_lossy().into_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            rsync: first_line(Path::new("rsync"))?,
            trigsync: first_line(trigsync)?,
        })
    }
}

fn first_line(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().with_context(|| format!("{} does not start", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, {} processors; {}; {}", self.kernel, self.processors, self.rsync, self.trigsync)
    }
}
