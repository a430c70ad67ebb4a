//! The marks that a stop left unsent, in one file of the state directory.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{Mark, Ops, RelPathBuf, Scope};

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// Everything that was left unsent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Backlog {
    format: u32,
    lanes: Vec<Unsent>,
}

/// What one target has not got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsent {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    marks: Vec<(Scope, RelPathBuf)>,
}

/// Why a backlog is not used. A catch-up over the whole source covers it.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is damaged, foreign or of another version. It has been renamed.
    #[error("{} cannot be understood and was set aside as {}", path.display(), aside.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Its new name.
        aside: PathBuf,
    },
}

impl Unsent {
    /// What `target` of `sync` has not got.
    pub fn new(sync: &str, target: &str, marks: impl IntoIterator<Item = Mark>) -> Self {
        Self { sync: sync.into(), target: target.into(), marks: marks.into_iter().map(|mark| (mark.scope, mark.path)).collect() }
    }

    /// The marks. What was seen at each path is not kept: files are compared by content.
    pub fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().map(|(scope, path)| Mark { path: path.clone(), scope: *scope, ops: Ops::WRITE | Ops::RESCAN })
    }
}

impl Backlog {
    /// Reads what the last stop left in `state_dir`; nothing where there is no file.
    pub fn read(state_dir: &Path) -> Result<Self, BacklogError> {
        let path = path(state_dir);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(BacklogError::Read { path, source }),
        };
        match serde_json::from_reader(BufReader::new(file)) {
            Ok(Self { format: FORMAT, lanes }) => Ok(Self { format: FORMAT, lanes }),
            _ => {
                let aside = state_dir.join("backlog.unreadable");
                fs::rename(&path, &aside).map_err(|source| BacklogError::Read { path: path.clone(), source })?;
                Err(BacklogError::SetAside { path, aside })
            }
        }
    }

    /// Writes what a stop leaves, whole or not at all.
    pub fn write(state_dir: &Path, lanes: Vec<Unsent>) -> io::Result<()> {
        let lanes: Vec<_> = lanes.into_iter().filter(|lane| !lane.marks.is_empty()).collect();
        let (path, new) = (path(state_dir), state_dir.join("backlog.new"));
        if lanes.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut file = BufWriter::new(File::create(&new)?);
        serde_json::to_writer(&mut file, &Self { format: FORMAT, lanes })?;
        file.flush()?;
        fs::rename(new, path)
    }

    /// What one target has not got.
    pub fn of(&self, sync: &str, target: &str) -> Option<&Unsent> {
        self.lanes.iter().find(|lane| lane.sync == sync && lane.target == target)
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("backlog.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Backlog::read(directory.path()).unwrap().of("a", "b").is_none());
        let mark = Mark { path: RelPathBuf::new(b"x/\xff".to_vec()).unwrap(), scope: Scope::Tree, ops: Ops::empty() };
        let lane = Unsent::new("a", "b", [mark.clone()]);
        Backlog::write(directory.path(), vec![lane, Unsent::new("a", "c", [])]).unwrap();
        let read = Backlog::read(directory.path()).unwrap();
        let marks: Vec<_> = read.of("a", "b").unwrap().marks().collect();
        assert_eq!((&marks[0].path, marks[0].scope), (&mark.path, Scope::Tree));
        assert!(read.of("a", "c").is_none());
        Backlog::write(directory.path(), vec![]).unwrap();
        assert!(!path(directory.path()).exists());
    }

    #[test]
    fn a_damaged_file_is_set_aside_once() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["{", "{\"format\":2,\"lanes\":[]}", ""] {
            fs::write(path(directory.path()), text).unwrap();
            assert!(matches!(Backlog::read(directory.path()), Err(BacklogError::SetAside { .. })), "{text}");
            assert!(Backlog::read(directory.path()).is_ok());
        }
    }
}
