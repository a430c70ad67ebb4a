//! What the host is told: one JSON object a line on the second serial port.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr},
    utsname,
};
use serde::Deserialize;
use serde_json::json;

const PORT: &str = "/dev/ttyS1";

/// The line to the host.
pub struct Report {
    port: File,
}

/// Of which run of a suite something is told.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// The suite.
    pub suite: &'a str,
    /// The tier, with its mask.
    pub tier: &'a str,
    /// The file system.
    pub file_system: &'a str,
}

/// What a suite says of one case, a line of its standard output.
#[derive(Debug, Default, Deserialize)]
pub struct Case {
    /// The directory in which it ran.
    pub dir: PathBuf,
    /// Unique in its suite and directory.
    pub case: String,
    /// `passed`, `failed` or `not covered`.
    pub outcome: String,
    /// Why it did not pass.
    #[serde(default)]
    pub why: String,
    /// What was measured.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    /// Since the line before it; the suite does not say it.
    #[serde(default)]
    pub milliseconds: u64,
}

impl Report {
    /// Opens the port as a plain channel of bytes.
    pub fn open() -> Result<Self> {
        let port = OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY).open(PORT);
        let port = port.with_context(|| format!("{PORT}: the kernel has no second serial port (CONFIG_SERIAL_8250_RUNTIME_UARTS)"))?;
        let mut settings = tcgetattr(&port).context("the serial port is no terminal")?;
        cfmakeraw(&mut settings);
        tcsetattr(&port, SetArg::TCSANOW, &settings)?;
        Ok(Self { port })
    }

    /// The machine is up.
    pub fn booted(&self) -> Result<()> {
        let release = utsname::uname()?.release().to_string_lossy().into_owned();
        self.line(&json!({ "kind": "booted", "release": release }))
    }

    /// What became of a case.
    pub fn case(&self, of: Of<'_>, case: &Case) -> Result<()> {
        self.line(&json!({
            "kind": "case", "suite": of.suite, "tier": of.tier, "file_system": of.file_system, "case": case.case, "outcome": case.outcome,
            "why": case.why, "figures": case.figures, "milliseconds": case.milliseconds,
        }))
    }

    /// Something that is said of a suite as a whole.
    pub fn whole(&self, of: Of<'_>, outcome: &str, why: &str) -> Result<()> {
        let [case, outcome, why] = ["the suite", outcome, why].map(str::to_owned);
        self.case(of, &Case { case, outcome, why, ..Case::default() })
    }

    /// A suite has ended for one tier on one file system, or on those in `of` with a comma between them.
    pub fn ended(&self, of: Of<'_>, took: Duration) -> Result<()> {
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        self.line(&json!({
            "kind": "ended", "suite": of.suite, "tier": of.tier, "file_system": of.file_system, "seconds": seconds,
        }))
    }

    /// Everything that was planned has been run; without this line the host takes the guest for dead.
    pub fn done(&self) -> Result<()> {
        self.line(&json!({ "kind": "done" }))?;
        tcdrain(&self.port).context("the serial port")
    }

    fn line(&self, value: &serde_json::Value) -> Result<()> {
        let mut line = value.to_string();
        line.push('\n');
        (&self.port).write_all(line.as_bytes()).context("the serial port")
    }
}
