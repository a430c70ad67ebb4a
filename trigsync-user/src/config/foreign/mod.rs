//! What the configurations of other programs have in common once they are read: a [`RawConfig`], and notes on what changes with it.
//!
//! Below it, what such programs hand to rsync: options word by word, and patterns of its `--exclude`.

use std::{ffi::OsStr, fmt, path::Path};

use super::{ConfigError, RawConfig, raw::At, write};

pub(super) mod params;
pub(super) mod rsync_pattern;

/// Another program's configuration as trigsync runs it.
#[derive(Debug)]
pub struct Imported {
    /// Whose it was, as its users call it.
    pub program: &'static str,
    /// With the warnings among the notes.
    pub raw: RawConfig,
    /// Warnings before differences.
    pub notes: Vec<Note>,
}

/// What somebody who knows the other program should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub kind: NoteKind,
    text: ConfigError,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// Something that is written has no effect, or not the same: told at every start of a daemon that runs the file itself.
    Warning,
    /// trigsync behaves otherwise than the other program did, and nothing is lost by it.
    Difference,
}

impl Note {
    fn new<T>(kind: NoteKind, file: &Path, at: &At<T>, message: impl Into<String>) -> Self {
        let text = match at.line {
            Some(_) => at.error(Some(file), message),
            // What is missing there is missing in the file.
            None => ConfigError::in_file(file, None, Some(at.key.clone()), message),
        };
        Self { kind, text }
    }

    pub(super) fn warning<T>(file: &Path, at: &At<T>, message: impl Into<String>) -> Self {
        Self::new(NoteKind::Warning, file, at, message)
    }

    pub(super) fn difference<T>(file: &Path, at: &At<T>, message: impl Into<String>) -> Self {
        Self::new(NoteKind::Difference, file, at, message)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Imported {
    /// With the notes in their order, and the warnings where a daemon tells them.
    pub(super) fn new(program: &'static str, mut raw: RawConfig, mut notes: Vec<Note>) -> Self {
        notes.sort_by_key(|note| note.kind);
        raw.warnings = notes.iter().filter(|note| note.kind == NoteKind::Warning).map(Note::to_string).collect();
        Self { program, raw, notes }
    }

    /// The same as TOML, with comments that say where each value comes from.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let name = self.raw.file.as_deref().and_then(Path::file_name).unwrap_or(OsStr::new("a configuration"));
        let mut comments = vec![format!("What `trigsync import` made of {}.", name.display())];
        if !self.raw.warnings.is_empty() {
            comments.push("Not carried over, or not as it was:".to_owned());
            comments.extend(self.raw.warnings.iter().map(|warning| format!("  {warning}")));
        }
        write::document(&self.raw, &comments)
    }
}

/// For a message: one line, however much there is.
pub(super) fn short(text: &str) -> String {
    let shown: String = text.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(100).is_some() { shown + "…" } else { shown }
}

/// As many as rsync can count.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    text.trim().parse::<u32>().map(u64::from).map_err(|_| format!("`{}` is no number of seconds", short(text)))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let number = text.trim().parse().ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("`{}` is no port (write a number from 1 to 65535)", short(text)))
}

/// Another value from the same place.
pub(super) fn with<T, U>(at: &At<T>, value: U) -> At<U> {
    At { value, line: at.line, column: at.column, key: at.key.clone() }
}
