//! What the daemon's log tells: how often it compared everything, and why; and what its audit has found.
//!
//! Comparing everything is right where it has to be, but it also finds what was lost before; so it must be visible.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};

/// A log that grows, read from where it was read last.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: usize,
    /// Full passes by their reason, one for each target that got one.
    pub full_passes: BTreeMap<String, u64>,
    /// Lost changes that the audit has found.
    pub audited: u64,
}

impl Log {
    /// A log of which nothing has been read.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: 0, full_passes: BTreeMap::new(), audited: 0 }
    }

    /// Reads on.
    pub fn follow(&mut self) -> Result<()> {
        let text = fs::read(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        let fresh = text.get(self.read..).unwrap_or_default();
        let whole = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in String::from_utf8_lossy(&fresh[..whole]).lines() {
            if let Some(reason) = full_pass(line) {
                *self.full_passes.entry(reason).or_default() += 1;
            }
            self.audited += audited(line);
        }
        self.read += whole;
        Ok(())
    }
}

/// Why everything is compared, where a line says that it is.
fn full_pass(line: &str) -> Option<String> {
    if line.contains("no full pass") {
        return None;
    }
    if let Some((_, reason)) = line.split_once(": a full pass: ") {
        return Some(reason.split(';').next().unwrap_or(reason).to_owned());
    }
    if line.contains("is compared again") {
        return Some("events were lost (once for all targets)".to_owned());
    }
    line.contains("a full pass").then(|| "the configuration was reloaded".to_owned())
}

/// How many lost changes a line tells of.
fn audited(line: &str) -> u64 {
    let count = line.split_once("the audit has found ").and_then(|(_, rest)| rest.split(' ').next());
    count.map_or(0, |count| count.parse().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_passes_are_told_by_their_reasons() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let first = "2026-01-01T00:00:00Z  INFO www: t: a full pass: nothing was captured; left unsent by the last stop: 0\n\
            2026-01-01T00:00:00Z  INFO www: u: no full pass: capture went on since the last stop; left unsent by the last stop: 3\n\
            2026-01-01T00:00:00Z  WARN events were lost; everything below root 1 is compared again\n2026-01-01T00:00:00Z  INFO sync www: a f";
        fs::write(&path, first).unwrap();
        let mut log = Log::new(path.clone());
        log.follow().unwrap();
        fs::write(&path, format!("{first}ull pass to t\n")).unwrap();
        log.follow().unwrap();
        log.follow().unwrap();
        let told: Vec<_> = log.full_passes.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        let expected = [("events were lost (once for all targets)", 1), ("nothing was captured", 1), ("the configuration was reloaded", 1)];
        assert_eq!(told, expected);
        assert_eq!(log.audited, 0);
    }

    #[test]
    fn what_the_audit_has_found_is_counted() {
        assert_eq!(audited("ERROR www: t: the audit has found 12 lost changes, which are sent now: …; the first is a (>f)"), 12);
        assert_eq!(audited("INFO www: t: a full pass: nothing was captured"), 0);
    }
}
