//! `cargo xtask tidy`: the house rules as code.
//!
//! Imports are found by reading the text (`crate::X` and `crate::{X, Y}` outside comments), not by compiling it: a macro that
//! made up such a path would not be seen.

mod layers;
mod text;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use ignore::WalkBuilder;

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Relative to the workspace.
    pub file: PathBuf,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong, and what the rule is.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.what),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.what),
        }
    }
}

/// Prints every breach in the workspace at `root`; the exit code is 0 where there is none.
pub fn report(root: &Path) -> Result<ExitCode> {
    let violations = check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every breach in the workspace at `root`, in the order of the files' names. What git ignores is left alone.
pub fn check(root: &Path) -> Result<Vec<Violation>> {
    let places = text::Places::of_this_machine(root, std::env::home_dir().as_deref());
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .sort_by_file_name(Ord::cmp)
        .build();
    let mut violations = Vec::new();
    for entry in walk {
        let entry = entry.context("walking the workspace")?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) || entry.file_name() == "Cargo.lock" {
            continue;
        }
        let bytes = fs::read(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
        // Test data may be any bytes.
        let Ok(content) = String::from_utf8(bytes) else { continue };
        let file = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let mut found = text::check(file, &content, &places);
        found.extend(layers::check(file, &content));
        violations.extend(found.into_iter().map(|(line, what)| Violation { file: file.to_owned(), line, what }));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_with_hidden_files_and_without_ignored_ones() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = concat!("TO", "DO");
        for (name, content) in [
            (".gitignore", "/target\n"),
            (".ci/run", unfinished),
            ("target/made.rs", unfinished),
            (".git/config", unfinished),
            ("trigsync-user/src/model/mark.rs", "//! Marks.\nuse crate::cli;\n"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(root.path().join("bytes"), [0xff, 0xfe]).unwrap();
        let found = check(root.path()).unwrap();
        let lines: Vec<_> = found.iter().map(|violation| (violation.file.to_str().unwrap(), violation.line)).collect();
        assert_eq!(lines, [(".ci/run", 1), ("trigsync-user/src/model/mark.rs", 2)], "{found:?}");
        assert!(found[0].to_string().starts_with(".ci/run:1: "));
    }
}
