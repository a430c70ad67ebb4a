//! A mark says where to look, never what to do.
//!
//! Marks commute, repeat harmlessly and survive reordering: the source is looked at when a batch is cut, not when an event arrives.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RelPathBuf;

/// A watched root, numbered by whoever asked to watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RootId(pub u32);

/// How much of the tree a mark covers, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One name: its content and attributes. A directory's own attributes, not what is in it.
    Entry,
    /// A directory and the names directly in it, made equal with deletions; what is in its subdirectories is not looked at.
    Level,
    /// The name and everything below it, made equal with deletions. Absorbs every mark below.
    Tree,
}

bitflags::bitflags! {
    /// What was seen to happen at a path. Folded marks hold the union.
    ///
    /// Only a hint: it decides when a path is sent and how rsync compares it, never whether it is sent.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Ops: u16 {
        /// The name came into being (create, mkdir, mknod, symlink, link).
        const CREATE = 1 << 0;
        /// Content was changed (write, truncate, fallocate).
        const WRITE = 1 << 1;
        /// A descriptor that was open for writing was closed.
        const CLOSE_WRITE = 1 << 2;
        /// The name was removed (unlink, rmdir).
        const DELETE = 1 << 3;
        /// The name was renamed away.
        const MOVED_FROM = 1 << 4;
        /// The name was renamed to here, perhaps over another.
        const MOVED_TO = 1 << 5;
        /// Mode, owner, times, extended attributes or ACLs were changed.
        const ATTRIB = 1 << 6;
        /// The object is (or was) a directory.
        const DIRECTORY = 1 << 7;
        /// Not an event: a rescan, a repair, or what a failed batch put back.
        const RESCAN = 1 << 8;
    }
}

impl Ops {
    /// The words that `trigsync events` prints, in the order of the flags.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        self.iter_names().map(|(name, _)| match name {
            "CREATE" => "create",
            "WRITE" => "write",
            "CLOSE_WRITE" => "close_write",
            "DELETE" => "delete",
            "MOVED_FROM" => "moved_from",
            "MOVED_TO" => "moved_to",
            "ATTRIB" => "attrib",
            "DIRECTORY" => "directory",
            _ => "rescan",
        })
    }

    /// Whether the entry is still being written as far as these operations tell: created or written, and not closed since.
    pub fn leaves_open(self) -> bool {
        self.intersects(Self::CREATE | Self::WRITE) && !self.intersects(Self::CLOSE_WRITE | Self::DIRECTORY | Self::MOVED_TO)
    }

    /// Whether the bytes behind the name may be others than before: what rsync's comparison of size and time may not be trusted with.
    pub fn changes_content(self) -> bool {
        self.intersects(Self::WRITE | Self::MOVED_TO | Self::CREATE)
    }

    /// Whether the name was seen going.
    pub fn goes(self) -> bool {
        self.intersects(Self::DELETE | Self::MOVED_FROM)
    }
}

impl fmt::Display for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.words().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

/// A path that may differ between source and target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where, relative to the watched root.
    pub path: RelPathBuf,
    /// How much of it.
    pub scope: Scope,
    /// What was seen there since the path was last sent.
    pub ops: Ops,
}
