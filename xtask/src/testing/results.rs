//! What `cargo test` printed, counted.
//!
//! - Sums the `test result:` lines of all test binaries.
//! - A test that cannot run here prints `SKIPPED name: cause` and returns; libtest calls that passed, so it is taken off again.
//! - Hides what passing tests printed, which `--show-output` is given for only to find the skips.

use std::collections::BTreeMap;

use crate::{packages, vm::Verdict};

/// The sums, and what was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    ok: u64,
    failed: u64,
    ignored: u64,
    skips: BTreeMap<String, String>,
    inside_successes: bool,
}

impl Results {
    /// Takes one line, and tells whether people should see it.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some((name, cause)) = line.trim_start().strip_prefix("SKIPPED ").and_then(|rest| rest.split_once(": ")) {
            return self.skips.insert(name.to_owned(), cause.to_owned()).is_none();
        }
        match line {
            "successes:" => self.inside_successes = true,
            "failures:" => self.inside_successes = false,
            _ => {}
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.inside_successes = false;
            self.ok += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
        }
        !self.inside_successes
    }

    /// A test that did not run below `cargo test`: it is counted as a test binary would count it, to which a skip is a success.
    pub fn add(&mut self, name: &str, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.ok += 1,
            Verdict::Failed => self.failed += 1,
            Verdict::Skipped(cause) => {
                self.ok += 1;
                self.skips.insert(name.to_owned(), cause);
            }
        }
    }

    /// A test binary that died, or did not build, prints no result: that is a failure too.
    pub fn ended_badly(&mut self) {
        self.failed = self.failed.max(1);
    }

    /// Tests that failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Skips whose cause names a tool that is not here although xtask can install it: where everything has to run, that is a failure.
    pub fn avoidable_skips(&self) -> Vec<String> {
        let tools = packages::missing(&[packages::FOR_TESTS.as_slice(), &packages::WELCOME_FOR_TESTS].concat());
        let missing: Vec<_> = tools.iter().map(|tool| tool.program).collect();
        self.skips.iter().filter(|(_, cause)| names_one(cause, &missing)).map(|(name, cause)| format!("{name}: {cause}")).collect()
    }

    /// The line that ends a test run.
    pub fn closing_line(&self) -> String {
        let skipped = self.skips.len() as u64;
        format!("{} passed, {} failed, {} skipped", self.ok.saturating_sub(skipped), self.failed, self.ignored + skipped)
    }
}

/// The number before `word` in `ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(result: &str, word: &str) -> u64 {
    let words: Vec<_> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

fn names_one(cause: &str, programs: &[&str]) -> bool {
    let is_part_of_a_name = |character: char| character.is_alphanumeric() || "._-".contains(character);
    cause.split(|character| !is_part_of_a_name(character)).any(|word| programs.contains(&word.trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Results, Vec<&str>) {
        let mut results = Results::default();
        let shown = text.lines().filter(|line| results.line(line)).collect();
        (results, shown)
    }

    #[test]
    fn results_of_several_binaries_are_summed() {
        let (results, _) = read(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.20s\n",
        );
        assert_eq!(results.closing_line(), "7 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_skip_is_not_a_pass_and_what_passing_tests_print_is_hidden() {
        let (results, shown) = read(
            "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\nnoise\nSKIPPED a: mkfs.xfs is not installed\nSKIPPED a: mkfs.xfs is not installed\n\n\
             successes:\n    a\n    b\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(results.closing_line(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(shown.contains(&"SKIPPED a: mkfs.xfs is not installed"));
    }

    #[test]
    fn failures_are_shown_after_successes() {
        let (_, shown) =
            read("successes:\nnoise\nfailures:\n---- x stdout ----\npanicked\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n");
        assert_eq!(shown, ["failures:", "---- x stdout ----", "panicked", "test result: FAILED. 0 passed; 1 failed; 0 ignored"]);
    }

    #[test]
    fn a_binary_without_a_result_counts() {
        let mut results = Results::default();
        results.ended_badly();
        assert_eq!(results.closing_line(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn tests_in_guests_are_counted_with_the_others() {
        let mut results = Results::default();
        results.line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        results.add("6.1 conformance fanotify ext4", Verdict::Passed);
        results.add("6.1 conformance fanotify xfs", Verdict::Failed);
        results.add("6.1 conformance fanotify overlay", Verdict::Skipped("no handles".to_owned()));
        assert_eq!(results.closing_line(), "4 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_cause_names_a_tool_as_a_whole_word() {
        assert!(names_one("mkfs.xfs is not installed", &["mkfs.xfs"]));
        assert!(names_one("needs `sshd`.", &["sshd"]));
        assert!(names_one("there is no sshd.", &["sshd"]));
        assert!(!names_one("the kernel has no xfs", &["mkfs.xfs"]));
        assert!(!names_one("rsync-3.1.3 was not built", &["rsync"]));
    }
}
