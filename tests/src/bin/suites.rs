//! Runs a suite: `suites NAME --tier TIER --dir DIR`. Needs root, the kernel, `/proc`, and for some suites `trigsync` and `rsync`.
//!
//! `suites operate …` is what suites start to change trees from other processes.

use std::process::ExitCode;

use anyhow::Context as _;
use tracing_subscriber::filter::LevelFilter;
use trigsync_tests::guest::{Arguments, SUITES, operations};

fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    if name == operations::WORD {
        return operations::main(words).map(|()| ExitCode::SUCCESS);
    }
    let known = || SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ");
    let suite = SUITES.iter().find(|suite| suite.name == name);
    let suite = suite.with_context(|| format!("usage: suites NAME [--tier TIER] [--dir DIR]; the suites are {}", known()))?;
    let arguments = Arguments::parse("suites NAME", words)?;
    // What a capture inside this process says of its losses; standard output is for the reports.
    tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).with_ansi(false).with_writer(std::io::stderr).init();
    let reports = (suite.run)(&arguments);
    Ok(arguments.conclude(&reports))
}
