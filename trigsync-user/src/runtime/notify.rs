//! What the service manager is told: that the daemon is ready, reloads, stops, how far behind it is, and that it is alive.
//!
//! - The watchdog is fed only where everything has moved since the last time: the daemon's own loop (it is what feeds), the thread that captures,
//!   and the loop of every lane. A lane that waits for a dead target does move.
//! - Without a service manager nothing of this does anything.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::{
    capture::Capture,
    dispatch::{LaneShared, now},
    model::Stamp,
};

/// How often the service manager is told how far behind the targets are, where it does not want to hear more often.
const PACE: Duration = Duration::from_secs(10);

/// How long the capture thread may take to answer. The daemon's loop waits meanwhile, and with it whoever asks for the status.
const PATIENCE: Duration = Duration::from_millis(500);

/// Speaks to the service manager.
pub(super) struct Notifier {
    ticks: Interval,
    /// Whether it has to be told that we are alive.
    watched: bool,
    /// When every lane was woken last.
    woken: Option<Stamp>,
    /// What has not moved, as it was said last.
    stuck: Option<String>,
}

impl Notifier {
    /// With the pace that the service manager asks for: it is told twice in the time after which it takes us for dead.
    pub fn new() -> Self {
        let limit = sd_notify::watchdog_enabled();
        let pace = limit.map_or(PACE, |limit| (limit / 2).clamp(Duration::from_millis(10), PACE));
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, watched: limit.is_some(), woken: None, stuck: None }
    }

    /// Waits until it is time again.
    pub async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// Tells that we are alive, if everything is, and how far behind.
    pub async fn feed(&mut self, capture: &Capture, lanes: &[(String, Arc<LaneShared>)], status: &str) {
        tell(&[NotifyState::Status(status)]);
        if !self.watched {
            return;
        }
        let stuck = self.stuck(capture, lanes).await;
        match &stuck {
            None => tell(&[NotifyState::Watchdog]),
            Some(what) if self.stuck.is_none() => tracing::error!("{what} does not move: the service manager's watchdog is not fed"),
            Some(_) => {}
        }
        self.stuck = stuck;
    }

    /// What has not moved since the last time.
    async fn stuck(&mut self, capture: &Capture, lanes: &[(String, Arc<LaneShared>)]) -> Option<String> {
        let woken = self.woken.replace(now());
        let lane = woken.and_then(|woken| lanes.iter().find(|(_, lane)| lane.beat() < woken));
        lanes.iter().for_each(|(_, lane)| lane.wake());
        if let Some((name, _)) = lane {
            return Some(format!("the lane of {name}"));
        }
        // A new epoch does no harm, and the thread has to answer.
        match timeout(PATIENCE, capture.cut()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("capture ({error})")),
            Err(_) => Some("capture".to_owned()),
        }
    }
}

/// No change is missed any more.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(at) => tell(&[NotifyState::Reloading, at]),
        Err(error) => tracing::debug!("no time for the service manager: {error}"),
    }
}

/// A step of a long piece of work is done: the daemon's loop moves, though it does not turn.
pub(super) fn moving() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// The daemon ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}
