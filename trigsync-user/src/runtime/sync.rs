//! One sync while it runs: its root, its lanes, and how they start and end.

use std::{
    os::unix::ffi::OsStrExt as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    InitialSync,
    announcer::RunningAnnouncer,
    canary::Canary,
    fan_out::everything,
    initial::{self, Due},
    schedule::FullPasses,
    search::{Search, Searched},
};
use crate::{
    audit::{Auditor, Order},
    capture::{Capture, Continuity},
    config::{SyncConfig, TargetConfig},
    dispatch::{Cut, Lane, LaneShared, SyncContext},
    journal::{Entered, Journal, LaneKey, LaneLeft, Left},
    model::RootId,
    observe::{SyncState, SyncStatus, TargetStatus},
    plugin::Plugins,
    rsync::Rsync,
};

/// A sync that runs.
pub(super) struct RunningSync {
    pub id: RootId,
    pub context: Arc<SyncContext>,
    pub lanes: Vec<RunningLane>,
    /// Where there are no targets.
    pub announcer: Option<RunningAnnouncer>,
    pub search: Option<Search>,
    pub canary: Option<Canary>,
    pub full_passes: Option<FullPasses>,
    pub plugins: Plugins,
}

/// What every lane works with.
pub(super) struct Tools {
    /// None until a sync has a target: without one nobody needs it.
    pub rsync: Option<Rsync>,
    pub cut: Cut,
    /// How long what is in flight may take when a lane is stopped.
    pub grace: Duration,
    pub capture: Arc<Capture>,
}

/// A lane that runs.
pub(super) struct RunningLane {
    pub target: TargetConfig,
    pub shared: Arc<LaneShared>,
    /// Has the audit compare everything now.
    pub audit: mpsc::Sender<Order>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    auditor: JoinHandle<()>,
}

impl RunningLane {
    pub fn start(sync: &Arc<SyncContext>, target: TargetConfig, shared: Arc<LaneShared>, rsync: &Rsync, tools: &Tools) -> Self {
        let stop = CancellationToken::new();
        let lane = Lane::new(shared.clone(), sync.clone(), target.clone(), rsync.clone(), tools.cut.clone());
        let task = tokio::spawn(lane.run(stop.clone(), tools.grace));
        let (audit, orders) = mpsc::channel(4);
        let auditor = Auditor::new(sync.clone(), shared.clone(), target.clone(), rsync.clone(), tools.capture.clone());
        let auditor = tokio::spawn(auditor.run(orders));
        Self { target, shared, audit, stop, task, auditor }
    }

    /// The shared side of a lane for `target`, before the lane starts, with what the last daemon left unsent.
    pub fn share(config: &SyncConfig, target: &TargetConfig, all_left: &Left) -> Arc<LaneShared> {
        let left = all_left.of(&config.name, &target.name);
        let marks = left.into_iter().flat_map(LaneLeft::marks);
        let shared = LaneShared::new(config.settle, target.name.clone(), target.address.to_string(), marks);
        let unsent = left.map_or(0, LaneLeft::len);
        if unsent > 0 || all_left.is_unclean() {
            // Some of it may have been on its way.
            shared.cut_off(unsent.min(config.batch.paths) as u64);
        }
        if let Some(point) = left.and_then(|left| left.audit.clone()) {
            shared.audited().resume(point);
        }
        if left.is_some_and(|left| left.is_held) {
            shared.hold();
        }
        Arc::new(shared)
    }

    /// Ends when the lane has put back what it could not send.
    pub async fn stop(self) -> (TargetConfig, Arc<LaneShared>) {
        // It ends its rsync when it is dropped.
        self.auditor.abort();
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!("the lane of {} has failed: {error}", self.target.name);
        }
        (self.target, self.shared)
    }
}

impl RunningSync {
    /// The shared sides of its lanes, and of what tells its plugins where it has none.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<LaneShared>> {
        self.lanes.iter().map(|lane| &lane.shared).chain(self.announcer.iter().map(|announcer| &announcer.shared))
    }

    /// Whether capture does not reach it yet.
    pub fn is_deaf(&self) -> bool {
        self.announcer.as_ref().is_some_and(|announcer| announcer.is_deaf)
    }

    /// Has everything compared, at every target; or told.
    pub fn mark_everything(&self) {
        self.shared().for_each(|shared| shared.mark_all([everything()]));
    }

    /// Marks what changed before the lanes were there, beyond what the last daemon has left unsent.
    pub fn mark_missed(&mut self, initial: InitialSync, continuity: Continuity, left: &Left, journal: &Journal) {
        let config = &self.context.config;
        let mut searched: Option<(SystemTime, Vec<Searched>)> = None;
        for lane in &self.lanes {
            let name = &lane.target.name;
            let unsent = left.of(&config.name, name);
            let key = self.key_of(lane);
            let decided = initial::decide(initial, continuity, left, &key);
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
                    let done = Box::new(journal.searched(key.clone()));
                    let (earliest, lanes) = searched.get_or_insert((since, Vec::new()));
                    *earliest = since.min(*earliest);
                    lanes.push(Searched { shared: lane.shared.clone(), done });
                }
            }
            journal.enter(Entered { key, keeps: unsent.is_some(), searching_since }, lane.shared.clone());
        }
        self.search = searched.map(|(since, lanes)| Search::begin(self.context.clone(), since, lanes));
    }

    /// Has the journal keep what a lane has not sent that begins anew: everything is marked for it already.
    pub fn enter(&self, lane: &RunningLane, journal: &Journal) {
        journal.enter(Entered { key: self.key_of(lane), keeps: false, searching_since: None }, lane.shared.clone());
    }

    /// By which the journal knows its lanes.
    pub fn keys(&self) -> impl Iterator<Item = LaneKey> + '_ {
        self.lanes.iter().map(|lane| self.key_of(lane))
    }

    /// By which the journal knows one of them.
    pub fn key_of(&self, lane: &RunningLane) -> LaneKey {
        let (sync, target) = (&self.context.config, &lane.target);
        LaneKey {
            sync: sync.name.clone(),
            target: target.name.clone(),
            source: sync.source.as_os_str().as_bytes().to_vec(),
            meaning: initial::meaning(sync, target),
        }
    }

    /// Stops all lanes at once, and tells plugins what has arrived, until `until`. What the lanes have not sent is in their sets.
    pub async fn stop(self, until: Instant) {
        drop((self.canary, self.full_passes));
        if let Some(search) = &self.search {
            search.stop();
        }
        // They are needed to say what has arrived everywhere.
        let _lanes = join_all(self.lanes.into_iter().map(RunningLane::stop)).await;
        if let Some(announcer) = self.announcer {
            let left = announcer.stop().await.status().pending;
            if left > 0 {
                tracing::warn!("{}: {left} changes were not told, and are told no more", self.context.config.name);
            }
        }
        self.plugins.finish(until).await;
    }

    fn target_status(&self, lane: &RunningLane) -> TargetStatus {
        let canary = self.canary.as_ref().and_then(|canary| canary.status(&lane.target.name));
        TargetStatus { canary, ..lane.shared.status() }
    }

    pub fn status(&self) -> SyncStatus {
        SyncStatus {
            name: self.context.config.name.clone(),
            source: self.context.config.source.display().to_string(),
            state: self.context.gate().stopped.map_or(SyncState::Running, SyncState::Stopped),
            search: self.search.as_ref().and_then(Search::status),
            next_full_pass_ms: self.full_passes.as_ref().and_then(FullPasses::next_ms),
            canary_trouble: self.canary.as_ref().and_then(Canary::trouble),
            targets: self.lanes.iter().map(|lane| self.target_status(lane)).collect(),
            announcer: self.announcer.as_ref().map(RunningAnnouncer::status),
            plugins: self.plugins.status(),
        }
    }
}
