//! Whole jobs on a real kernel, for a guest that has nothing but the kernel, `/proc`, the binary `trigsync` and `rsync`.
//!
//! - A suite runs on one tier in one directory, and says line by line what became of each of its cases.
//! - Everything it starts or mounts ends with it.
//! - A suite runs on any machine with root, with the tiers that work there.

mod arguments;
mod clock;
mod cost;
mod flood;
mod job;
mod main_job;
pub mod operations;
mod peers;
mod torture;
mod worker;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub use arguments::Arguments;
use trigsync::capture::{CaptureError, Source};

use crate::{
    conformance::{self, Wish, panic_text},
    report::{Outcome, Report},
};

/// Cases that belong together.
pub struct Suite {
    /// As on the command line.
    pub name: &'static str,
    /// Runs it, printing each row at once.
    pub run: fn(&Arguments) -> Vec<Report>,
}

/// Every suite there is.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "conformance",
        run: |arguments| {
            let Arguments { tier, wish, dirs, only, json, .. } = arguments;
            conformance::run_all(tier, wish, dirs, only, |row| row.print(*json))
        },
    },
    Suite { name: main_job::NAME, run: main_job::run },
    Suite { name: torture::NAME, run: torture::run },
    Suite { name: flood::NAME, run: flood::run },
    Suite { name: cost::NAME, run: cost::run },
];

impl Arguments {
    /// Whether this kernel has the tier, as far as can be said without loading anything.
    fn check(&self) -> anyhow::Result<()> {
        self.or_not_covered((self.tier.check)(&self.wish))
    }

    fn source(&self, wish: &Wish) -> anyhow::Result<Box<dyn Source>> {
        self.check()?;
        self.or_not_covered((self.tier.make)(wish)).map(|made| made.source)
    }

    fn or_not_covered<T>(&self, result: Result<T, CaptureError>) -> anyhow::Result<T> {
        result.map_err(|error| if self.tier.may_refuse(&error) { NotCovered(error.to_string()).into() } else { error.into() })
    }
}

/// What a case measured: a name with its unit, and the number.
#[derive(Default)]
struct Figures(Vec<(String, f64)>);

impl Figures {
    fn push(&mut self, name: &str, figure: f64) {
        self.0.push((name.to_owned(), figure));
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, figure)| *figure)
    }
}

impl<'a> Extend<(&'a str, f64)> for Figures {
    fn extend<I: IntoIterator<Item = (&'a str, f64)>>(&mut self, figures: I) {
        figures.into_iter().for_each(|(name, figure)| self.push(name, figure));
    }
}

/// The error of a case that cannot be asked here.
#[derive(Debug)]
struct NotCovered(String);

impl fmt::Display for NotCovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotCovered {}

/// The rows of a suite, as they are made.
struct Rows<'a> {
    arguments: &'a Arguments,
    suite: &'static str,
    reports: Vec<Report>,
}

impl<'a> Rows<'a> {
    fn new(suite: &'static str, arguments: &'a Arguments) -> Self {
        Self { arguments, suite, reports: Vec::new() }
    }

    /// Runs a case, unless it was not asked for.
    fn case(&mut self, name: &str, work: impl FnOnce(&mut Figures) -> anyhow::Result<()>) {
        if !name.contains(&self.arguments.only) {
            return;
        }
        let mut figures = Figures::default();
        let outcome = match catch_unwind(AssertUnwindSafe(|| work(&mut figures))) {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(error)) => match error.downcast::<NotCovered>() {
                Ok(NotCovered(why)) => Outcome::NotCovered(why),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
            Err(panic) => Outcome::Failed(panic_text(&*panic).to_owned()),
        };
        let report = Report { figures: figures.0, ..self.arguments.report(self.suite, name, outcome) };
        report.print(self.arguments.json);
        self.reports.push(report);
    }
}
