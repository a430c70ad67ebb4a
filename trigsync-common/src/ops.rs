//! What happened to a path, as bits of [`Header::ops`](crate::record::Header::ops).

/// A name was made.
pub const CREATE: u16 = 1;
/// Contents or size were changed; more may follow.
pub const WRITE: u16 = 1 << 1;
/// A file that was open for writing was closed for the last time.
pub const CLOSE_WRITE: u16 = 1 << 2;
/// A name was removed.
pub const DELETE: u16 = 1 << 3;
/// The name was moved away, or exchanged.
pub const MOVED_FROM: u16 = 1 << 4;
/// Something was moved to the name, or exchanged.
pub const MOVED_TO: u16 = 1 << 5;
/// Mode, owner, times, extended attributes, access control list or flags were changed.
pub const ATTRIB: u16 = 1 << 6;
/// It is, or was, a directory.
pub const DIRECTORY: u16 = 1 << 7;
/// Everything below the path may have changed, not the entry alone.
pub const TREE: u16 = 1 << 8;
/// The path is an ancestor of what changed, which lies deeper than the program walks. Always with [`TREE`].
pub const ANCESTOR: u16 = 1 << 9;
/// The daemon did it, or what it started; only below a root that [marks](crate::values::Root::MARKS_OWN) that.
pub const OWN: u16 = 1 << 10;
