//! The live table: the row of the step that runs is redrawn in place on a terminal; elsewhere each row is printed once, complete.

use anyhow::Result;
use console::Term;

use crate::mirror::Status;

/// Columns for what happened.
pub(super) const WIDTH_OF_WHAT: usize = 35;
/// Delays shown in a row; the last ones.
const MOST_DELAYS: usize = 6;

/// What one step came to so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    what: &'static str,
    seen: u64,
    marks: u64,
    sent: u64,
    processes: u64,
    /// Of each batch that was seen to arrive, in milliseconds, its oldest change.
    pub(super) delays: Vec<f64>,
}

impl Row {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, ..Self::default() }
    }

    /// Counts what the daemon did between two statuses.
    pub(super) fn count(&mut self, before: &Status, now: &Status) -> Result<()> {
        let (first, target) = (before.target()?, now.target()?);
        self.seen = now.capture.changes.saturating_sub(before.capture.changes);
        self.sent = target.sent.saturating_sub(first.sent);
        self.marks = self.sent + target.pending + target.in_flight;
        self.processes = target.processes.saturating_sub(first.processes);
        Ok(())
    }

    fn text(&self) -> String {
        let hidden = self.delays.len().saturating_sub(MOST_DELAYS);
        let mut delays: Vec<_> = self.delays[hidden..].iter().map(|delay| format!("{delay:.0}")).collect();
        if hidden > 0 {
            delays.insert(0, "…".to_owned());
        }
        let unit = if delays.is_empty() { "" } else { " ms" };
        format!(
            "{:<WIDTH_OF_WHAT$} {:>7} {:>7} {:>7} {:>6}  {}{unit}",
            self.what,
            self.seen,
            self.marks,
            self.sent,
            self.processes,
            delays.join(", ")
        )
    }
}

/// Rows on standard output.
pub(super) struct Table {
    terminal: Term,
    /// What the row that can still be replaced shows.
    drawn: Option<String>,
}

impl Table {
    /// Prints the head.
    pub(super) fn begin() -> Result<Self> {
        let terminal = Term::stdout();
        terminal.write_line(&format!(
            "{:<WIDTH_OF_WHAT$} {:>7} {:>7} {:>7} {:>6}  {}",
            "what happened", "seen", "marks", "sent", "rsync", "delay of each batch"
        ))?;
        Ok(Self { terminal, drawn: None })
    }

    /// Shows how far the step is, where that can be replaced later.
    pub(super) fn draw(&mut self, row: &Row) -> Result<()> {
        if self.terminal.is_term() { self.replace(row) } else { Ok(()) }
    }

    /// Shows what the step came to.
    pub(super) fn finish(&mut self, row: &Row) -> Result<()> {
        self.replace(row)?;
        self.drawn = None;
        Ok(())
    }

    fn replace(&mut self, row: &Row) -> Result<()> {
        // A line that wraps could not be cleared as one.
        let width = if self.terminal.is_term() { usize::from(self.terminal.size().1) } else { usize::MAX };
        let text: String = row.text().chars().take(width).collect();
        if self.drawn.as_ref() == Some(&text) {
            return Ok(());
        }
        if self.drawn.is_some() {
            self.terminal.clear_last_lines(1)?;
        }
        self.terminal.write_line(&text)?;
        self.drawn = Some(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Capture, Sync, Target};

    fn status(changes: u64, target: Target) -> Status {
        let sync = Sync { state: "running".to_owned(), reason: None, targets: vec![target] };
        Status { pid: 1, capture: Capture { changes, overflows: 0 }, syncs: vec![sync] }
    }

    #[test]
    fn a_row_counts_from_where_its_step_began() {
        let before = status(100, Target { sent: 40, batches: 4, processes: 4, ..Target::default() });
        let now = status(160, Target { sent: 50, pending: 3, in_flight: 2, batches: 6, processes: 7, ..Target::default() });
        let mut row = Row::new("step");
        row.count(&before, &now).unwrap();
        assert_eq!((row.seen, row.marks, row.sent, row.processes), (60, 15, 10, 3));
    }

    #[test]
    fn of_many_delays_the_last_are_shown() {
        let mut row = Row::new("step");
        assert!(row.text().ends_with("0  "));
        row.delays = vec![5.4, 9.6];
        assert!(row.text().ends_with("  5, 10 ms"));
        row.delays = (1..=8).map(f64::from).collect();
        assert!(row.text().ends_with("  …, 3, 4, 5, 6, 7, 8 ms"));
    }
}
