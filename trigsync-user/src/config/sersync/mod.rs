//! sersync's confxml.xml: read whole, and turned into the same [`super::RawConfig`] that TOML becomes.
//!
//! - Every element and attribute takes effect, or is named in a note with the reason. Nothing is sent less, deleted more or overwritten
//!   without a word: what cannot be had exactly, and would do harm, is an error.
//! - What is missing is as in the file that sersync ships.
//! - Whatever the bytes are, reading ends soon, with a configuration or an error that names line and column.

use std::path::Path;

use super::{
    ConfigError,
    foreign::{Imported, Note, params, port, rsync_pattern, seconds, short, with},
};

mod alone;
mod confxml;
mod expression;
mod plugin;
mod settings;
mod translate;
mod xml;

/// A shipped file has three kilobytes.
const LARGEST: usize = 1 << 20;

/// Whether the first thing in it, behind a byte order mark and blanks, is a `<`. Two bytes a character are XML too.
pub fn is_xml(bytes: &[u8]) -> bool {
    let mark = encoding_rs::Encoding::for_bom(bytes).map_or(0, |(_, length)| length);
    bytes[mark..].iter().find(|byte| !byte.is_ascii_whitespace() && **byte != 0) == Some(&b'<')
}

/// Reads a confxml.xml. `file` is named in errors and notes, and its directory is what relative paths in it are relative to.
pub fn parse(bytes: &[u8], file: &Path) -> Result<Imported, ConfigError> {
    read(bytes, file, None)
}

/// The same for one of its plugins alone, by its name: whether it is switched on or not, and without the remotes.
pub fn parse_plugin(bytes: &[u8], file: &Path, plugin: &str) -> Result<Imported, ConfigError> {
    if !is_xml(bytes) {
        let message = "is no confxml.xml, which alone has plugins of sersync's (in TOML write a [[sync]] without targets)";
        return Err(ConfigError::in_file(file, None, None, message));
    }
    read(bytes, file, Some(plugin))
}

fn read(bytes: &[u8], file: &Path, alone: Option<&str>) -> Result<Imported, ConfigError> {
    if bytes.len() > LARGEST {
        let message = format!("has {} bytes, which no confxml.xml has (name the right file)", bytes.len());
        return Err(ConfigError::in_file(file, None, None, message));
    }
    let mut notes = Vec::new();
    let confxml = confxml::read(bytes, file, alone, &mut notes)?;
    let raw = translate::translate(&confxml, file, &mut notes)?;
    Ok(Imported::new("sersync", raw, notes))
}
