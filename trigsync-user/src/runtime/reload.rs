//! A reload: what did not change keeps running, and what did goes on with what it had as far as that is still good.

use std::time::Instant;

use futures_util::future::join_all;

use super::{
    RuntimeError,
    announcer::RunningAnnouncer,
    daemon::{Daemon, Kept},
    fan_out::everything,
    notify,
    sync::{RunningLane, RunningSync},
};
use crate::{
    config::SyncConfig,
    journal::{LaneKey, Left},
};

impl Daemon {
    /// Reads the configuration again; what did not change keeps running. A wrong configuration changes nothing.
    pub(super) async fn reload(&mut self) {
        let (raw, config) = match self.options.configuration() {
            Ok(read) => read,
            Err(error) => return tracing::error!("the configuration was not reloaded: {error}"),
        };
        self.fail_log.write_to(config.daemon.fail_log.as_deref());
        self.config.daemon.fail_log = config.daemon.fail_log.clone();
        if config.daemon != self.config.daemon {
            tracing::warn!("daemon-wide keys have changed; they take effect at the next start");
        }
        // Until every lane is entered that there will be, the next daemon is to begin where this one was before.
        self.journal.hold();
        let mut old: Vec<_> = std::mem::take(&mut self.syncs);
        self.broken.clear();
        for new in config.syncs.clone() {
            let index = old.iter().position(|sync| sync.context.config.name == new.name);
            let running = index.map(|index| old.swap_remove(index));
            let lanes: Vec<_> = running.iter().flat_map(RunningSync::keys).collect();
            notify::moving();
            match self.replace(running, new.clone()).await {
                Ok(sync) => {
                    let stays = |key: &LaneKey| sync.lanes.iter().any(|lane| lane.target.name == key.target);
                    lanes.into_iter().filter(|key| !stays(key)).for_each(|key| self.journal.leave(key));
                    self.syncs.push(sync);
                }
                Err(error) => {
                    tracing::error!("sync {} does not run: {error}", new.name);
                    self.broken.push((new, format!("{error}; when that is mended, reload the configuration (SIGHUP)")));
                    // Nobody sees what it misses from now on.
                    lanes.into_iter().for_each(|key| self.journal.leave(key));
                }
            }
        }
        for sync in old {
            tracing::info!("sync {} is no longer configured", sync.context.config.name);
            self.forget(sync.id).await;
            sync.keys().for_each(|key| self.journal.leave(key));
            sync.stop(Instant::now() + self.tools.grace).await;
        }
        if let Err(error) = self.hear().await {
            tracing::error!("{error}");
        }
        self.share_memory();
        self.journal.go_on();
        (self.raw, self.config.syncs) = (raw, config.syncs);
        tracing::info!("the configuration was reloaded");
    }

    /// Brings one sync to its new configuration.
    async fn replace(&mut self, running: Option<RunningSync>, new: SyncConfig) -> Result<RunningSync, RuntimeError> {
        let Some(running) = running else {
            let is_alone = new.targets.is_empty();
            tracing::info!("sync {} is new{}", new.name, if is_alone { "" } else { ": a full pass" });
            let (sync, _) = self.start_sync(new, Kept::default(), &Left::default()).await?;
            sync.lanes.iter().for_each(|lane| lane.shared.mark_all([everything()]));
            sync.lanes.iter().for_each(|lane| sync.enter(lane, &self.journal));
            return Ok(sync);
        };
        let stopped = running.context.gate().stopped.is_some();
        if *running.context.config == new && !stopped {
            return Ok(running);
        }
        let old = running.context.config.clone();
        // The same paths are watched and meant: what a lane has collected stays good.
        let same_tree = old.source == new.source
            && old.filter == new.filter
            && old.cross_mounts == new.cross_mounts
            && old.keep == new.keep
            && !stopped;
        let id = running.id;
        drop(running.canary);
        // One that is under way goes on for the lanes that are kept, and is of no use to others.
        let search = running.search;
        let lanes = join_all(running.lanes.into_iter().map(RunningLane::stop)).await;
        let held: Vec<_> = lanes.iter().filter(|(_, shared)| shared.is_held()).map(|(target, _)| target.name.clone()).collect();
        let mut kept = Kept { plugins: Some(running.plugins), ..Kept::default() };
        if let Some(announcer) = running.announcer {
            kept.announced = Some(announcer.stop().await);
        }
        if new.targets.is_empty() && old.source == new.source {
            // What had not arrived everywhere was not told yet, and one that was stopped has missed changes.
            let shared = kept.announced.get_or_insert_with(|| RunningAnnouncer::share(&new));
            lanes.iter().for_each(|(_, lane)| shared.mark_all(lane.take_all()));
            shared.mark_all(stopped.then(everything));
            shared.settle(new.settle);
        } else {
            kept.announced = None;
        }
        for (target, shared) in lanes {
            let stays = new.targets.iter().any(|other| other.name == target.name && other.address == target.address);
            if same_tree && stays {
                shared.settle(new.settle);
                kept.lanes.insert(target.name, shared);
            }
        }
        let names: Vec<_> = kept.lanes.keys().cloned().collect();
        let result = self.start_sync(new, kept, &Left::default()).await;
        // What was told of the old root alone reaches the sets that are kept.
        if let Err(error) = self.capture.barrier().await {
            tracing::warn!("{error}");
        }
        self.forget(id).await;
        let (mut sync, _) = result?;
        sync.search = search;
        for lane in sync.lanes.iter().filter(|lane| !names.contains(&lane.target.name)) {
            tracing::info!("sync {}: a full pass to {}", sync.context.config.name, lane.target.name);
            lane.shared.mark_all([everything()]);
            sync.enter(lane, &self.journal);
        }
        for lane in sync.lanes.iter().filter(|lane| held.contains(&lane.target.name) && !lane.shared.is_held()) {
            lane.shared.hold();
            // Nobody waits for a reload.
            drop(self.journal.held(sync.key_of(lane), true));
        }
        Ok(sync)
    }
}
