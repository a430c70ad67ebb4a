//! What guests say, and what it comes to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A line of a guest's report, as `tests/src/bin/guest/report.rs` writes it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The guest is up.
    Booted {
        /// As `uname -r` says it.
        release: String,
    },
    /// A case was run.
    Case(Case),
    /// A suite ended for one tier on one file system.
    Ended {
        /// The suite.
        suite: String,
        /// The tier.
        tier: String,
        /// The file system, or several with a comma between them.
        file_system: String,
        /// How long it took.
        seconds: f64,
    },
    /// Everything planned was run.
    Done,
}

/// One case on one tier, file system and kernel.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Case {
    /// The kernel's release; the guest does not say it.
    #[serde(default)]
    pub kernel: String,
    /// The suite.
    pub suite: String,
    /// The tier, with its mask.
    pub tier: String,
    /// The file system.
    pub file_system: String,
    /// The case.
    pub case: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it did not pass.
    pub why: String,
    /// What was measured: a name with its unit, and the number.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    /// How long it took.
    #[serde(default)]
    pub milliseconds: u64,
}

impl Case {
    /// Something that went wrong with a guest as a whole.
    pub fn failed(kernel: &str, case: &str, why: String) -> Self {
        let [kernel, suite, tier, file_system, case] = [kernel, "guest", "", "", case].map(str::to_owned);
        Self { kernel, suite, tier, file_system, case, outcome: Outcome::Failed, why, figures: BTreeMap::new(), milliseconds: 0 }
    }
}

/// What became of a case.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did.
    Passed,
    /// It did not.
    Failed,
    /// The tier, the kernel or the file system cannot do what the case is about.
    #[serde(rename = "not covered")]
    NotCovered,
}

/// Passed, failed, not covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub [usize; 3]);

impl Count {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        self.0[match outcome {
            Outcome::Passed => 0,
            Outcome::Failed => 1,
            Outcome::NotCovered => 2,
        }] += 1;
    }
}

/// A suite on one tier and file system of one kernel, in `cargo xtask test` the equal of one test.
#[derive(Debug)]
pub struct Ran<'a> {
    /// Kernel, suite, tier, file system.
    pub name: [&'a str; 4],
    /// What came of it.
    pub count: Count,
    /// The reason that was given first for what was not covered.
    pub why: &'a str,
}

/// Cases by what they belong to, in the order in which they came.
pub fn by_run(cases: &[Case]) -> Vec<Ran<'_>> {
    let mut runs: Vec<Ran<'_>> = Vec::new();
    for case in cases {
        let name = [case.kernel.as_str(), &case.suite, &case.tier, &case.file_system];
        let at = runs.iter().position(|ran| ran.name == name).unwrap_or_else(|| {
            runs.push(Ran { name, count: Count::default(), why: "" });
            runs.len() - 1
        });
        runs[at].count.add(case.outcome);
        if runs[at].why.is_empty() {
            runs[at].why = &case.why;
        }
    }
    runs
}

/// Suites that passed no case of a tier on any file system, where every tier is known to work: that is a failure, not a gap.
pub fn covered_nowhere(cases: &[Case]) -> Vec<Case> {
    let runs = by_run(cases);
    let key = |ran: &Ran<'_>| [ran.name[0], ran.name[1], ran.name[2]].map(str::to_owned);
    let mut found: Vec<([String; 3], String)> = Vec::new();
    for ran in &runs {
        let passed = runs.iter().any(|other| key(other) == key(ran) && other.count.0[0] > 0);
        if !passed && ran.count.0[1] == 0 && !found.iter().any(|(known, _)| *known == key(ran)) {
            found.push((key(ran), format!("covered on no file system of this kernel, where it must be: {}", ran.why)));
        }
    }
    let failed =
        |([kernel, suite, tier], why): ([String; 3], String)| Case { suite, tier, ..Case::failed(&kernel, "covered somewhere", why) };
    found.into_iter().map(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_guest_are_read() {
        let read = |text: &str| serde_json::from_str::<Line>(text).unwrap();
        assert_eq!(read(r#"{"kind":"booted","release":"5.10.0"}"#), Line::Booted { release: "5.10.0".to_owned() });
        assert_eq!(read(r#"{"kind":"done"}"#), Line::Done);
        let Line::Case(case) = read(
            r#"{"kind":"case","suite":"conformance","tier":"fanotify","file_system":"xfs","case":"chmod","outcome":"not covered","why":"so"}"#,
        ) else {
            panic!("it is a case")
        };
        assert_eq!((case.outcome, case.why.as_str(), case.kernel.as_str()), (Outcome::NotCovered, "so", ""));
        assert!(serde_json::from_str::<Line>("[    1.2] kernel says").is_err());
    }

    fn case(tier: &str, file_system: &str, outcome: Outcome) -> Case {
        let [suite, tier, file_system] = ["main", tier, file_system].map(str::to_owned);
        Case { suite, tier, file_system, outcome, ..Case::failed("6.1", "a case", "a reason".to_owned()) }
    }

    #[test]
    fn a_tier_that_is_covered_nowhere_is_a_failure() {
        let cases = [
            case("fanotify", "ext4", Outcome::Passed),
            case("fanotify", "overlay", Outcome::NotCovered),
            case("ebpf-fexit", "ext4", Outcome::NotCovered),
            case("ebpf-fexit", "xfs", Outcome::NotCovered),
            case("ebpf-kprobe", "ext4", Outcome::Failed),
        ];
        let runs = by_run(&cases);
        assert_eq!(runs.iter().map(|ran| ran.count.0).collect::<Vec<_>>(), [[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 0]]);
        let missing = covered_nowhere(&cases);
        assert_eq!((missing.len(), missing[0].tier.as_str(), missing[0].outcome), (1, "ebpf-fexit", Outcome::Failed));
    }
}
