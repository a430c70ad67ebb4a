//! One sync while it runs: its root, its lanes, and how they start and end.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fan_out::everything;
use crate::{
    config::{SyncConfig, TargetConfig},
    dispatch::{Lane, LaneShared, SyncContext},
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

/// A lane that runs.
pub(super) struct RunningLane {
    pub target: TargetConfig,
    pub shared: Arc<LaneShared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningLane {
    pub fn start(sync: &Arc<SyncContext>, target: TargetConfig, shared: Arc<LaneShared>, rsync: &Rsync, grace: Duration) -> Self {
        let stop = CancellationToken::new();
        let lane = Lane::new(shared.clone(), sync.clone(), target.clone(), rsync.clone());
        let task = tokio::spawn(lane.run(stop.clone(), grace));
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
    /// What has to be sent because it changed while nobody watched.
    pub fn mark_missed(&self, backlog: &Backlog, full_pass: bool) {
        for lane in &self.lanes {
            if full_pass {
                lane.shared.mark_all([everything()]);
            }
            if let Some(unsent) = backlog.of(&self.context.config.name, &lane.target.name) {
                lane.shared.mark_all(unsent.marks());
            }
        }
    }

    /// Stops all lanes at once. What they have not sent is returned.
    pub async fn stop(self) -> Vec<Unsent> {
        let name = &self.context.config.name;
        let stopped = join_all(self.lanes.into_iter().map(RunningLane::stop)).await;
        let unsent = |(target, shared): (TargetConfig, Arc<LaneShared>)| {
            Unsent::new(name, &target.name, shared.drain().into_iter().map(|taken| taken.mark))
        };
        stopped.into_iter().map(unsent).collect()
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
