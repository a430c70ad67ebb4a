//! What is wrong with a configuration: always one line, with the place and the remedy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is wrong with the configuration. Displayed as `FILE:LINE: KEY: what is wrong (remedy)`, in XML as `FILE:LINE:COLUMN: …`,
/// or `--FLAG: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: Option<Place>,
    key: Option<String>,
    message: String,
}

/// Where it stands; line and column from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: PathBuf,
    line: Option<usize>,
    column: Option<usize>,
}

impl ConfigError {
    /// About a key or a flag (`--source`), outside any file.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: None, key: Some(key.into()), message: message.into() }
    }

    /// About a file, and the line in it (from 1) where there is one.
    pub fn in_file(file: &Path, line: Option<usize>, key: Option<String>, message: impl Into<String>) -> Self {
        Self { place: Some(Place { file: file.to_owned(), line, column: None }), key, message: message.into() }
    }

    /// With the column in its line, from 1.
    pub(super) fn at_column(mut self, column: Option<usize>) -> Self {
        self.place.iter_mut().for_each(|place| place.column = column);
        self
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{}:", file.display())?;
            for number in line.iter().chain(column) {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The one of `known` that `written` was most likely meant to be.
pub(super) fn near_miss<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&written, known), known))
        .filter(|&(likeness, _)| likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}
