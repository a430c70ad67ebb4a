//! What tells the plugins of a sync without targets, while it runs.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::sync::Tools;
use crate::{
    config::SyncConfig,
    dispatch::{Announcer, LaneShared, SyncContext},
    observe::AnnouncerStatus,
};

/// An announcer that runs.
pub(super) struct RunningAnnouncer {
    pub shared: Arc<LaneShared>,
    /// Nothing that capture tells reaches it yet.
    pub is_deaf: bool,
    sync: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningAnnouncer {
    pub fn start(sync: &Arc<SyncContext>, shared: Arc<LaneShared>, is_deaf: bool, tools: &Tools) -> Self {
        let stop = CancellationToken::new();
        let announcer = Announcer::new(shared.clone(), sync.clone(), tools.cut.clone());
        let task = tokio::spawn(announcer.run(stop.clone(), tools.grace));
        Self { shared, is_deaf, sync: sync.config.name.clone(), stop, task }
    }

    /// The shared side of one, before it starts.
    pub fn share(config: &SyncConfig) -> Arc<LaneShared> {
        let name = name(&config.name);
        Arc::new(LaneShared::unrecorded(config.settle, name.clone(), name))
    }

    /// What is told to the operator in place of a target's name.
    pub fn name(&self) -> String {
        name(&self.sync)
    }

    pub fn status(&self) -> AnnouncerStatus {
        self.shared.status().into()
    }

    /// Ends when everything was told that may be.
    pub async fn stop(self) -> Arc<LaneShared> {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!("what tells {} has failed: {error}", name(&self.sync));
        }
        self.shared
    }
}

fn name(sync: &str) -> String {
    format!("the plugins of {sync}")
}
