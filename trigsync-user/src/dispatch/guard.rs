//! What stops a sync rather than delete.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::config::{CANARY, CANARY_NEW, Guards};

/// Why a batch must not delete, or `None` where it may. `due` entries are to be deleted; `witnessed` tells whether capture saw each of
/// them going. Reads the source, at most as many entries as it takes to tell; blocks.
pub(super) fn objection(source: &Path, due: u64, witnessed: bool, guards: &Guards) -> Option<String> {
    if due == 0 {
        return None;
    }
    if !witnessed && is_empty(source) {
        return Some(format!(
            "the source {} is empty, and {due} entries at the target would be deleted without having been seen going; if that is right, run `trigsync release`",
            source.display()
        ));
    }
    if guards.max_delete >= 1.0 || due <= guards.max_delete_floor {
        return None;
    }
    // The target holds what is due and what the source holds: due / (due + held) <= share, solved for held.
    let enough =
        if guards.max_delete <= 0.0 { u64::MAX } else { (due as f64 * (1.0 - guards.max_delete) / guards.max_delete).ceil() as u64 };
    let held = count_up_to(source, enough);
    (held < enough).then(|| {
        format!(
            "{due} of {} entries at the target would be deleted, more than max_delete = {:.0}%; if that is right, run `trigsync release`",
            due + held,
            guards.max_delete * 100.0
        )
    })
}

/// A fresh ext4 holds nothing but `lost+found`.
fn is_empty(directory: &Path) -> bool {
    // The canary is ours: it would fill an empty mount point as soon as we run.
    let counts_not = |name: &OsStr| name == "lost+found" || name == CANARY || name == CANARY_NEW;
    fs::read_dir(directory).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| counts_not(&entry.file_name()))))
}

/// Counts the entries below a directory, `enough` at the most.
fn count_up_to(directory: &Path, enough: u64) -> u64 {
    let mut count = 0;
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            count += 1;
            if count >= enough {
                return count;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(max_delete: f64, max_delete_floor: u64) -> Guards {
        Guards { max_delete, max_delete_floor }
    }

    fn source(files: usize) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("lost+found")).unwrap();
        for index in 0..files {
            fs::write(directory.path().join(index.to_string()), "").unwrap();
        }
        directory
    }

    #[test]
    fn a_share_is_of_what_the_target_holds() {
        let ninety = source(89); // and lost+found
        assert_eq!(objection(ninety.path(), 10, true, &guards(0.1, 0)), None);
        let objection = objection(ninety.path(), 11, true, &guards(0.1, 0)).unwrap();
        assert!(objection.starts_with("11 of 101 entries"), "{objection}");
    }

    #[test]
    fn few_deletions_and_a_guard_switched_off_pass() {
        let one = source(1);
        assert_eq!(objection(one.path(), 1000, true, &guards(0.5, 1000)), None);
        assert_eq!(objection(one.path(), 5000, true, &guards(1.0, 0)), None);
        assert!(objection(one.path(), 1001, true, &guards(0.5, 1000)).is_some());
        assert!(objection(one.path(), 1, true, &guards(0.0, 0)).is_some());
    }

    #[test]
    fn an_empty_source_deletes_only_what_was_seen_going() {
        let empty = source(0);
        assert!(objection(empty.path(), 1, false, &guards(1.0, 1000)).is_some());
        assert_eq!(objection(empty.path(), 1, true, &guards(0.5, 1000)), None);
        assert_eq!(objection(empty.path(), 0, false, &guards(0.5, 1000)), None);
        fs::write(empty.path().join(CANARY), "a beat").unwrap();
        assert!(objection(empty.path(), 1, false, &guards(1.0, 1000)).is_some(), "what the daemon writes itself is nothing");
    }
}
