//! `trigsync import`: another program's configuration as trigsync's own.
//!
//! The TOML is all that stands on standard output; what changes with it is on standard error, so that the one can go into a file.

use std::{
    io::{Write, stderr, stdout},
    path::Path,
    process::ExitCode,
};

use super::args::absolute;
use crate::config::{self, foreign::NoteKind};

pub fn import(file: &Path, plugin: Option<&str>) -> anyhow::Result<ExitCode> {
    let file = absolute(file);
    let imported = match plugin {
        Some(plugin) => config::import_plugin(&file, plugin)?,
        None => config::import(&file)?,
    };
    let toml = imported.to_toml()?;
    let mut last = None;
    let mut err = stderr().lock();
    for note in &imported.notes {
        if last.replace(note.kind) != Some(note.kind) {
            match note.kind {
                NoteKind::Warning => writeln!(err, "not carried over, or not as it was:")?,
                NoteKind::Difference => writeln!(err, "different from {}, with nothing lost:", imported.program)?,
            }
        }
        writeln!(err, "  {note}")?;
    }
    stdout().lock().write_all(toml.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
