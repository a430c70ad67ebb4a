//! One record of the ring (or of a perf buffer): a header, and the path right after it.

/// No path in a record is longer, in bytes; what would be is told as a [`TREE`](crate::ops::TREE) of an ancestor.
pub const LONGEST_PATH: usize = 4096;

/// Precedes the path: `length` bytes, relative to the root, empty for the root itself. Names stand in the order in which the program meets
/// them, **from the last to the first**, each followed by a `/`: `index.html/pages/` is the file `pages/index.html`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bits of [`ops`](crate::ops).
    pub ops: u16,
    /// [`Root::slot`](crate::values::Root::slot) of the root that the path is relative to.
    pub slot: u16,
    /// Bytes of path.
    pub length: u32,
}
