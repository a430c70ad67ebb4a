//! What the operator wants, in a form that cannot be wrong.
//!
//! `raw` is what was written, parsed as it is; `resolve` turns it into the types here and checks everything that can be checked
//! without touching a target. Errors name the file, line and key.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

mod address;
mod alone;
mod apart;
mod audit;
mod error;
mod filter;
pub mod foreign;
mod import;
mod inplace;
pub mod lsyncd;
mod options;
mod parse;
mod pattern;
mod places;
mod plugin;
mod raw;
mod resolve;
mod schedule;
pub mod sersync;
mod target;
mod write;

pub use address::{InvalidAddress, RSYNC_PORT, TargetAddress};
pub use audit::{AuditConfig, Window};
pub use error::ConfigError;
pub use filter::Filter;
pub use import::{import, import_plugin};
pub use inplace::InPlace;
pub use pattern::InvalidPattern;
pub use plugin::{
    EACH, ExecInput, Expression, HttpRequest, Piece, Placeholder, PluginAction, PluginConfig, PluginPaths, Separator, Template, UrlRule,
};
pub use raw::{Overrides, RawConfig};
pub use schedule::{CronExpression, Schedule, Times};

/// Everything one daemon does.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one.
    pub syncs: Vec<SyncConfig>,
    /// What the daemon as a whole is told.
    pub daemon: DaemonConfig,
}

/// What the daemon as a whole is told.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonConfig {
    /// How to capture.
    pub backend: Backend,
    /// Kernel type information (BTF) for the eBPF tiers, where the running kernel's own is not to be read.
    pub btf: Option<PathBuf>,
    /// Whether fanotify's queue may grow as long as memory lasts, or overflows at the system's limit.
    pub unlimited_queue: bool,
    /// The program that hears of changes of state, with its arguments; none where empty.
    pub on_state_change: Vec<String>,
    /// A file for what fails, one line each, if any.
    pub fail_log: Option<PathBuf>,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Bytes that the marks of all targets together may take.
    pub memory: u64,
    /// The rsync to run; found in PATH where it has no slash.
    pub rsync: PathBuf,
    /// How long a stop waits for transfers in flight.
    pub stop_timeout: Duration,
    /// The number of the group whose members may ask at the control socket, beside its owner.
    pub control_group: Option<u32>,
}

/// How to capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The best that loads.
    #[default]
    Auto,
    /// The better of the two eBPF tiers that loads.
    Ebpf,
    /// eBPF with probes on entry and return, also where the kernel has trampolines.
    EbpfKprobe,
    /// fanotify with names, Linux 5.9 and newer.
    Fanotify,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::EbpfKprobe => "ebpf-kprobe",
            Self::Fanotify => "fanotify",
        })
    }
}

/// One source and the targets that are kept equal to it; or the plugins that are told of its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncConfig {
    /// Unique among the syncs; the last component of the source where none is given.
    pub name: String,
    /// Absolute, without symbolic links, an existing directory.
    pub source: PathBuf,
    /// What is left alone on both sides.
    pub filter: Arc<Filter>,
    /// Whether file systems mounted inside the source belong to it.
    pub cross_mounts: bool,
    /// Whether the targets keep what is gone at the source: `delete = false`.
    pub keep: bool,
    /// Whether this daemon may write into the source: a local target of another sync lies inside it, or around it, or a plugin is a program.
    pub written_here: bool,
    /// When a change is ripe to be sent.
    pub settle: Settle,
    /// How much one rsync gets.
    pub batch: BatchLimits,
    /// What stops the sync.
    pub guards: Guards,
    /// No two attempts, of a target or of a path, are further apart, where the built-in intervals are longer.
    pub retry_max: Option<Duration>,
    /// How the targets are compared in the background; none: not by itself.
    pub audit: Option<AuditConfig>,
    /// When everything is compared on schedule; none: when it has to be.
    pub full_pass: Option<Schedule>,
    /// How often a canary is sent, if it is.
    pub canary: Option<Duration>,
    /// Where none is, nothing is sent, and there is at least one plugin.
    pub targets: Vec<TargetConfig>,
    /// Who is told of what has arrived.
    pub plugins: Vec<PluginConfig>,
}

/// The file of the canary, right in the source's root.
pub const CANARY: &str = ".trigsync-canary";

/// What it is called until it is whole.
pub const CANARY_NEW: &str = ".trigsync-canary.new";

/// When a change is ripe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// After a finished change (a close after writing, a rename, an unlink): enough for a save's rename to follow. 5 ms.
    pub finished: Duration,
    /// Quiet time after the last write to a file that is still open. 20 ms.
    pub quiet: Duration,
    /// A file that never falls quiet is sent at this age. 1 s.
    pub max_age: Duration,
}

impl Default for Settle {
    fn default() -> Self {
        Self { finished: Duration::from_millis(5), quiet: Duration::from_millis(20), max_age: Duration::from_secs(1) }
    }
}

/// How much one rsync gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Marks in one batch. 50,000.
    pub paths: usize,
    /// Bytes of file content in one batch; a file larger than this goes alone. 1 GiB.
    pub bytes: u64,
}

/// What stops a sync rather than delete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guards {
    /// The largest share of a target's entries, 0.0 to 1.0, that one batch may delete. 0.5; 1.0 switches the guard off.
    pub max_delete: f64,
    /// Batches that delete no more entries than this never stop a sync: 1,000 where `max_delete` is the default, 0 where it is written.
    pub max_delete_floor: u64,
}

/// One place that is kept equal to the source.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetConfig {
    /// Unique within the sync; the address as written where none is given.
    pub name: String,
    /// Where.
    pub address: TargetAddress,
    /// For rsync daemons: a file that holds the password, readable by its owner only.
    pub password_file: Option<PathBuf>,
    /// For ssh: the private key.
    pub identity: Option<PathBuf>,
    /// Further rsync options, as written. None of those that the batches rely on.
    pub options: Vec<String>,
    /// rsync's `--bwlimit`.
    pub bandwidth_limit: Option<String>,
    /// How many rsync processes may run against this target at once. 2: one for batches, one for large files and whole subtrees.
    pub connections: NonZeroU32,
    /// How many of them may be rsync processes that have connected ahead of the next change and wait for it. 1, and 0 where `connections` is 1.
    pub warm: u32,
    /// Files that are written into the target's own; none where the target is a directory of this machine.
    pub inplace: InPlace,
    /// rsync's `--timeout`, whole seconds. 60 s.
    pub timeout: Duration,
    /// rsync's `--modify-window`; -1, the default, compares nanoseconds. For targets whose file system keeps coarser times: 1.
    pub modify_window: i32,
}
