//! Paths relative to a watched root, as bytes.
//!
//! - Never absolute, never `.` or `..`, no empty component, no trailing slash; the root itself is the empty path.
//! - Not UTF-8: any byte but NUL may stand in a name.
//! - Ordered so that a directory is followed by everything below it, before its next sibling (`/` sorts before every other byte).

use std::{
    borrow::Borrow,
    cmp::Ordering,
    ffi::OsStr,
    fmt,
    ops::Deref,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use ref_cast::RefCast;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A borrowed path relative to a watched root.
#[derive(RefCast, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct RelPath([u8]);

/// An owned path relative to a watched root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPathBuf(Box<RelPath>);

/// Why some bytes are no path relative to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It begins with a slash.
    #[error("the path is absolute; give it relative to the source")]
    Absolute,
    /// A component is empty, `.` or `..`.
    #[error("the path has an empty component, `.` or `..`")]
    Component,
    /// It holds a NUL byte, which no file name can.
    #[error("the path holds a NUL byte")]
    Nul,
}

/// Whether these bytes, in which there is no slash, can be the name of an entry of a directory.
pub(crate) fn is_name(bytes: &[u8]) -> bool {
    !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&0)
}

impl RelPath {
    /// The root itself.
    pub fn root() -> &'static Self {
        Self::ref_cast(&[])
    }

    /// Checks `bytes` and takes them as a path.
    pub fn new(bytes: &[u8]) -> Result<&Self, InvalidPath> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes[0] == b'/' {
            return Err(InvalidPath::Absolute);
        }
        if bytes.contains(&0) {
            return Err(InvalidPath::Nul);
        }
        if !bytes.split(|&byte| byte == b'/').all(is_name) {
            return Err(InvalidPath::Component);
        }
        Ok(Self::ref_cast(bytes))
    }

    /// Takes as a path what was put together from names that [`is_name`] has let pass, with a slash between them.
    pub(crate) fn of_names(bytes: &[u8]) -> &Self {
        debug_assert!(Self::new(bytes).is_ok(), "{bytes:?}");
        Self::ref_cast(bytes)
    }

    /// The bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a `Path`, to be joined to the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of the directory that holds the last name; `None` for the root.
    pub fn parent(&self) -> Option<&Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(Self::ref_cast(&self.0[..end]))
    }

    /// The last name; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The names from the root down; none for the root itself.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.is_root() || self.0.strip_prefix(&ancestor.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The path of `name` in this directory. `name` must be a single valid name.
    pub fn join(&self, name: &[u8]) -> RelPathBuf {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        RelPathBuf::from_vec(bytes)
    }
}

impl RelPathBuf {
    /// The root itself.
    pub fn root() -> Self {
        Self::from_vec(Vec::new())
    }

    /// Checks `bytes` and takes them as a path.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidPath> {
        RelPath::new(&bytes)?;
        Ok(Self::from_vec(bytes))
    }

    fn from_vec(bytes: Vec<u8>) -> Self {
        Self(RelPath::ref_cast_box(bytes.into_boxed_slice()))
    }
}

impl RelPath {
    fn ref_cast_box(bytes: Box<[u8]>) -> Box<Self> {
        // SAFETY: `RelPath` is `repr(transparent)` over `[u8]`, so both boxes have the same layout and metadata.
        unsafe { Box::from_raw(Box::into_raw(bytes) as *mut Self) }
    }
}

impl ToOwned for RelPath {
    type Owned = RelPathBuf;

    fn to_owned(&self) -> RelPathBuf {
        RelPathBuf::from_vec(self.0.to_vec())
    }
}

impl Clone for Box<RelPath> {
    fn clone(&self) -> Self {
        RelPath::ref_cast_box(Box::from(self.as_bytes()))
    }
}

impl Deref for RelPathBuf {
    type Target = RelPath;

    fn deref(&self) -> &RelPath {
        &self.0
    }
}

impl Borrow<RelPath> for RelPathBuf {
    fn borrow(&self) -> &RelPath {
        &self.0
    }
}

impl AsRef<RelPath> for RelPathBuf {
    fn as_ref(&self) -> &RelPath {
        &self.0
    }
}

impl From<&RelPath> for RelPathBuf {
    fn from(path: &RelPath) -> Self {
        path.to_owned()
    }
}

impl From<&RelPath> for PathBuf {
    fn from(path: &RelPath) -> Self {
        path.as_path().to_owned()
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |&byte: &u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl fmt::Display for RelPath {
    /// For people: control bytes and what is not UTF-8 are escaped, the root is `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for RelPathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for RelPathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// In JSON a path is a string; where it is not UTF-8, an array of byte values.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire<'a> {
    Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
    Bytes(Vec<u8>),
}

impl Serialize for RelPathBuf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => Wire::Text(text.into()),
            Err(_) => Wire::Bytes(self.as_bytes().to_vec()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RelPathBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Wire::deserialize(deserializer)? {
            Wire::Text(text) => text.into_owned().into_bytes(),
            Wire::Bytes(bytes) => bytes,
        };
        Self::new(bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> &RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_no_relative_path_is_refused() {
        assert_eq!(RelPath::new(b"/a"), Err(InvalidPath::Absolute));
        for bytes in [&b"a//b"[..], b"a/", b"./a", b"a/..", b".."] {
            assert_eq!(RelPath::new(bytes), Err(InvalidPath::Component), "{bytes:?}");
        }
        assert_eq!(RelPath::new(b"a\0b"), Err(InvalidPath::Nul));
    }

    #[test]
    fn a_directory_sorts_just_before_what_it_holds() {
        let mut paths = ["a-b", "a/b", "a", "a/b/c", "a.b", "", "a/b-c"].map(path);
        paths.sort();
        assert_eq!(paths.map(|path| path.as_bytes()), [&b""[..], b"a", b"a/b", b"a/b/c", b"a/b-c", b"a-b", b"a.b"]);
    }

    #[test]
    fn within_counts_whole_names() {
        assert!(path("a/b").is_within(path("a")));
        assert!(path("a").is_within(path("a")));
        assert!(path("a").is_within(path("")));
        assert!(!path("ab").is_within(path("a")));
        assert!(!path("a").is_within(path("a/b")));
    }

    #[test]
    fn parents_and_names() {
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(path("")));
        assert_eq!(path("").parent(), None);
        assert_eq!(path("a/b").file_name(), Some(&b"b"[..]));
        assert_eq!(path("a").join(b"b"), path("a/b").to_owned());
        assert_eq!(path("").join(b"b"), path("b").to_owned());
    }

    #[test]
    fn json_keeps_every_byte() {
        for bytes in [&b"a/\xff\n"[..], b"plain", b""] {
            let path = RelPathBuf::new(bytes.to_vec()).unwrap();
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<RelPathBuf>(&json).unwrap(), path, "{json}");
        }
        assert_eq!(path("a\n").to_string(), "a\\n");
    }
}
