//! What marks promise, carried out on trees in memory: no more than rsync does for them. Where size and time are equal, its quick comparison
//! sees no difference; a level pass makes directories that are missing and puts nothing into them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use trigsync::model::{Mark, RelPath, RelPathBuf, Scope};

/// A tree in memory; the root is in it.
pub type Tree = BTreeMap<RelPathBuf, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    kind: Kind,
    mode: u32,
    time: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// What stands below `root` now.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    read_into(&mut tree, root, RelPathBuf::root());
    tree
}

fn read_into(tree: &mut Tree, root: &Path, path: RelPathBuf) {
    let full = root.join(path.as_path());
    let metadata = full.symlink_metadata().expect("nothing else works here");
    let kind = if metadata.is_dir() {
        for entry in fs::read_dir(&full).expect("a directory") {
            let name = entry.expect("a directory").file_name();
            read_into(tree, root, path.join(name.as_encoded_bytes()));
        }
        Kind::Directory
    } else if metadata.is_symlink() {
        Kind::Link(fs::read_link(&full).expect("a link"))
    } else {
        Kind::File(fs::read(&full).expect("a file"))
    };
    tree.insert(path, Node { kind, mode: metadata.mode(), time: (metadata.mtime(), metadata.mtime_nsec()) });
}

/// Makes `target` equal to `source` as far as the marks cover.
pub fn carry_out(marks: &[Mark], source: &Tree, target: &mut Tree) {
    for Mark { path, scope, ops } in marks {
        let directory = source.get(path).is_some_and(|node| node.kind == Kind::Directory);
        match scope {
            Scope::Level if directory => {
                let own = |below: &RelPath| below.parent() == Some(path);
                keep_only(target, source, own);
                send(target, source, path, true);
                source.keys().filter(|below| own(below)).for_each(|below| send(target, source, below, false));
            }
            Scope::Tree if directory => {
                keep_only(target, source, |below| below.is_within(path));
                let changed = ops.changes_content();
                source.keys().filter(|below| below.is_within(path)).for_each(|below| send(target, source, below, changed));
            }
            _ if source.contains_key(path) => send(target, source, path, ops.changes_content()),
            _ => remove(target, path),
        }
    }
}

/// Deletes what the source does not have, of the paths that are meant.
fn keep_only(target: &mut Tree, source: &Tree, meant: impl Fn(&RelPath) -> bool) {
    let gone: Vec<_> = target.keys().filter(|path| meant(path) && !source.contains_key(*path)).cloned().collect();
    gone.iter().for_each(|path| remove(target, path));
}

fn remove(target: &mut Tree, path: &RelPath) {
    target.retain(|below, _| !below.is_within(path));
}

/// Sends one path, and the directories that lead to it where they are missing. `changed`: whatever size and time say.
fn send(target: &mut Tree, source: &Tree, path: &RelPath, changed: bool) {
    if let Some(parent) = path.parent()
        && target.get(parent).is_none_or(|node| node.kind != Kind::Directory)
    {
        send(target, source, parent, true);
    }
    let mut sent = source[path].clone();
    if let Some(there) = target.get(path) {
        match (&sent.kind, &there.kind) {
            (Kind::File(new), Kind::File(old)) if !changed && new.len() == old.len() && sent.time == there.time => {
                sent.kind = there.kind.clone()
            }
            (Kind::Directory, Kind::Directory) => {}
            _ => remove(target, path),
        }
    }
    target.insert(path.to_owned(), sent);
}
