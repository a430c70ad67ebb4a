//! A regular expression of sersync's filter as gitignore patterns of exactly the same meaning, or a refusal.
//!
//! sersync looks at a path in three forms, and leaves it alone where the expression matches one of them as a whole: `a` and `a/b` as they
//! are; `/a/b`, in events below the top; `a/b/`, where it looks for directories at its start. A directory that is left alone is left
//! alone with all that is in it. So `^info/*`, which means `info` with any number of slashes behind it, is `/info`.
//!
//! An expression is written out into alternatives without `.*`, each a list of names: `.*` is any part of a name, or two such parts with
//! any number of directories between them.

use std::collections::BTreeSet;

use regex_syntax::ast::{
    AssertionKind, Ast, ClassAsciiKind, ClassPerlKind, ClassSet, ClassSetItem, GroupKind, LiteralKind, RepetitionKind, RepetitionRange,
    parse::ParserBuilder,
};

use super::short;
use crate::config::pattern::Pattern;

const LONGEST: usize = 1024;
/// `.*` and each `|` double the alternatives.
const MOST: usize = 64;

const REMEDY: &str = "write it with `.*`, `[^/]*` and plain names only";

/// What an alternative is made of; for a name alone without the last three.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Literal(char),
    /// One byte of these; never a slash.
    Class(BTreeSet<u8>),
    /// Any byte but a slash.
    One,
    /// Any bytes without a slash.
    Part,
    Slash,
    /// `.*`
    Anything,
    Start,
    End,
}

/// A name in a pattern, or any number of directories.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    AnyDepth,
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Means {
    segments: Vec<Segment>,
    directory: bool,
}

type Alternatives = Vec<Vec<Token>>;

/// The patterns; none where the expression matches nothing that sersync ever looks at.
pub(super) fn patterns(expression: &str) -> Result<Vec<String>, String> {
    if expression.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes ({REMEDY})"));
    }
    let ast = ParserBuilder::new().nest_limit(20).build().parse(expression).map_err(|error| {
        let glob = if expression.starts_with('*') { "; `*` stands behind what it repeats, so any name is `.*`" } else { "" };
        format!("`{}` is no regular expression: {}{glob}", short(expression), error.kind())
    })?;
    let refused = |reason: String| format!("`{}` has no exact counterpart here: {reason} ({REMEDY})", short(expression));
    let mut means = BTreeSet::new();
    for alternative in written_out(&ast).map_err(refused)? {
        let inner = alternative.strip_prefix(&[Token::Start]).unwrap_or(&alternative);
        let inner = inner.strip_suffix(&[Token::End]).unwrap_or(inner);
        if inner.iter().any(|token| matches!(token, Token::Start | Token::End)) {
            return Err(refused("`^` or `$` stands in the middle".into()));
        }
        for names in without_anything(inner).map_err(refused)? {
            read_forms(&names, &mut means);
        }
    }
    joined(means).iter().map(|means| gitignore(means).map_err(refused)).collect()
}

fn too_many() -> String {
    format!("it stands for more than {MOST} alternatives")
}

/// Every way through groups, alternations and counted repetitions.
fn written_out(ast: &Ast) -> Result<Alternatives, String> {
    let one = |token| Ok(vec![vec![token]]);
    match ast {
        Ast::Empty(_) => Ok(vec![Vec::new()]),
        Ast::Literal(literal) if literal.c == '/' => one(Token::Slash),
        Ast::Literal(literal) => match literal.kind {
            LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Special(_) => one(Token::Literal(literal.c)),
            LiteralKind::Superfluous if !"`'".contains(literal.c) => one(Token::Literal(literal.c)),
            _ => Err("it has an escape that means something else to sersync".into()),
        },
        Ast::Dot(_) => Ok(vec![vec![Token::One], vec![Token::Slash]]),
        Ast::Assertion(assertion) => match assertion.kind {
            AssertionKind::StartLine => one(Token::Start),
            AssertionKind::EndLine => one(Token::End),
            _ => Err("it asks for a border within a name".into()),
        },
        Ast::ClassPerl(_) | Ast::ClassBracketed(_) => Ok(class_tokens(&class(ast)?).into_iter().map(|token| vec![token]).collect()),
        Ast::Group(group) => match group.kind {
            GroupKind::CaptureIndex(_) => written_out(&group.ast),
            GroupKind::NonCapturing(ref flags) if flags.items.is_empty() => written_out(&group.ast),
            _ => Err("it has a group with a name or with flags".into()),
        },
        Ast::Alternation(alternation) => {
            let mut all = Vec::new();
            for ast in &alternation.asts {
                all.extend(written_out(ast)?);
                limited(&all)?;
            }
            Ok(all)
        }
        Ast::Concat(concat) => {
            let mut all = vec![Vec::new()];
            for ast in &concat.asts {
                all = product(&all, &written_out(ast)?)?;
            }
            Ok(all)
        }
        Ast::Repetition(repetition) => repeated(&repetition.ast, &repetition.op.kind),
        Ast::Flags(_) | Ast::ClassUnicode(_) => Err("it has flags or a class of Unicode".into()),
    }
}

fn limited(alternatives: &Alternatives) -> Result<(), String> {
    let tokens: usize = alternatives.iter().map(Vec::len).sum();
    if alternatives.len() > MOST || tokens > MOST * 64 { Err(too_many()) } else { Ok(()) }
}

fn product(heads: &Alternatives, tails: &Alternatives) -> Result<Alternatives, String> {
    if heads.len() * tails.len() > MOST {
        return Err(too_many());
    }
    let all = heads.iter().flat_map(|head| tails.iter().map(move |tail| [&head[..], tail].concat())).collect();
    limited(&all)?;
    Ok(all)
}

fn repeated(ast: &Ast, kind: &RepetitionKind) -> Result<Alternatives, String> {
    let (least, most) = match kind {
        RepetitionKind::ZeroOrOne => (0, Some(1)),
        RepetitionKind::ZeroOrMore => (0, None),
        RepetitionKind::OneOrMore => (1, None),
        RepetitionKind::Range(RepetitionRange::Exactly(count)) => (*count, Some(*count)),
        RepetitionKind::Range(RepetitionRange::AtLeast(count)) => (*count, None),
        RepetitionKind::Range(RepetitionRange::Bounded(least, most)) => (*least, Some(*most)),
    };
    if matches!(ast, Ast::Repetition(_)) {
        return Err("it repeats a repetition".into());
    }
    let each = written_out(ast)?;
    // No path has two slashes in a row, so a repeated slash is one.
    let (most, rest) = match (most, &each[..]) {
        (Some(most), _) => (most, None),
        (None, [tokens]) if tokens[..] == [Token::Slash] => (least.max(1), None),
        (None, [tokens]) if tokens[..] == [Token::One] => (least, Some(Token::Part)),
        (None, [tokens]) if tokens[..] == [Token::Anything] || tokens[..] == [Token::Part] => (least.min(1), Some(tokens[0].clone())),
        (None, [one, slash]) if one[..] == [Token::One] && slash[..] == [Token::Slash] => (least, Some(Token::Anything)),
        _ => return Err("it repeats more than `.` or `[^/]` without end".into()),
    };
    if most > 16 {
        return Err(too_many());
    }
    let mut all = Vec::new();
    let mut so_far: Alternatives = vec![Vec::new()];
    for count in 0..=most {
        if count >= least {
            all.extend(so_far.iter().map(|tokens| tokens.iter().cloned().chain(rest.clone()).collect()));
            limited(&all)?;
        }
        if count < most {
            so_far = product(&so_far, &each)?;
        }
    }
    Ok(all)
}

/// One byte that is not a slash, and a slash where the class has it.
fn class_tokens(bytes: &BTreeSet<u8>) -> Vec<Token> {
    let mut names = bytes.clone();
    let slash = names.remove(&b'/').then_some(Token::Slash);
    names.remove(&0);
    let token = match (names.len(), names.first()) {
        (0, _) => None,
        (254, _) => Some(Token::One),
        (1, Some(&byte)) if byte.is_ascii() => Some(Token::Literal(char::from(byte))),
        _ => Some(Token::Class(names)),
    };
    token.into_iter().chain(slash).collect()
}

fn class(ast: &Ast) -> Result<BTreeSet<u8>, String> {
    match ast {
        Ast::ClassPerl(perl) => Ok(perl_class(&perl.kind, perl.negated)),
        Ast::ClassBracketed(class) => match &class.kind {
            ClassSet::Item(item) => Ok(negated_if(class.negated, set_item(item)?)),
            ClassSet::BinaryOp(_) => Err("a class holds `&&`, `--` or `~~`, which are no characters here".into()),
        },
        _ => Err("it has a class of an unknown kind".into()),
    }
}

fn negated_if(negated: bool, bytes: BTreeSet<u8>) -> BTreeSet<u8> {
    if negated { (0..=255).filter(|byte| !bytes.contains(byte)).collect() } else { bytes }
}

fn perl_class(kind: &ClassPerlKind, negated: bool) -> BTreeSet<u8> {
    let fits = |byte: &u8| match kind {
        ClassPerlKind::Digit => byte.is_ascii_digit(),
        ClassPerlKind::Space => byte.is_ascii_whitespace() || *byte == 0x0b,
        ClassPerlKind::Word => byte.is_ascii_alphanumeric() || *byte == b'_',
    };
    negated_if(negated, (0..=127).filter(fits).collect())
}

fn set_item(item: &ClassSetItem) -> Result<BTreeSet<u8>, String> {
    let ascii = |c: char| u8::try_from(c).ok().filter(u8::is_ascii).ok_or_else(|| format!("a class holds `{c}`, which is several bytes"));
    match item {
        ClassSetItem::Empty(_) => Ok(BTreeSet::new()),
        ClassSetItem::Literal(literal) => Ok(BTreeSet::from([ascii(literal.c)?])),
        ClassSetItem::Range(range) => Ok((ascii(range.start.c)?..=ascii(range.end.c)?).collect()),
        ClassSetItem::Perl(perl) => Ok(perl_class(&perl.kind, perl.negated)),
        ClassSetItem::Ascii(ascii) => {
            let fits = |byte: &u8| match ascii.kind {
                ClassAsciiKind::Alnum => byte.is_ascii_alphanumeric(),
                ClassAsciiKind::Alpha => byte.is_ascii_alphabetic(),
                ClassAsciiKind::Digit => byte.is_ascii_digit(),
                ClassAsciiKind::Lower => byte.is_ascii_lowercase(),
                ClassAsciiKind::Upper => byte.is_ascii_uppercase(),
                ClassAsciiKind::Punct => byte.is_ascii_punctuation(),
                ClassAsciiKind::Xdigit => byte.is_ascii_hexdigit(),
                ClassAsciiKind::Word => byte.is_ascii_alphanumeric() || *byte == b'_',
                ClassAsciiKind::Space => byte.is_ascii_whitespace() || *byte == 0x0b,
                ClassAsciiKind::Blank => matches!(byte, b' ' | b'\t'),
                ClassAsciiKind::Graph => byte.is_ascii_graphic(),
                ClassAsciiKind::Print => byte.is_ascii_graphic() || *byte == b' ',
                ClassAsciiKind::Cntrl => byte.is_ascii_control(),
                ClassAsciiKind::Ascii => byte.is_ascii(),
            };
            Ok(negated_if(ascii.negated, (0..=127).filter(fits).collect()))
        }
        ClassSetItem::Union(union) => {
            union.items.iter().try_fold(BTreeSet::new(), |all, item| Ok(all.into_iter().chain(set_item(item)?).collect()))
        }
        ClassSetItem::Unicode(_) | ClassSetItem::Bracketed(_) => Err("a class holds another class".into()),
    }
}

/// `.*` written out: one list of names for each way.
fn without_anything(tokens: &[Token]) -> Result<Vec<Vec<Segment>>, String> {
    let mut ways = vec![vec![Segment::Name(Vec::new())]];
    for token in tokens {
        let mut deeper = Vec::new();
        for way in &mut ways {
            match token {
                Token::Slash => way.push(Segment::Name(Vec::new())),
                Token::Anything => {
                    append(way, Token::Part);
                    let across = [Segment::AnyDepth, Segment::Name(vec![Token::Part])];
                    deeper.push(way.iter().cloned().chain(across).collect());
                }
                token => append(way, token.clone()),
            }
        }
        ways.extend(deeper);
        if ways.len() > MOST {
            return Err(too_many());
        }
    }
    Ok(ways)
}

fn append(way: &mut [Segment], token: Token) {
    if let Some(Segment::Name(name)) = way.last_mut()
        && !(token == Token::Part && name.last() == Some(&Token::Part))
    {
        name.push(token);
    }
}

/// What the alternative matches in each of the three forms of a path.
fn read_forms(segments: &[Segment], means: &mut BTreeSet<Means>) {
    let mut add = |segments: &[Segment], directory: bool, nested: bool| {
        let impossible = |segment: &Segment| match segment {
            Segment::AnyDepth => false,
            Segment::Name(name) => {
                name.is_empty() || matches!(&name[..], [Token::Literal('.')] | [Token::Literal('.'), Token::Literal('.')])
            }
        };
        let names = segments.iter().filter(|segment| **segment != Segment::AnyDepth).count();
        if segments.iter().any(impossible) || names == 0 || nested && names == 1 && segments.len() == 1 {
            return;
        }
        let mut segments = segments.to_vec();
        for segment in &mut segments {
            // No name is empty.
            if *segment == Segment::Name(vec![Token::One, Token::Part]) {
                *segment = Segment::Name(vec![Token::Part]);
            }
        }
        if nested && names == 1 {
            segments.insert(0, Segment::Name(vec![Token::Part]));
        }
        let mut segments = in_order(segments);
        // What lies below a directory that is left alone is left alone by itself.
        segments.pop_if(|last| *last == Segment::AnyDepth);
        means.insert(Means { segments, directory });
    };
    let may_be_empty = |segment: Option<&Segment>| match segment {
        Some(Segment::Name(name)) => name.iter().all(|token| *token == Token::Part),
        _ => false,
    };
    add(segments, false, false);
    if segments.len() > 1 && may_be_empty(segments.first()) {
        add(&segments[1..], false, true);
    }
    if segments.len() > 1 && may_be_empty(segments.last()) {
        add(&segments[..segments.len() - 1], true, false);
    }
}

/// `**` and `*` side by side mean the same in any order, and several `**` no more than one.
fn in_order(segments: Vec<Segment>) -> Vec<Segment> {
    let any = [Token::Part];
    let mut ordered: Vec<Segment> = Vec::new();
    for segment in segments {
        let after_depth = ordered.last() == Some(&Segment::AnyDepth);
        match segment {
            Segment::AnyDepth if after_depth => {}
            Segment::Name(name) if after_depth && name == any => ordered.insert(ordered.len() - 1, Segment::Name(name)),
            segment => ordered.push(segment),
        }
    }
    ordered
}

/// As few patterns as say the same: `/x` and `/*/**/x` are `x` anywhere, and what lies below another goes without saying.
fn joined(mut all: BTreeSet<Means>) -> Vec<Means> {
    let one_or_more = [Segment::Name(vec![Token::Part]), Segment::AnyDepth];
    loop {
        let found = all.iter().find_map(|long| {
            let places = long.segments.windows(2).enumerate().filter(|(_, two)| **two == one_or_more);
            places.into_iter().find_map(|(at, _)| {
                let with = |middle: &[Segment]| {
                    let segments = in_order([&long.segments[..at], middle, &long.segments[at + 2..]].concat());
                    Means { segments, directory: long.directory }
                };
                let short = with(&[]);
                all.contains(&short).then(|| (short, long.clone(), with(&[Segment::AnyDepth])))
            })
        });
        let Some((short, long, both)) = found else { break };
        all.remove(&short);
        all.remove(&long);
        all.insert(both);
    }
    let all: Vec<Means> = all.into_iter().collect();
    let covers = |one: &Means, other: &Means| {
        other.segments.starts_with(&one.segments) && (one.segments.len() < other.segments.len() || !one.directory && other.directory)
    };
    all.iter().filter(|means| !all.iter().any(|other| covers(other, means))).cloned().collect()
}

fn gitignore(means: &Means) -> Result<String, String> {
    let mut text = String::new();
    match &means.segments[..] {
        [Segment::AnyDepth, Segment::Name(name)] => write_name(name, &mut text)?,
        segments => {
            for (index, segment) in segments.iter().enumerate() {
                if index > 0 || *segment != Segment::AnyDepth {
                    text.push('/');
                }
                match segment {
                    Segment::AnyDepth => text.push_str("**"),
                    Segment::Name(name) => write_name(name, &mut text)?,
                }
            }
        }
    }
    if means.directory {
        text.push('/');
    } else if text.ends_with(' ') {
        text.insert(text.len() - 1, '\\');
    }
    Pattern::parse(&text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn write_name(name: &[Token], text: &mut String) -> Result<(), String> {
    for token in name {
        match token {
            Token::Literal(c) => {
                if "*?[]\\".contains(*c) || text.is_empty() && "!#".contains(*c) {
                    text.push('\\');
                }
                text.push(*c);
            }
            Token::One => text.push('?'),
            Token::Part => text.push('*'),
            Token::Class(bytes) => {
                let negated = bytes.contains(&0xff);
                let named: Vec<u8> = (1..128).filter(|byte| *byte != b'/' && bytes.contains(byte) != negated).collect();
                let expected = if negated { 254 - named.len() } else { named.len() };
                if expected != bytes.len() {
                    return Err("a class holds only some of the bytes beyond ASCII".into());
                }
                text.push_str(if negated { "[!" } else { "[" });
                for byte in named {
                    if byte.is_ascii_punctuation() {
                        text.push('\\');
                    }
                    text.push(char::from(byte));
                }
                text.push(']');
            }
            Token::Slash | Token::Anything | Token::Start | Token::End => return Err("it is too involved".into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
