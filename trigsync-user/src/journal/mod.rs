//! What has to outlive the daemon: what each target has not got, how far capture was read, and what was sent of late.
//!
//! - One SQLite file in the state directory. It is written a few times a second by a thread of its own: neither capture nor a lane waits
//!   for it, and its size goes by what is unsent, not by what happened.
//! - A note of how far capture was read stands in the same transaction as the marks that came until then. Whoever starts after a crash has
//!   every mark, or reads the rest from the kernel, or knows since when to look at the source.
//! - It is written without fsync while the daemon runs: what a killed process wrote stays in the page cache. After a crash of the machine
//!   nothing in it is believed but the history, because the source may have lost changes as well.
//! - A file that is damaged or foreign is set aside, and every target compared: never a reason not to start.

mod batch;
mod history;
mod lane;
mod left;
mod open;
mod pending;
mod schema;
mod store;
mod writer;

pub use batch::Batch;
pub use history::{Arrival, Entry, History, Question};
pub use lane::{AuditPoint, Entered, LaneKey, LaneLog, Reached};
pub use left::{LaneLeft, Left, Passed};
pub use store::{JournalError, NAME, Store};
pub use writer::{Journal, Note, Noting};
