//! From the bytes of a record to a change: a pure function that any bytes may be handed to.
//!
//! Names come from the last to the first, each followed by a `/`, and are turned round here. A name that was read while its `dentry` was
//! renamed can be anything; what is no valid path is [`Malformed`], which the caller turns into a loss.

use trigsync_common::{
    ops,
    record::{Header, LONGEST_PATH},
    values::{LONGEST_LOST, LostDirectory},
};

use crate::model::{Ops, RelPath, RelPathBuf, Scope, is_name};

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    /// Of the root that the path is relative to.
    pub slot: u16,
    pub path: &'a RelPath,
    pub scope: Scope,
    pub ops: Ops,
    /// The daemon did it, or what it started.
    pub is_own: bool,
}

/// A record that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The root that it was about, if that much is known.
    pub slot: Option<u16>,
}

const HEADER: usize = size_of::<Header>();

/// Reads a record, which may be followed by padding. The path is put into `path`.
pub(super) fn record<'a>(bytes: &[u8], path: &'a mut Vec<u8>) -> Result<Change<'a>, Malformed> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Err(Malformed { slot: None }) };
    let [a, b, c, d, e, f, g, h] = *header;
    let (told, slot) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
    let malformed = || Malformed { slot: Some(slot) };
    let length = usize::try_from(u32::from_ne_bytes([e, f, g, h])).map_err(|_| malformed())?;
    if length > LONGEST_PATH {
        return Err(malformed());
    }
    let path = turn_round(rest.get(..length).ok_or_else(malformed)?, path).ok_or_else(malformed)?;
    let scope = if told & ops::TREE != 0 { Scope::Tree } else { Scope::Entry };
    let ops = match told & ops::ANCESTOR {
        0 => Ops::from_bits_truncate(told) - Ops::RESCAN,
        // What happened did not happen to the ancestor.
        _ => Ops::RESCAN | Ops::DIRECTORY,
    };
    Ok(Change { slot, path, scope, ops, is_own: told & ops::OWN != 0 })
}

/// The directory that an entry of `LOST` names: it, or an ancestor where it does not fit.
pub(super) fn lost(directory: &LostDirectory) -> Result<RelPathBuf, Malformed> {
    let malformed = Malformed { slot: Some(directory.slot) };
    let length = directory.length as usize;
    let names = match directory.path.get(..length) {
        Some(names) => names,
        // The first name is cut short: what lies above it is whole.
        None => match directory.path.iter().position(|&byte| byte == b'/') {
            Some(end) => &directory.path[end + 1..LONGEST_LOST],
            None => &[],
        },
    };
    turn_round(names, &mut Vec::new()).map(ToOwned::to_owned).ok_or(malformed)
}

/// `c/b/a/` becomes `a/b/c`. `None` where the last name has no `/` after it, or one is no name. It runs for every record: one pass.
fn turn_round<'a>(names: &[u8], path: &'a mut Vec<u8>) -> Option<&'a RelPath> {
    path.clear();
    if names.is_empty() {
        return Some(RelPath::root());
    }
    let names = names.strip_suffix(b"/")?;
    path.resize(names.len(), b'/');
    let mut start = path.len() + 1;
    for name in names.split(|&byte| byte == b'/') {
        if !is_name(name) {
            return None;
        }
        let end = start - 1;
        start = end - name.len();
        path[start..end].copy_from_slice(name);
    }
    Some(RelPath::of_names(path))
}

#[cfg(any(test, feature = "fuzzing"))]
/// Whatever is accepted is a path below a root.
pub(crate) fn fuzz(bytes: &[u8]) {
    let is_path = |path: &RelPath| assert!(RelPathBuf::new(path.as_bytes().to_vec()).is_ok(), "{path}");
    if let Ok(change) = record(bytes, &mut Vec::new()) {
        is_path(change.path);
    }
    let mut directory = LostDirectory { slot: 0, reserved: 0, length: 0, path: [0; LONGEST_LOST] };
    let Some((length, path)) = bytes.split_first_chunk() else { return };
    directory.length = u32::from_ne_bytes(*length);
    directory.path.iter_mut().zip(path).for_each(|(to, from)| *to = *from);
    if let Ok(path) = lost(&directory) {
        is_path(&path);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn bytes(told: u16, slot: u16, length: u32, names: &[u8]) -> Vec<u8> {
        let header = [&told.to_ne_bytes()[..], &slot.to_ne_bytes(), &length.to_ne_bytes()].concat();
        [&header, names].concat()
    }

    fn read(bytes: &[u8]) -> Result<(u16, Vec<u8>, Scope, Ops), Malformed> {
        record(bytes, &mut b"left over".to_vec()).map(|change| (change.slot, change.path.as_bytes().to_vec(), change.scope, change.ops))
    }

    #[test]
    fn the_bits_of_both_sides_are_the_same() {
        for (told, ops) in [
            (ops::CREATE, Ops::CREATE),
            (ops::WRITE, Ops::WRITE),
            (ops::CLOSE_WRITE, Ops::CLOSE_WRITE),
            (ops::DELETE, Ops::DELETE),
            (ops::MOVED_FROM, Ops::MOVED_FROM),
            (ops::MOVED_TO, Ops::MOVED_TO),
            (ops::ATTRIB, Ops::ATTRIB),
            (ops::DIRECTORY, Ops::DIRECTORY),
        ] {
            assert_eq!(told, ops.bits());
        }
    }

    #[test]
    fn names_are_turned_round() {
        let found = read(&bytes(ops::WRITE, 7, 6, b"c/b/a/\0\0"));
        assert_eq!(found, Ok((7, b"a/b/c".to_vec(), Scope::Entry, Ops::WRITE)));
        assert_eq!(read(&bytes(ops::ATTRIB, 7, 0, b"")), Ok((7, Vec::new(), Scope::Entry, Ops::ATTRIB)));
        let moved = ops::MOVED_TO | ops::DIRECTORY | ops::TREE;
        assert_eq!(read(&bytes(moved, 0, 2, b"d/")), Ok((0, b"d".to_vec(), Scope::Tree, Ops::MOVED_TO | Ops::DIRECTORY)));
        let deep = ops::DELETE | ops::TREE | ops::ANCESTOR;
        assert_eq!(read(&bytes(deep, 0, 2, b"d/")), Ok((0, b"d".to_vec(), Scope::Tree, Ops::RESCAN | Ops::DIRECTORY)));
    }

    #[test]
    fn what_is_no_path_is_malformed() {
        assert_eq!(read(b"short"), Err(Malformed { slot: None }));
        for (length, names) in [
            (3, &b"a/"[..]),
            (2, b"ab"),
            (1, b"/"),
            (3, b"a//"),
            (4, b"../a"),
            (5, b"../a/"),
            (2, b"./"),
            (3, b"\0a/"),
            (4097, &[b'a'; 4200]),
            (u32::MAX, b"a/"),
        ] {
            assert_eq!(read(&bytes(ops::WRITE, 3, length, names)), Err(Malformed { slot: Some(3) }), "{}", names.escape_ascii());
        }
    }

    #[test]
    fn a_lost_directory_that_does_not_fit_is_told_by_its_ancestor() {
        let mut directory = LostDirectory { slot: 1, reserved: 0, length: 4, path: [0; LONGEST_LOST] };
        directory.path[..4].copy_from_slice(b"b/a/");
        assert_eq!(lost(&directory).unwrap().as_bytes(), b"a/b");
        directory.length = 0;
        assert!(lost(&directory).unwrap().is_root());
        directory.path.fill(b'x');
        directory.path[LONGEST_LOST - 3..].copy_from_slice(b"/a/");
        directory.length = LONGEST_LOST as u32 + 9;
        assert_eq!(lost(&directory).unwrap().as_bytes(), b"a");
        directory.path.fill(b'x');
        assert!(lost(&directory).unwrap().is_root());
        directory.length = 5;
        assert_eq!(lost(&directory), Err(Malformed { slot: Some(1) }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_valid_path_or_malformed(bytes in vec(any::<u8>(), 0..300)) {
            let mut path = Vec::new();
            if let Ok(change) = record(&bytes, &mut path) {
                prop_assert!(RelPath::new(change.path.as_bytes()).is_ok());
            }
        }

        #[test]
        fn bytes_of_the_right_length_too(told: u16, names in vec(prop_oneof![Just(b'/'), Just(b'.'), Just(0), any::<u8>()], 0..64)) {
            let mut path = Vec::new();
            if let Ok(change) = record(&bytes(told, 9, names.len() as u32, &names), &mut path) {
                prop_assert!(RelPath::new(change.path.as_bytes()).is_ok());
                prop_assert_eq!(change.slot, 9);
            }
        }

        #[test]
        fn valid_names_come_back_in_order(names in vec("[a-z.]{3,20}", 0..12)) {
            let names: Vec<String> = names.into_iter().filter(|name| !matches!(name.as_str(), "." | "..")).collect();
            let told: String = names.iter().rev().map(|name| format!("{name}/")).collect();
            let mut path = Vec::new();
            let change = record(&bytes(0, 0, told.len() as u32, told.as_bytes()), &mut path).unwrap();
            prop_assert_eq!(change.path.as_bytes(), names.join("/").into_bytes());
        }
    }
}
