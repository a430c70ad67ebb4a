//! Expressions as people write them, refusals, and a comparison with a real regular expression on random paths.

use std::fmt::Write as _;

use proptest::prelude::*;
use regex::bytes::RegexBuilder;

use super::*;
use crate::{config::Filter, model::RelPath};

#[test]
fn expressions_and_their_patterns() {
    for (expression, expected) in [
        ("(.*)\\.svn", &["*.svn"][..]),
        ("(.*)\\.gz", &["*.gz"]),
        ("^info/*", &["/info"]),
        ("^static/*", &["/static"]),
        ("wwwroot/blog/*", &["/wwwroot/blog"]),
        ("^cache/$", &["/cache/"]),
        ("^cache/.*", &["/cache/"]),
        ("^/cache/.*", &["/cache/*"]),
        ("^/cache", &[]),
        ("", &[]),
        ("(.*)/cache", &["/*/**/cache"]),
        ("(.*)/cache/(.*)", &["/*/**/cache/", "**/cache/*"]),
        ("(.*)cache(.*)", &["*cache*"]),
        ("(.*)\\.(jpg|png)$", &["*.jpg", "*.png"]),
        (".+\\.tmp", &["/?*.tmp", "/*/**/*.tmp"]),
        ("[^/]*\\.php", &["/*.php"]),
        ("a/[^/]+/b", &["/a/*/b"]),
        ("logs/[0-9]{2}", &["/logs/[0123456789][0123456789]"]),
        ("[^.]x", &["/[!\\.]x"]),
        ("\\!a b", &["/!a b"]),
        ("(.*)#", &["*#"]),
        ("x ", &["/x\\ "]),
        ("数据/.*", &["/数据/"]),
        (".*", &["/*"]),
    ] {
        let mut found = patterns(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        found.sort();
        let mut expected: Vec<_> = expected.iter().map(|pattern| (*pattern).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn refusals_name_the_reason() {
    for (expression, expected) in [
        ("*.php", "is no regular expression: "),
        ("*.php", "`*` stands behind what it repeats, so any name is `.*`"),
        ("(a", "is no regular expression: unclosed group"),
        ("(?!a).*", "is no regular expression: "),
        ("(a)\\1", "is no regular expression: "),
        ("a+", "it repeats more than `.` or `[^/]` without end"),
        ("[^.]*", "it repeats more than"),
        ("a.*+", "it repeats a repetition"),
        ("a^b", "`^` or `$` stands in the middle"),
        ("\\bx", "a border within a name"),
        ("(?i)x", "flags"),
        ("[a&&b]", "a class holds `&&`"),
        ("[a[b]]", "a class holds another class"),
        ("[é]", "a class holds `é`, which is several bytes"),
        ("\\x41", "means something else to sersync"),
        ("a{,3}", "is no regular expression: "),
        ("(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)", "more than 64 alternatives"),
        ("a.*b.*c.*d.*e.*f.*g.*h", "more than 64 alternatives"),
        ("[!^]x", "a class of `!` and `^` only"),
    ] {
        let error = patterns(expression).expect_err(expression);
        assert!(error.contains(expected), "{expression}\n got: {error}\nwant: {expected}");
    }
    assert!(patterns(&"a".repeat(2000)).is_err());
}

/// Whether sersync leaves it alone: the expression as a whole, against its three forms of a path.
fn sersync_matches(regex: &regex::bytes::Regex, path: &[u8], directory: bool) -> bool {
    let whole = |text: &[u8]| regex.is_match(text);
    whole(path) || path.contains(&b'/') && whole(&[b"/", path].concat()) || directory && whole(&[path, b"/"].concat())
}

fn sersync_excludes(regex: &regex::bytes::Regex, path: &[u8], directory: bool) -> bool {
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').any(|(end, _)| sersync_matches(regex, &path[..end], true));
    above || sersync_matches(regex, path, directory)
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a", "b", "/", "/*", "/+", "/?", ".*", "(.*)", ".", ".+", "[^/]*", "[^/]+", "[^/]", "[^a]", "[ab/]", "\\.", "(a|b)", "(a/|)", "a?",
        "(/b)?", "\\w", ".{2}", "(/.*)?", "b/",
    ])
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", ".a", "a.b", "aa", "bb", "c", "a/b", "x\ny", "é"]).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is left alone is exactly what sersync leaves alone, for every expression that is not refused.
    #[test]
    fn patterns_mean_what_the_expression_means(
        pieces in prop::collection::vec(piece(), 0..6),
        anchors in any::<(bool, bool)>(),
        paths in prop::collection::vec(prop::collection::vec(name(), 1..4), 24),
    ) {
        let mut expression = String::new();
        let (start, end) = (if anchors.0 { "^" } else { "" }, if anchors.1 { "$" } else { "" });
        _ = write!(expression, "{start}{}{end}", pieces.concat());
        let Ok(patterns) = patterns(&expression) else { return Err(TestCaseError::reject("refused")) };
        let regex = RegexBuilder::new(&format!("\\A(?:{expression})\\z"))
            .unicode(false)
            .dot_matches_new_line(true)
            .build()
            .expect("what is translated is an expression");
        let filter = Filter::new(&patterns).expect("patterns are good together");
        for path in paths {
            let path = path.join("/");
            for directory in [false, true] {
                let here = filter.excludes(RelPath::new(path.as_bytes()).expect("a plain path"), directory);
                let there = sersync_excludes(&regex, path.as_bytes(), directory);
                prop_assert_eq!(here, there, "{} as {:?}: {:?}, directory: {}", expression, patterns, path, directory);
            }
        }
    }
}
