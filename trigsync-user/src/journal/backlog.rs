//! The marks that a stop left unsent, in one file of the state directory.
//!
//! - The file of a clean stop is good for one start: it is renamed when it is read, so that a crash after that does not look like a stop.
//! - What was left unsent is still replayed after such a crash, but is not taken for everything.
//! - It is written without fsync: after a crash of the machine the boot id differs, and it is not taken for everything either.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{Mark, Ops, RelPathBuf, Scope};

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 2;

/// Everything that was left unsent.
#[derive(Debug, Default)]
pub struct Backlog {
    lanes: Vec<Unsent>,
    whole: bool,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    boot: String,
    lanes: Vec<Unsent>,
}

/// What one target has not got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsent {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    meaning: Option<String>,
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
    /// What `target` of `sync` has not got. `meaning` is how it is configured, where `marks` is all that it has not got.
    pub fn new(sync: &str, target: &str, meaning: Option<String>, marks: impl IntoIterator<Item = Mark>) -> Self {
        let marks = marks.into_iter().map(|mark| (mark.scope, mark.path)).collect();
        Self { sync: sync.into(), target: target.into(), meaning, marks }
    }

    /// How the target was configured; none where more than the marks may have been missed.
    pub fn meaning(&self) -> Option<&str> {
        self.meaning.as_deref()
    }

    /// The marks. What was seen at each path is not kept: files are compared by content, except in a full pass, which would read everything.
    pub fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().map(|(scope, path)| {
            let ops = if path.is_root() { Ops::RESCAN } else { Ops::WRITE | Ops::RESCAN };
            Mark { path: path.clone(), scope: *scope, ops }
        })
    }
}

impl Backlog {
    /// Reads what the last stop left in `state_dir`, and notes that it was read; nothing where there is no file.
    pub fn take(state_dir: &Path) -> Result<Self, BacklogError> {
        let (new, used) = (state_dir.join(NEW), state_dir.join(USED));
        let Some(Content { boot, lanes, .. }) = read(state_dir, &new)? else {
            let lanes = read(state_dir, &used)?.map(|content| content.lanes).unwrap_or_default();
            return Ok(Self { lanes, whole: false });
        };
        fs::rename(&new, used).map_err(|source| BacklogError::Read { path: new, source })?;
        Ok(Self { lanes, whole: boot == boot_id() })
    }

    /// Writes what a stop leaves, whole or not at all.
    pub fn write(state_dir: &Path, lanes: Vec<Unsent>) -> io::Result<()> {
        let part = state_dir.join("backlog.part");
        let mut file = BufWriter::new(File::create(&part)?);
        serde_json::to_writer(&mut file, &Content { format: FORMAT, boot: boot_id(), lanes })?;
        file.flush()?;
        fs::rename(part, state_dir.join(NEW))
    }

    /// Whether it comes from a clean stop since the machine was booted, and nothing ran after that stop.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// What one target has not got.
    pub fn of(&self, sync: &str, target: &str) -> Option<&Unsent> {
        self.lanes.iter().find(|lane| lane.sync == sync && lane.target == target)
    }
}

/// What a clean stop has left.
const NEW: &str = "backlog.json";

/// The same after a start has read it.
const USED: &str = "backlog.used.json";

fn read(state_dir: &Path, path: &Path) -> Result<Option<Content>, BacklogError> {
    let failed = |source: io::Error| BacklogError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match serde_json::from_reader(BufReader::new(file)) {
        Ok(content @ Content { format: FORMAT, .. }) => Ok(Some(content)),
        _ => {
            let aside = state_dir.join("backlog.unreadable");
            fs::rename(path, &aside).map_err(failed)?;
            Err(BacklogError::SetAside { path: path.to_owned(), aside })
        }
    }
}

/// Differs from boot to boot. Where it cannot be read, which a mounted /proc rules out, all boots are one: nothing is captured across them.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark { path: RelPathBuf::new(b"x/\xff".to_vec()).unwrap(), scope: Scope::Tree, ops: Ops::empty() }
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Backlog::take(directory.path()).unwrap().of("a", "b").is_none());
        let lanes = vec![Unsent::new("a", "b", Some("so".into()), [mark()]), Unsent::new("a", "c", None, [])];
        Backlog::write(directory.path(), lanes).unwrap();
        let read = Backlog::take(directory.path()).unwrap();
        let lane = read.of("a", "b").unwrap();
        let marks: Vec<_> = lane.marks().collect();
        assert_eq!((&marks[0].path, marks[0].scope, lane.meaning()), (&mark().path, Scope::Tree, Some("so")));
        assert_eq!(read.of("a", "c").map(|lane| (lane.meaning(), lane.marks().count())), Some((None, 0)));
        assert!(read.of("a", "d").is_none());
        assert!(read.is_whole());
    }

    #[test]
    fn a_stop_is_good_for_one_start() {
        let directory = tempfile::tempdir().unwrap();
        let write = || Backlog::write(directory.path(), vec![Unsent::new("a", "b", Some("so".into()), [mark()])]).unwrap();
        write();
        assert!(Backlog::take(directory.path()).unwrap().is_whole());
        for _ in 0..2 {
            let after_a_crash = Backlog::take(directory.path()).unwrap();
            assert!(!after_a_crash.is_whole());
            assert!(after_a_crash.of("a", "b").is_some(), "what was left unsent is not forgotten");
        }
        write();
        assert!(Backlog::take(directory.path()).unwrap().is_whole());
    }

    #[test]
    fn what_another_boot_left_is_not_everything() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NEW), "{\"format\":2,\"boot\":\"another\",\"lanes\":[]}").unwrap();
        assert!(!Backlog::take(directory.path()).unwrap().is_whole());
    }

    #[test]
    fn a_damaged_file_is_set_aside_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in [NEW, USED] {
            for text in ["{", "{\"format\":1,\"lanes\":[]}", ""] {
                fs::write(directory.path().join(name), text).unwrap();
                assert!(matches!(Backlog::take(directory.path()), Err(BacklogError::SetAside { .. })), "{text}");
                assert!(Backlog::take(directory.path()).is_ok());
            }
        }
    }
}
