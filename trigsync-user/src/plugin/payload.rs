//! What a plugin is told, as bytes: lists, JSON, URLs.

use std::{borrow::Cow, os::unix::ffi::OsStrExt as _, path::Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Serialize, Serializer};

use super::Place;
use crate::{config::UrlRule, model::Arrived};

/// In a path of a URL stands as it is what browsers leave as it is.
const IN_PATH: &AsciiSet = &IN_VALUE
    .remove(b'/')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Anywhere in a URL or a form, as one value.
const IN_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path as a plugin wants it: relative to the source, or below it.
pub(super) fn path<'a>(arrived: &'a Arrived, place: &Place, absolute: bool) -> Cow<'a, [u8]> {
    let relative = arrived.path.as_bytes();
    match (absolute, relative.is_empty()) {
        (true, true) => place.source.as_os_str().as_bytes().to_vec().into(),
        (true, false) => joined(&place.source, relative).into(),
        (false, true) => b".".into(),
        (false, false) => relative.into(),
    }
}

fn joined(source: &Path, relative: &[u8]) -> Vec<u8> {
    let mut bytes = source.as_os_str().as_bytes().to_vec();
    if !bytes.ends_with(b"/") {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(relative);
    bytes
}

/// The paths, each ended by `end`, directories with a slash before it. Where the end is a newline, a name that holds one is told as the directory
/// that it is in.
pub(super) fn list(batch: &[Arrived], place: &Place, absolute: bool, end: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = 0..0;
    for arrived in batch {
        let begun = bytes.len();
        bytes.extend_from_slice(&path(arrived, place, absolute));
        let mut directory = arrived.directory;
        if let Some(newline) = bytes[begun..].iter().position(|byte| *byte == end) {
            let parent = bytes[begun..begun + newline].iter().rposition(|byte| *byte == b'/');
            bytes.truncate(begun + parent.unwrap_or(0));
            if parent.is_none() {
                bytes.push(b'.');
            }
            directory = true;
        }
        if directory && !bytes.ends_with(b"/") {
            bytes.push(b'/');
        }
        bytes.push(end);
        // Several may have come to one directory.
        if bytes[last.clone()] == bytes[begun..] {
            bytes.truncate(begun);
        } else {
            last = begun..bytes.len();
        }
    }
    bytes
}

/// For an argument of a program: what begins with a dash is no option.
pub(super) fn argument(arrived: &Arrived, place: &Place, absolute: bool) -> Vec<u8> {
    let path = path(arrived, place, absolute);
    if path.starts_with(b"-") { [b"./", &*path].concat() } else { path.into_owned() }
}

/// The path as one value in a URL or a form, its slashes kept.
pub(super) fn encoded(arrived: &Arrived, place: &Place, absolute: bool) -> String {
    let path = path(arrived, place, absolute);
    path.split(|byte| *byte == b'/').map(|name| percent_encode(name, IN_VALUE).to_string()).collect::<Vec<_>>().join("/")
}

/// A text as one value in a URL or a form.
pub(super) fn value(text: &[u8]) -> String {
    percent_encode(text, IN_VALUE).to_string()
}

/// The URL of a path.
pub(super) fn url(arrived: &Arrived, place: &Place, absolute: bool, rule: &UrlRule) -> String {
    let path = if absolute { path(arrived, place, true) } else { arrived.path.as_bytes().into() };
    let path = match &rule.replace {
        Some((expression, with)) => expression.replace(&path, with),
        None => path.into_owned(),
    };
    let path = path.strip_prefix(b"/").unwrap_or(&path);
    let end = if arrived.directory && !path.is_empty() && !path.ends_with(b"/") { "/" } else { "" };
    format!("{}/{}{end}", rule.base, percent_encode(path, IN_PATH))
}

/// The batch as JSON.
pub(super) fn json(batch: &[Arrived], place: &Place, absolute: bool, after: Option<&str>) -> Vec<u8> {
    let changes = batch.iter().map(|arrived| Change {
        path: Name(path(arrived, place, absolute)),
        change: change(arrived),
        directory: arrived.directory,
        below: arrived.below,
    });
    let batch = Batch { sync: &place.sync, target: after, changes: changes.collect() };
    serde_json::to_vec(&batch).unwrap_or_default()
}

/// In one word.
pub(super) fn change(arrived: &Arrived) -> &'static str {
    if arrived.gone { "deleted" } else { "written" }
}

#[derive(Serialize)]
struct Batch<'a> {
    sync: &'a str,
    target: Option<&'a str>,
    changes: Vec<Change<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    path: Name<'a>,
    change: &'static str,
    directory: bool,
    below: bool,
}

/// As [`RelPathBuf`](crate::model::RelPathBuf) stands in JSON: a string; where it is not UTF-8, an array of byte values.
struct Name<'a>(Cow<'a, [u8]>);

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Expression, model::RelPathBuf};

    fn arrived(path: &[u8]) -> Arrived {
        Arrived { path: RelPathBuf::new(path.to_vec()).unwrap(), gone: false, directory: false, below: false }
    }

    fn place() -> Place {
        Place { sync: "www".into(), source: Path::new("/srv/www").into() }
    }

    #[test]
    fn a_list_cannot_be_misread() {
        let batch =
            [arrived(b""), arrived(b"a\nb"), Arrived { directory: true, ..arrived(b"d") }, arrived(b"d/x\ny"), arrived(b"d/x\nz/y")];
        assert_eq!(list(&batch, &place(), false, 0), b".\0a\nb\0d/\0d/x\ny\0d/x\nz/y\0");
        assert_eq!(list(&batch, &place(), false, b'\n'), b".\n./\nd/\n");
        assert_eq!(list(&batch[..2], &place(), true, b'\n'), b"/srv/www\n/srv/www/\n");
        assert_eq!(argument(&arrived(b"-rf"), &place(), false), b"./-rf");
        assert_eq!(argument(&arrived(b"-rf"), &place(), true), b"/srv/www/-rf");
    }

    #[test]
    fn urls_are_encoded_and_rewritten() {
        let rule = |replace: Option<(&str, &str)>| UrlRule {
            base: "https://x.org/cms".into(),
            replace: replace.map(|(regex, with)| (Expression::new(regex).unwrap(), with.to_owned())),
        };
        let url = |path: &[u8], replace, absolute| url(&arrived(path), &place(), absolute, &rule(replace));
        assert_eq!(url(b"a b/c?d#e%f+(1).jpg", None, false), "https://x.org/cms/a%20b/c%3Fd%23e%25f+(1).jpg");
        assert_eq!(url(b"\xff\n\"", None, false), "https://x.org/cms/%FF%0A%22");
        assert_eq!(url(b"static/a", Some(("^static/(.*)$", "s/$1")), false), "https://x.org/cms/s/a");
        assert_eq!(url(b"site/x", Some(("^(?s:.*?)(?:www(/[a-z]*))", "$1")), true), "https://x.org/cms/site/x");
        assert_eq!(url(b"", None, false), "https://x.org/cms/");
        assert_eq!(encoded(&arrived(b"a&b/c=d\xff"), &place(), false), "a%26b/c%3Dd%FF");
    }

    #[test]
    fn json_keeps_every_byte() {
        let batch = [Arrived { gone: true, ..arrived(b"a\n\"") }, arrived(b"\xff")];
        let json: serde_json::Value = serde_json::from_slice(&json(&batch, &place(), false, Some("edge"))).unwrap();
        assert_eq!((&json["sync"], &json["target"]), (&"www".into(), &"edge".into()));
        assert_eq!((&json["changes"][0]["path"], &json["changes"][0]["change"]), (&"a\n\"".into(), &"deleted".into()));
        assert_eq!(json["changes"][1]["path"], serde_json::json!([255]));
    }
}
