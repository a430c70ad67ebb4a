//! Which files are written into the target's own, in place of beside it.

use super::{Filter, InvalidPattern};
use crate::model::RelPath;

/// Files that change in place: databases, images of disks. None by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InPlace {
    files: Option<Filter>,
    from: Option<u64>,
}

impl InPlace {
    /// Those that gitignore patterns match, and those from so many bytes on.
    pub fn new(patterns: &[String], from: Option<u64>) -> Result<Self, InvalidPattern> {
        let files = if patterns.is_empty() { None } else { Some(Filter::new(patterns)?) };
        Ok(Self { files, from })
    }

    /// Whether a regular file of `size` bytes is one of them.
    pub fn takes(&self, path: &RelPath, size: u64) -> bool {
        self.from.is_some_and(|from| size >= from) || self.files.as_ref().is_some_and(|files| files.excludes(path, false))
    }
}
