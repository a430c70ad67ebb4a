//! What is left alone on both sides: gitignore patterns, matched here for events and handed to rsync as rules of the same meaning.
//!
//! - [`Filter::excludes`] and the rules of [`Filter::rsync_rules`] agree on every path, whatever its bytes.
//! - A path below an excluded directory is excluded, whatever the patterns say about the path itself. The root never is.
//! - A pattern that rsync cannot express exactly is refused, never sent with another meaning.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::pattern::{InvalidPattern, Pattern};
use crate::model::RelPath;

/// Excludes and includes of one sync.
#[derive(Clone)]
pub struct Filter {
    patterns: Vec<String>,
    rules: Vec<String>,
    matcher: Gitignore,
    excluded_directories: Vec<Vec<u8>>,
}

impl Filter {
    /// From gitignore lines: a later one wins over an earlier one, `!` includes again.
    pub fn new(patterns: &[String]) -> Result<Self, InvalidPattern> {
        let parsed = patterns.iter().map(|line| Pattern::parse(line)).collect::<Result<Vec<_>, _>>()?;
        let mut builder = GitignoreBuilder::new("");
        for pattern in &parsed {
            builder.add_line(None, &pattern.gitignore_line()).map_err(|error| pattern.refused_by_matcher(&error))?;
        }
        let matcher = builder.build().map_err(|error| InvalidPattern::too_large(&error))?;
        // rsync takes the first rule that matches, gitignore the last.
        let rules = parsed.iter().rev().flat_map(Pattern::rsync_rules).collect();
        let includes = parsed.iter().any(Pattern::includes);
        let excluded_directories = parsed.iter().filter(|_| !includes).filter_map(Pattern::name_anywhere).map(String::into_bytes).collect();
        Ok(Self { patterns: patterns.to_vec(), rules, matcher, excluded_directories })
    }

    /// Excludes nothing.
    pub fn none() -> Self {
        Self { patterns: Vec::new(), rules: Vec::new(), matcher: Gitignore::empty(), excluded_directories: Vec::new() }
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The gitignore lines, as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether `path`, a directory or not, is left alone.
    pub fn excludes(&self, path: &RelPath, directory: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        // From the top down, because nothing below an excluded directory can be included again: git and rsync never enter it.
        let bytes = path.as_bytes();
        let mut ancestors = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| (&bytes[..end], true));
        ancestors.any(|(bytes, directory)| self.matcher.matched(OsStr::from_bytes(bytes), directory).is_ignore())
            || self.excludes_in_kept(path, directory)
    }

    /// Whether `path` is left alone, where it is known that the directory that holds it is not: for a walk from the top down.
    pub fn excludes_in_kept(&self, path: &RelPath, directory: bool) -> bool {
        !self.is_empty() && !path.is_root() && self.matcher.matched(OsStr::from_bytes(path.as_bytes()), directory).is_ignore()
    }

    /// Names of directories that are left alone wherever they stand, with all that is in them. None where anything is included again:
    /// then every path has to be asked for.
    pub fn excluded_directories(&self) -> &[Vec<u8>] {
        &self.excluded_directories
    }

    /// The same meaning for rsync, each as the value of one `--filter=` argument, in this order.
    pub fn rsync_rules(&self) -> &[String] {
        &self.rules
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::none()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.patterns).finish()
    }
}
