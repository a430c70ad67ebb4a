//! The vocabulary that every stage speaks: paths relative to a root, marks, and times.
//!
//! Nothing here does I/O or reads a clock.

mod arrived;
mod mark;
mod path;

pub use arrived::Arrived;
pub use mark::{Mark, Ops, RootId, Scope};
pub(crate) use path::is_name;
pub use path::{InvalidPath, RelPath, RelPathBuf};

/// A time: microseconds since an arbitrary start that is the same for the whole process.
pub type Stamp = u64;
