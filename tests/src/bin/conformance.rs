//! Runs the capture cases on this machine's kernel: `conformance --tier fanotify --dir DIR`. Needs root, and nothing but the kernel.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use trigsync_tests::conformance;

fn main() -> anyhow::Result<ExitCode> {
    let (mut tier, mut dir) = ("fanotify".to_owned(), PathBuf::from("/tmp"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--tier" => tier = value,
            "--dir" => dir = value.into(),
            _ => bail!("usage: conformance [--tier NAME] [--dir DIR]"),
        }
    }
    let names = || conformance::TIERS.iter().map(|tier| tier.name).collect::<Vec<_>>().join(", ");
    let tier =
        conformance::TIERS.iter().find(|known| known.name == tier).with_context(|| format!("no such tier; there are: {}", names()))?;
    let failed = conformance::run_all(tier, &dir);
    println!("{} cases failed", failed.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
