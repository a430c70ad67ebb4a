//! lsyncd's configuration, which is a Lua program: run, and turned into the same [`super::RawConfig`] that TOML becomes.
//!
//! - Every key takes effect, or is named in a note with the reason. Nothing is sent less, deleted more or overwritten without a word: what
//!   cannot be had exactly, and would do harm, is an error, and so is every action of the operator's own.
//! - What is missing is as lsyncd 2.1 to 2.3 have it; `settings = { … }` and `rsyncOps` are read as 2.0 did.
//! - Whatever the program is, running it ends soon, and it reads, writes and starts nothing.

use std::path::Path;

use super::{ConfigError, foreign::Imported};

mod evaluate;
mod keep;
mod keys;
mod patterns;
mod rsync;
mod ssh;
mod sync;
mod target;
mod translate;
mod value;

/// Those that people write have a few kilobytes.
const LARGEST: usize = 1 << 20;

/// Runs lsyncd's configuration. `file` is named in errors and notes, and its directory is what relative paths in it are relative to.
pub fn parse(bytes: &[u8], file: &Path) -> Result<Imported, ConfigError> {
    if bytes.len() > LARGEST {
        let message = format!("has {} bytes, which no configuration of lsyncd's has (name the right file)", bytes.len());
        return Err(ConfigError::in_file(file, None, None, message));
    }
    let program = evaluate::evaluate(bytes, file)?;
    let mut notes = keys::Notes { file, list: Vec::new() };
    let raw = translate::translate(&program, &mut notes)?;
    Ok(Imported::new("lsyncd", raw, notes.list))
}
