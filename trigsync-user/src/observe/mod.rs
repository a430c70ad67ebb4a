//! What the operator sees: counters, delays and the status that `trigsync status` prints. Read from every stage, owned by none.

mod canary;
mod fail_log;
mod metrics;
mod report;
mod status;

pub use canary::{CanaryNews, CanaryReport};
pub use fail_log::{FailLog, Failure, What, check as check_fail_log};
pub use metrics::{CONTENT_TYPE as METRICS_TYPE, metrics};
pub use report::{Doing, LaneReport, Sent};
pub use status::{
    AnnouncerStatus, AuditFinding, AuditStatus, CanaryStatus, CaptureStatus, DelayStatus, HELD_BY_OPERATOR, LaneState, PluginStatus,
    SearchStatus, Status, SyncState, SyncStatus, TargetStatus,
};
