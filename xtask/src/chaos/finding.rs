//! What a run is for: something that the daemon did wrong, as an error that can be told from trouble of our own.

use std::fmt;

/// The daemon did something wrong.
#[derive(Debug)]
pub struct Finding {
    /// In one line.
    pub what: String,
    /// Paths that differ, over all targets; 0 where it is something else.
    pub lost: usize,
    /// Everything that helps to understand it.
    pub details: String,
}

impl Finding {
    /// Anything but a lost change.
    pub fn misconduct(what: String) -> Self {
        Self { what, lost: 0, details: String::new() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Finding {}
