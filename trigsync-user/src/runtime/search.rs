//! The search for what changed while nothing captured: one for a sync, for every target that needs it, while new changes flow already.
//!
//! - A lane that is searched for is behind until the search has ended: neither a flush nor the journal takes it for equal.
//! - A search that was cut short is begun again by the next daemon; one that fails becomes a full pass.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio_util::sync::CancellationToken;

use super::fan_out::everything;
use crate::{
    dispatch::{LaneShared, SyncContext},
    lock::lock,
    model::Mark,
    observe::SearchStatus,
    plan::open_same_root,
    scan::{Progress, SLACK, Scan, ScanError, Summary, threads},
};

/// Marks that are handed on together.
const AT_ONCE: usize = 512;

/// A search that runs, or has ended.
pub(super) struct Search {
    progress: Arc<Progress>,
    stop: CancellationToken,
    lanes: Vec<Arc<LaneShared>>,
}

/// A lane that is searched for.
pub(super) struct Searched {
    pub shared: Arc<LaneShared>,
    /// Tells the journal that all is marked.
    pub done: Box<dyn FnOnce() + Send>,
}

impl Search {
    /// Begins to look for what changed since `since`.
    pub fn begin(context: Arc<SyncContext>, since: SystemTime, lanes: Vec<Searched>) -> Self {
        let (progress, stop) = (Arc::new(Progress::default()), CancellationToken::new());
        let shared: Vec<_> = lanes.iter().map(|lane| lane.shared.clone()).collect();
        shared.iter().for_each(|lane| lane.begin_search());
        let search = Self { progress: progress.clone(), stop: stop.clone(), lanes: shared.clone() };
        tokio::task::spawn_blocking(move || {
            let (name, source) = (&context.config.name, context.config.source.display());
            match look(&context, since, &shared, &progress, &stop) {
                Ok(Summary { counts, duration, .. }) => tracing::info!(
                    "{name}: searched {source} in {duration:.1?}: {} of {} names are looked at again, and so are {} directories",
                    counts.marked_entries,
                    counts.entries,
                    counts.marked_levels + counts.marked_trees
                ),
                // The journal says that it was not ended.
                Err(ScanError::Stopped) => return,
                Err(error) => {
                    tracing::warn!("{name}: the search has failed: {error}; a full pass instead");
                    shared.iter().for_each(|lane| lane.mark_all([everything()]));
                }
            }
            for lane in lanes {
                lane.shared.end_search();
                (lane.done)();
            }
        });
        search
    }

    /// Ends it early.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How far it is; none where it has ended.
    pub fn status(&self) -> Option<SearchStatus> {
        let counts = self.progress.counts();
        let runs = self.lanes.iter().any(|lane| lane.is_searched());
        runs.then(|| SearchStatus { directories: counts.directories, entries: counts.entries, marks: counts.marks() })
    }
}

fn look(
    context: &SyncContext,
    since: SystemTime,
    lanes: &[Arc<LaneShared>],
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Summary, ScanError> {
    let config = &context.config;
    let root = open_same_root(&config.source, context.gate().root).map_err(|error| ScanError::Root(std::io::Error::other(error)))?;
    let cutoff = since.checked_sub(SLACK).unwrap_or(SystemTime::UNIX_EPOCH);
    let scan = Scan { root: root.as_fd(), filter: &config.filter, cross_mounts: config.cross_mounts, cutoff, threads: threads() };
    let waiting = Mutex::new(Vec::with_capacity(AT_ONCE));
    let hand_on = |marks: Vec<Mark>| lanes.iter().for_each(|lane| lane.mark_all(marks.iter().cloned()));
    let found = |mark| {
        let mut waiting = lock(&waiting);
        waiting.push(mark);
        if waiting.len() == AT_ONCE {
            hand_on(std::mem::take(&mut *waiting));
        }
    };
    let result = scan.run(progress, stop, found);
    hand_on(waiting.into_inner().unwrap_or_else(PoisonError::into_inner));
    result
}
