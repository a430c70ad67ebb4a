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
    canary::{self, Canary},
    fan_out::{FanOut, Table, everything},
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
    journal::{Journal, LaneKey, Left},
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
    tools: Tools,
    pub(super) journal: Journal,
    fail_log: FailLog,
    calls: mpsc::Receiver<Call>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    last_root: u32,
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
        let rsync = Rsync::probe(&config.daemon.rsync)?;
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
            let (mut sync, continuity) = self.start_sync(config, HashMap::new(), None, left).await?;
            sync.mark_missed(self.options.initial_sync, continuity, left, &self.journal);
            self.syncs.push(sync);
        }
        self.share_memory();
        self.journal.go_on();
        Ok(())
    }

    /// Every lane may hold the same part. A quarter is for what marks need besides: the journal's changes that wait, and batches on their way.
    fn share_memory(&self) {
        let lanes: Vec<_> = self.syncs.iter().flat_map(|sync| &sync.lanes).collect();
        let part = self.config.daemon.memory / 4 * 3 / lanes.len().max(1) as u64;
        lanes.iter().for_each(|lane| lane.shared.bound(usize::try_from(part).unwrap_or(usize::MAX)));
    }

    /// Arms a root and starts its lanes; those in `kept` go on with what they had, others with what is `left`.
    async fn start_sync(
        &mut self,
        config: SyncConfig,
        mut kept: HashMap<String, Arc<LaneShared>>,
        plugins: Option<Plugins>,
        left: &Left,
    ) -> Result<(RunningSync, Continuity), RuntimeError> {
        self.last_root += 1;
        let id = RootId(self.last_root);
        let (_, identity) = open_root(&config.source)?;
        let context = Arc::new(SyncContext::new(Arc::new(config), identity).telling(self.fail_log.clone()));
        let config = &context.config;
        let share = |target: &TargetConfig| RunningLane::share(config, target, left);
        let shared: Vec<_> = config.targets.iter().map(|target| kept.remove(&target.name).unwrap_or_else(|| share(target))).collect();
        self.table.enter(id, context.clone(), shared.clone());
        let added = self.capture.add_root(id, watched(config, self.state_dir.path())).await;
        let continuity = added.inspect_err(|_| self.table.remove(id))?;
        let plugins = Plugins::start(config, &shared, plugins, Instant::now() + self.tools.grace);
        let start = |(target, shared): (&TargetConfig, _)| RunningLane::start(&context, target.clone(), shared, &self.tools);
        let lanes: Vec<_> = config.targets.iter().zip(shared).map(start).collect();
        let canary = Canary::start(
            &context,
            lanes.iter().map(|lane| (lane.target.clone(), lane.shared.clone())),
            &self.tools.rsync,
            self.state_dir.path(),
        );
        let full_passes = FullPasses::start(&context, lanes.iter().map(|lane| lane.shared.clone()).collect());
        Ok((RunningSync { id, lanes, context: context.clone(), search: None, canary, full_passes, plugins }, continuity))
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

    /// Every lane with its target's name.
    fn lanes(&self) -> Vec<(String, Arc<LaneShared>)> {
        self.syncs.iter().flat_map(|sync| &sync.lanes).map(|lane| (lane.target.name.clone(), lane.shared.clone())).collect()
    }

    /// One line for the service manager: the target that is furthest behind.
    fn summary(&self) -> String {
        let syncs = self.sync_status();
        let stopped = syncs.iter().filter(|sync| sync.state != SyncState::Running).count();
        let targets: Vec<_> = syncs.into_iter().flat_map(|sync| sync.targets).collect();
        let behind = targets.iter().filter(|target| target.lag_ms > 0).count();
        let worst = targets.iter().max_by_key(|target| target.lag_ms).filter(|target| target.lag_ms > 0);
        let worst = worst.map_or_else(String::new, |target| format!(", {} by {:.0} s", target.name, target.lag_ms as f64 / 1000.0));
        let stopped = if stopped > 0 { format!(", {stopped} syncs stopped") } else { String::new() };
        format!("{} targets, {behind} behind{worst}{stopped}", targets.len())
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

    /// Reads the configuration again; what did not change keeps running. A wrong configuration changes nothing.
    async fn reload(&mut self) {
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
        self.share_memory();
        self.journal.go_on();
        (self.raw, self.config.syncs) = (raw, config.syncs);
        tracing::info!("the configuration was reloaded");
    }

    /// Brings one sync to its new configuration.
    async fn replace(&mut self, running: Option<RunningSync>, new: SyncConfig) -> Result<RunningSync, RuntimeError> {
        let Some(running) = running else {
            tracing::info!("sync {} is new: a full pass", new.name);
            let (sync, _) = self.start_sync(new, HashMap::new(), None, &Left::default()).await?;
            sync.mark_everything();
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
        let mut kept = HashMap::new();
        for (target, shared) in lanes {
            let stays = new.targets.iter().any(|other| other.name == target.name && other.address == target.address);
            if same_tree && stays {
                shared.settle(new.settle);
                kept.insert(target.name, shared);
            }
        }
        let names: Vec<_> = kept.keys().cloned().collect();
        let result = self.start_sync(new, kept, Some(running.plugins), &Left::default()).await;
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

    async fn forget(&self, id: RootId) {
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
