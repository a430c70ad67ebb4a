//! The audit: compares a target with its source, slowly and again and again, and finds what was lost.
//!
//! - It trusts nothing that the lanes believe: rsync looks at both sides, a slice of directories at a time, and changes nothing.
//! - What differs is a lost change only where everything that had changed before has arrived, it still differs, and capture has told of
//!   nothing that covers it since (`judge`). Else it is a change on its way.
//! - A lost change is counted, told as what it is, and marked for the lane, which sends it as it sends everything.
//! - A slice runs on a connection that the lane can do without, and gives way as soon as it cannot.
//! - Where it is stands in the journal: the next daemon goes on there.

mod auditor;
mod judge;
mod pace;
mod walk;

pub use auditor::{AuditError, Audited, Auditor, Order};
