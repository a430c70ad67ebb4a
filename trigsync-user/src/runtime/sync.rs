//! One sync while it runs: its root, its lanes, and how they start and end.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{InitialSync, fan_out::everything, initial};
use crate::{
    capture::Continuity,
    config::{SyncConfig, TargetConfig},
    dispatch::{Cut, Lane, LaneShared, SyncContext},
    journal::{Backlog, Unsent},
    model::RootId,
    observe::{SyncState, SyncStatus},
    rsync::Rsync,
};

/// A sync that runs.
pub(super) struct RunningSync {
    pub id: RootId,
    pub context: Arc<SyncContext>,
    pub lanes: Vec<RunningLane>,
}

/// What every lane works with.
pub(super) struct Tools {
    pub rsync: Rsync,
    pub cut: Cut,
    /// How long what is in flight may take when a lane is stopped.
    pub grace: Duration,
}

/// A sync whose lanes have ended, while changes may still be captured.
pub(super) struct StoppedSync {
    context: Arc<SyncContext>,
    lanes: Vec<(TargetConfig, Arc<LaneShared>)>,
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

    /// The shared side of a lane for `target`, before the lane starts.
    pub fn share(config: &SyncConfig, target: &TargetConfig) -> Arc<LaneShared> {
        Arc::new(LaneShared::new(config.settle, target.name.clone(), target.address.to_string()))
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

    /// Marks what changed before the lanes were there: what the last stop left unsent, and where that is not all, everything.
    pub fn mark_missed(&self, initial: InitialSync, continuity: Continuity, backlog: &Backlog) {
        let config = &self.context.config;
        for lane in &self.lanes {
            let name = &lane.target.name;
            let unsent = backlog.of(&config.name, name);
            let (full_pass, why) =
                initial::decide(initial, continuity, backlog, &config.name, name, &initial::meaning(config, &lane.target));
            let left = unsent.map_or(0, |unsent| unsent.marks().count());
            let what = if full_pass { "a full pass" } else { "no full pass" };
            tracing::info!("{}: {name}: {what}: {why}; left unsent by the last stop: {left}", config.name);
            if full_pass {
                lane.shared.mark_all([everything()]);
            }
            lane.shared.mark_all(unsent.into_iter().flat_map(Unsent::marks));
        }
    }

    /// Stops all lanes at once.
    pub async fn stop(self) -> StoppedSync {
        StoppedSync { context: self.context, lanes: join_all(self.lanes.into_iter().map(RunningLane::stop)).await }
    }

    pub fn status(&self) -> SyncStatus {
        SyncStatus {
            name: self.context.config.name.clone(),
            source: self.context.config.source.display().to_string(),
            state: self.context.gate().stopped.map_or(SyncState::Running, SyncState::Stopped),
            targets: self.lanes.iter().map(|lane| lane.shared.status()).collect(),
        }
    }
}

impl StoppedSync {
    /// What has not been sent. `captured` tells whether every change until now was captured; nothing may be captured any more.
    pub fn unsent(&self, captured: bool) -> Vec<Unsent> {
        let config = &self.context.config;
        let whole = captured && !self.context.gate().root_lost;
        let unsent = |(target, shared): &(TargetConfig, Arc<LaneShared>)| {
            let marks = shared.drain().into_iter().map(|taken| taken.mark);
            Unsent::new(&config.name, &target.name, whole.then(|| initial::meaning(config, target)), marks)
        };
        self.lanes.iter().map(unsent).collect()
    }
}
