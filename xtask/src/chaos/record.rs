//! What was done in a round, by whom and when: in memory to be asked about a path, and in a file for whoever looks into a failure.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// So many lines of one path are shown.
const SHOWN: usize = 25;

/// The record of one round.
#[derive(Debug)]
pub struct Record {
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    who: String,
    what: String,
    /// Below the source. None where it concerns everything.
    paths: Vec<PathBuf>,
}

impl Record {
    /// An empty one.
    pub fn new() -> Self {
        Self { begun: Instant::now(), entries: Mutex::default() }
    }

    /// Notes what was done to some paths, once it is done.
    pub fn note(&self, who: &str, what: String, paths: Vec<PathBuf>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { at: self.begun.elapsed(), who: who.to_owned(), what, paths });
    }

    /// What was done to a path, to what it is in, and to what is in it; and the faults between. The last lines of it.
    pub fn of(&self, path: &Path) -> Vec<String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let touches = |entry: &Entry| entry.paths.iter().any(|other| other.starts_with(path) || path.starts_with(other));
        let mut lines: Vec<_> = entries.iter().filter(|entry| entry.paths.is_empty() || touches(entry)).map(line).collect();
        lines.drain(..lines.len().saturating_sub(SHOWN));
        lines
    }

    /// Writes all of it.
    pub fn write(&self, file: &Path) -> Result<()> {
        let writing = || format!("writing {}", file.display());
        let mut out = BufWriter::new(File::create(file).with_context(writing)?);
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(out, "{}", line(entry)).with_context(writing)?;
        }
        out.flush().with_context(writing)
    }
}

fn line(entry: &Entry) -> String {
    format!("{:>10.6} {:<7} {}", entry.at.as_secs_f64(), entry.who, entry.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_with_what_it_is_in_and_what_is_in_it() {
        let record = Record::new();
        let note = |what: &str, paths: &[&str]| record.note("w0", what.to_owned(), paths.iter().map(PathBuf::from).collect());
        note("write", &["w0/a/b"]);
        note("rename", &["w0/c", "w0/a"]);
        note("write", &["w0/ab"]);
        note("kill", &[]);
        note("mkdir", &["w0/a/b/c"]);
        let told: Vec<_> = record.of(Path::new("w0/a/b")).iter().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect();
        assert_eq!(told, ["write", "rename", "kill", "mkdir"]);
    }
}
