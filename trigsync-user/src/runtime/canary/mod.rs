//! The canary: a file in the source that gets a new content at every beat, and every target asked for it until it has that content.
//!
//! - Nothing of it is marked by hand, and the lanes are not asked: a beat that arrives was seen by capture, cut, sent and written, or brought by a
//!   full pass. That is the proof of life.
//! - The delay is from the end of the writing to the start of the fetch that found it: an upper bound, with the step of asking as its grain.
//! - One fetch at a time for each target, for no longer than the target's `timeout`; none while nothing is sent to it.
//! - Everything ends when the [`Canary`] is dropped.

mod write;

use std::{
    collections::hash_map::RandomState,
    fs::{self, DirBuilder},
    future::Future,
    hash::{BuildHasher, Hasher},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use write::write_canary;

use crate::{
    config::{CANARY, TargetConfig},
    dispatch::{LaneShared, SyncContext, now},
    lock::lock,
    observe::{CanaryNews, CanaryReport, CanaryStatus, LaneState},
    rsync::{Route, Rsync},
};

/// Between two fetches: at first, and at the most; it doubles.
const STEPS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(4));

/// How long the writing may take.
const WRITING: Duration = Duration::from_secs(30);

/// The canary of a running sync.
pub(in crate::runtime) struct Canary {
    trouble: Shared<Option<String>>,
    askers: Vec<Arc<Asker>>,
    _stop: DropGuard,
}

type Shared<T> = Arc<Mutex<T>>;

/// Takes away what fetches of an earlier daemon left.
pub(in crate::runtime) fn clear(state_dir: &Path) {
    if let Err(error) = fs::remove_dir_all(scratch(state_dir))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{}: {error}", scratch(state_dir).display());
    }
}

fn scratch(state_dir: &Path) -> PathBuf {
    state_dir.join("canary")
}

impl Canary {
    /// Begins, where the sync wants one: the first beat is now. It is looked for at each of these targets.
    pub fn start(
        context: &Arc<SyncContext>,
        lanes: impl IntoIterator<Item = (TargetConfig, Arc<LaneShared>)>,
        rsync: &Rsync,
        state_dir: &Path,
    ) -> Option<Self> {
        let pace = context.config.canary?;
        let asker = |(target, lane): (TargetConfig, Arc<LaneShared>)| {
            Arc::new(Asker {
                context: context.clone(),
                target,
                lane,
                rsync: rsync.clone(),
                scratch: scratch(state_dir),
                report: Mutex::new(CanaryReport::new(pace)),
                beat: Notify::new(),
            })
        };
        let askers: Vec<_> = lanes.into_iter().map(asker).collect();
        let (stop, trouble) = (CancellationToken::new(), Shared::default());
        for asker in &askers {
            tokio::spawn(stop.clone().run_until_cancelled_owned(asker.clone().run()));
        }
        let beats = beat(context.clone(), pace, trouble.clone(), askers.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(beats));
        Some(Self { trouble, askers, _stop: stop.drop_guard() })
    }

    /// Why it cannot be written.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// What it found at a target.
    pub fn status(&self, target: &str) -> Option<CanaryStatus> {
        let asker = self.askers.iter().find(|asker| asker.target.name == target)?;
        let mut status = lock(&asker.report).status(now());
        if asker.pauses() {
            // That nothing is sent says why nothing arrives.
            (status.overdue_ms, status.trouble) = (None, None);
        }
        Some(status)
    }
}

/// Writes at every beat, and tells those who ask.
async fn beat(context: Arc<SyncContext>, pace: Duration, trouble: Shared<Option<String>>, askers: Vec<Arc<Asker>>) {
    let sync = &context.config.name;
    let mut beats = interval(pace);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1_u64.. {
        beats.tick().await;
        // A sync that is stopped says so itself, and its root may be another directory.
        if context.gate().stopped.is_some() {
            continue;
        }
        // No other beat's, of no other daemon's.
        let (random, at) = (RandomState::new().build_hasher().finish(), humantime::format_rfc3339_nanos(SystemTime::now()));
        let content = format!("trigsync canary {number} of {sync}, {at}, {random:016x}\n").into_bytes();
        let written = timeout(WRITING, write::write(&context, &content)).await;
        let written = written.unwrap_or_else(|_| Err(format!("it took longer than {}", humantime::format_duration(WRITING))));
        let news = written.as_ref().err().map(|reason| {
            format!(
                "the canary {} cannot be written: {reason}; have trigsync write there, or leave `canary` out",
                context.config.source.join(CANARY).display()
            )
        });
        let before = std::mem::replace(&mut *lock(&trouble), news.clone());
        match (&before, &news) {
            (None, Some(news)) => tracing::warn!("{sync}: {news}"),
            (Some(_), None) => tracing::info!("{sync}: the canary can be written again"),
            _ => {}
        }
        if written.is_ok() {
            for asker in &askers {
                lock(&asker.report).written(content.clone(), now());
                asker.beat.notify_one();
            }
        }
    }
}

/// Asks one target.
struct Asker {
    context: Arc<SyncContext>,
    target: TargetConfig,
    lane: Arc<LaneShared>,
    rsync: Rsync,
    /// Where fetches get directories of their own.
    scratch: PathBuf,
    report: Mutex<CanaryReport>,
    beat: Notify,
}

impl Asker {
    /// Whether nothing is sent to the target.
    fn pauses(&self) -> bool {
        self.context.gate().stopped.is_some() || self.lane.status().state == LaneState::Held
    }

    async fn run(self: Arc<Self>) {
        let mut step = STEPS.0;
        let mut into = None;
        loop {
            if self.pauses() {
                lock(&self.report).forget();
            }
            if !lock(&self.report).is_out() {
                self.say();
                step = STEPS.0;
                self.beat.notified().await;
                continue;
            }
            let asked = now();
            let answer = self.meanwhile(self.ask(&mut into)).await;
            {
                let mut report = lock(&self.report);
                match answer {
                    Ok(content) => {
                        if report.found(&content.unwrap_or_default(), asked, SystemTime::now()).is_some() {
                            step = STEPS.0;
                        }
                    }
                    Err(reason) => report.failed(reason),
                }
            }
            self.say();
            if lock(&self.report).is_out() {
                self.meanwhile(sleep(step)).await;
                step = (step * 2).min(STEPS.1);
            }
        }
    }

    /// What the target has.
    async fn ask(&self, into: &mut Option<TempDir>) -> Result<Option<Vec<u8>>, String> {
        let into = match into {
            Some(into) => into,
            none => none.insert(self.directory().map_err(|error| format!("{}: {error}; make room there", self.scratch.display()))?),
        };
        let config = &self.context.config;
        let route = Route::of(config, &self.target);
        let stop = CancellationToken::new();
        match timeout(self.target.timeout, self.rsync.fetch(&route, CANARY, into.path(), &stop)).await {
            Ok(Ok(content)) => Ok(content),
            Ok(Err(answer)) => Err(answer.reason().to_owned()),
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(self.target.timeout))),
        }
    }

    fn directory(&self) -> io::Result<TempDir> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.scratch)?;
        tempfile::tempdir_in(&self.scratch)
    }

    /// Waits for `work`, and says where the canary becomes overdue meanwhile.
    async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let left = lock(&self.report).due().and_then(|due| due.checked_sub(now()));
        if let Some(left) = left {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(Duration::from_micros(left)) => self.say(),
            }
        }
        work.await
    }

    fn say(&self) {
        let (sync, target) = (&self.context.config.name, &self.target.name);
        let (news, status) = {
            let mut report = lock(&self.report);
            (report.news(now()), report.status(now()))
        };
        match news {
            Some(CanaryNews::Overdue) => {
                let trouble = status.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
                tracing::warn!("{sync}: {target}: the canary is overdue: what changes may not arrive{trouble}");
            }
            Some(CanaryNews::Back) if self.pauses() => {
                tracing::info!("{sync}: {target}: the canary is not waited for while nothing is sent")
            }
            Some(CanaryNews::Back) => tracing::info!("{sync}: {target}: the canary arrives again"),
            None => {}
        }
    }
}
