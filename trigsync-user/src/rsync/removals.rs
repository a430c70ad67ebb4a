//! Deletions without `--delete-missing-args`: a recursive run whose filter hides everything but the paths that are to go.
//!
//! The rules travel on standard input, NUL-separated, as a merge file behind the operator's own rules, which therefore still protect.

use std::collections::BTreeSet;

use crate::model::RelPath;

/// The rules that let a `-r --delete` run delete `paths` and nothing else.
pub fn removal_rules<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<u8> {
    let mut parents = BTreeSet::new();
    let mut removed = Vec::new();
    for path in paths {
        parents.extend(std::iter::successors(path.parent(), |path| path.parent()).filter(|parent| !parent.is_root()));
        rule(&mut removed, b"+ /", path, b"");
        rule(&mut removed, b"+ /", path, b"/***");
    }
    let mut rules = Vec::new();
    for parent in parents {
        rule(&mut rules, b"+ /", parent, b"/");
    }
    rules.extend_from_slice(&removed);
    rules.extend_from_slice(b"- *\0");
    rules
}

/// One rule. In a pattern without wildcards rsync takes a backslash as it is, in any other as an escape.
fn rule(rules: &mut Vec<u8>, prefix: &[u8], path: &RelPath, suffix: &[u8]) {
    let wild = suffix.contains(&b'*') || path.as_bytes().iter().any(|byte| b"*?[".contains(byte));
    rules.extend_from_slice(prefix);
    for &byte in path.as_bytes() {
        if wild && b"*?[\\".contains(&byte) {
            rules.push(b'\\');
        }
        rules.push(byte);
    }
    rules.extend_from_slice(suffix);
    rules.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_entered_and_wildcards_are_literal() {
        let paths = [&b"a/b/c"[..], b"a/x\\y", b"w*"].map(|path| RelPath::new(path).unwrap());
        let rules = removal_rules(paths);
        let rules: Vec<_> = rules.split(|&byte| byte == 0).map(|rule| String::from_utf8_lossy(rule).into_owned()).collect();
        assert_eq!(
            rules,
            ["+ /a/", "+ /a/b/", "+ /a/b/c", "+ /a/b/c/***", "+ /a/x\\y", "+ /a/x\\\\y/***", "+ /w\\*", "+ /w\\*/***", "- *", ""]
        );
    }
}
