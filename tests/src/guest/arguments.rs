//! The arguments of every program that runs cases: the tier, how it is made, where, for how long.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use trigsync::capture::ebpf::layout::Mask;

use crate::{
    conformance::{FANOTIFY, Tier, Wish},
    report::{Outcome, Report},
};

/// What a suite is to do.
#[derive(Clone)]
pub struct Arguments {
    /// On which tier.
    pub tier: &'static Tier,
    /// How the tier is made.
    pub wish: Wish,
    /// On the file systems in question; most suites take one.
    pub dirs: Vec<PathBuf>,
    /// How long the parts take that can go on for ever; a suite's own choice where nothing was said.
    pub duration: Option<Duration>,
    /// Whether the clock may jump: the machine is nobody else's.
    pub jumps: bool,
    /// Only cases whose names hold this.
    pub only: String,
    /// One JSON object a line.
    pub json: bool,
}

const USAGE: &str = "[--tier NAME] [--mask MASK] [--ring BYTES] [--dir DIR]… [--seconds N] [--jumps] [--only TEXT] [--json]";

impl Arguments {
    /// What the command line of `program` says.
    pub fn parse(program: &str, words: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut parsed = Self {
            tier: &FANOTIFY,
            wish: Wish::default(),
            dirs: Vec::new(),
            duration: None,
            jumps: false,
            only: String::new(),
            json: false,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--tier" => parsed.tier = Tier::named(&value()?)?,
                "--mask" => {
                    let mask = value()?;
                    mask.parse::<Mask>()?;
                    parsed.wish.mask = Some(mask);
                }
                "--ring" => parsed.wish.ring_bytes = Some(value()?.parse().context("--ring takes bytes")?),
                "--dir" => parsed.dirs.push(value()?.into()),
                "--seconds" => parsed.duration = Some(Duration::from_secs(value()?.parse().context("--seconds takes a number")?)),
                "--jumps" => parsed.jumps = true,
                "--only" => parsed.only = value()?,
                "--json" => parsed.json = true,
                _ => bail!("usage: {program} {USAGE}"),
            }
        }
        if parsed.dirs.is_empty() {
            parsed.dirs.push("/tmp".into());
        }
        Ok(parsed)
    }

    /// The only file system in question.
    pub fn dir(&self) -> &Path {
        &self.dirs[0]
    }

    /// A line on a case of `suite`.
    pub fn report(&self, suite: &'static str, case: &str, outcome: Outcome) -> Report {
        Report {
            suite,
            tier: self.tier.name,
            mask: self.wish.mask.clone(),
            dir: self.dir().to_owned(),
            case: case.to_owned(),
            outcome,
            figures: Vec::new(),
        }
    }

    /// How a program ends that has made these reports. Whoever reads JSON finds failures in it; an exit code would say that it did not run.
    pub fn conclude(&self, reports: &[Report]) -> ExitCode {
        if self.json {
            return ExitCode::SUCCESS;
        }
        let count = |wanted: &str| reports.iter().filter(|report| report.outcome.words().0 == wanted).count();
        let failed = count("failed");
        println!("{} cases passed, {failed} failed, {} not covered", count("passed"), count("not covered"));
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> anyhow::Result<Arguments> {
        Arguments::parse("suites", words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn arguments_are_what_was_written() {
        let parsed = parse(&["--tier", "fanotify-moved", "--mask", "el8.2", "--dir", "/fs/xfs", "--seconds", "3", "--json"]).unwrap();
        assert_eq!((parsed.tier.name, parsed.wish.mask.as_deref(), parsed.json), ("fanotify-moved", Some("el8.2"), true));
        assert_eq!((parsed.dir().to_owned(), parsed.duration), ("/fs/xfs".into(), Some(Duration::from_secs(3))));
        for wrong in [&["--tier"][..], &["--tier", "inotify"], &["--seconds", "x"], &["--mask", "el9"], &["extra"], &["--what", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
