//! Rules about the text of single files: a module's documentation, its length, words that must not stay, paths of one machine.

use std::path::Path;

/// A file that is longer holds more than one thing.
const MOST_LINES: usize = 450;

/// Words that mark what is not finished. Put together here, so that this file does not break its own rule.
const UNFINISHED_WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const UNFINISHED_CODE: [&str; 3] = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("#[ig", "nore")];

/// Where a path is of one machine only.
pub(super) struct Places {
    prefixes: Vec<String>,
}

impl Places {
    /// The home of whoever runs this, and the directory that this workspace happens to be in. Other homes may be examples.
    pub(super) fn of_this_machine(root: &Path, home: Option<&Path>) -> Self {
        // A directory directly below `/` has a name like `/src` or `/root`, which says nothing about a machine.
        let telling = [Some(root), home].into_iter().flatten().filter(|path| path.components().count() > 2);
        Self { prefixes: telling.filter_map(Path::to_str).map(|path| format!("{path}/")).collect() }
    }
}

/// Lines that break a rule, with what is wrong; line 0 means the whole file.
pub(super) fn check(file: &Path, content: &str, places: &Places) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if file.extension().is_some_and(|extension| extension == "rs") {
        if file.components().any(|component| component.as_os_str() == "src") && !begins_with_documentation(content) {
            found.push((1, "a file below src begins with a `//!` documentation of what it guarantees".to_owned()));
        }
        let lines = content.lines().count();
        if lines > MOST_LINES {
            found.push((0, format!("{lines} lines; a file of more than {MOST_LINES} holds more than one thing")));
        }
    }
    for (index, line) in content.lines().enumerate() {
        let unfinished = UNFINISHED_WORDS.iter().find(|word| has_word(line, word));
        let unfinished = unfinished.or_else(|| UNFINISHED_CODE.iter().find(|code| line.contains(**code)));
        if let Some(word) = unfinished {
            found.push((index + 1, format!("`{word}` must not stay: finish it, or open an issue")));
        }
        if places.prefixes.iter().any(|prefix| has_path(line, prefix)) {
            found.push((index + 1, "a path of one machine".to_owned()));
        }
    }
    found
}

/// Whether the first line that says anything is `//!`. An attribute of the crate may stand before it.
fn begins_with_documentation(content: &str) -> bool {
    content.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!")).is_some_and(|line| line.starts_with("//!"))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| !line[..start].ends_with(is_letter) && !line[start + word.len()..].starts_with(is_letter))
}

/// Whether a path that begins with `prefix`, which ends with a slash, and goes on stands in the line.
fn has_path(line: &str, prefix: &str) -> bool {
    let is_inside_a_path = |character: char| character.is_alphanumeric() || "._-/~*".contains(character);
    line.match_indices(prefix).any(|(start, _)| {
        !line[..start].ends_with(is_inside_a_path) && line[start + prefix.len()..].starts_with(|next: char| next.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, content: &str) -> Vec<usize> {
        let places = Places::of_this_machine(Path::new("/build/of/someone"), Some(Path::new("/people/ann")));
        check(Path::new(file), content, &places).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_source_file_needs_documentation_at_its_head() {
        assert_eq!(found("a/src/x.rs", "use std::fs;\n"), [1]);
        assert_eq!(found("a/src/x.rs", "// Not that.\n//! Too late.\n"), [1]);
        assert_eq!(found("a/src/x.rs", ""), [1]);
        assert!(found("a/src/x.rs", "#![no_std]\n\n//! Fine.\n").is_empty());
        assert!(found("a/tests/x.rs", "use std::fs;\n").is_empty());
    }

    #[test]
    fn a_file_must_not_be_too_long() {
        let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
        assert!(found("a/src/x.rs", &lines(450)).is_empty());
        assert_eq!(found("a/src/x.rs", &lines(451)), [0]);
        assert_eq!(found("a/tests/x.rs", &lines(451)), [0]);
        assert!(found("README.md", &lines(451)).is_empty());
    }

    #[test]
    fn unfinished_things_must_not_stay() {
        for word in UNFINISHED_WORDS.into_iter().chain(UNFINISHED_CODE) {
            assert_eq!(found("a/README.md", &format!("fine\n  {word} later\n")), [2], "{word}");
        }
        assert!(found("a/x.rs", concat!("mkstemp(\"a.XX", "XXXX\")\n", "let method_XX", "X_y = 1;\n")).is_empty());
        assert!(found("Cargo.toml", "todo = \"warn\"\n").is_empty());
    }

    #[test]
    fn paths_of_one_machine_must_not_stay() {
        assert_eq!(found("README.md", "cd /people/ann/tree\n"), [1]);
        assert_eq!(found("README.md", "cd \"/people/ann/x\"\n"), [1]);
        assert_eq!(found("x.toml", "path = \"/build/of/someone/target\"\n"), [1]);
        assert!(found("x.rs", "mkdir \"/people/bob/www\" failed\n").is_empty());
        assert!(found("README.md", "/srv/www /var/lib/trigsync /mnt/build/of/someone/x\n").is_empty());
    }
}
