//! Plugins: programs, connections and requests that are told what has arrived.
//!
//! - A path is told when every target of its sync has it, or the one that `after` names (`gather`); in a sync without targets when it was looked
//!   at. It may be told again, never as it was not.
//! - Nothing waits for a plugin: what it was not told yet is in a queue of its own, and where that is full, directories take the place of what is
//!   in them (`queue`). Every fold, failure and path that was given up is counted.
//! - Each plugin has one task and one run at a time, in order (`runner`). What a run is, is in `exec`, `tcp` and `http`.
//! - Nothing of it is kept: a path is told at most once for each arrival, and what was not told when the daemon ends is told no more.

mod check;
mod exec;
mod gather;
mod http;
mod payload;
mod queue;
mod runner;
mod tcp;

use std::{path::Path, sync::Arc, time::Instant};

pub use check::check;

use crate::{
    config::{PluginConfig, SyncConfig},
    dispatch::{LaneShared, Listener, now},
    model::Arrived,
    observe::PluginStatus,
};
use gather::Gather;
use runner::Running;

/// The plugins of a sync that runs.
#[derive(Debug)]
pub struct Plugins {
    running: Vec<Running>,
    gather: Arc<Gather>,
}

/// Hears what arrives at one target.
#[derive(Debug)]
struct Ear {
    /// Which one it is.
    lane: usize,
    gather: Arc<Gather>,
    /// Those that are told of this target alone.
    own: Vec<Arc<runner::Shared>>,
}

impl Listener for Ear {
    fn arrived(&self, arrived: Vec<Arrived>) {
        for plugin in &self.own {
            plugin.push(arrived.iter().cloned());
        }
        self.gather.arrived(self.lane, arrived, now());
    }

    fn turned(&self) {
        self.gather.release();
    }
}

impl Plugins {
    /// Has the plugins of a sync hear of these lanes, which are in the order of its targets, or of the one that a sync without targets has. Those in `kept` that are still wanted go on with what
    /// they had; the others are told what they have not been told, until `until`.
    pub fn start(config: &SyncConfig, lanes: &[Arc<LaneShared>], kept: Option<Self>, until: Instant) -> Self {
        let (mut old, waiting) = kept.map_or_else(Default::default, |kept| (kept.running, kept.gather.take()));
        let mut start = |plugin: &PluginConfig| match old.iter().position(|running| running.config() == plugin) {
            Some(index) => old.swap_remove(index),
            None => Running::start(plugin.clone(), &config.name, &config.source),
        };
        let running: Vec<_> = config.plugins.iter().map(&mut start).collect();
        if !old.is_empty() {
            tokio::spawn(futures_util::future::join_all(old.into_iter().map(move |plugin| plugin.finish(until))));
        }
        let of = |after: Option<&str>| -> Vec<Arc<runner::Shared>> {
            running.iter().filter(|plugin| plugin.config().after.as_deref() == after).map(Running::shared).collect()
        };
        let gather = Arc::new(Gather::new(of(None), lanes, waiting));
        for (index, lane) in lanes.iter().enumerate() {
            let own = config.targets.get(index).map(|target| of(Some(&target.name))).unwrap_or_default();
            let ear = Ear { lane: index, gather: gather.clone(), own };
            lane.listen((!running.is_empty()).then(|| Arc::new(ear) as Arc<dyn Listener>));
        }
        Self { running, gather }
    }

    /// What `status` shows of each.
    pub fn status(&self) -> Vec<PluginStatus> {
        let gathered = self.gather.len();
        let of = |plugin: &Running| {
            let mut status = plugin.status();
            if plugin.config().after.is_none() {
                status.pending += gathered;
            }
            status
        };
        self.running.iter().map(of).collect()
    }

    /// Has them told what they have not been told, until `until`, and says what was left then. The lanes have ended.
    pub async fn finish(self, until: Instant) {
        // Nothing is on its way any more, and what some target has not got will be sent by the next daemon, and told then.
        self.gather.release();
        futures_util::future::join_all(self.running.into_iter().map(|plugin| plugin.finish(until))).await;
    }
}

/// What every run needs to know of its sync.
#[derive(Debug)]
struct Place {
    sync: String,
    source: Box<Path>,
}
