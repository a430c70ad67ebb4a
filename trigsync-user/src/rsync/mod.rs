//! One run of rsync: what it is told, and what its answer means.
//!
//! - Paths travel NUL-separated on standard input; no shell sees anything.
//! - The answer is classified by exit code **and** text, standard output included, even on exit 0.
//! - The environment is cleaned of what would change rsync's behaviour or language (`RSYNC_*`, `LC_ALL=C`); no secret is in an argument.

mod answer;
mod arguments;
mod check;
mod classify;
mod connections;
mod fetch;
mod lines;
mod parked;
mod process;
mod reasons;
mod removals;
mod run;
mod silence;
mod text;
mod verify;
mod version;

use std::{path::Path, time::Duration};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use verify::fuzz;

pub use answer::{Answer, Stats, Verdict};
pub use check::Check;
pub use connections::check_connections;
pub use parked::{Condition, Parked};
pub use removals::removal_rules;
pub use run::Rsync;
pub use verify::{Comparison, Drift, Extent};
pub use version::{RsyncError, Version};

use crate::{
    config::{Filter, SyncConfig, TargetConfig},
    model::RelPath,
};

/// The two ends of a run.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The source directory, absolute.
    pub source: &'a Path,
    /// What is left alone on both sides.
    pub filter: &'a Filter,
    /// Whether mounts inside the source are entered (`--one-file-system` is left out).
    pub cross_mounts: bool,
    /// Whether the target keeps what is gone at the source: nothing is ever deleted there, whatever a run may delete.
    pub keep: bool,
    /// The other end.
    pub target: &'a TargetConfig,
}

impl<'a> Route<'a> {
    /// From a sync's source to one of its targets.
    pub fn of(sync: &'a SyncConfig, target: &'a TargetConfig) -> Self {
        Self { source: &sync.source, filter: &sync.filter, cross_mounts: sync.cross_mounts, keep: sync.keep, target }
    }
}

/// What one run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The listed names, flat: `--delete --delete-missing-args --force`, no recursion. A listed name that is missing is deleted, with
    /// what is below it, except what the filter protects (which is why `--delete` is there: it sends the filter to the receiver).
    Entries(Compare),
    /// As [`Entries`](Self::Entries), for files of which little changes: what differs is found by comparing blocks, and written into the
    /// target's own file (`--inplace --no-whole-file`). Whoever reads it there meanwhile sees it half done.
    InPlace(Compare),
    /// The listed directories and the names directly in them: `--delete` without recursion. Lists are written [`Listing::Levels`].
    Levels,
    /// The listed names with everything below: `-r --delete --delete-missing-args --force`. The root is listed as `/.`. A subtree that was
    /// moved to where it is may hold other files of the same sizes and times as what the target has there: those are sent as changed.
    Trees(Compare),
    /// The listed names, and nothing else, are deleted with what is below them: `-r --delete` with a filter rule for every path, for
    /// receivers that cannot do `--delete-missing-args`.
    Removals,
    /// Only the root directory's own attributes; the list is empty.
    RootAttributes,
}

impl Work {
    /// The same, after some of it has arrived: what would be sent without a look is compared by `how` instead.
    pub fn sent_in_part(self, how: Compare) -> Self {
        match self {
            Self::Entries(Compare::Changed | Compare::Checksum) => Self::Entries(how),
            Self::InPlace(Compare::Changed | Compare::Checksum) => Self::InPlace(how),
            Self::Trees(Compare::Changed | Compare::Checksum) => Self::Trees(how),
            Self::Entries(Compare::Quick) | Self::InPlace(Compare::Quick) | Self::Trees(Compare::Quick) => self,
            Self::Levels | Self::Removals | Self::RootAttributes => self,
        }
    }
}

/// How rsync tells whether a file that both sides have needs to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Size and modification time.
    Quick,
    /// Send what is listed (`--ignore-times`): it is known to have changed, even where size and time say otherwise.
    Changed,
    /// Read both sides (`--checksum`): after a failed `Changed` run, so that what has arrived is not sent again.
    Checksum,
}

/// What a run may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletions {
    /// What the list asks for.
    Allowed,
    /// Nothing: `--max-delete=0`. Everything else is done, and [`Verdict::Withheld`] says how many deletions were due.
    Counted,
    /// Nothing, and none is asked for: a receiver that refuses deletions, or a source that is not trusted.
    Never,
}

/// What becomes of a listed name that is missing at the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// It is deleted.
    #[default]
    Delete,
    /// It is passed over.
    Ignore,
}

/// One run.
#[derive(Clone)]
pub struct Run<'a> {
    /// What it does.
    pub work: Work,
    /// What it may delete.
    pub deletions: Deletions,
    /// Whether a listed name that is missing is deleted (`--delete-missing-args`) or passed over (`--ignore-missing-args`), for receivers that
    /// cannot do the former.
    pub missing: Missing,
    /// What rsync reads on standard input: made by [`list`], for [`Work::Removals`] by [`removal_rules`].
    pub list: Vec<u8>,
    /// Called with rsync's progress, 0 to 100, a few times a second; for full passes that a person watches.
    pub progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
}

/// How far a run is, as `--info=progress2` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Bytes of content sent.
    pub bytes: u64,
    /// Share of what is known to be due, 0 to 100.
    pub percent: u8,
    /// Entries that are yet to be looked at, of so many found, as far as rsync knows.
    pub to_check: Option<(u64, u64)>,
}

/// How a run's list names the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// `/path`: the leading slash saves names that begin with `#` or `;`.
    Plain,
    /// `/path/`: a directory's own names.
    Levels,
    /// `./path` for names directly in the root, so that the root's own attributes (its time) are sent along.
    WithRoot,
}

/// The list for `--from0 --files-from=-`. `paths` should be sorted: rsync takes half as long again on a shuffled list.
pub fn list<'a>(paths: impl IntoIterator<Item = &'a RelPath>, listing: Listing) -> Vec<u8> {
    let mut list = Vec::new();
    for path in paths {
        if path.is_root() {
            list.extend_from_slice(b"/.");
        } else {
            if listing == Listing::WithRoot && path.parent().is_some_and(RelPath::is_root) {
                list.push(b'.');
            }
            list.push(b'/');
            list.extend_from_slice(path.as_bytes());
            if listing == Listing::Levels {
                list.push(b'/');
            }
        }
        list.push(0);
    }
    list
}

/// How long a stopped run gets to end by itself before it is killed.
pub const TERMINATE_GRACE: Duration = Duration::from_secs(2);
