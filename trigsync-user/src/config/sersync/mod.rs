//! sersync's confxml.xml: read whole, and turned into the same [`RawConfig`] that TOML becomes.
//!
//! - Every element and attribute takes effect, or is named in a note with the reason. Nothing is sent less, deleted more or overwritten
//!   without a word: what cannot be had exactly, and would do harm, is an error.
//! - What is missing is as in the file that sersync ships.
//! - Whatever the bytes are, reading ends soon, with a configuration or an error that names line and column.

use std::{ffi::OsStr, fmt, path::Path};

use super::{ConfigError, RawConfig, raw::At, write};

mod confxml;
mod expression;
mod params;
mod plugin;
mod rsync_pattern;
mod translate;
mod xml;

/// A shipped file has three kilobytes.
const LARGEST: usize = 1 << 20;

/// What the shipped file has, which few change and nobody needs to be told of at each start.
const FAIL_LOG: &str = "/tmp/rsync_fail_log.sh";
const FAIL_LOG_MINUTES: &str = "60";

/// A confxml.xml as trigsync runs it.
#[derive(Debug)]
pub struct Imported {
    /// With the warnings among the notes.
    pub raw: RawConfig,
    /// Warnings before differences.
    pub notes: Vec<Note>,
}

/// What somebody who knows sersync should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub kind: NoteKind,
    text: ConfigError,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// Something that is written has no effect, or not the same: told at every start.
    Warning,
    /// trigsync behaves otherwise than sersync did, and nothing is lost by it.
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

    fn warning<T>(file: &Path, at: &At<T>, message: impl Into<String>) -> Self {
        Self::new(NoteKind::Warning, file, at, message)
    }

    fn difference<T>(file: &Path, at: &At<T>, message: impl Into<String>) -> Self {
        Self::new(NoteKind::Difference, file, at, message)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Whether the first thing in it, behind a byte order mark and blanks, is a `<`. Two bytes a character are XML too.
pub fn is_xml(bytes: &[u8]) -> bool {
    let mark = encoding_rs::Encoding::for_bom(bytes).map_or(0, |(_, length)| length);
    bytes[mark..].iter().find(|byte| !byte.is_ascii_whitespace() && **byte != 0) == Some(&b'<')
}

/// Reads a confxml.xml. `file` is named in errors and notes, and its directory is what relative paths in it are relative to.
pub fn parse(bytes: &[u8], file: &Path) -> Result<Imported, ConfigError> {
    if bytes.len() > LARGEST {
        let message = format!("has {} bytes, which no confxml.xml has (name the right file)", bytes.len());
        return Err(ConfigError::in_file(file, None, None, message));
    }
    let mut notes = Vec::new();
    let confxml = confxml::read(bytes, file, &mut notes)?;
    let mut raw = translate::translate(&confxml, file, &mut notes)?;
    notes.sort_by_key(|note| note.kind);
    raw.warnings = notes.iter().filter(|note| note.kind == NoteKind::Warning).map(Note::to_string).collect();
    Ok(Imported { raw, notes })
}

/// Reads a confxml.xml from its file.
pub fn read(file: &Path) -> Result<Imported, ConfigError> {
    let bytes = super::raw::read_bytes(file)?;
    if !is_xml(&bytes) {
        let message = "is no confxml.xml: it does not begin with `<` (name sersync's file)";
        return Err(ConfigError::in_file(file, None, None, message));
    }
    parse(&bytes, file)
}

impl Imported {
    /// The same as TOML, with comments that say where each value comes from.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let name = self.raw.file.as_deref().and_then(Path::file_name).unwrap_or(OsStr::new("confxml.xml"));
        let mut comments = vec![format!("What `trigsync import` made of {}.", name.display())];
        if !self.raw.warnings.is_empty() {
            comments.push("Not carried over, or not as it was:".to_owned());
            comments.extend(self.raw.warnings.iter().map(|warning| format!("  {warning}")));
        }
        write::document(&self.raw, &comments)
    }
}

/// For a message: one line, however much there is.
fn short(text: &str) -> String {
    let shown: String = text.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(100).is_some() { shown + "…" } else { shown }
}

fn seconds(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("`{}` is no number of seconds", short(text)))
}

fn port(text: &str) -> Result<u16, String> {
    let number = text.trim().parse().ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("`{}` is no port (write a number from 1 to 65535)", short(text)))
}
