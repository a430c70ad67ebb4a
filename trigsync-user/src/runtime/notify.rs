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

#[cfg(test)]
mod tests {
    use std::{
        io,
        os::fd::{AsFd, BorrowedFd},
        path::Path,
        thread,
    };

    use nix::sys::eventfd::{EfdFlags, EventFd};
    use tokio::runtime::{Handle, Runtime};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        capture::{CaptureError, Continuity, Event, Sink, Source, Tier, WatchedRoot},
        config::{Overrides, RawConfig},
        dispatch::{Cut, Lane, SyncContext},
        model::RootId,
        plan::open_root,
        rsync::Rsync,
    };

    /// Tells of nothing.
    struct Quiet(EventFd);

    impl Source for Quiet {
        fn tier(&self) -> Tier {
            Tier::Fanotify
        }

        fn add_root(&mut self, _: RootId, _: &WatchedRoot) -> Result<Continuity, CaptureError> {
            Ok(Continuity::Began)
        }

        fn remove_root(&mut self, _: RootId) {}

        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn cut(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn barrier(&mut self) -> io::Result<u64> {
            Ok(0)
        }

        fn read(&mut self, _: &mut dyn Sink) -> io::Result<u64> {
            Ok(0)
        }

        fn check_roots(&mut self, _: &mut dyn Sink) {}
    }

    struct Nobody;

    impl Sink for Nobody {
        fn event(&mut self, _: Event<'_>) {}

        fn delivered(&mut self) {}
    }

    /// A lane that runs in `runtime`, to a target in `room`.
    fn lane(room: &Path, name: &str, rsync: &Rsync, capture: &Arc<Capture>, runtime: &Handle) -> (String, Arc<LaneShared>) {
        let source = room.join("source");
        let raw = RawConfig::from_flags(&source, &[room.join(name).display().to_string()]).unwrap();
        let sync = raw.resolve(&Overrides::default(), &room.join("state")).unwrap().syncs.remove(0);
        let (settle, target) = (sync.settle, sync.targets[0].clone());
        let shared = Arc::new(LaneShared::new(settle, name.to_owned(), name.to_owned(), []));
        let context = Arc::new(SyncContext::new(Arc::new(sync), open_root(&source).unwrap().1));
        let lane = Lane::new(shared.clone(), context, target, rsync.clone(), Cut::of(capture));
        runtime.spawn(lane.run(CancellationToken::new(), Duration::ZERO));
        (name.to_owned(), shared)
    }

    #[test]
    fn a_lane_whose_loop_stands_still_is_named_and_only_as_long_as_it_does() {
        let rsync = Rsync::probe(Path::new("rsync")).expect("rsync is installed");
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir(room.path().join("source")).unwrap();
        let capture = Capture::spawn(Box::new(Quiet(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap())), Box::new(Nobody)).unwrap();
        let capture = Arc::new(capture);
        // Each lane has a runtime of one thread, so that one of them can be made to stand still.
        let alone = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (healthy, sick): (Runtime, Runtime) = (alone(), alone());
        let lanes = [("healthy", &healthy), ("sick", &sick)];
        let lanes = lanes.map(|(name, runtime)| lane(room.path(), name, &rsync, &capture, runtime.handle()));
        let loops = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loops.block_on(async {
            let mut notifier = Notifier::new();
            // Every lane has had its turn when it was woken, and has time to take it.
            let look = async |notifier: &mut Notifier| {
                let stuck = notifier.stuck(&capture, &lanes).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                stuck
            };
            for _ in 0..3 {
                assert_eq!(look(&mut notifier).await, None);
            }
            let (go_on, standing) = std::sync::mpsc::channel::<()>();
            let (stands, is_standing) = tokio::sync::oneshot::channel();
            sick.spawn(async move {
                stands.send(()).expect("it is waited for");
                // Blocks the only thread there is.
                let _ = standing.recv();
            });
            is_standing.await.unwrap();
            // It may have turned after it was woken last.
            look(&mut notifier).await;
            for _ in 0..3 {
                assert_eq!(look(&mut notifier).await.as_deref(), Some("the lane of sick"));
            }
            drop(go_on);
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while look(&mut notifier).await.is_some() {
                assert!(std::time::Instant::now() < deadline, "it moves again, and is taken for stuck");
            }
        });
        thread::spawn(move || drop((healthy, sick))).join().unwrap();
    }
}
