//! What the daemon answers on its control socket.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::{sync::oneshot, time::timeout};

use super::daemon::Daemon;
use crate::{
    capture::Capture,
    control::{Call, Request, Response},
    dispatch::{LaneShared, SyncContext},
    model::{Mark, Ops, RelPathBuf, Scope},
    observe::{CaptureStatus, LaneState, Status},
};

impl Daemon {
    /// Answers a call. A request to stop is not answered but returned.
    pub(super) async fn answer(&self, call: Call) -> Option<oneshot::Sender<Response>> {
        let response = match call.request {
            Request::Status => Response::Status { status: Box::new(self.status()) },
            Request::Config => Response::Config { config: Box::new(self.raw.clone()) },
            Request::Release { sync } => self.release_syncs(sync.as_deref()).await,
            Request::Mark { sync, target, paths } => self.mark(&sync, &target, paths),
            Request::Flush { timeout_ms } => {
                self.flush(Duration::from_millis(timeout_ms), call.answer);
                return None;
            }
            Request::Stop => return Some(call.answer),
        };
        // The client may have gone.
        let _ = call.answer.send(response);
        None
    }

    fn status(&self) -> Status {
        let counters = self.capture.counters();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            capture: CaptureStatus {
                tier: self.tier().to_string(),
                events: counters.events(),
                changes: counters.changes(),
                overflows: counters.overflows(),
                lacks: self.details.lacks.clone(),
                kernel_memory: self.details.kernel_memory,
                passed_over: self.passed_over.iter().map(|(tier, reason)| (tier.to_string(), reason.clone())).collect(),
            },
            journal_trouble: self.journal.trouble(),
            syncs: self.syncs.iter().map(|sync| sync.status()).collect(),
        }
    }

    async fn release_syncs(&self, name: Option<&str>) -> Response {
        let mut syncs = Vec::new();
        if name.is_some_and(|name| !self.syncs.iter().any(|sync| sync.context.config.name == name)) {
            return Response::Error { message: format!("there is no sync `{}`", name.unwrap_or_default()) };
        }
        for sync in self.syncs.iter().filter(|sync| name.is_none_or(|name| sync.context.config.name == name)) {
            if sync.context.gate().stopped.is_none() {
                continue;
            }
            if let Err(error) = self.release(sync).await {
                return Response::Error { message: format!("sync {} stays stopped: {error}", sync.context.config.name) };
            }
            syncs.push(sync.context.config.name.clone());
        }
        Response::Released { syncs }
    }

    fn mark(&self, sync: &str, target: &str, paths: Vec<RelPathBuf>) -> Response {
        let lanes = self.syncs.iter().filter(|running| running.context.config.name == sync).flat_map(|running| &running.lanes);
        let Some(lane) = lanes.into_iter().find(|lane| lane.target.name == target) else {
            return Response::Error { message: format!("there is no target `{target}` in a sync `{sync}`") };
        };
        lane.shared.mark_all(paths.into_iter().map(|path| Mark { path, scope: Scope::Entry, ops: Ops::WRITE | Ops::RESCAN }));
        Response::Marked
    }

    /// Answers when everything that has changed until now has arrived; other requests are answered meanwhile.
    fn flush(&self, limit: Duration, answer: oneshot::Sender<Response>) {
        let capture = self.capture.clone();
        let lanes: Vec<_> =
            self.syncs.iter().flat_map(|sync| sync.lanes.iter().map(|lane| (sync.context.clone(), lane.shared.clone()))).collect();
        tokio::spawn(async move {
            let response = match timeout(limit, arrival(&capture, &lanes)).await {
                Ok(Ok(true)) => Response::Flushed,
                Ok(Ok(false)) | Err(_) => Response::Behind { targets: lanes.iter().filter_map(behind).collect() },
                Ok(Err(message)) => Response::Error { message },
            };
            // The client may have gone.
            let _ = answer.send(response);
        });
    }
}

/// A lane and the sync that it belongs to.
type LaneOfSync = (Arc<SyncContext>, Arc<LaneShared>);

/// Whether everything has arrived: true as soon as it has, false as soon as a stopped sync makes that impossible.
async fn arrival(capture: &Capture, lanes: &[LaneOfSync]) -> Result<bool, String> {
    capture.barrier().await.map_err(|error| error.to_string())?;
    let arrivals = lanes.iter().map(|(context, shared)| async {
        // Nothing wakes a lane whose root has gone quietly.
        context.check_root();
        tokio::select! {
            biased;
            () = context.stopped() => Ok(false),
            arrived = shared.flush() => match arrived {
                Ok(()) => Ok(true),
                Err(_) => Err("a target was taken out of the configuration, or the daemon is ending".to_owned()),
            },
        }
    });
    try_join_all(arrivals).await.map(|arrived| arrived.into_iter().all(|arrived| arrived))
}

/// One line for a target that is behind.
fn behind((context, shared): &LaneOfSync) -> Option<String> {
    let (sync, target) = (&context.config.name, shared.status());
    if let Some(reason) = context.gate().stopped {
        return Some(format!("{sync}: {}: stopped: {reason}", target.name));
    }
    let waiting = target.pending + target.in_flight;
    let reason = target.reason.or_else(|| target.set_aside.first().map(|(path, reason)| format!("{path}: {reason}")));
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    (target.state != LaneState::Ok || waiting > 0).then(|| format!("{sync}: {}: {waiting} changes have not arrived{reason}", target.name))
}
