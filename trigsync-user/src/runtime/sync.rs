//! One sync while it runs: its root, its lanes, and how they start and end.

use std::{
    os::unix::ffi::OsStrExt as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    InitialSync,
    fan_out::everything,
    initial::{self, Due},
    search::{Search, Searched},
};
use crate::{
    capture::Continuity,
    config::{SyncConfig, TargetConfig},
    dispatch::{Cut, Lane, LaneShared, SyncContext},
    journal::{Entered, Journal, LaneKey, LaneLeft, Left},
    model::RootId,
    observe::{SyncState, SyncStatus},
    rsync::Rsync,
};

/// A sync that runs.
pub(super) struct RunningSync {
    pub id: RootId,
    pub context: Arc<SyncContext>,
    pub lanes: Vec<RunningLane>,
    pub search: Option<Search>,
}

/// What every lane works with.
pub(super) struct Tools {
    pub rsync: Rsync,
    pub cut: Cut,
    /// How long what is in flight may take when a lane is stopped.
    pub grace: Duration,
}

/// A lane that runs.
pub(super) struct RunningLane {
    pub target: TargetConfig,
    pub shared: Arc<LaneShared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningLane {
    pub fn start(sync: &Arc<SyncContext>, target: TargetConfig, shared: Arc<LaneShared>, tools: &Tools) -> Self {
        let stop = CancellationToken::new();
        let lane = Lane::new(shared.clone(), sync.clone(), target.clone(), tools.rsync.clone(), tools.cut.clone());
        let task = tokio::spawn(lane.run(stop.clone(), tools.grace));
        Self { target, shared, stop, task }
    }

    /// The shared side of a lane for `target`, before the lane starts, with what the last daemon left unsent.
    pub fn share(config: &SyncConfig, target: &TargetConfig, left: Option<&LaneLeft>) -> Arc<LaneShared> {
        let marks = left.into_iter().flat_map(LaneLeft::marks);
        let shared = LaneShared::new(config.settle, target.name.clone(), target.address.to_string(), marks);
        if left.is_some_and(|left| left.is_held) {
            shared.hold();
        }
        Arc::new(shared)
    }

    /// Has the journal keep what this lane has not sent. What is due for it is marked already, but for what is searched for.
    pub fn enter(&self, sync: &SyncConfig, keeps: bool, searching_since: Option<SystemTime>, journal: &Journal) {
        journal.enter(Entered { key: key(sync, &self.target), keeps, searching_since }, self.shared.clone());
    }

    /// Ends when the lane has put back what it could not send.
    pub async fn stop(self) -> (TargetConfig, Arc<LaneShared>) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!("the lane of {} has failed: {error}", self.target.name);
        }
        (self.target, self.shared)
    }
}

impl RunningSync {
    /// Has everything compared, at every target.
    pub fn mark_everything(&self) {
        self.lanes.iter().for_each(|lane| lane.shared.mark_all([everything()]));
    }

    /// Marks what changed before the lanes were there, beyond what the last daemon has left unsent.
    pub fn mark_missed(&mut self, initial: InitialSync, continuity: Continuity, left: &Left, journal: &Journal) {
        let config = &self.context.config;
        let mut searched: Option<(SystemTime, Vec<Searched>)> = None;
        for lane in &self.lanes {
            let name = &lane.target.name;
            let unsent = left.of(&config.name, name);
            let decided = initial::decide(initial, continuity, left, &config.name, name, &initial::meaning(config, &lane.target));
            let (due, why) = match decided {
                // What a mount hides or shows is as old as it always was.
                (Due::Since(_), _) if config.cross_mounts => (Due::Everything, "mounts may have come or gone while nothing was captured"),
                decided => decided,
            };
            let count = unsent.map_or(0, LaneLeft::len);
            tracing::info!("{}: {name}: {due}: {why}; left unsent by the last daemon: {count}", config.name);
            let mut searching_since = None;
            match due {
                Due::Nothing => {}
                Due::Everything => lane.shared.mark_all([everything()]),
                Due::Since(since) => {
                    searching_since = Some(since);
                    let done = Box::new(journal.searched(key(config, &lane.target)));
                    let (earliest, lanes) = searched.get_or_insert((since, Vec::new()));
                    *earliest = since.min(*earliest);
                    lanes.push(Searched { shared: lane.shared.clone(), done });
                }
            }
            lane.enter(config, unsent.is_some(), searching_since, journal);
        }
        self.search = searched.map(|(since, lanes)| Search::begin(self.context.clone(), since, lanes));
    }

    /// By which the journal knows its lanes.
    pub fn keys(&self) -> impl Iterator<Item = LaneKey> + '_ {
        self.lanes.iter().map(|lane| self.key_of(lane))
    }

    /// By which the journal knows one of them.
    pub fn key_of(&self, lane: &RunningLane) -> LaneKey {
        key(&self.context.config, &lane.target)
    }

    /// Stops all lanes at once. What they have not sent is in their sets.
    pub async fn stop(self) {
        if let Some(search) = &self.search {
            search.stop();
        }
        join_all(self.lanes.into_iter().map(RunningLane::stop)).await;
    }

    pub fn status(&self) -> SyncStatus {
        SyncStatus {
            name: self.context.config.name.clone(),
            source: self.context.config.source.display().to_string(),
            state: self.context.gate().stopped.map_or(SyncState::Running, SyncState::Stopped),
            search: self.search.as_ref().and_then(Search::status),
            targets: self.lanes.iter().map(|lane| lane.shared.status()).collect(),
        }
    }
}

/// By which the journal knows a lane.
fn key(sync: &SyncConfig, target: &TargetConfig) -> LaneKey {
    LaneKey {
        sync: sync.name.clone(),
        target: target.name.clone(),
        source: sync.source.as_os_str().as_bytes().to_vec(),
        meaning: initial::meaning(sync, target),
    }
}
