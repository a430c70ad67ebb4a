//! What is noted of a run of rsync that has ended.

use std::time::SystemTime;

use crate::model::{RelPathBuf, Scope};

/// A run of rsync that has ended, for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When rsync was started.
    pub started: SystemTime,
    /// When it had ended.
    pub ended: SystemTime,
    /// How many marks arrived.
    pub arrived: u64,
    /// How many failed alone.
    pub failed: u64,
    /// The paths of these, each failure with its reason; not all of them where there were many.
    pub paths: Vec<(RelPathBuf, Scope, Option<String>)>,
    /// Bytes that rsync wrote to the other side.
    pub bytes: u64,
    /// rsync processes it took.
    pub processes: u64,
    /// Why it ended early.
    pub trouble: Option<String>,
}

impl Batch {
    /// Paths that are kept of one batch. Whoever asks is told where there were more.
    pub const MOST_PATHS: usize = 5_000;
}
