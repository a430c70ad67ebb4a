//! What has to outlive the daemon.
//!
//! Now: what a clean stop left unsent. Marks are replayed at the next start, where they cost at most a needless comparison.

mod backlog;

pub use backlog::{Backlog, BacklogError, Unsent};
