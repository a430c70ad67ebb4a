//! What a case or a suite has to say: one line for people, or one JSON object a line for programs.

use std::{fmt, path::PathBuf};

use serde_json::{Value, json};

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What had to be so was so.
    Passed,
    /// Why not.
    Failed(String),
    /// Why it could not be asked.
    NotCovered(String),
}

impl Outcome {
    /// Passed, or failed with the error and its causes.
    pub fn of(result: anyhow::Result<()>) -> Self {
        result.map_or_else(|error| Self::Failed(format!("{error:#}")), |()| Self::Passed)
    }

    /// `passed`, `failed` or `not covered`, and the reason, empty where it passed.
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Passed => ("passed", ""),
            Self::Failed(why) => ("failed", why),
            Self::NotCovered(why) => ("not covered", why),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::NotCovered(why) => write!(f, "not covered: {why}"),
        }
    }
}

/// One case of one suite on one tier.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which suite it belongs to.
    pub suite: &'static str,
    /// As in `--tier`.
    pub tier: &'static str,
    /// As in `--mask`.
    pub mask: Option<String>,
    /// Where, as in `--dir`.
    pub dir: PathBuf,
    /// What was asked, unique in its suite.
    pub case: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was measured: a name with its unit, and the number.
    pub figures: Vec<(String, f64)>,
}

impl Report {
    /// Whether the tier is wrong.
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    /// `{"suite":…,"tier":…,"mask":…,"dir":…,"case":…,"outcome":"passed"|"failed"|"not covered","why":…,"figures":{…}}`; `mask` may be null.
    pub fn to_json(&self) -> Value {
        let (outcome, why) = self.outcome.words();
        let figures: serde_json::Map<_, _> = self.figures.iter().map(|(name, figure)| (name.clone(), json!(figure))).collect();
        json!({
            "suite": self.suite, "tier": self.tier, "mask": self.mask, "dir": self.dir, "case": self.case, "outcome": outcome,
            "why": why, "figures": figures,
        })
    }

    /// Prints the line at once, as JSON or for people.
    pub fn print(&self, as_json: bool) {
        if as_json { println!("{}", self.to_json()) } else { println!("{self}") }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = self.mask.as_ref().map_or_else(|| self.tier.to_owned(), |mask| format!("{} ({mask})", self.tier));
        write!(f, "{tier:<16} {:<64} {}", self.case, self.outcome)?;
        for (name, figure) in &self.figures {
            write!(f, "; {name} {figure:.0}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_everything_to_people_and_to_programs() {
        let report = Report {
            suite: "main",
            tier: "ebpf-kprobe",
            mask: Some("el8.2".to_owned()),
            dir: "/fs/xfs".into(),
            case: "equal trees".to_owned(),
            outcome: Outcome::of(Err(anyhow::anyhow!("no entry").context("comparing"))),
            figures: vec![("operations".to_owned(), 12.0)],
        };
        assert!(report.failed());
        assert_eq!(
            report.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
            "ebpf-kprobe (el8.2) equal trees FAILED: comparing: no entry; operations 12"
        );
        let line = report.to_json().to_string();
        for field in [
            r#""outcome":"failed""#,
            r#""why":"comparing: no entry""#,
            r#""figures":{"operations":12.0}"#,
            r#""mask":"el8.2""#,
            r#""dir":"/fs/xfs""#,
        ] {
            assert!(line.contains(field), "{line}");
        }
    }
}
