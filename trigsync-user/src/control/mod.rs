//! The control socket: one request a connection, as a line of JSON, and one line of JSON for an answer.
//!
//! The socket stands in the state directory, readable and writable by its owner only, and by the group of `control_group` where that is written.

mod client;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{ClientError, call, call_within, stop};
pub use server::{Call, serve};

use crate::{config::RawConfig, model::RelPathBuf, observe::Status};

/// What a client may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How far behind is each target?
    Status,
    /// Answer when everything that changed before this has arrived everywhere.
    Flush {
        /// Give up after so many milliseconds.
        timeout_ms: u64,
    },
    /// Let what a guard has stopped, or the operator holds, go on.
    Release(Which),
    /// Send nothing until it is released.
    Hold(Which),
    /// Try now what waits for another attempt.
    Retry(Which),
    /// Look at these paths again, content included.
    Mark {
        /// The sync.
        sync: String,
        /// One of its targets.
        target: String,
        /// Relative to the source.
        paths: Vec<RelPathBuf>,
    },
    /// Compare everything now, and answer when that is done.
    Audit {
        /// Of which targets.
        #[serde(flatten)]
        which: Which,
        /// Give up after so many milliseconds.
        timeout_ms: u64,
    },
    /// The configuration that the daemon runs with.
    Config,
    /// End.
    Stop,
}

/// Which targets are meant.
#[derive(Clone, Debug, Default, Serialize, Deserialize, clap::Args)]
pub struct Which {
    /// Only this sync.
    #[arg(long, value_name = "NAME")]
    pub sync: Option<String>,
    /// Only this target.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// To `status`.
    Status {
        /// All of it.
        status: Box<Status>,
    },
    /// To `flush`: everything has arrived.
    Flushed,
    /// To `flush`: not everything has.
    Behind {
        /// One line for every target that is behind, with the reason.
        targets: Vec<String>,
    },
    /// To `release`, `hold` and `retry`.
    Done {
        /// The syncs and targets for which it was done.
        names: Vec<String>,
    },
    /// To `mark`.
    Marked,
    /// To `audit`.
    Audited {
        /// One for each target.
        targets: Vec<AuditedTarget>,
    },
    /// To `config`.
    Config {
        /// As written, with what the command line set on top.
        config: Box<RawConfig>,
    },
    /// To `stop`: the connection closes when the daemon has ended.
    Stopping,
    /// The request cannot be met.
    Error {
        /// Why.
        message: String,
    },
}

/// What an audit has come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditedTarget {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    /// Names that were compared.
    pub names: u64,
    /// Lost changes.
    pub findings: u64,
    /// Paths that changed whenever they were looked at.
    pub unsettled: u64,
    /// Why it was not compared to the end.
    pub trouble: Option<String>,
}

/// Where the socket of a state directory is.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Requests and answers beyond this many bytes are refused.
const LONGEST: u64 = 64 << 20;
