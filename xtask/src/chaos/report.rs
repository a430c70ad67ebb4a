//! What a run came to, counted and printed.

use std::{collections::BTreeMap, fmt, time::Duration};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use super::plan::Fault;

/// Sums over all rounds.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rounds that were begun.
    pub rounds: u64,
    /// Changes of the source.
    pub changes: u64,
    /// Paths that differed at a target.
    pub lost: usize,
    /// Names that the audit has compared after the rounds.
    pub audited: u64,
    /// Overflows that the daemon told of after a flood.
    pub overflows: u64,
    /// The daemon ended by itself, for want of disk or descriptors.
    pub own_ends: u64,
    /// The daemon did not start, for want of disk or descriptors.
    pub refused_starts: u64,
    /// The slowest flush, and its round.
    pub slowest: (Duration, u64),
    faults: BTreeMap<Fault, u64>,
}

impl Tally {
    /// A fault happened.
    pub fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// How often a fault happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }

    /// All faults.
    pub fn all(&self) -> u64 {
        self.faults.values().sum()
    }

    /// The table, with the daemon's full passes by their reasons, and what its audit has found.
    pub fn table(&self, full_passes: &BTreeMap<String, u64>, found: u64) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["what", "how often"]);
        let mut row = |what: String, value: &dyn fmt::Display| {
            table.add_row([what, value.to_string()]);
        };
        row("rounds".to_owned(), &self.rounds);
        for (fault, count) in &self.faults {
            row(format!("fault: {}", fault.name()), count);
        }
        row("overflows after a flood".to_owned(), &self.overflows);
        row("trigsync ended by itself, for want of disk or descriptors".to_owned(), &self.own_ends);
        row("trigsync did not start, for want of disk or descriptors".to_owned(), &self.refused_starts);
        for (reason, count) in full_passes {
            row(format!("full passes: {reason}"), count);
        }
        row("changes made".to_owned(), &self.changes);
        row("changes lost".to_owned(), &self.lost);
        row("names that the audit has compared after the rounds".to_owned(), &self.audited);
        row("lost changes that the audit has found, at any time".to_owned(), &found);
        let (slowest, round) = self.slowest;
        row("slowest flush".to_owned(), &format!("{:.1} s (round {round})", slowest.as_secs_f64()));
        table.to_string()
    }
}
