//! Which files are written into the target's own, in place of beside it.

use super::Filter;
use crate::model::RelPath;

/// Files that change in place: databases, images of disks. None by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InPlace {
    /// Those that its patterns match.
    pub files: Filter,
    /// Those from so many bytes on.
    pub from: Option<u64>,
}

impl InPlace {
    /// Whether a regular file of `size` bytes is one of them.
    pub fn takes(&self, path: &RelPath, size: u64) -> bool {
        self.from.is_some_and(|from| size >= from) || self.files.excludes(path, false)
    }
}
