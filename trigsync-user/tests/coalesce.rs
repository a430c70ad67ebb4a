//! The dirty set against data files: marks and cuts on a mock clock. See `tests/coalesce/*.toml`.

use std::{fs, path::Path, time::Duration};

use serde::Deserialize;
use trigsync::{
    coalesce::{DirtySet, Taken},
    config::Settle,
    model::{Mark, Ops, RelPathBuf, Scope, Stamp},
};

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    step: Vec<Step>,
}

/// One thing that happens. Marks are written `E a/b create,write`, with L for a level and T for a tree, paths in a cut `E a/b`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Milliseconds on the mock clock.
    at: f64,
    #[serde(default)]
    mark: Vec<String>,
    /// What the cut must yield.
    cut: Option<Vec<String>>,
    #[serde(default = "no_limit")]
    limit: usize,
    /// The cut is made in a hurry up to everything marked so far.
    #[serde(default)]
    hurry: bool,
    /// Puts back what the last cut took.
    #[serde(default)]
    put_back: bool,
    /// What the last cut took has arrived.
    #[serde(default)]
    settled: bool,
    /// A search begins, or has ended.
    searched: Option<bool>,
    /// What must be left afterwards.
    left: Option<usize>,
    /// When the next mark is ripe, at the earliest, in milliseconds.
    due: Option<f64>,
    /// Age of the oldest mark, in milliseconds on the mock clock.
    oldest: Option<f64>,
}

fn no_limit() -> usize {
    usize::MAX
}

fn stamp(milliseconds: f64) -> Stamp {
    1_000_000 + (milliseconds * 1000.0) as Stamp
}

fn parse(text: &str) -> Mark {
    let mut words = text.split(' ');
    let scope = match words.next() {
        Some("E") => Scope::Entry,
        Some("L") => Scope::Level,
        Some("T") => Scope::Tree,
        other => panic!("{other:?} in {text:?}: marks begin with E, L or T"),
    };
    let path = words.next().expect("a path follows");
    let path = if path == "." { "" } else { path };
    let mut ops = Ops::empty();
    for word in words.next().unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
        ops |= Ops::from_name(&word.to_uppercase()).unwrap_or_else(|| panic!("no operation is called {word}"));
    }
    Mark { path: RelPathBuf::new(path.as_bytes().to_vec()).unwrap(), scope, ops }
}

fn show(taken: &Taken) -> String {
    let letter = match taken.mark.scope {
        Scope::Entry => 'E',
        Scope::Level => 'L',
        Scope::Tree => 'T',
    };
    format!("{letter} {}", taken.mark.path)
}

fn run(case: &Case) {
    let settle = Settle { finished: Duration::from_millis(5), quiet: Duration::from_millis(20), max_age: Duration::from_millis(1000) };
    let mut set = DirtySet::new(settle);
    let mut last = Vec::new();
    for (index, step) in case.step.iter().enumerate() {
        let place = format!("{}, step {}", case.name, index + 1);
        if let Some(searched) = step.searched {
            set.searched(searched);
        }
        for text in &step.mark {
            let mark = parse(text);
            set.mark(&mark.path, mark.scope, mark.ops, stamp(step.at));
        }
        if step.put_back {
            set.put_back(std::mem::take(&mut last));
        }
        if step.settled {
            last.iter().for_each(|taken| set.settled(taken, stamp(step.at)));
        }
        if let Some(expected) = &step.cut {
            let hurry = if step.hurry { set.newest_stamp() } else { 0 };
            // Marks made at one instant get stamps a microsecond apart.
            last = set.cut(stamp(step.at) + 10, step.limit, hurry);
            assert_eq!(&last.iter().map(show).collect::<Vec<_>>(), expected, "{place}: cut");
        }
        if let Some(left) = step.left {
            assert_eq!(set.len(), left, "{place}: left");
        }
        if let Some(due) = step.due {
            assert_eq!(set.due(), Some(stamp(due)), "{place}: due");
        }
        if let Some(oldest) = step.oldest {
            assert_eq!(set.oldest().map(|since| since / 1000), Some(stamp(oldest) / 1000), "{place}: oldest");
        }
    }
}

#[test]
fn every_case_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coalesce");
    let mut cases = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file: File = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in &file.case {
            run(case);
            cases += 1;
        }
    }
    assert!(cases > 20, "only {cases} cases were found");
}
