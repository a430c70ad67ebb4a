//! The task of one plugin: one run at a time, retries, and what is counted.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Place, exec, http::Client, payload, queue::Queue, tcp};
use crate::{
    config::{CANARY, CANARY_NEW, PluginAction, PluginConfig},
    lock::lock,
    model::Arrived,
    observe::PluginStatus,
};

/// Between two attempts: at first, and at the most; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Characters of a reason that are worth showing.
const LONGEST: usize = 300;

/// A plugin that runs. Dropped, it ends at once.
#[derive(Debug)]
pub(super) struct Running {
    config: Arc<PluginConfig>,
    shared: Arc<Shared>,
    ending: CancellationToken,
    task: JoinSet<()>,
}

/// What a plugin shares with those that tell it and with `status`.
#[derive(Debug)]
pub(super) struct Shared {
    config: Arc<PluginConfig>,
    place: Place,
    queue: Mutex<Queue>,
    report: Mutex<Report>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Report {
    /// Paths that were taken from the queue and not told yet.
    in_hand: u64,
    told: u64,
    runs: u64,
    failures: u64,
    dropped: u64,
    folded: u64,
    trouble: Option<String>,
}

/// Why a run failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub reason: String,
    /// Trying again is of no use.
    pub is_final: bool,
}

impl Failure {
    /// One that may pass.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: false }
    }
}

impl Shared {
    /// Nothing is to be told yet.
    pub fn new(config: Arc<PluginConfig>, place: Place) -> Self {
        Self { queue: Mutex::new(Queue::new(config.memory)), config, place, report: Mutex::default(), wake: Notify::new() }
    }

    /// Is to be told of these, as far as its filters let them pass. The canary is nobody's business.
    pub fn push(&self, arrived: impl IntoIterator<Item = Arrived>) {
        let (paths, absolute) = (&self.config.paths, self.config.absolute);
        let is_canary = |path: &[u8]| [CANARY, CANARY_NEW].iter().any(|name| name.as_bytes() == path);
        let holds =
            |arrived: &Arrived| !is_canary(arrived.path.as_bytes()) && paths.holds(arrived, &payload::path(arrived, &self.place, absolute));
        let folded = {
            let mut queue = lock(&self.queue);
            arrived.into_iter().filter(holds).map(|arrived| queue.add(arrived, 0, 0)).sum()
        };
        self.folded(folded);
        self.wake.notify_one();
    }

    /// So many paths gave way to directories.
    pub fn folded(&self, count: u64) {
        lock(&self.report).folded += count;
    }

    fn take(&self) -> Vec<Arrived> {
        let taken = lock(&self.queue).take();
        lock(&self.report).in_hand = taken.len() as u64;
        taken
    }

    /// Paths that it was not told of yet.
    pub fn pending(&self) -> u64 {
        let waiting = lock(&self.queue).len();
        waiting + lock(&self.report).in_hand
    }
}

impl Running {
    /// Starts one, which has nothing to tell yet.
    pub fn start(config: PluginConfig, sync: &str, source: &Path) -> Self {
        let config = Arc::new(config);
        let place = Place { sync: sync.to_owned(), source: source.into() };
        let shared = Arc::new(Shared::new(config.clone(), place));
        let ending = CancellationToken::new();
        let runner = Runner { shared: shared.clone(), client: Client::new(&config.action.address()), config: config.clone() };
        let mut task = JoinSet::new();
        task.spawn(runner.run(ending.clone()));
        Self { config, shared, ending, task }
    }

    pub fn config(&self) -> &PluginConfig {
        &self.config
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub fn status(&self) -> PluginStatus {
        let pending = self.shared.pending();
        let report = lock(&self.shared.report);
        PluginStatus {
            name: self.config.name.clone(),
            kind: self.config.action.kind().to_owned(),
            address: self.config.action.address(),
            trouble: report.trouble.clone(),
            pending,
            told: report.told,
            runs: report.runs,
            failures: report.failures,
            dropped: report.dropped,
            folded: report.folded,
        }
    }

    /// Tells what waits, until `until`, and says what was left then.
    pub async fn finish(mut self, until: Instant) {
        self.ending.cancel();
        // One that has not ended by then is ended.
        let _ = timeout_at(until.into(), self.task.join_next()).await;
        self.task.shutdown().await;
        let left = self.shared.pending();
        if left > 0 {
            let (sync, name) = (&self.shared.place.sync, &self.config.name);
            tracing::warn!("{sync}: plugin {name}: {left} paths were not told in the time of a stop, and are told no more (stop_timeout)");
        }
    }
}

struct Runner {
    config: Arc<PluginConfig>,
    shared: Arc<Shared>,
    client: Client,
}

impl Runner {
    /// Tells whatever comes, and ends with nothing left to tell when it is to end.
    async fn run(self, ending: CancellationToken) {
        let mut next = Instant::now();
        loop {
            let taken = self.shared.take();
            if taken.is_empty() {
                if ending.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.shared.wake.notified() => {}
                    () = ending.cancelled() => {}
                }
                continue;
            }
            for batch in taken.chunks(self.config.batch.max(1)) {
                if let Some(rate) = self.config.rate {
                    sleep_until(next.into()).await;
                    next = Instant::now() + Duration::from_secs(1) / rate.get();
                }
                self.tell(batch).await;
                lock(&self.shared.report).in_hand -= batch.len() as u64;
            }
        }
    }

    /// Until it has succeeded, or is given up.
    async fn tell(&self, batch: &[Arrived]) {
        let attempts = self.config.attempts.get() as usize;
        let pauses = ExponentialBuilder::new().with_min_delay(PAUSES.0).with_max_delay(PAUSES.1);
        let mut pauses = pauses.with_max_times(attempts - 1).with_jitter().build();
        loop {
            let limit = self.config.timeout;
            let outcome = timeout(limit, self.attempt(batch)).await.unwrap_or_else(|_| {
                Err(Failure::new(format!("it took longer than {} and was ended (timeout)", humantime::format_duration(limit))))
            });
            match outcome {
                Ok(()) => return self.succeeded(batch.len()),
                Err(failure) => {
                    let pause = pauses.next().filter(|_| !failure.is_final);
                    self.failed(&failure, if pause.is_none() { batch.len() } else { 0 });
                    match pause {
                        Some(pause) => sleep(pause).await,
                        None => return,
                    }
                }
            }
        }
    }

    async fn attempt(&self, batch: &[Arrived]) -> Result<(), Failure> {
        let (config, place) = (&self.config, &self.shared.place);
        match &config.action {
            PluginAction::Exec { command, input } => exec::run(config, place, command, *input, batch).await,
            PluginAction::Tcp { to, separator } => tcp::send(config, place, to, *separator, batch).await,
            PluginAction::Http(request) => self.client.send(config, place, request, None, batch).await,
            PluginAction::Purge { urls, request } => self.client.send(config, place, request, Some(urls), batch).await,
        }
    }

    fn succeeded(&self, paths: usize) {
        let mut report = lock(&self.shared.report);
        report.runs += 1;
        report.told += paths as u64;
        if report.trouble.take().is_some() {
            tracing::info!("{}: plugin {}: it is told again", self.shared.place.sync, self.config.name);
        }
    }

    fn failed(&self, failure: &Failure, dropped: usize) {
        let reason: String = failure.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        let mut report = lock(&self.shared.report);
        report.runs += 1;
        report.failures += 1;
        report.dropped += dropped as u64;
        let before = report.trouble.replace(reason.clone());
        // The rest is in the status: a plugin that fails does so at each of its paths.
        if before.is_none() {
            tracing::warn!("{}: plugin {}: {reason}", self.shared.place.sync, self.config.name);
        }
    }
}
