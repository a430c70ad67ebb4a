//! One target's audit: waits for its time, compares slice by slice, and repairs.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::io::Errno;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    judge::{Judged, mark},
    pace::{interval, limit},
    walk::{Limit, Slice, Walk},
};
use crate::{
    capture::Capture,
    config::{AuditConfig, SyncConfig, TargetConfig},
    dispatch::{LaneShared, SyncContext},
    journal::AuditPoint,
    model::RelPath,
    observe::{AuditFinding, AuditStatus},
    plan::{RootError, open_same_root},
    rsync::{Answer, Comparison, Drift, Extent, Route, Rsync, Verdict},
};

/// Until what could not be compared is tried again.
const PAUSE: Duration = Duration::from_secs(60);

/// The longest time for which the clock is trusted to go on as it does.
const NAP: Duration = Duration::from_secs(60);

/// A target whose connections are all taken is asked again so often, after so long each time.
const TRIES: usize = 20;
const FULL: Duration = Duration::from_millis(500);

/// How long the lane may be busy before the audit has its turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a slice holds when somebody waits.
const IN_A_HURRY: Limit = Limit { names: 50_000, bytes: 1 << 30 };

/// Compares one target with its source. Runs until it is stopped.
pub struct Auditor {
    pub(super) context: Arc<SyncContext>,
    pub(super) shared: Arc<LaneShared>,
    target: TargetConfig,
    rsync: Rsync,
    pub(super) capture: Arc<Capture>,
    /// Who waits for the end of the cycle; where nobody does it takes its time.
    waiting: Vec<Order>,
}

/// Somebody wants a whole cycle now, at full speed.
pub type Order = oneshot::Sender<Result<Audited, AuditError>>;

/// A cycle that was ordered has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Names that were compared.
    pub names: u64,
    /// Lost changes.
    pub findings: u64,
    /// Paths that changed whenever they were looked at.
    pub unsettled: u64,
}

/// Why something could not be compared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// A guard has stopped the sync.
    #[error("the sync is stopped; `trigsync status` says why")]
    Stopped,
    /// The operator or an error holds the target.
    #[error("the target is held; `trigsync status` says why")]
    Held,
    /// What differs may be on its way.
    #[error("what has changed does not arrive; `trigsync status` says why")]
    Behind,
    /// The capture has ended.
    #[error("{0}")]
    Capture(String),
    /// rsync could not compare.
    #[error("{0}")]
    Rsync(String),
    /// The source could not be read.
    #[error("the source cannot be read: {0}")]
    Source(String),
}

/// A cycle that runs.
struct Cycle {
    began: SystemTime,
    walk: Walk,
    so_far: Audited,
}

impl Default for Cycle {
    /// One that begins now, at the root.
    fn default() -> Self {
        Self { began: SystemTime::now(), walk: Walk::default(), so_far: Audited::default() }
    }
}

impl Auditor {
    /// An audit that has not begun.
    pub fn new(context: Arc<SyncContext>, shared: Arc<LaneShared>, target: TargetConfig, rsync: Rsync, capture: Arc<Capture>) -> Self {
        Self { context, shared, target, rsync, capture, waiting: Vec::new() }
    }

    /// Compares until it is dropped.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut cycle: Option<Cycle> = None;
        let mut next = Instant::now();
        loop {
            let is_hurried = !self.waiting.is_empty();
            let step = async {
                if !is_hurried {
                    wait(&self.context, &self.shared, cycle.is_some(), next).await;
                }
                let begun = Instant::now();
                next = match self.go_on(&mut cycle).await {
                    Ok(interval) => begun + interval,
                    Err(error) => {
                        self.shared.audited().tell(|status| status.trouble = Some(error.to_string()));
                        // It goes on where the last slice ended, which the point says.
                        cycle = None;
                        self.answer(&Err(error));
                        begun + PAUSE
                    }
                };
            };
            tokio::select! {
                () = step => {}
                // What it was at is compared in the new cycle.
                Some(order) = orders.recv(), if !is_hurried => {
                    self.waiting.push(order);
                    cycle = Some(Cycle::default());
                }
            }
        }
    }

    fn answer(&mut self, result: &Result<Audited, AuditError>) {
        for order in self.waiting.drain(..) {
            // The client may have gone.
            let _ = order.send(result.clone());
        }
    }

    /// Compares one slice. Returns how long after its beginning the next may begin.
    async fn go_on(&mut self, cycle: &mut Option<Cycle>) -> Result<Duration, AuditError> {
        self.context.check_root();
        if self.context.gate().stopped.is_some() {
            return Err(AuditError::Stopped);
        }
        if self.shared.is_held() {
            return Err(AuditError::Held);
        }
        let mut running = match cycle.take() {
            Some(cycle) => cycle,
            None => self.begin().await?,
        };
        let config = self.context.config.audit.clone().unwrap_or_default();
        let limit = if self.waiting.is_empty() { limit(&config) } else { IN_A_HURRY };
        let begun = Instant::now();
        let (walk, slice) = self.look(running.walk, limit).await?;
        running.walk = walk;
        self.slice(&slice, &mut running.so_far).await?;
        let after = slice.directories.last().filter(|_| !slice.is_last).cloned();
        let shown = after.as_ref().map(ToString::to_string);
        self.shared.audited().tell(|status| {
            (status.begun_at_ms, status.after) = (milliseconds(running.began), shown);
            status.cycles += u64::from(slice.is_last);
        });
        self.shared.audited().reached(AuditPoint { began: running.began, after });
        if slice.is_last {
            self.answer(&Ok(running.so_far));
        } else {
            *cycle = Some(running);
        }
        Ok(interval(&config, slice.names, slice.bytes, begun.elapsed()))
    }

    /// A cycle from where the last one was left, or from the root.
    async fn begin(&self) -> Result<Cycle, AuditError> {
        let (began, walk) = match self.shared.audited().point() {
            Some(AuditPoint { began, after: Some(after) }) => {
                let walk = self.on_the_source(move |root, config| Walk::after(&after, root, config)).await?;
                (began, walk)
            }
            _ => return Ok(Cycle::default()),
        };
        Ok(Cycle { began, walk, so_far: Audited::default() })
    }

    async fn look(&self, mut walk: Walk, limit: Limit) -> Result<(Walk, Slice), AuditError> {
        self.on_the_source(move |root, config| walk.slice(root, config, limit).map(|slice| (walk, slice))).await
    }

    /// Looks at the source, where it still is the directory that was armed.
    pub(super) async fn on_the_source<T: Send + 'static>(
        &self,
        look: impl FnOnce(BorrowedFd<'_>, &SyncConfig) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, AuditError> {
        let context = self.context.clone();
        let looking = spawn_blocking(move || {
            let root = open_same_root(&context.config.source, context.gate().root).map_err(|error: RootError| error.to_string())?;
            look(root.as_fd(), &context.config).map_err(|errno| errno.to_string())
        });
        looking.await.expect("looking does not panic").map_err(AuditError::Source)
    }

    /// Compares the directories of a slice, judges what differs, and has it sent.
    async fn slice(&self, slice: &Slice, so_far: &mut Audited) -> Result<(), AuditError> {
        if slice.directories.is_empty() {
            return Ok(());
        }
        let directories: Vec<&RelPath> = slice.directories.iter().map(|path| &**path).collect();
        let Comparison { drift, incomplete } = self.compare(Extent::Levels(&directories)).await?;
        let Judged { lost, unsettled } = self.judge(drift).await?;
        let (sync, target) = (&self.context.config.name, &self.target.name);
        if let Some(first) = lost.first() {
            tracing::error!(
                "{sync}: {target}: the audit has found {} lost changes, which are sent now: they had not arrived though everything had, \
                 or somebody else has written to the target; the first is {} ({})",
                lost.len(),
                first.path,
                first.item
            );
            self.shared.mark_all(lost.iter().map(mark));
        }
        so_far.names += slice.names;
        so_far.findings += lost.len() as u64;
        so_far.unsettled += unsettled as u64;
        let at_ms = milliseconds(SystemTime::now());
        self.shared.audited().tell(|status| {
            status.names += slice.names;
            status.findings += lost.len() as u64;
            status.unsettled += unsettled as u64;
            let finding = |lost: &Drift| AuditFinding { path: lost.path.to_string(), item: lost.item.clone(), at_ms };
            status.latest.extend(lost.iter().map(finding));
            let old = status.latest.len().saturating_sub(AuditStatus::LATEST);
            status.latest.drain(..old);
            status.trouble = incomplete.map(|answer| answer.reason().to_owned());
        });
        Ok(())
    }

    /// Runs rsync on a connection of the lane; again where the lane needs it back.
    pub(super) async fn compare(&self, extent: Extent<'_>) -> Result<Comparison, AuditError> {
        let config = &self.context.config;
        let route = Route::of(config, &self.target);
        let checksum = config.audit.as_ref().is_some_and(|audit| audit.checksum);
        let mut tries = TRIES;
        let patience = if self.waiting.is_empty() { PATIENCE } else { Duration::ZERO };
        loop {
            let stop = CancellationToken::new();
            let loan = tokio::select! {
                () = self.context.stopped() => return Err(AuditError::Stopped),
                loan = self.shared.loans().borrow(patience) => loan,
            };
            let comparing = self.rsync.compare(&route, checksum, extent, &stop);
            tokio::pin!(comparing);
            let compared = tokio::select! {
                compared = &mut comparing => compared,
                () = loan.recalled() => {
                    stop.cancel();
                    // The connection is free when rsync has ended.
                    let _ = comparing.await;
                    continue;
                }
            };
            drop(loan);
            match compared {
                // A daemon counts a connection for some time after it has ended.
                Err(Answer { verdict: Verdict::Full { .. }, .. }) if tries > 0 => {
                    tries -= 1;
                    sleep(FULL).await;
                }
                compared => return compared.map_err(|answer| AuditError::Rsync(answer.reason().to_owned())),
            }
        }
    }
}

/// Resolves when the next slice may be compared.
async fn wait(context: &SyncContext, shared: &LaneShared, in_a_cycle: bool, next: Instant) {
    let Some(config) = &context.config.audit else { return std::future::pending().await };
    loop {
        let window = config.window.and_then(|window| window.opens_in(jiff::Zoned::now().time()));
        let due = if in_a_cycle { Duration::ZERO } else { cycle_due_in(config, shared) };
        let longest = next.saturating_duration_since(Instant::now()).max(due).max(window.unwrap_or_default());
        if longest.is_zero() {
            return;
        }
        sleep(longest.min(NAP)).await;
    }
}

fn cycle_due_in(config: &AuditConfig, shared: &LaneShared) -> Duration {
    let now = SystemTime::now();
    let point = shared.audited().point().unwrap_or_else(|| {
        // Everything is compared when a target is new: the audit's turn is next time.
        let point = AuditPoint { began: now, after: None };
        shared.audited().reached(point.clone());
        point
    });
    match (point.after, now.duration_since(point.began)) {
        (Some(_), _) => Duration::ZERO,
        (None, Ok(passed)) => config.every.saturating_sub(passed),
        // The clock was set back.
        (None, Err(_)) => config.every,
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
