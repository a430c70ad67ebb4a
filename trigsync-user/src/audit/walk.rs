//! The walk through a source, directory by directory, in the order of names: so that a path is all that it takes to go on.
//!
//! Memory is bounded by the depth: of each directory on the way down, so many names of directories in it as [`KEPT`].

use std::{
    collections::{BinaryHeap, VecDeque},
    os::fd::BorrowedFd,
};

use rustix::io::Errno;

use crate::{
    config::SyncConfig,
    model::{RelPath, RelPathBuf},
    scan::directory::{Device, Opener, Reader, look},
};

/// Names that are kept of a directory; it is read again for more.
const KEPT: usize = 16_384;

/// Where a walk is.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The way down to the directory that was visited last.
    levels: Vec<Level>,
    /// The root is visited, or where the walk goes on is found.
    begun: bool,
}

/// Directories that are compared together.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub directories: Vec<RelPathBuf>,
    /// Names in them.
    pub names: u64,
    /// Bytes of content in these.
    pub bytes: u64,
    /// There is nothing after it.
    pub is_last: bool,
}

/// How much a slice holds, at least: it ends with the directory that reaches one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub names: u64,
    pub bytes: u64,
}

/// A directory on the way down.
#[derive(Debug)]
struct Level {
    path: RelPathBuf,
    /// Names of directories in it that are to be visited, sorted.
    names: VecDeque<Vec<u8>>,
    /// There are more, after the last of these.
    more: bool,
}

/// What is in a directory.
struct Content {
    level: Level,
    names: u64,
    bytes: u64,
}

impl Walk {
    /// Goes on after a directory that was visited; where it is gone, after where it would stand.
    pub fn after(path: &RelPath, root: BorrowedFd<'_>, config: &SyncConfig) -> Result<Self, Errno> {
        let visit = Visit::new(root, config)?;
        let mut walk = Self { levels: Vec::new(), begun: true };
        let mut directory = RelPathBuf::root();
        let mut names = path.components();
        loop {
            let name = names.next();
            match visit.content(&directory, name.unwrap_or_default())? {
                Some(content) => walk.levels.push(content.level),
                None => break,
            }
            match name {
                Some(name) => directory = directory.join(name),
                None => break,
            }
        }
        Ok(walk)
    }

    /// The next directories. What cannot be read is left out: rsync says so when their parents are compared.
    pub fn slice(&mut self, root: BorrowedFd<'_>, config: &SyncConfig, limit: Limit) -> Result<Slice, Errno> {
        let visit = Visit::new(root, config)?;
        let mut slice = Slice::default();
        while slice.names < limit.names && slice.bytes < limit.bytes {
            let Some(path) = self.next(&visit)? else {
                slice.is_last = true;
                break;
            };
            if let Some(Content { level, names, bytes }) = visit.content(&path, b"")? {
                slice.names += names + 1;
                slice.bytes += bytes;
                slice.directories.push(path);
                self.levels.push(level);
            }
        }
        Ok(slice)
    }

    fn next(&mut self, visit: &Visit<'_>) -> Result<Option<RelPathBuf>, Errno> {
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(Some(RelPathBuf::root()));
        }
        while let Some(level) = self.levels.last_mut() {
            match level.names.pop_front() {
                Some(name) => {
                    let path = level.path.join(&name);
                    if level.names.is_empty() && level.more {
                        match visit.content(&level.path, &name)? {
                            Some(content) => *level = content.level,
                            None => level.more = false,
                        }
                    }
                    return Ok(Some(path));
                }
                None => self.levels.pop(),
            };
        }
        Ok(None)
    }
}

/// What a walk looks with.
struct Visit<'a> {
    opener: Opener<'a>,
    config: &'a SyncConfig,
    device: Device,
}

impl<'a> Visit<'a> {
    fn new(root: BorrowedFd<'a>, config: &'a SyncConfig) -> Result<Self, Errno> {
        let opener = Opener::new(root);
        let device = look(&opener.open(&RelPathBuf::root())?, c".")?.device;
        Ok(Self { opener, config, device })
    }

    /// What is in a directory, with the first directories after a name; none where it cannot be read, or is none any more. Want of
    /// descriptors or memory says nothing of it.
    fn content(&self, path: &RelPath, after: &[u8]) -> Result<Option<Content>, Errno> {
        let shortage = |errno: Errno| match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Err(errno),
            _ => Ok(None),
        };
        let directory = match self.opener.open(path) {
            Ok(directory) => directory,
            Err(errno) => return shortage(errno),
        };
        let mut first = BinaryHeap::new();
        let (mut more, mut names, mut bytes) = (false, 0, 0);
        let read = Reader::new().read(&directory, |piece| {
            for name in piece.names() {
                // What is gone by now was told by whoever captures.
                let Ok(found) = look(&directory, name) else { continue };
                let name = name.to_bytes();
                if self.config.filter.excludes_in_kept(&path.join(name), found.directory) {
                    continue;
                }
                names += 1;
                if !found.directory {
                    bytes += found.size;
                } else if name > after && (self.config.cross_mounts || found.device == self.device) {
                    first.push(name.to_owned());
                    if first.len() > KEPT {
                        first.pop();
                        more = true;
                    }
                }
            }
            true
        });
        match read {
            Ok(()) => {
                let level = Level { path: path.to_owned(), names: first.into_sorted_vec().into(), more };
                Ok(Some(Content { level, names, bytes }))
            }
            Err(errno) => shortage(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::fd::{AsFd as _, OwnedFd},
        path::Path,
    };

    use super::*;
    use crate::config::{Overrides, RawConfig};

    const SMALL: Limit = Limit { names: 1, bytes: u64::MAX };

    fn tree(directories: &[&str]) -> (tempfile::TempDir, OwnedFd, SyncConfig) {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        for directory in directories {
            fs::create_dir_all(source.join(directory)).unwrap();
            fs::write(source.join(directory).join("file"), "12345").unwrap();
        }
        let config = config(&source);
        let root = File::open(&source).unwrap().into();
        (place, root, config)
    }

    fn config(source: &Path) -> SyncConfig {
        let raw = RawConfig::from_flags(source, &["host::module".to_owned()]).unwrap();
        let overrides = Overrides { exclude: vec!["skipped/".into()], ..Overrides::default() };
        raw.resolve(&overrides, &source.with_file_name("state")).unwrap().syncs.remove(0)
    }

    fn visited(walk: &mut Walk, root: &OwnedFd, config: &SyncConfig) -> Vec<String> {
        let mut visited = Vec::new();
        loop {
            let slice = walk.slice(root.as_fd(), config, SMALL).unwrap();
            visited.extend(slice.directories.iter().map(ToString::to_string));
            if slice.is_last {
                return visited;
            }
        }
    }

    #[test]
    fn every_directory_is_visited_once_and_goes_on_after_any() {
        let (_place, root, config) = tree(&["a/b/c", "a/d", "a.x", "b/skipped/x", "z"]);
        let all = visited(&mut Walk::default(), &root, &config);
        assert_eq!(all, [".", "a", "a/b", "a/b/c", "a/d", "a.x", "b", "z"]);
        for (index, path) in all.iter().enumerate() {
            let path = path.strip_prefix('.').unwrap_or(path);
            let path = RelPathBuf::new(path.as_bytes().to_vec()).unwrap();
            let mut walk = Walk::after(&path, root.as_fd(), &config).unwrap();
            assert_eq!(visited(&mut walk, &root, &config), all[index + 1..], "after {path}");
        }
        let gone = RelPathBuf::new(b"a/c/x".to_vec()).unwrap();
        let mut walk = Walk::after(&gone, root.as_fd(), &config).unwrap();
        assert_eq!(visited(&mut walk, &root, &config), ["a/d", "a.x", "b", "z"]);
    }

    #[test]
    fn a_slice_ends_where_it_holds_enough() {
        let (_place, root, config) = tree(&["a", "b", "c"]);
        let mut walk = Walk::default();
        // The root and the three names in it; a and its file; b and its file.
        let slice = walk.slice(root.as_fd(), &config, Limit { names: 8, bytes: u64::MAX }).unwrap();
        assert_eq!((slice.directories.len(), slice.names, slice.bytes, slice.is_last), (3, 8, 10, false));
        let slice = walk.slice(root.as_fd(), &config, Limit { names: 8, bytes: 1 }).unwrap();
        assert_eq!((slice.directories.len(), slice.names, slice.is_last), (1, 2, false));
        let slice = walk.slice(root.as_fd(), &config, Limit { names: 8, bytes: 1 }).unwrap();
        assert!(slice.directories.is_empty() && slice.is_last);
    }

    #[test]
    fn a_directory_with_more_names_than_are_kept_is_visited_whole() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        for number in 0..KEPT + 10 {
            fs::create_dir_all(source.join(number.to_string())).unwrap();
        }
        let (config, root) = (config(&source), File::open(&source).unwrap().into());
        let all = visited(&mut Walk::default(), &root, &config);
        assert_eq!(all.len(), KEPT + 11);
        assert!(all.is_sorted());
    }
}
