//! Races: directories are renamed and exchanged above writers, deep trees come and go, and the ring overflows all the time. Equal trees
//! after a flush.

use std::time::Duration;

use super::{Arguments, Figures, Rows, job::Job, operations::Kind};
use crate::{conformance::Wish, report::Report};

pub const NAME: &str = "torture";

const ALL: &[Kind] = &[Kind::Mixed, Kind::Renames, Kind::Deep, Kind::Exchanges];

/// The smallest ring that a kernel makes: one page.
const TINY: u32 = 4096;

pub fn run(arguments: &Arguments) -> Vec<Report> {
    let duration = arguments.duration.unwrap_or(Duration::from_secs(60));
    let mut rows = Rows::new(NAME, arguments);
    let tiny = Arguments { wish: Wish { ring_bytes: Some(TINY), ..arguments.wish.clone() }, ..arguments.clone() };
    rows.case("renames, exchanges, deep trees and writers, with a tiny ring", |figures| race(&tiny, ALL, duration, figures));
    rows.case("renames and exchanges above writers, with the default ring", |figures| {
        race(arguments, &[Kind::Mixed, Kind::Renames, Kind::Mixed, Kind::Exchanges], duration / 4, figures)
    });
    rows.reports
}

fn race(arguments: &Arguments, kinds: &[Kind], duration: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let job = Job::new(arguments)?;
    let launch = job.launch();
    let mut mirror = job.start(&launch)?;
    let operations = job.writers(kinds, duration)?.finish()?;
    let entries = job.arrived("after the race")?;
    figures.extend([("operations", operations as f64), ("entries", entries as f64)]);
    mirror.stop();
    job.uninstall()?;
    Ok(())
}
