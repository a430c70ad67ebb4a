//! Finds paths in what rsync prints.
//!
//! - Pure and total: any bytes may come in, and what cannot be understood names no path.
//! - rsync escapes what is not printable ASCII (`LC_ALL=C`) as `\#` and three octal digits, so no name can forge a line.
//! - Names come back relative to the source, whichever side printed them.

use std::os::unix::ffi::OsStrExt;

use super::Route;
use crate::{config::TargetAddress, model::RelPathBuf};

/// Undoes `\#ooo`.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        match rest {
            [b'\\', b'#', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Where the two sides of a run are, as their own messages name them.
#[derive(Debug)]
pub(super) struct Names {
    source: Vec<u8>,
    target: TargetRoot,
}

#[derive(Debug)]
enum TargetRoot {
    /// Names begin with it: a local or an absolute remote directory, or (relative to the module) a path in a module.
    At(Vec<u8>),
    /// It is below a home directory that we do not know: the names hold it somewhere.
    Below(Vec<u8>),
}

impl Names {
    pub(super) fn new(route: &Route<'_>) -> Self {
        let target = match &route.target.address {
            TargetAddress::Local(path) => TargetRoot::At(path.as_os_str().as_bytes().to_vec()),
            TargetAddress::Daemon { path, .. } => TargetRoot::At(path.as_bytes().to_vec()),
            TargetAddress::Ssh { path, .. } if path.starts_with('/') => TargetRoot::At(path.as_bytes().to_vec()),
            TargetAddress::Ssh { path, .. } => {
                TargetRoot::Below(path.strip_prefix("~/").or(path.strip_prefix("./")).unwrap_or(path).as_bytes().to_vec())
            }
        };
        Self { source: route.source.as_os_str().as_bytes().to_vec(), target }
    }

    /// The path in `file has vanished: "…"` (or directory, or socket); `None` for every other line.
    pub(super) fn vanished(&self, line: &[u8]) -> Option<RelPathBuf> {
        let rest = line.strip_suffix(b"\"")?;
        let start = find(rest, b" has vanished: \"")?;
        self.at_source(&unescape(&rest[start + b" has vanished: \"".len()..]))
    }

    /// The directory in `cannot delete non-empty directory: …`.
    pub(super) fn kept_directory(line: &[u8]) -> Option<RelPathBuf> {
        clean(&unescape(line.strip_prefix(b"cannot delete non-empty directory: ")?))
    }

    /// The paths that an error names: one, two where a temporary file may stand for either, none where it names none that we know.
    pub(super) fn failed(&self, line: &[u8]) -> Vec<RelPathBuf> {
        for start in [&b"could not make way for new "[..], b"could not make way for backup "] {
            if let Some(rest) = line.strip_prefix(start) {
                return find(rest, b": ").and_then(|colon| clean(&unescape(&rest[colon + 2..]))).into_iter().collect();
            }
        }
        for start in [&b"ERROR: "[..], b"WARNING: "] {
            let name = line.strip_prefix(start).and_then(|rest| Some(&rest[..rfind(rest, b" failed verification -- update ")?]));
            if let Some(name) = name {
                return clean(&unescape(name)).into_iter().collect();
            }
        }
        let Some(message) = line.strip_prefix(b"rsync: ") else { return Vec::new() };
        // Not anywhere: a name may hold anything.
        let said = find(message, b"] ").filter(|_| message.starts_with(b"[")).map_or(message, |end| &message[end + 2..]);
        if let Some(rest) = said.strip_prefix(b"delete_file: ") {
            // delete_file: unlink(NAME) failed: Permission denied (13)
            let name = find(rest, b"(").and_then(|open| rest.get(open + 1..rfind(rest, b") failed: ")?));
            return name.and_then(|name| clean(&unescape(name))).into_iter().collect();
        }
        self.quoted(message).unwrap_or_default()
    }

    /// `[generator] failed to set times on "NAME" (in MODULE): Operation not permitted (1)` and its many sisters.
    fn quoted(&self, message: &[u8]) -> Option<Vec<RelPathBuf>> {
        let open = find(message, b"\"")?;
        let words = &message[..open];
        let rest = &message[open + 1..];
        // The end is looked for from the right: a quote in a name is not escaped.
        let first = match rfind(rest, b" -> \"") {
            Some(arrow) => &rest[..arrow],
            None => &rest[..rfind(rest, b": ").unwrap_or(rest.len())],
        };
        let first = first.strip_suffix(b")").and_then(|first| first.strip_suffix(b" failed")).unwrap_or(first);
        let first = first.strip_suffix(b" failed").unwrap_or(first);
        let (name, in_module) = match rfind(first, b"\" (in ") {
            Some(end) if first.ends_with(b")") => (&first[..end], true),
            _ => (first.strip_suffix(b"\"").or(first.strip_suffix(b"\")"))?, false),
        };
        let name = unescape(name);
        let by_sender = words.starts_with(b"[sender]");
        let by_receiver =
            in_module || words.starts_with(b"[receiver]") || words.starts_with(b"[generator]") || words.starts_with(b"[Receiver]");
        let at_source = if by_receiver { None } else { self.at_source(&name) };
        if by_sender || at_source.is_some() {
            return Some(at_source.into_iter().collect());
        }
        let path = if name.starts_with(b"/") { self.at_target(&name)? } else { clean(&name)? };
        let certain = find(words, b"mkstemp").is_some() || find(words, b"rename").is_some();
        Some(behind_temporary(path, certain))
    }

    fn at_source(&self, name: &[u8]) -> Option<RelPathBuf> {
        clean(below(name, &self.source)?)
    }

    fn at_target(&self, name: &[u8]) -> Option<RelPathBuf> {
        match &self.target {
            TargetRoot::At(root) => clean(below(name, root)?),
            TargetRoot::Below(path) if path.iter().all(|&byte| byte == b'/') => None,
            TargetRoot::Below(path) => {
                let mut needle = vec![b'/'];
                needle.extend_from_slice(path.strip_suffix(b"/").unwrap_or(path));
                needle.push(b'/');
                clean(&name[find(name, &needle)? + needle.len()..])
            }
        }
    }
}

/// What is left of `name` below `root`, component by component; slashes at the ends do not count.
fn below<'a>(name: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    let trim = |mut bytes: &'a [u8]| {
        while let Some(rest) = bytes.strip_prefix(b"/") {
            bytes = rest;
        }
        bytes
    };
    let mut rest = trim(name);
    for component in root.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
        rest = rest.strip_prefix(component)?;
        if !rest.is_empty() && rest[0] != b'/' {
            return None;
        }
        rest = trim(rest);
    }
    Some(rest)
}

/// As a relative path: `.` is the root, a slash at the end is dropped.
pub(super) fn clean(name: &[u8]) -> Option<RelPathBuf> {
    let parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    RelPathBuf::new(parts.join(&b'/')).ok()
}

/// The receiver writes `name` as `.name.XXXXXX`, and `.name` as `.name.XXXXXX` too. Where nothing else says that `path` is such a file
/// it may also be what it looks like.
fn behind_temporary(path: RelPathBuf, certain: bool) -> Vec<RelPathBuf> {
    let Some(hidden) = path.file_name().and_then(|name| {
        let (name, suffix) = name.split_at_checked(name.len().checked_sub(7)?)?;
        let random = suffix[0] == b'.' && suffix[1..].iter().all(u8::is_ascii_alphanumeric);
        (random && name.len() > 1 && name[0] == b'.').then(|| name.to_vec())
    }) else {
        return vec![path];
    };
    let parent = path.parent().map(ToOwned::to_owned).unwrap_or_else(RelPathBuf::root);
    let mut paths = vec![parent.join(&hidden[1..]), parent.join(&hidden)];
    if !certain {
        paths.push(path);
    }
    paths
}

pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

fn rfind(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).rposition(|window| window == needle)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
