//! Runs the capture cases on this machine's kernel: `conformance --tier fanotify --dir DIR`. Needs root, and nothing but the kernel.
//!
//! With `--json` it is a suite of a guest: an object for each case, and success as an exit code unless it cannot run at all.

use std::process::ExitCode;

use trigsync_tests::{conformance, guest::Arguments};

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse("conformance", std::env::args().skip(1))?;
    let reports = conformance::run_all(arguments.tier, &arguments.wish, &arguments.dirs, &arguments.only, |row| row.print(arguments.json));
    Ok(arguments.conclude(&reports))
}
