//! The daemon's own loop: signals, control requests, the end of capture.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    Options, RuntimeError, StateDir,
    announcer::RunningAnnouncer,
    canary::{self, Canary},
    fan_out::{FanOut, Table},
    hook::Hook,
    metrics,
    notify::{self, Notifier},
    schedule::FullPasses,
    sync::{RunningLane, RunningSync, Tools},
    watch::watched,
};
use crate::{
    capture::{
        Capture, Continuity, Tier,
        choose::{Chosen, Details, Opened, Wanted, choose},
        ebpf::pin_directory,
    },
    config::{Config, RawConfig, SyncConfig, TargetConfig},
    control::{Call, serve},
    dispatch::{Cut, LaneShared, SyncContext},
    journal::{Journal, Left},
    model::RootId,
    observe::{FailLog, SyncState},
    plan::open_root,
    plugin::Plugins,
    rsync::Rsync,
};

/// A running daemon.
pub struct Daemon {
    pub(super) options: Options,
    pub(super) raw: RawConfig,
    pub(super) config: Config,
    pub(super) capture: Arc<Capture>,
    pub(super) syncs: Vec<RunningSync>,
    /// Syncs that are configured and could not be started by a reload, each with the reason.
    pub(super) broken: Vec<(SyncConfig, String)>,
    pub(super) started: Instant,
    /// What the tier is on this machine.
    pub(super) details: Details,
    /// The tiers that would have been better, each with the reason why it was not taken.
    pub(super) passed_over: Vec<(Tier, String)>,
    state_dir: StateDir,
    table: Table,
    pub(super) tools: Tools,
    pub(super) journal: Journal,
    pub(super) fail_log: FailLog,
    calls: mpsc::Receiver<Call>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    last_root: u32,
}

/// What a sync that begins anew goes on with.
#[derive(Default)]
pub(super) struct Kept {
    /// By the names of their targets.
    pub lanes: HashMap<String, Arc<LaneShared>>,
    pub announced: Option<Arc<LaneShared>>,
    pub plugins: Option<Plugins>,
}

/// How often states are compared for `on_state_change`.
const LOOKS: Duration = Duration::from_secs(1);

/// The end waits for so long for the file of failures, which may lie on a disk that hangs.
const FAIL_LOG_PATIENCE: Duration = Duration::from_secs(1);

/// What wakes the daemon.
enum Wake {
    Call(Call),
    Hangup,
    Stop,
    CaptureEnded(Arc<str>),
    /// The service manager is to hear of us.
    Tick,
    /// States may have changed.
    Look,
}

impl Daemon {
    /// Checks everything, arms capture and starts the lanes. When it returns, no change is missed any more.
    pub async fn start(options: Options) -> Result<Self, RuntimeError> {
        let (raw, config) = options.configuration()?;
        let has_targets = config.syncs.iter().any(|sync| !sync.targets.is_empty());
        let rsync = has_targets.then(|| Rsync::probe(&config.daemon.rsync)).transpose()?;
        let state_dir = StateDir::take(&options.state_dir)?;
        state_dir.let_pass(config.daemon.control_group)?;
        canary::clear(state_dir.path());
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| RuntimeError::Io { what, source }
        };
        let [hangup, terminate, interrupt] = [SignalKind::hangup(), SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let table = Table::default();
        let mut wanted = Wanted::new(&config.daemon, options.capture_mask.clone());
        wanted.ring = options.capture_ring;
        wanted.pins = Some(pin_directory(state_dir.path()));
        let (journal, left) = Journal::open(state_dir.path())?;
        if let Some(why) = left.set_aside() {
            tracing::warn!("{why}; every target is compared");
        }
        wanted.resume_at = left.passed().and_then(|passed| passed.position);
        let chosen = choose(&wanted)?;
        tracing::info!("{}", chosen.summary());
        let Chosen { opened: Opened { source, details }, passed_over } = chosen;
        for lack in &details.lacks {
            tracing::warn!("{}: {lack}", source.tier());
        }
        let capture = Arc::new(Capture::spawn(source, Box::new(FanOut::new(table.clone(), journal.note())))?);
        let tools = Tools { rsync, cut: Cut::of(&capture), grace: config.daemon.stop_timeout, capture: capture.clone() };
        let (call, calls) = mpsc::channel(16);
        let mut daemon = Self {
            raw,
            config,
            capture,
            syncs: Vec::new(),
            broken: Vec::new(),
            started: Instant::now(),
            details,
            passed_over,
            table,
            tools,
            journal,
            fail_log: FailLog::default(),
            calls,
            hangup: hangup.map_err(io("cannot handle SIGHUP"))?,
            terminate: terminate.map_err(io("cannot handle SIGTERM"))?,
            interrupt: interrupt.map_err(io("cannot handle SIGINT"))?,
            last_root: 0,
            options,
            state_dir,
        };
        daemon.fail_log.write_to(daemon.config.daemon.fail_log.as_deref());
        if let Some(address) = daemon.config.daemon.metrics {
            metrics::serve(address, call.clone()).await.map_err(io(&format!("cannot serve metrics at {address}")))?;
        }
        daemon.start_syncs(&left).await?;
        drop(left);
        serve(daemon.state_dir.path(), daemon.config.daemon.control_group, call).map_err(io("cannot listen on the control socket"))?;
        Ok(daemon)
    }

    async fn start_syncs(&mut self, left: &Left) -> Result<(), RuntimeError> {
        for config in self.config.syncs.clone() {
            let (mut sync, continuity) = self.start_sync(config, Kept::default(), left).await?;
            sync.mark_missed(self.options.initial_sync, continuity, left, &self.journal);
            self.syncs.push(sync);
        }
        self.hear().await?;
        self.share_memory();
        self.journal.go_on();
        Ok(())
    }

    /// Every lane may hold the same part. A quarter is for what marks need besides: the journal's changes that wait, and batches on their way.
    pub(super) fn share_memory(&self) {
        let lanes: Vec<_> = self.syncs.iter().flat_map(RunningSync::shared).collect();
        let part = self.config.daemon.memory / 4 * 3 / lanes.len().max(1) as u64;
        lanes.iter().for_each(|shared| shared.bound(usize::try_from(part).unwrap_or(usize::MAX)));
    }

    /// Arms a root and starts its lanes, or what tells its plugins, which has to [`hear`](Self::hear) yet; those in `kept` go on with what they
    /// had, others with what is `left`.
    pub(super) async fn start_sync(
        &mut self,
        config: SyncConfig,
        mut kept: Kept,
        left: &Left,
    ) -> Result<(RunningSync, Continuity), RuntimeError> {
        self.last_root += 1;
        let id = RootId(self.last_root);
        let (_, identity) = open_root(&config.source)?;
        let rsync = self.rsync_for(&config)?;
        let context = Arc::new(SyncContext::new(Arc::new(config), identity).telling(self.fail_log.clone()));
        let config = &context.config;
        let share = |target: &TargetConfig| RunningLane::share(config, target, left);
        let mut shared: Vec<_> =
            config.targets.iter().map(|target| kept.lanes.remove(&target.name).unwrap_or_else(|| share(target))).collect();
        let is_deaf = shared.is_empty() && kept.announced.is_none();
        if config.targets.is_empty() {
            shared.push(kept.announced.unwrap_or_else(|| RunningAnnouncer::share(config)));
        }
        self.table.enter(id, context.clone(), if is_deaf { Vec::new() } else { shared.clone() });
        let added = self.capture.add_root(id, watched(config, self.state_dir.path())).await;
        let continuity = added.inspect_err(|_| self.table.remove(id))?;
        let plugins = Plugins::start(config, &shared, kept.plugins, Instant::now() + self.tools.grace);
        let start = |(target, shared): (&TargetConfig, &Arc<LaneShared>), rsync| {
            RunningLane::start(&context, target.clone(), shared.clone(), rsync, &self.tools)
        };
        let (lanes, announcer): (Vec<_>, _) = match &rsync {
            Some(rsync) => (config.targets.iter().zip(&shared).map(|lane| start(lane, rsync)).collect(), None),
            None => (Vec::new(), shared.pop().map(|shared| RunningAnnouncer::start(&context, shared, is_deaf, &self.tools))),
        };
        let canaries = lanes.iter().map(|lane| (lane.target.clone(), lane.shared.clone()));
        let canary = rsync.as_ref().and_then(|rsync| Canary::start(&context, canaries, rsync, self.state_dir.path()));
        let full_passes = FullPasses::start(&context, lanes.iter().map(|lane| lane.shared.clone()).collect());
        Ok((RunningSync { id, lanes, announcer, context: context.clone(), search: None, canary, full_passes, plugins }, continuity))
    }

    /// Has those hear what changes from now on that were started deaf. Nobody is told of what happened before: not of what a capture has kept that
    /// outlived the last daemon either.
    pub(super) async fn hear(&mut self) -> Result<(), RuntimeError> {
        if !self.syncs.iter().any(RunningSync::is_deaf) {
            return Ok(());
        }
        self.capture.barrier().await?;
        for sync in self.syncs.iter_mut().filter(|sync| sync.is_deaf()) {
            self.table.enter(sync.id, sync.context.clone(), sync.shared().cloned().collect());
            sync.announcer.iter_mut().for_each(|announcer| announcer.is_deaf = false);
        }
        // What was passed over is told again in a new epoch.
        Ok(self.capture.cut().await?)
    }

    /// The rsync for the targets of a sync; none where it has none.
    fn rsync_for(&mut self, config: &SyncConfig) -> Result<Option<Rsync>, RuntimeError> {
        if config.targets.is_empty() {
            return Ok(None);
        }
        if self.tools.rsync.is_none() {
            self.tools.rsync = Some(Rsync::probe(&self.config.daemon.rsync)?);
        }
        Ok(self.tools.rsync.clone())
    }

    /// Which tier captures.
    pub fn tier(&self) -> Tier {
        self.capture.tier()
    }

    /// The configuration that runs.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Works until a signal, `trigsync stop` or the end of capture.
    pub async fn run(mut self) -> Result<(), RuntimeError> {
        let mut notifier = Notifier::new();
        let mut hook = Hook::new(&self.config.daemon.on_state_change);
        let mut looks = tokio::time::interval(LOOKS);
        notify::ready();
        let ended = self.capture.ended();
        tokio::pin!(ended);
        let mut stopping = None;
        let result = loop {
            let wake = tokio::select! {
                Some(call) = self.calls.recv() => Wake::Call(call),
                Some(()) = self.hangup.recv() => Wake::Hangup,
                Some(()) = self.terminate.recv() => Wake::Stop,
                Some(()) = self.interrupt.recv() => Wake::Stop,
                why = &mut ended => Wake::CaptureEnded(why),
                () = notifier.tick() => Wake::Tick,
                _ = looks.tick(), if hook.is_on() => Wake::Look,
            };
            match wake {
                Wake::Call(call) => {
                    if let Some(answer) = self.answer(call).await {
                        stopping = Some(answer);
                        break Ok(());
                    }
                }
                Wake::Hangup => {
                    notify::reloading();
                    self.reload().await;
                    notify::ready();
                }
                Wake::Look => hook.look(self.sync_status()),
                Wake::Tick => notifier.feed(&self.capture, &self.lanes(), &self.summary()).await,
                Wake::Stop => break Ok(()),
                Wake::CaptureEnded(why) => break Err(RuntimeError::CaptureEnded(why.to_string())),
            }
        };
        if let Some(answer) = stopping {
            // The client may have gone; the daemon ends all the same.
            let _ = answer.send(crate::control::Response::Stopping);
        }
        notify::stopping();
        self.finish().await;
        result
    }

    /// Every lane with its target's name, and whatever tells plugins alone.
    fn lanes(&self) -> Vec<(String, Arc<LaneShared>)> {
        let lanes = self.syncs.iter().flat_map(|sync| &sync.lanes).map(|lane| (lane.target.name.clone(), lane.shared.clone()));
        let announcers = self.syncs.iter().flat_map(|sync| &sync.announcer);
        lanes.chain(announcers.map(|announcer| (announcer.name(), announcer.shared.clone()))).collect()
    }

    /// One line for the service manager: the target that is furthest behind.
    fn summary(&self) -> String {
        let syncs = self.sync_status();
        let stopped = syncs.iter().filter(|sync| sync.state != SyncState::Running).count();
        let alone = syncs.iter().filter(|sync| sync.announcer.is_some()).count();
        let targets: Vec<_> = syncs.into_iter().flat_map(|sync| sync.targets).collect();
        let behind = targets.iter().filter(|target| target.lag_ms > 0).count();
        let worst = targets.iter().max_by_key(|target| target.lag_ms).filter(|target| target.lag_ms > 0);
        let worst = worst.map_or_else(String::new, |target| format!(", {} by {:.0} s", target.name, target.lag_ms as f64 / 1000.0));
        let stopped = if stopped > 0 { format!(", {stopped} syncs stopped") } else { String::new() };
        let alone = if alone > 0 { format!(", {alone} syncs of plugins alone") } else { String::new() };
        format!("{} targets, {behind} behind{worst}{alone}{stopped}", targets.len())
    }

    async fn finish(self) {
        tracing::info!("stopping: waiting up to {} for what is in flight", humantime::format_duration(self.config.daemon.stop_timeout));
        let until = Instant::now() + self.config.daemon.stop_timeout;
        join_all(self.syncs.into_iter().map(|sync| sync.stop(until))).await;
        self.capture.halt().await;
        // What was read from the kernel is in the sets, and what was not is still there, or is found since when capture ended.
        let (journal, fail_log) = (self.journal, self.fail_log);
        let finish = move || {
            fail_log.finish(FAIL_LOG_PATIENCE);
            journal.finish()
        };
        match tokio::task::spawn_blocking(finish).await.expect("writing does not panic") {
            Ok(()) if self.details.outlives_us => tracing::info!(
                "stopped; capture goes on in the kernel for the next start (`trigsync uninstall-capture --state-dir {}` ends it)",
                self.state_dir.path().display()
            ),
            Ok(()) => tracing::info!("stopped"),
            Err(error) => tracing::error!("what was left unsent could not be written: {error}; the next start looks for it"),
        }
    }

    pub(super) async fn forget(&self, id: RootId) {
        self.table.remove(id);
        if let Err(error) = self.capture.remove_root(id).await {
            tracing::warn!("{error}");
        }
    }

    /// Lets a stopped sync go on. Where its root was lost it is armed again, and everything is compared.
    pub(super) async fn release(&self, sync: &RunningSync) -> Result<(), RuntimeError> {
        let (_, identity) = open_root(&sync.context.config.source)?;
        let gate = sync.context.gate();
        if gate.root_lost || gate.root != identity {
            self.capture.remove_root(sync.id).await?;
            self.capture.add_root(sync.id, watched(&sync.context.config, self.state_dir.path())).await?;
            sync.mark_everything();
        }
        sync.context.release(identity);
        Ok(())
    }
}
