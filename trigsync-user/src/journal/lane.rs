//! What the daemon tells the journal of a lane, and of how far capture was read.

use std::time::{Duration, SystemTime};

use super::batch::Batch;
use crate::{capture::Position, coalesce::Changes, model::RelPathBuf};

/// Which lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneKey {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    /// The source directory, as bytes.
    pub source: Vec<u8>,
    /// How it is configured: what was marked under another meaning is not all that is missing under this one.
    pub meaning: String,
}

/// A lane that is to be written for.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Which.
    pub key: LaneKey,
    /// Whether the rows that are there belong to it; else they go.
    pub keeps: bool,
    /// What changed since then is not all marked yet: it is searched for until [`Journal::searched`](super::Journal::searched) is called.
    pub searching_since: Option<SystemTime>,
}

/// Where a lane's changes are.
pub trait LaneLog: Send + Sync {
    /// What happened since the last call.
    fn take(&self) -> (Changes, Vec<Batch>);

    /// How far the audit is, where that has changed since the last call.
    fn audit_point(&self) -> Option<AuditPoint> {
        None
    }

    /// Bytes that what was taken may take up while it cannot be written.
    fn bound(&self) -> usize {
        usize::MAX
    }
}

/// How far the audit of a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPoint {
    /// When the cycle began; the latest, where none runs.
    pub began: SystemTime,
    /// The directory that was compared last, in the order of names; none where no cycle runs.
    pub after: Option<RelPathBuf>,
}

/// How far capture was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// In the kernel's ring, where that outlives the daemon.
    pub position: Option<Position>,
    /// Everything that happened before was captured.
    pub until: Option<SystemTime>,
    /// How long the machine had been up then.
    pub uptime: Duration,
}
