//! One gitignore pattern, taken apart, so that the matcher here and rsync get lines of exactly the same meaning.
//!
//! The `ignore` crate, git and rsync differ in corners (braces, backslashes without a wildcard, `**` inside a name, classes that
//! match a slash). Every line that leaves here is built from the parsed form in the subset on which all of them agree.

use std::{collections::BTreeSet, fmt::Write as _};

/// rsync's own limit for a rule, with room for the expansion of `**`.
const LONGEST: usize = 1024;

/// `a/**/b` is two rules for rsync, with two of them four, and so on.
const MOST_DOUBLE_STARS: usize = 4;

/// A pattern that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{pattern}` {reason}")]
pub struct InvalidPattern {
    /// As written; empty where the patterns as a whole are the trouble.
    pub pattern: String,
    /// What is wrong with it and what to write instead.
    pub reason: String,
}

/// A gitignore pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    written: String,
    include: bool,
    anchored: bool,
    directory: bool,
    segments: Vec<Segment>,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of directories.
    AnyDepth,
    /// A name, or part of one with wildcards.
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one byte.
    One,
    /// `*`: any bytes.
    Any,
    /// `[…]`: one byte of these, or none of these. ASCII only, without the slash, which no class matches.
    Class {
        negated: bool,
        bytes: BTreeSet<u8>,
    },
}

impl InvalidPattern {
    fn new(pattern: &str, reason: impl Into<String>) -> Self {
        Self { pattern: pattern.to_owned(), reason: reason.into() }
    }

    /// The patterns one by one are fine, together they are more than the matcher takes.
    pub(super) fn too_large(error: &ignore::Error) -> Self {
        Self::new("…", format!("and the others are too much together: {error}; write fewer patterns"))
    }
}

impl Pattern {
    /// Takes one gitignore line apart.
    pub(super) fn parse(written: &str) -> Result<Self, InvalidPattern> {
        let refuse = |reason: &str| Err(InvalidPattern::new(written, reason));
        if written.starts_with('#') {
            return refuse("is a comment to gitignore; write `\\#` for a name that begins with #");
        }
        let (include, body) = written.strip_prefix('!').map_or((false, written), |body| (true, body));
        let mut body = cut_trailing_spaces(body);
        if body.len() > LONGEST {
            return refuse("is longer than 1024 bytes");
        }
        let mut anchored = false;
        if let Some(rest) = body.strip_prefix('/') {
            anchored = true;
            body = rest;
        }
        let mut directory = false;
        if let Some(rest) = body.strip_suffix('/') {
            if rest.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1 {
                return refuse("escapes a slash; no name holds one");
            }
            directory = true;
            body = rest;
        }
        if body.is_empty() {
            return refuse("names nothing; leave it out");
        }
        if body.ends_with(|c: char| c.is_whitespace() && !c.is_ascii()) && !directory {
            return refuse("ends in white space beyond ASCII, which gitignore readers cut; end it in `*`");
        }
        if body.contains('\0') {
            return refuse("holds a NUL byte, which no name does");
        }
        let mut segments = parse_segments(body).map_err(|reason| InvalidPattern::new(written, reason))?;
        anchored |= segments.len() > 1;
        segments.dedup_by(|next, previous| *next == Segment::AnyDepth && *previous == Segment::AnyDepth);
        if segments == [Segment::AnyDepth] {
            // Nothing but `**`: every name at every level.
            segments = vec![Segment::Name(vec![Token::Any])];
            anchored = false;
        } else if segments[0] == Segment::AnyDepth {
            segments.remove(0);
            anchored = false;
        }
        if segments.iter().filter(|&segment| *segment == Segment::AnyDepth).count() > MOST_DOUBLE_STARS {
            return refuse("has more than four `**`, each of which doubles the rules for rsync; write several patterns");
        }
        Ok(Self { written: written.to_owned(), include, anchored, directory, segments })
    }

    /// Whether it includes again what others exclude.
    pub(super) fn includes(&self) -> bool {
        self.include
    }

    /// The name that it means at any depth: no wildcard, no slash but one at the end.
    pub(super) fn name_anywhere(&self) -> Option<String> {
        let [Segment::Name(tokens)] = &self.segments[..] else { return None };
        let letter = |token: &Token| if let Token::Literal(c) = token { Some(*c) } else { None };
        if self.anchored { None } else { tokens.iter().map(letter).collect() }
    }

    /// The line for the `ignore` crate.
    pub(super) fn gitignore_line(&self) -> String {
        let mut line = String::new();
        if self.include {
            line.push('!');
        }
        line.push_str(if self.anchored { "/" } else { "**/" });
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                line.push('/');
            }
            match segment {
                Segment::AnyDepth => line.push_str("**"),
                Segment::Name(tokens) => tokens.iter().for_each(|token| token.write_gitignore(&mut line)),
            }
        }
        if self.directory {
            line.push('/');
        }
        line
    }

    /// The rules for rsync: `- PATTERN` or `+ PATTERN`.
    pub(super) fn rsync_rules(&self) -> Vec<String> {
        // A `**` between names stands for no directory too, which rsync's does not: each doubles the rules.
        let mut variants: Vec<Vec<&Segment>> = vec![Vec::new()];
        for (index, segment) in self.segments.iter().enumerate() {
            if *segment == Segment::AnyDepth && index + 1 < self.segments.len() {
                let with = variants.iter().map(|variant| [&variant[..], &[segment]].concat());
                variants = with.chain(variants.iter().cloned()).collect();
            } else {
                variants.iter_mut().for_each(|variant| variant.push(segment));
            }
        }
        variants.iter().map(|variant| self.rsync_rule(variant)).collect()
    }

    fn rsync_rule(&self, segments: &[&Segment]) -> String {
        // rsync knows escapes only in a pattern that holds one of these bytes.
        let wild = segments.iter().any(|segment| match segment {
            Segment::AnyDepth => true,
            Segment::Name(tokens) => tokens.iter().any(|token| !matches!(token, Token::Literal(c) if !"*?[".contains(*c))),
        });
        let mut rule = String::from(if self.include { "+ " } else { "- " });
        if self.anchored {
            rule.push('/');
        }
        for (index, segment) in segments.iter().enumerate() {
            if index > 0 {
                rule.push('/');
            }
            match segment {
                Segment::AnyDepth => rule.push_str("**"),
                Segment::Name(tokens) => tokens.iter().for_each(|token| token.write_rsync(&mut rule, wild)),
            }
        }
        if self.directory {
            rule.push('/');
        }
        rule
    }

    /// The matcher would not take the line.
    pub(super) fn refused_by_matcher(&self, error: &ignore::Error) -> InvalidPattern {
        InvalidPattern::new(&self.written, format!("is no usable pattern: {error}"))
    }
}

impl Token {
    fn write_gitignore(&self, line: &mut String) {
        match self {
            // In a class, because white space at the end of a line would be cut, and a backslash before the last slash too.
            Self::Literal(c) if c.is_ascii_whitespace() || *c == '\x0b' || *c == '\\' => _ = write!(line, "[{c}]"),
            Self::Literal(c) if c.is_ascii_punctuation() => _ = write!(line, "\\{c}"),
            Self::Literal(c) => line.push(*c),
            Self::One => line.push('?'),
            Self::Any => line.push('*'),
            Self::Class { negated, bytes } => {
                // The matcher's negated classes match a slash unless they name it.
                let slash = negated.then_some(b'/');
                write_class(line, *negated, &bytes.iter().copied().chain(slash).collect(), "\\");
            }
        }
    }

    fn write_rsync(&self, rule: &mut String, wild: bool) {
        match self {
            // In a class, because `\**` would be taken for a `**`.
            Self::Literal(c @ ('*' | '?' | '[')) => _ = write!(rule, "[{c}]"),
            Self::Literal('\\') if wild => rule.push_str("\\\\"),
            Self::Literal(c) => rule.push(*c),
            Self::One => rule.push('?'),
            Self::Any => rule.push('*'),
            Self::Class { negated, bytes } => write_class(rule, *negated, bytes, "\\\\"),
        }
    }
}

/// In an order that gives no byte a meaning of its own: `]` first, `!` and `^` never, then `[` (no `[:` comes about) and `-` last.
fn write_class(out: &mut String, negated: bool, bytes: &BTreeSet<u8>, backslash: &str) {
    let rank = |byte: u8| match byte {
        b']' => 0,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => 1,
        b'!' | b'^' => 3,
        b'[' => 4,
        b'-' => 5,
        _ => 2,
    };
    let mut bytes: Vec<u8> = bytes.iter().copied().collect();
    bytes.sort_by_key(|&byte| (rank(byte), byte));
    out.push_str(if negated { "[!" } else { "[" });
    let mut rest = &bytes[..];
    while let [first, ..] = *rest {
        let run = rest.iter().zip(first..).take_while(|&(&byte, next)| byte == next && rank(byte) == 1).count();
        if run > 2 {
            _ = write!(out, "{}-{}", char::from(first), char::from(rest[run - 1]));
            rest = &rest[run..];
        } else {
            if first == b'\\' {
                out.push_str(backslash);
            } else {
                out.push(char::from(first));
            }
            rest = &rest[1..];
        }
    }
    out.push(']');
}

/// gitignore cuts spaces at the end unless a backslash stands before them.
fn cut_trailing_spaces(line: &str) -> &str {
    let cut = line.trim_end_matches(' ');
    let escaped = cut.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1;
    if escaped && cut.len() < line.len() { &line[..=cut.len()] } else { cut }
}

fn parse_segments(body: &str) -> Result<Vec<Segment>, String> {
    body.split('/').map(parse_segment).collect()
}

fn parse_segment(text: &str) -> Result<Segment, String> {
    match text {
        "" => return Err("has an empty name between two slashes".into()),
        "." | ".." => return Err("has `.` or `..` in it; patterns are relative to the source".into()),
        "**" => return Ok(Segment::AnyDepth),
        _ if text.contains("***") => {
            return Err("has `***`, which gitignore does not know; write `dir/` for a directory and all in it".into());
        }
        _ => {}
    }
    let mut tokens = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '\\' => Token::Literal(rest.next().ok_or("ends in a backslash; write `\\\\` for one in a name")?),
            '?' => Token::One,
            // Two stars within a name are one.
            '*' if tokens.last() == Some(&Token::Any) => continue,
            '*' => Token::Any,
            '[' => parse_class(&mut rest)?,
            c => Token::Literal(c),
        });
    }
    Ok(Segment::Name(tokens))
}

fn parse_class(rest: &mut std::str::Chars<'_>) -> Result<Token, String> {
    const UNCLOSED: &str = "has a `[` without its `]`; write `\\[` for one in a name";
    let mut bytes = BTreeSet::new();
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let mut first = true;
    loop {
        let mut c = rest.next().ok_or(UNCLOSED)?;
        match c {
            ']' if !first => break,
            '[' if rest.as_str().starts_with([':', '.', '=']) => {
                return Err("has a named class like `[:alpha:]`; write the ranges out, as `[a-zA-Z]`".into());
            }
            '\\' => c = rest.next().ok_or(UNCLOSED)?,
            _ => {}
        }
        first = false;
        let mut high = c;
        let mut ahead = rest.clone();
        if ahead.next() == Some('-') && ahead.as_str().chars().next().is_some_and(|next| next != ']') {
            high = ahead.next().ok_or(UNCLOSED)?;
            if high == '\\' {
                high = ahead.next().ok_or(UNCLOSED)?;
            }
            *rest = ahead;
        }
        if !c.is_ascii() || !high.is_ascii() {
            return Err("has a character beyond ASCII in a class; write one pattern for each".into());
        }
        if c > high {
            return Err("has a range in a class that runs backwards".into());
        }
        bytes.extend((c..=high).map(|c| c as u8));
    }
    bytes.remove(&b'/');
    match bytes.first() {
        None if negated => Ok(Token::One),
        None => Err("has a class that matches nothing; no name holds a slash".into()),
        Some(&only) if bytes.len() == 1 && !negated => Ok(Token::Literal(char::from(only))),
        Some(_) if !negated && bytes.iter().all(|byte| b"!^".contains(byte)) => {
            Err("has a class of `!` and `^` only; write one pattern for each".into())
        }
        Some(_) => Ok(Token::Class { negated, bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_rsync() {
        for (line, expected) in [
            ("*.tmp", &["- *.tmp"][..]),
            ("!keep.tmp", &["+ keep.tmp"]),
            ("/cache/", &["- /cache/"]),
            ("a/b", &["- /a/b"]),
            ("**/a/b", &["- a/b"]),
            ("**", &["- *"]),
            ("a/**", &["- /a/**"]),
            ("a/**/b", &["- /a/**/b", "- /a/b"]),
            ("a/**/**/b/", &["- /a/**/b/", "- /a/b/"]),
            ("a**b", &["- a*b"]),
            ("a\\\\b", &["- a\\b"]),
            ("a\\\\b*", &["- a\\\\b*"]),
            ("\\**", &["- [*]*"]),
            ("[!a-cx]", &["- [!a-cx]"]),
            ("[]a-]", &["- []a-]"]),
            ("[+-0]", &["- [0+,.-]"]),
            ("a\\ ", &["- a "]),
            ("\\#a", &["- #a"]),
        ] {
            assert_eq!(Pattern::parse(line).unwrap().rsync_rules(), expected, "{line}");
        }
    }

    #[test]
    fn names_at_any_depth() {
        let name = |line: &str| Pattern::parse(line).unwrap().name_anywhere();
        for line in ["node_modules/", "node_modules", "**/node_modules/", "node\\_modules", "node[_]modules"] {
            assert_eq!(name(line).as_deref(), Some("node_modules"), "{line}");
        }
        for line in ["/node_modules/", "node_modul?s", "*", "**", "a/node_modules", "node_modules/**", "[nm]ode"] {
            assert_eq!(name(line), None, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_the_same_for_both_is_refused() {
        for (line, expected) in [
            ("# note", "is a comment to gitignore; write `\\#` for a name that begins with #"),
            ("", "names nothing; leave it out"),
            ("  ", "names nothing; leave it out"),
            ("!", "names nothing; leave it out"),
            ("/", "names nothing; leave it out"),
            ("a//b", "has an empty name between two slashes"),
            ("./a", "has `.` or `..` in it; patterns are relative to the source"),
            ("a/../b", "has `.` or `..` in it; patterns are relative to the source"),
            ("a/***", "has `***`, which gitignore does not know; write `dir/` for a directory and all in it"),
            ("a\\", "ends in a backslash; write `\\\\` for one in a name"),
            ("a\\/", "escapes a slash; no name holds one"),
            ("[ab", "has a `[` without its `]`; write `\\[` for one in a name"),
            ("[[:alpha:]]", "has a named class like `[:alpha:]`; write the ranges out, as `[a-zA-Z]`"),
            ("[é]", "has a character beyond ASCII in a class; write one pattern for each"),
            ("[z-a]", "has a range in a class that runs backwards"),
            ("[\\!^]", "has a class of `!` and `^` only; write one pattern for each"),
            ("a/**/b/**/c/**/d/**/e/**/f", "has more than four `**`, each of which doubles the rules for rsync; write several patterns"),
        ] {
            assert_eq!(Pattern::parse(line).unwrap_err().reason, expected, "{line}");
        }
        assert_eq!(Pattern::parse("a//b").unwrap_err().to_string(), "pattern `a//b` has an empty name between two slashes");
    }
}
