//! The arguments of every command.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

use crate::{
    capture::choose::Wanted,
    config::{Backend, ConfigError, Overrides, RawConfig},
    control::Which,
    runtime::{InitialSync, Origin},
};

/// Keeps rsync targets equal to huge directory trees, change by change.
#[derive(Debug, Parser)]
#[command(name = "trigsync", version, max_term_width = 110)]
pub struct Args {
    /// Where the daemon keeps its socket, lock and journal. Give each daemon its own.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/trigsync")]
    pub state_dir: PathBuf,
    /// How the log on standard error is written.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// How much is logged: error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror until stopped. Prints one line beginning `ready` when no change is missed any more.
    Run(Run),
    /// Make every target equal once, and end.
    Sync(Definition),
    /// Print changes below a directory as they happen.
    Events {
        /// The directory.
        directory: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        capture: CaptureFlags,
    },
    /// Tell what this machine, its kernel and the targets can do, and what is wrong.
    Doctor {
        /// The configuration whose sources and targets are tried.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        capture: CaptureFlags,
    },
    /// Do as sersync2 did with these options; the same as a program of the name sersync2.
    Sersync(Sersync),
    /// Turn sersync's confxml.xml or lsyncd's configuration into a trigsync.toml on standard output, and tell on standard error what
    /// changes with it.
    Import {
        /// The confxml.xml, or the lsyncd.conf.lua, whatever it is called.
        file: PathBuf,
        /// Only this plugin of the confxml.xml, without rsync.
        #[arg(short = 'm', value_name = "PLUGIN")]
        plugin: Option<String>,
    },
    /// Wait until everything that changed before now has arrived at every target.
    Flush {
        /// Give up after this long.
        #[arg(long, value_name = "TIME", default_value = "60s")]
        timeout: humantime::Duration,
    },
    /// Tell how far behind each target is.
    Status {
        /// Everything, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// One line for a monitoring system: 0 fine, 1 warning, 2 critical, 3 unknown, with performance data.
    Check(Check),
    /// Tell what was sent when, as far as it is kept. The daemon need not run.
    History(History),
    /// Compare sources and targets, and list what differs.
    Verify(Verify),
    /// Have the running daemon compare every target with its source now, and send what was lost.
    Audit(Audit),
    /// Let a sync that a guard has stopped go on, where what it objected to may then be deleted; and targets that are held. With --target
    /// only the latter.
    Release(Which),
    /// Send nothing until `release`; changes are kept, also across a restart.
    Hold(Which),
    /// Try now what waits for another attempt, paths that are set aside too.
    Retry(Which),
    /// End the running daemon, and wait until it has ended.
    Stop,
    /// For the daemon itself: write the canary of the directory that it runs in.
    #[command(hide = true)]
    WriteCanary {
        /// In a process that does not descend from the caller.
        #[arg(long)]
        orphan: bool,
    },
    /// Take out of the kernel what an eBPF capture left there for the next start. Not while the daemon runs.
    UninstallCapture,
    /// Have the daemon start with the machine: a systemd unit, enabled and started, or a line in rc.local where there is no systemd.
    InstallService(InstallService),
    /// Stop what `install-service` has set up, and take it away.
    UninstallService(Service),
    /// Print what the rsync daemons at the targets need for this configuration: modules, secrets and modes.
    RsyncdSnippet(Definition),
}

#[derive(Debug, Group)]
pub struct Run {
    #[command(flatten)]
    pub definition: Definition,
    /// Whether every target gets a full pass first.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub initial_sync: InitialSync,
    #[command(flatten)]
    pub background: Background,
    #[command(flatten)]
    pub capture: CaptureFlags,
}

/// Whether whoever called gets their terminal back.
#[derive(Clone, Copy, Debug, Group)]
pub struct Background {
    /// Go on in the background as soon as no change is missed any more. The log goes to trigsync.log in the state directory, the process's
    /// number to trigsync.pid. A service manager that is told when the daemon is ready wants none of this, and gets none.
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// For `--detach` itself: this is the process in the background.
    #[arg(long, hide = true)]
    pub detached: bool,
}

#[derive(Debug, Group)]
pub struct Sersync {
    #[command(flatten)]
    pub background: Background,
    /// Give every target a full pass first. Without it only those get one that may have missed something.
    #[arg(short = 'r')]
    pub full_pass: bool,
    /// At most so many rsync processes, shared out evenly; each target has one of its own at least.
    #[arg(short = 'n', value_name = "N")]
    pub processes: Option<NonZeroU32>,
    /// Only this plugin of the confxml.xml, switched on or not: command, socket, refreshCDN or http. It is told of every change, and no rsync
    /// is started.
    #[arg(short = 'm', value_name = "PLUGIN")]
    pub plugin: Option<String>,
    /// The confxml.xml.
    #[arg(short = 'o', value_name = "FILE", default_value = "confxml.xml")]
    pub config: PathBuf,
}

/// A service of the machine.
#[derive(Debug, Group)]
pub struct Service {
    /// What it is called; give each daemon its own.
    #[arg(long, value_name = "NAME", default_value = "trigsync")]
    pub name: String,
    /// Another root directory, such as an image's; nothing is started or stopped there.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

#[derive(Debug, Group)]
pub struct InstallService {
    /// The configuration of the daemon.
    #[arg(long, value_name = "FILE", default_value = "/etc/trigsync.toml")]
    pub config: PathBuf,
    #[command(flatten)]
    pub service: Service,
}

/// How changes are captured.
#[derive(Clone, Debug, Default, Group)]
pub struct CaptureFlags {
    /// How changes are captured; auto takes the best that works.
    #[arg(long, value_name = "TIER")]
    pub backend: Option<Backend>,
    /// For the eBPF tiers: kernel type information, where not that of the running kernel in /sys/kernel/btf/vmlinux.
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// For tests: do as if the kernel could do no more than this one, such as el8.2.
    #[arg(long, value_name = "NAME", hide = true)]
    pub capture_mask: Option<String>,
    /// For tests: bytes of the ring of the eBPF tiers, or of each processor's buffer.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub capture_ring: Option<u32>,
}

/// What is mirrored: a file, or a source and its targets.
#[derive(Debug, Group)]
pub struct Definition {
    /// The configuration file: TOML, or a confxml.xml of sersync's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "target"])]
    pub config: Option<PathBuf>,
    /// The directory that is mirrored.
    #[arg(long, value_name = "DIR", requires = "target")]
    pub source: Option<PathBuf>,
    /// Where to: a directory, HOST:PATH, ssh://USER@HOST:PORT/PATH, rsync://USER@HOST:PORT/MODULE/PATH or HOST::MODULE/PATH. May be
    /// repeated.
    #[arg(long, value_name = "TARGET", requires = "source")]
    pub target: Vec<String>,
    /// Leave out what matches this gitignore pattern. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Take in again what matches this pattern. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// For rsync daemons: the file that holds the password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// For ssh: the private key.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// A further rsync option, such as --rsync-option=--acls. May be repeated.
    #[arg(long = "rsync-option", value_name = "OPTION", allow_hyphen_values = true)]
    pub rsync_options: Vec<String>,
    /// rsync's --bwlimit.
    #[arg(long, value_name = "LIMIT")]
    pub bandwidth_limit: Option<String>,
    /// How many rsync processes may run against one target.
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// The largest share of a target that one batch may delete; 100% switches the guard off.
    #[arg(long, value_name = "PERCENT")]
    pub max_delete: Option<String>,
}

#[derive(Debug, Group)]
pub struct Check {
    /// A target that is so far behind is worth a warning.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub warn_lag: humantime::Duration,
    /// A target that is so far behind, or has failed for so long, is critical.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub crit_lag: humantime::Duration,
    /// So many changes to come are worth a warning.
    #[arg(long, value_name = "N")]
    pub warn_backlog: Option<u64>,
    /// So many changes to come are critical.
    #[arg(long, value_name = "N")]
    pub crit_backlog: Option<u64>,
    /// A daemon that does not answer within this time is critical.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub timeout: humantime::Duration,
}

#[derive(Debug, Group)]
pub struct Audit {
    #[command(flatten)]
    pub which: Which,
    /// Give up after this long; the audit goes on.
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub timeout: humantime::Duration,
}

#[derive(Debug, Group)]
pub struct History {
    /// Only what had to do with this path, absolute or relative to a source: itself, what is below it, or a subtree that it is in.
    #[arg(long, value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Only this target.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Only what failed, with the paths that did.
    #[arg(long)]
    pub failed: bool,
    /// At most so many batches, the latest.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// One JSON object a line, with times in RFC 3339.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Group)]
pub struct Verify {
    #[command(flatten)]
    pub definition: Definition,
    /// Have the running daemon send what differs, and wait until it has arrived.
    #[arg(long)]
    pub repair: bool,
    /// Compare contents, not only sizes and times.
    #[arg(long)]
    pub checksum: bool,
}

impl CaptureFlags {
    /// What these flags ask for where there is no configuration: a capture that ends with the process.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            backend: self.backend.unwrap_or_default(),
            unlimited_queue: true,
            btf: self.btf.clone(),
            mask: self.capture_mask.clone(),
            ring: self.capture_ring,
            pins: None,
            resume_at: None,
        }
    }
}

impl Definition {
    /// Whether anything says what is mirrored.
    pub fn is_given(&self) -> bool {
        self.config.is_some() || self.source.is_some()
    }

    /// Where the configuration comes from.
    pub fn origin(&self) -> Result<Origin, ConfigError> {
        match (&self.config, &self.source) {
            (Some(file), _) => Ok(Origin::File(absolute(file))),
            (None, Some(source)) => Ok(Origin::Flags(Box::new(RawConfig::from_flags(source, &self.target)?))),
            (None, None) => Err(ConfigError::new("--config", "say what to mirror: --config FILE, or --source DIR --target TARGET")),
        }
    }

    /// What the flags set on top. Paths are absolute: a reload may come when the current directory is another.
    fn overrides(&self, capture: &CaptureFlags) -> Overrides {
        Overrides {
            backend: capture.backend,
            btf: capture.btf.as_deref().map(absolute),
            exclude: self.exclude.clone(),
            include: self.include.clone(),
            max_delete: self.max_delete.clone(),
            password_file: self.password_file.as_deref().map(absolute),
            identity: self.identity.as_deref().map(absolute),
            rsync_options: self.rsync_options.clone(),
            bandwidth_limit: self.bandwidth_limit.clone(),
            connections: self.connections,
        }
    }

    /// The options of a daemon, or of a command that does once what a daemon does.
    pub fn options(
        &self,
        state_dir: &Path,
        capture: &CaptureFlags,
        initial_sync: InitialSync,
    ) -> Result<crate::runtime::Options, ConfigError> {
        Ok(crate::runtime::Options {
            origin: self.origin()?,
            overrides: self.overrides(capture),
            capture_mask: capture.capture_mask.clone(),
            capture_ring: capture.capture_ring,
            state_dir: absolute(state_dir),
            initial_sync,
        })
    }
}

/// As it is where there is no current directory.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
