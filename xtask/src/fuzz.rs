//! `cargo xtask fuzz`: random bytes for everything that reads bytes from outside, by libFuzzer through cargo-fuzz.
//!
//! - With the stable toolchain: coverage needs nothing more. The address sanitizer alone would want a nightly one, and the readers hold no
//!   unsafe code that it could watch.
//! - What is new is kept in the fuzz directory's `target`, and is begun with the next time; the corpus of the repository stays small.
//! - A crash, an input that takes ten seconds, or one that takes two gigabytes fails the run, and is kept in `fuzz/artifacts`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use crate::cargo;

/// What is run, and for how long.
#[derive(Debug, Args)]
pub struct Options {
    /// Minutes, of all targets together.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// Only these readers.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Seconds that one input may take, and megabytes.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// Runs the targets, one after the other. The exit code is 1 where one of them failed.
pub fn fuzz(options: &Options) -> Result<ExitCode> {
    let directory = cargo::workspace_root().join("fuzz");
    let known = targets(&directory)?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no reader `{unknown}`; there are {}", known.join(", "));
    }
    let wanted = if options.targets.is_empty() { known } else { options.targets.clone() };
    require_cargo_fuzz()?;
    let built = cargo_fuzz(&directory).args(["build", "-s", "none"]).status().context("cargo fuzz does not start")?;
    if !built.success() {
        bail!("the targets do not build; cargo says why above (libFuzzer needs a C++ compiler)");
    }
    let seconds = (options.minutes * 60.0 / wanted.len() as f64).max(1.0) as u64;
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["reader", "inputs", "new", "slowest", "memory", "result"]);
    let mut failed = Vec::new();
    for target in wanted {
        println!("{target}: {seconds} s");
        let log = directory.join("target").join(format!("{target}.log"));
        let well = run(&directory, &target, seconds, &log)?;
        let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let figure = |name: &str| figure(&said, name).unwrap_or_default().to_owned();
        table.add_row([
            target.clone(),
            figure("number_of_executed_units"),
            figure("new_units_added"),
            format!("{} s", figure("slowest_unit_time_sec")),
            format!("{} MB", figure("peak_rss_mb")),
            if well { "survives" } else { "FAILED" }.to_owned(),
        ]);
        if !well {
            let lines: Vec<_> = said.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            failed.push(target);
        }
    }
    println!("{table}");
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED: {}; the inputs are in {}", failed.join(", "), directory.join("artifacts").display());
    Ok(ExitCode::FAILURE)
}

/// Runs one target, with what it says in `log`. Whether it survived.
fn run(directory: &Path, target: &str, seconds: u64, log: &Path) -> Result<bool> {
    let found = directory.join("target/found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("creating {}", found.display()))?;
    let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let mut command = cargo_fuzz(directory);
    command.args(["run", "-s", "none", target]).arg(&found).arg(directory.join("corpus").join(target));
    command.arg("--").args(LIMITS).args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()]);
    let dictionary = directory.join("dictionaries").join(target);
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let status = command.stdout(out.try_clone()?).stderr(out).status().context("cargo fuzz does not start")?;
    Ok(status.success())
}

/// The readers that have a target.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory.join("fuzz_targets")).context("reading fuzz/fuzz_targets")?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let mut names: Vec<_> = paths.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn cargo_fuzz(directory: &Path) -> Command {
    let mut command = cargo::cargo();
    command.arg("fuzz").current_dir(directory);
    command
}

fn require_cargo_fuzz() -> Result<()> {
    let runs = cargo::cargo().args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if runs.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("Installing cargo-fuzz, which is missing: cargo install cargo-fuzz --locked");
    let installed = cargo::cargo().args(["install", "cargo-fuzz", "--locked"]).status().context("cargo does not start")?;
    if !installed.success() {
        bail!("cargo-fuzz could not be installed; cargo says why above");
    }
    Ok(())
}

/// `stat::NAME: FIGURE`, as libFuzzer prints it at its end.
fn figure<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| Some(line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_libfuzzer_says() {
        let said = "#2 INITED\nDone 12 runs in 1 second(s)\nstat::number_of_executed_units: 12\nstat::peak_rss_mb:              44\n";
        assert_eq!((figure(said, "number_of_executed_units"), figure(said, "peak_rss_mb")), (Some("12"), Some("44")));
        assert_eq!(figure(said, "new_units_added"), None);
    }

    #[test]
    fn every_target_has_a_corpus_and_is_in_the_manifest() {
        let directory = cargo::workspace_root().join("fuzz");
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let targets = targets(&directory).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(directory.join("corpus").join(&target).is_dir(), "{target} has no corpus");
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
        }
    }
}
