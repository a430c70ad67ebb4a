//! The status of a running daemon, as `trigsync status --json` prints it. Durations are milliseconds, sizes bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A running daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `CARGO_PKG_VERSION` of the daemon.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Since the daemon was ready.
    pub uptime_ms: u64,
    /// Where changes come from.
    pub capture: CaptureStatus,
    /// Why the journal cannot be written; none where it can.
    pub journal_trouble: Option<String>,
    /// One for each `[[sync]]`.
    pub syncs: Vec<SyncStatus>,
}

/// The capture of a running daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureStatus {
    /// `ebpf-fexit`, `ebpf-kprobe` or `fanotify`.
    pub tier: String,
    /// Events read from the kernel, those outside the roots included.
    pub events: u64,
    /// Events below a watched root.
    pub changes: u64,
    /// How often the kernel's queue overflowed; each time the roots were marked whole.
    pub overflows: u64,
    /// What this kernel lacks for the tier, with what is not seen for that.
    pub lacks: Vec<String>,
    /// Bytes of kernel memory for ring and maps, where the tier has them.
    pub kernel_memory: Option<u64>,
    /// Tiers that would have been better, each with the reason why it was not taken.
    pub passed_over: Vec<(String, String)>,
}

/// Whether a sync works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum SyncState {
    /// Changes are captured and sent.
    Running,
    /// A guard stopped it: nothing is sent or deleted until the operator acts. The text says why and what to do.
    Stopped(String),
}

/// One source and its targets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SyncStatus {
    /// The sync's name.
    pub name: String,
    /// The source directory.
    pub source: String,
    /// Whether it works.
    #[serde(flatten)]
    pub state: SyncState,
    /// The search for what changed while nothing captured, while it runs.
    pub search: Option<SearchStatus>,
    /// Why the canary cannot be written into the source; none where it can, or where none is wanted.
    pub canary_trouble: Option<String>,
    /// When the next scheduled full pass begins, in milliseconds since 1970; none where none is.
    pub next_full_pass_ms: Option<u64>,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
    /// Where it has none: how far its plugins are from what changed.
    #[serde(default)]
    pub announcer: Option<AnnouncerStatus>,
    /// Its plugins.
    #[serde(default)]
    pub plugins: Vec<PluginStatus>,
}

/// What tells the plugins of a sync without targets. What they have not been told of what it told them is in theirs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnnouncerStatus {
    /// Whether it keeps up.
    pub state: LaneState,
    /// What is wrong, for `retrying` and `held`.
    pub reason: Option<String>,
    /// Since when the state is what it is.
    pub since_ms: u64,
    /// Marks that wait.
    pub pending: u64,
    /// Marks that are looked at.
    pub in_flight: u64,
    /// Age of the oldest change that was not told; 0 where all were.
    pub lag_ms: u64,
    /// Directories that were put in place of what was marked in them, because the marks took more memory than they may.
    pub degraded: u64,
    /// Events that were folded into marks.
    pub changes: u64,
    /// Marks that were told.
    pub told: u64,
    /// How long changes took from the event until they were told.
    pub delay: DelayStatus,
}

impl From<TargetStatus> for AnnouncerStatus {
    fn from(lane: TargetStatus) -> Self {
        let TargetStatus { state, reason, since_ms, pending, in_flight, lag_ms, degraded, changes, sent, delay, .. } = lane;
        Self { state, reason, since_ms, pending, in_flight, lag_ms, degraded, changes, told: sent, delay }
    }
}

/// One plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginStatus {
    /// The plugin's name.
    pub name: String,
    /// `exec`, `tcp`, `http` or `purge`.
    pub kind: String,
    /// Whom it tells: a program, or an address without secrets.
    pub address: String,
    /// Why its last run failed; none where it succeeded.
    pub trouble: Option<String>,
    /// Paths that it is to be told of, those included that some target has not got yet.
    pub pending: u64,
    /// Paths that it was told of.
    pub told: u64,
    /// Runs that ended, failed ones included.
    pub runs: u64,
    /// Runs that failed.
    pub failures: u64,
    /// Paths that were given up after the last attempt.
    pub dropped: u64,
    /// Paths that gave way to the directories that they are in, because too many waited.
    pub folded: u64,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchStatus {
    /// Directories whose names were read.
    pub directories: u64,
    /// Names that were looked at.
    pub entries: u64,
    /// What is to be compared.
    pub marks: u64,
}

/// Whether a target keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneState {
    /// Equal to the source, as far as capture knows.
    Ok,
    /// Changes wait or are on their way.
    Behind,
    /// The last attempt failed in a way that may pass; another follows by itself.
    Retrying,
    /// The last attempt failed in a way that needs the operator; it is tried again slowly.
    Held,
}

/// Why a target is held that the operator wants to be.
pub const HELD_BY_OPERATOR: &str = "held by the operator; `trigsync release` lets it go on";

/// One target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The target's name.
    pub name: String,
    /// Its address, without secrets.
    pub address: String,
    /// Whether it keeps up.
    pub state: LaneState,
    /// What is wrong, for `retrying` and `held`.
    pub reason: Option<String>,
    /// Since when the state is what it is.
    pub since_ms: u64,
    /// Marks that wait.
    pub pending: u64,
    /// Marks in the batches that are on their way.
    pub in_flight: u64,
    /// Paths that failed alone and are tried again slowly, with the reason of each; at most 100.
    pub set_aside: Vec<(String, String)>,
    /// Whether a full pass is running.
    pub full_pass: bool,
    /// rsync processes that have connected ahead of the next change.
    #[serde(default)]
    pub parked: u64,
    /// Age of the oldest change that has not arrived; 0 when equal.
    pub lag_ms: u64,
    /// Directories that were put in place of what was marked in them, because the marks took more memory than they may.
    pub degraded: u64,
    /// Events that were folded into marks of this target.
    pub changes: u64,
    /// Marks sent: arrived, or deleted.
    pub sent: u64,
    /// Batches sent.
    pub batches: u64,
    /// rsync processes started.
    pub processes: u64,
    /// Bytes that rsync wrote to the other side.
    pub bytes: u64,
    /// Failed attempts.
    pub failures: u64,
    /// How long changes took from the event to the end of the rsync that carried them.
    pub delay: DelayStatus,
    /// The comparison in the background.
    pub audit: AuditStatus,
    /// The canary, where the sync has one.
    pub canary: Option<CanaryStatus>,
}

/// What the audit has done since the daemon began, and where it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Names compared.
    pub names: u64,
    /// Lost changes: what differed though everything had arrived. Each was sent again.
    pub findings: u64,
    /// The latest of them, at most [`LATEST`](Self::LATEST), the newest last.
    pub latest: Vec<AuditFinding>,
    /// What differed and changed again whenever it was looked at: it is on its way by itself, and nothing can be said of it.
    pub unsettled: u64,
    /// Cycles through the whole source that have ended.
    pub cycles: u64,
    /// When the latest cycle began, in milliseconds since 1970; 0 where there never was one.
    pub begun_at_ms: u64,
    /// The directory that was compared last; none between two cycles.
    pub after: Option<String>,
    /// Why something could not be compared the last time.
    pub trouble: Option<String>,
}

/// A lost change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditFinding {
    /// Where, relative to the source.
    pub path: String,
    /// rsync's own word for the difference: `>f.st......`, `*deleting`, …
    pub item: String,
    /// When it was found, in milliseconds since 1970.
    pub at_ms: u64,
}

impl AuditStatus {
    /// So many findings are kept.
    pub const LATEST: usize = 20;
}

/// What the canary found at one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// From the end of its writing to the start of the fetch that found it: the delay is no longer, and shorter by one step of asking at the most.
    pub last_delay_ms: Option<f64>,
    /// When it was found last, in seconds since 1970.
    pub last_arrival: Option<f64>,
    /// For how long a beat should have arrived; none where none should, and while nothing is sent to the target.
    pub overdue_ms: Option<u64>,
    /// Why the target could not be asked, the last time.
    pub trouble: Option<String>,
}

impl CanaryStatus {
    /// The last delay; while a beat is overdue that one's so far, if it is longer.
    pub fn delay_at_least(&self) -> Option<Duration> {
        let overdue = self.overdue_ms.map(Duration::from_millis);
        self.last_delay_ms.map(|delay| Duration::from_secs_f64(delay.max(0.0) / 1000.0)).max(overdue)
    }
}

/// A distribution of delays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DelayStatus {
    /// Marks measured.
    pub count: u64,
    /// Half arrived within.
    pub p50_ms: f64,
    /// 99 % arrived within.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Of the last batch, its oldest mark.
    pub last_ms: f64,
    /// All together.
    pub sum_ms: f64,
    /// How many took no longer than each of [`BOUNDS_MS`](Self::BOUNDS_MS), and longer than the one before.
    pub counts: Vec<u64>,
}

impl DelayStatus {
    /// From a warm lane's few milliseconds to a target that was dead for an hour.
    pub const BOUNDS_MS: [u64; 16] =
        [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000, 3_600_000];

    /// Bounds in seconds, with what is below each and above the one before; the last is for the rest.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Self::BOUNDS_MS.iter().map(|bound| *bound as f64 / 1000.0);
        let mut buckets: Vec<_> = bounds.zip(self.counts.iter().copied()).collect();
        let counted: u64 = self.counts.iter().sum();
        buckets.push((f64::INFINITY, self.count.saturating_sub(counted)));
        buckets
    }
}
