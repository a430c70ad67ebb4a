//! The daemon: wires capture, lanes and the control socket, and decides nothing else.
//!
//! - A lane is entered in the table before its root is armed, so that no event finds it missing.
//! - At the end the lanes stop first, then the capture, and only then is written down what is left: what was read from the kernel is in
//!   the sets by then, and what was not is still in the kernel.
//! - A lane is entered in the journal after what is due for it is marked; until all are, the journal does not note how far capture was read.
//! - Everything ends by dropping senders and by one cancellation token a lane.

mod announcer;
mod calls;
mod canary;
mod daemon;
mod fan_out;
mod hook;
mod initial;
mod metrics;
mod notify;
mod reload;
mod schedule;
mod search;
mod state_dir;
mod sync;
mod watch;

use std::path::PathBuf;

pub use canary::write_canary;
pub use daemon::Daemon;
pub use state_dir::{StateDir, StateDirError};

use crate::{
    capture::CaptureError,
    config::{Config, ConfigError, Overrides, RawConfig},
    journal::JournalError,
    plan::RootError,
    rsync::RsyncError,
};

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the configuration comes from.
    pub origin: Origin,
    /// What the command line sets on top.
    pub overrides: Overrides,
    /// For tests: the kernel whose abilities the eBPF tiers are held to.
    pub capture_mask: Option<String>,
    /// For tests: bytes of the ring of the eBPF tiers.
    pub capture_ring: Option<u32>,
    /// Where the socket, the lock and the journal are.
    pub state_dir: PathBuf,
    /// Whether every target gets a full pass first.
    pub initial_sync: InitialSync,
}

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file, read again on SIGHUP.
    File(PathBuf),
    /// One plugin of a confxml.xml of sersync's, alone; read again in the same way.
    Plugin {
        /// The confxml.xml.
        file: PathBuf,
        /// The plugin's name in it.
        plugin: String,
    },
    /// The command line.
    Flags(Box<RawConfig>),
}

/// Whether every target gets a full pass when the daemon starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum InitialSync {
    /// Yes.
    Always,
    /// Where changes may have been missed: wherever capture has not gone on since a clean stop.
    #[default]
    Auto,
    /// No: only what the last stop left unsent, and what changes from now on.
    Never,
}

/// Why the daemon cannot start or go on. Each is one line that names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The configuration is wrong. Nothing was started.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// No rsync can be run.
    #[error(transparent)]
    Rsync(#[from] RsyncError),
    /// A root cannot be opened.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A root cannot be watched.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The journal cannot be used, not even in memory.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The control socket or the signals cannot be set up.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Capture has ended while the daemon ran. Changes are missed from then on, so the daemon ends too.
    #[error("capture has ended, so changes would be missed: {0}")]
    CaptureEnded(String),
}

impl Options {
    /// Reads and checks the configuration, and logs what in it has no effect. Also what it was made of, for `trigsync verify`.
    pub fn configuration(&self) -> Result<(RawConfig, Config), ConfigError> {
        let raw = match &self.origin {
            Origin::File(file) => RawConfig::read(file)?,
            Origin::Plugin { file, plugin } => RawConfig::read_plugin(file, plugin)?,
            Origin::Flags(raw) => (**raw).clone(),
        };
        for warning in raw.warnings() {
            tracing::warn!("{warning}");
        }
        let raw = raw.with_overrides(&self.overrides)?;
        let config = raw.clone().resolve(&Overrides::default(), &self.state_dir)?;
        Ok((raw, config))
    }
}
