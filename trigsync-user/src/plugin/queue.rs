//! Paths that wait, each once and with the latest of it, in a bounded amount of memory.
//!
//! Where there is no more room, directories take the place of what is in them, the deepest first. Nothing is dropped: in the end the root stands for
//! everything.

use std::collections::BTreeMap;

use crate::model::{Arrived, RelPath, RelPathBuf, Stamp};

/// Bytes that an entry takes beside its path.
const ENTRY: usize = 100;

/// The paths.
#[derive(Debug)]
pub(super) struct Queue {
    paths: BTreeMap<RelPathBuf, Entry>,
    bytes: usize,
    most: usize,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub gone: bool,
    pub directory: bool,
    pub below: bool,
    /// When it was reported last.
    pub stamp: Stamp,
    /// A bit for each target that has it.
    pub had: u64,
}

impl Queue {
    /// An empty one of so many bytes.
    pub fn new(most: usize) -> Self {
        Self { paths: BTreeMap::new(), bytes: 0, most }
    }

    pub fn len(&self) -> u64 {
        self.paths.len() as u64
    }

    /// Adds a path, and returns how many gave way to directories.
    pub fn add(&mut self, arrived: Arrived, stamp: Stamp, had: u64) -> u64 {
        let Arrived { path, gone, directory, below } = arrived;
        self.put(path, Entry { gone, directory, below, stamp, had }, false);
        if self.bytes > self.most { self.fold() } else { 0 }
    }

    /// What was below a directory that stands for it stays so; what else is known of a path is what was seen last. Of what is `folded` into a
    /// directory a target has only what it has of all.
    fn put(&mut self, path: RelPathBuf, new: Entry, folded: bool) {
        match self.paths.get_mut(&path) {
            Some(entry) if folded => {
                let (stamp, had) = (entry.stamp.max(new.stamp), entry.had & new.had);
                *entry = Entry { stamp, had, ..new };
            }
            Some(entry) => *entry = Entry { below: entry.below || new.below, had: entry.had | new.had, ..new },
            None => {
                self.bytes += path.as_bytes().len() + ENTRY;
                self.paths.insert(path, new);
            }
        }
    }

    /// At once to half of what is allowed, so that it is not looked for with every path.
    fn fold(&mut self) -> u64 {
        let before = self.paths.len();
        let mut depth = self.paths.keys().map(|path| path.components().count()).max().unwrap_or(0);
        while self.bytes > self.most / 2 && depth > 0 {
            // By one where that may do, by halves where somebody made very deep ones.
            depth = if depth > 16 { depth / 2 } else { depth - 1 };
            let deep: Vec<_> = self.paths.extract_if(.., |path, _| path.components().count() > depth).collect();
            for (path, entry) in deep {
                self.bytes -= path.as_bytes().len() + ENTRY;
                let directory = Entry { gone: false, directory: true, below: true, ..entry };
                self.put(prefix(&path, depth), directory, true);
            }
        }
        (before - self.paths.len()) as u64
    }

    /// Nobody is known to have anything of it.
    pub fn forget_who_has_it(&mut self) {
        self.paths.values_mut().for_each(|entry| entry.had = 0);
    }

    /// Everything, sorted by path.
    pub fn take(&mut self) -> Vec<Arrived> {
        self.extract(|_| true)
    }

    /// The paths of which it is so.
    pub fn extract(&mut self, mut is_wanted: impl FnMut(&Entry) -> bool) -> Vec<Arrived> {
        let taken: Vec<_> = self.paths.extract_if(.., |_, entry| is_wanted(entry)).collect();
        self.bytes -= taken.iter().map(|(path, _)| path.as_bytes().len() + ENTRY).sum::<usize>();
        taken.into_iter().map(arrived).collect()
    }

    /// One path, if it is so of it.
    pub fn take_one(&mut self, path: &RelPathBuf, is_wanted: impl FnOnce(&Entry) -> bool) -> Option<Arrived> {
        self.paths.get(path).filter(|entry| is_wanted(entry))?;
        let (path, entry) = self.paths.remove_entry(path)?;
        self.bytes -= path.as_bytes().len() + ENTRY;
        Some(arrived((path, entry)))
    }
}

fn arrived((path, entry): (RelPathBuf, Entry)) -> Arrived {
    let Entry { gone, directory, below, .. } = entry;
    Arrived { path, gone, directory, below }
}

/// The first names of a path.
fn prefix(path: &RelPath, names: usize) -> RelPathBuf {
    let bytes = path.as_bytes();
    let mut slashes = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    let end = match names {
        0 => 0,
        names => slashes.nth(names - 1).unwrap_or(bytes.len()),
    };
    RelPath::of_names(&bytes[..end]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, gone: bool) -> Arrived {
        Arrived { path: RelPathBuf::new(path.as_bytes().to_vec()).unwrap(), gone, directory: false, below: false }
    }

    fn shown(queue: &mut Queue) -> Vec<String> {
        queue.take().iter().map(|arrived| format!("{}{}", arrived.path, if arrived.below { "/**" } else { "" })).collect()
    }

    #[test]
    fn a_path_stands_there_once_with_the_latest_of_it() {
        let mut queue = Queue::new(1 << 20);
        for gone in [false, true] {
            assert_eq!(queue.add(change("a", gone), 1, 0), 0);
        }
        queue.add(Arrived { directory: true, below: true, ..change("d", false) }, 1, 0);
        queue.add(Arrived { directory: true, ..change("d", false) }, 2, 0);
        let taken = queue.take();
        assert_eq!(taken[0], change("a", true));
        assert!(taken[1].below, "what was below it was not told yet");
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }

    #[test]
    fn directories_take_the_place_of_what_has_no_room() {
        let mut queue = Queue::new(4000);
        let mut folded = 0;
        for number in 0..1000 {
            folded += queue.add(change(&format!("a/b{}/c/file{number}", number % 3), false), 1, 0);
            assert!(queue.bytes <= 4000, "{}", queue.bytes);
        }
        queue.add(change("top", false), 1, 0);
        let shown = shown(&mut queue);
        assert!(folded > 900 && shown.iter().any(|path| path == "a/b0/c/**") && shown.contains(&"top".to_owned()), "{folded}: {shown:?}");
        for number in 0..1000 {
            queue.add(change(&format!("{number}"), false), 1, 0);
        }
        assert_eq!(queue.extract(|entry| entry.below)[0].path, RelPathBuf::root(), "the root stands for everything");
    }

    #[test]
    fn deep_paths_fold_soon() {
        let mut queue = Queue::new(1 << 20);
        let deep = "d/".repeat(2000);
        for number in 0..600 {
            queue.add(change(&format!("{deep}{number}"), false), 1, 0);
        }
        assert!(queue.bytes <= 1 << 20);
    }
}
