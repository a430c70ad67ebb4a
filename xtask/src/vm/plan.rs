//! What a guest is to run: written here, read by `tests/src/bin/guest/plan.rs`.

use anyhow::{Result, bail};
use serde::Serialize;

use super::kernel::Kernel;

/// Every file system that a guest can make, in the matrix' order.
pub const FILE_SYSTEMS: [&str; 5] = ["ext4", "xfs", "btrfs", "tmpfs", "overlay"];

/// Every tier. What a kernel does not have is told as not covered.
pub const TIERS: [&str; 3] = ["fanotify", "ebpf-fexit", "ebpf-kprobe"];

/// What Linux 5.10 runs in addition: the public kernel that is nearest to RHEL 8's, with no more than those have.
const MASKED: [&str; 3] = ["ebpf-kprobe@el8.2", "ebpf-fexit@el8.3", "ebpf-fexit@el8.4"];

/// Every suite, in the order in which they run.
pub const SUITES: [Known; 5] = [
    Known { at_once: true, ..Known::suite("conformance", &FILE_SYSTEMS) },
    Known::suite("main", &["ext4"]),
    Known { tiers: &EBPF, ..Known::suite("torture", &["ext4"]) },
    Known { tiers: &EBPF, ..Known::suite("flood", &["tmpfs"]) },
    Known { tiers: &EBPF, counts: true, ..Known::suite("cost", &["tmpfs"]) },
];

/// How long a suite may take on one tier and one file system.
pub const LIMIT_SECONDS: u64 = 600;

/// How long the writers of a brief run write.
const BRIEF_SECONDS: &str = "4";

const EBPF: [&str; 2] = ["ebpf-fexit", "ebpf-kprobe"];

/// A suite.
#[derive(Clone, Copy)]
pub struct Known {
    /// As in `--suite`.
    pub name: &'static str,
    /// Where it runs.
    file_systems: &'static [&'static str],
    /// Whether one run of its program goes through all of them: to load the programs of a tier takes longer than the cases.
    at_once: bool,
    /// On which tiers it runs.
    tiers: &'static [&'static str],
    /// Whether it counts instructions: it has a guest of its own with one processor, whose clock is the number of instructions.
    counts: bool,
}

/// What was asked for; empty means everything.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Suites.
    pub suites: Vec<String>,
    /// Tiers, with masks.
    pub tiers: Vec<String>,
    /// File systems.
    pub file_systems: Vec<String>,
    /// Only cases whose names hold this.
    pub only: Option<String>,
    /// As much as every change has to pass ([`leaves_out`]), and shorter.
    pub brief: bool,
}

/// What one guest runs.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Plan {
    /// Paths in the guest, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// File systems to make.
    pub file_systems: Vec<String>,
    /// What runs, in this order.
    pub runs: Vec<Run>,
    /// Whether the guest counts instructions.
    pub counts: bool,
}

/// One run of a suite's program, on one tier.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Run {
    /// The suite.
    pub suite: &'static str,
    command: Vec<String>,
    /// The tier, perhaps with a mask.
    pub tier: String,
    /// The file systems, in this order.
    pub file_systems: Vec<&'static str>,
    only: Option<String>,
    limit_seconds: u64,
}

impl Known {
    const fn suite(name: &'static str, file_systems: &'static [&'static str]) -> Self {
        Self { name, file_systems, at_once: false, tiers: &TIERS, counts: false }
    }

    /// The program in the guest, `tests/src/bin/suites.rs`. The clock of a guest may jump. A brief run's writers write for less long.
    fn command(&self, brief: bool) -> Vec<String> {
        let mut command = ["/bin/suites", self.name, "--jumps"].map(str::to_owned).to_vec();
        if brief && self.name == "main" {
            command.extend(["--seconds", BRIEF_SECONDS].map(str::to_owned));
        }
        command
    }
}

impl Wanted {
    /// An error where a name is not known.
    pub fn check(&self) -> Result<()> {
        known("suite", self.suites.iter().map(String::as_str), &SUITES.map(|suite| suite.name))?;
        known("file system", self.file_systems.iter().map(String::as_str), &FILE_SYSTEMS)?;
        known("tier", self.tiers.iter().map(|tier| without_mask(tier)), &TIERS)
    }

    /// The guests that run this on a kernel: one, and another for the suites that count instructions.
    pub fn plans(&self, kernel: &Kernel) -> Vec<Plan> {
        let masked = if kernel.version() == (5, 10) { MASKED.as_slice() } else { &[] };
        let usual: Vec<_> = TIERS.iter().chain(masked).map(|tier| (*tier).to_owned()).collect();
        let tiers = if self.tiers.is_empty() { usual } else { self.tiers.clone() };
        [false, true].map(|counts| self.plan(counts, &tiers)).into_iter().filter(|plan| !plan.runs.is_empty()).collect()
    }

    fn plan(&self, counts: bool, tiers: &[String]) -> Plan {
        let is_wanted = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
        let mut runs = Vec::new();
        for suite in SUITES.iter().filter(|suite| suite.counts == counts && is_wanted(&self.suites, suite.name)) {
            for tier in tiers.iter().filter(|tier| suite.tiers.contains(&without_mask(tier))) {
                let wanted = suite.file_systems.iter().copied().filter(|name| is_wanted(&self.file_systems, name));
                let wanted: Vec<_> = wanted.filter(|name| !(self.brief && leaves_out(suite, tier, name))).collect();
                for file_systems in wanted.chunks(if suite.at_once { FILE_SYSTEMS.len() } else { 1 }) {
                    let (command, only, file_systems) = (suite.command(self.brief), self.only.clone(), file_systems.to_vec());
                    runs.push(Run { suite: suite.name, command, tier: tier.clone(), file_systems, only, limit_seconds: LIMIT_SECONDS });
                }
            }
        }
        let used = FILE_SYSTEMS.iter().filter(|name| runs.iter().any(|run| run.file_systems.contains(name)));
        Plan { modules: Vec::new(), file_systems: used.map(|name| (*name).to_owned()).collect(), runs, counts }
    }
}

impl Plan {
    /// Takes out what a guest says has ended, with its file systems as it says them: with commas between them, and without those
    /// that it could not make.
    pub fn ended(&mut self, suite: &str, tier: &str, file_systems: &str) {
        let were = |run: &Run| file_systems.split(',').all(|name| run.file_systems.contains(&name));
        self.runs.retain(|run| !(run.suite == suite && run.tier == tier && were(run)));
    }
}

/// What a brief run does without: under an emulator it takes half a minute to have a kernel verify the programs. Every kernel runs the
/// cases of every tier on one file system, and the whole job once with the best tier; everything else is left to a full run.
fn leaves_out(suite: &Known, tier: &str, file_system: &str) -> bool {
    let is_first = suite.file_systems.first() == Some(&file_system);
    match suite.name {
        "conformance" => !is_first || tier.contains('@'),
        "main" => tier != EBPF[0],
        _ => true,
    }
}

fn without_mask(tier: &str) -> &str {
    tier.split_once('@').map_or(tier, |(tier, _)| tier)
}

fn known<'a>(kind: &str, mut names: impl Iterator<Item = &'a str>, all: &[&str]) -> Result<()> {
    match names.find(|name| !all.contains(name)) {
        Some(name) => bail!("no {kind} `{name}`; there are: {}", all.join(", ")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(release: &str) -> Kernel {
        Kernel { image: "/vmlinuz".into(), release: release.to_owned(), modules: None }
    }

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn masks_run_on_the_kernel_that_is_nearest_to_rhel_8() {
        let wanted = Wanted { suites: names(&["main"]), ..Wanted::default() };
        let tiers = |release| wanted.plans(&kernel(release))[0].runs.iter().map(|run| run.tier.clone()).collect::<Vec<_>>();
        assert_eq!(tiers("6.1.0-50-cloud-amd64"), TIERS);
        assert_eq!(tiers("5.10.0-32-cloud-amd64"), [TIERS, MASKED].concat());
    }

    #[test]
    fn what_counts_instructions_has_a_guest_of_its_own() {
        let plans = Wanted::default().plans(&kernel("6.12.1"));
        assert_eq!(plans.iter().map(|plan| plan.counts).collect::<Vec<_>>(), [false, true]);
        assert!(plans[0].runs.iter().all(|run| run.suite != "cost") && plans[1].runs.iter().all(|run| run.suite == "cost"));
        assert_eq!((plans[0].file_systems.clone(), plans[1].file_systems.clone()), (names(&FILE_SYSTEMS), names(&["tmpfs"])));
    }

    #[test]
    fn the_cases_load_the_programs_once_for_all_file_systems() {
        let plans = Wanted { suites: names(&["conformance"]), ..Wanted::default() }.plans(&kernel("6.12.1"));
        assert!(plans.len() == 1 && plans[0].runs.len() == TIERS.len());
        assert!(plans[0].runs.iter().all(|run| run.file_systems == FILE_SYSTEMS));
    }

    #[test]
    fn what_has_ended_is_not_run_again() {
        let mut plan = Wanted::default().plans(&kernel("6.12.1")).swap_remove(0);
        let before = plan.runs.len();
        plan.ended("conformance", "ebpf-fexit", "ext4,xfs,tmpfs");
        plan.ended("main", "fanotify", "ext4");
        plan.ended("main", "fanotify", "no such file system");
        assert_eq!(plan.runs.len(), before - 2);
        assert!(!plan.runs.iter().any(|run| (run.suite, run.tier.as_str()) == ("main", "fanotify")));
    }

    #[test]
    fn only_what_is_asked_for_is_run_and_made() {
        let wanted = Wanted { tiers: names(&["ebpf-kprobe@el8.2"]), file_systems: names(&["xfs"]), ..Wanted::default() };
        let plans = wanted.plans(&kernel("6.12.1"));
        assert_eq!((plans.len(), plans[0].runs.len()), (1, 1));
        let run = &plans[0].runs[0];
        assert_eq!((run.suite, run.tier.as_str(), &run.file_systems[..]), ("conformance", "ebpf-kprobe@el8.2", &["xfs"][..]));
        assert_eq!(plans[0].file_systems, ["xfs"]);
    }

    #[test]
    fn a_brief_run_has_every_tier_on_every_kernel_and_the_whole_job_once() {
        for release in ["5.10.1", "6.1.1", "6.12.1", "7.2.1"] {
            let plans = Wanted { brief: true, ..Wanted::default() }.plans(&kernel(release));
            let runs: Vec<_> =
                plans.iter().flat_map(|plan| &plan.runs).map(|run| (run.suite, run.tier.as_str(), run.file_systems.clone())).collect();
            let cases = TIERS.map(|tier| ("conformance", tier, vec!["ext4"]));
            assert_eq!(runs, [&cases[..], &[("main", "ebpf-fexit", vec!["ext4"])]].concat(), "{release}");
        }
    }

    #[test]
    fn names_that_are_none_are_refused_with_those_that_there_are() {
        assert!(Wanted::default().check().is_ok());
        assert!(Wanted { tiers: names(&["ebpf-fexit@el8.4"]), ..Wanted::default() }.check().is_ok());
        let error = Wanted { file_systems: names(&["zfs"]), ..Wanted::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "no file system `zfs`; there are: ext4, xfs, btrfs, tmpfs, overlay");
    }
}
