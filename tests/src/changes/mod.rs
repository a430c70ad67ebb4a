//! Every way to change a tree, as a table: what stands there before, and what is then done to it.
//!
//! [`drive`] runs a table twice: one change after the other, each followed by a comparison, and all of them at once.

use std::{fs, path::PathBuf};

mod contents;
mod deletions;
mod metadata;
mod renames;
mod types;

pub use contents::CONTENTS;
pub use deletions::DELETIONS;
pub use metadata::METADATA;
pub use renames::RENAMES;
pub use types::TYPES;

/// Where a change happens.
pub struct Place {
    /// A directory of its own inside the source.
    pub inside: PathBuf,
    /// A directory of its own outside of every source and target, on the same file system; the file `keep` in it must never change.
    pub outside: PathBuf,
}

impl Place {
    /// A path inside the source.
    pub fn at(&self, path: &str) -> PathBuf {
        self.inside.join(path)
    }

    /// Writes a file inside the source, with the directories above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("it is inside")).expect("a directory in the source");
        fs::write(path, content).expect("a file in the source");
    }
}

/// A way to change a tree.
pub struct Change {
    /// What is done, for messages; also the name of the place.
    pub name: &'static str,
    /// Makes what stands there before.
    pub before: fn(&Place),
    /// The change itself.
    pub act: fn(&Place),
}

const NOTHING: fn(&Place) = |_| {};

/// Runs the changes below `source`, keeping what has to lie outside in `outside`. `arrived` is called wherever the target has to be
/// equal, with a word on what was done; everything that lies outside is checked in between.
pub fn drive(changes: &[Change], source: &std::path::Path, outside: &std::path::Path, arrived: impl Fn(&str)) {
    for round in ["one by one", "at once"] {
        let places: Vec<_> = changes
            .iter()
            .map(|change| {
                let [inside, outside] = [source, outside].map(|base| base.join(round).join(change.name));
                for directory in [&inside, &outside] {
                    fs::create_dir_all(directory).expect("a directory for the change");
                }
                fs::write(outside.join("keep"), "keep").expect("a file outside");
                Place { inside, outside }
            })
            .collect();
        for (change, place) in changes.iter().zip(&places) {
            (change.before)(place);
        }
        arrived(&format!("before the changes {round}"));
        for (change, place) in changes.iter().zip(&places) {
            (change.act)(place);
            if round == "one by one" {
                arrived(change.name);
            }
        }
        arrived(&format!("all changes {round}"));
        for (change, place) in changes.iter().zip(&places) {
            let kept = fs::read(place.outside.join("keep")).unwrap_or_default();
            assert!(kept == b"keep", "{}: a file outside of source and target was touched", change.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare, process::must, room::Room};
    use std::process::Command;

    /// The tables do what they say, and rsync by itself can follow each change: `-I` stands in for a daemon that knows what changed.
    #[test]
    fn a_full_rsync_can_follow_every_change() {
        if crate::skip::without_root() {
            return;
        }
        for changes in [CONTENTS, RENAMES, DELETIONS, TYPES, METADATA] {
            let room = Room::new();
            let (source, target) = (room.source(), room.target());
            drive(changes, &source, &room.directory("outside"), |what| {
                let ends = [&source, &target].map(|end| format!("{}/", end.display()));
                must(Command::new("rsync").args(["-aI", "--delete", "--force", "--modify-window=-1"]).args(ends));
                compare::assert_equal_for(&source, &target, what);
            });
        }
    }
}
