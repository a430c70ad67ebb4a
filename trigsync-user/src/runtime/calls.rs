//! What the daemon answers on its control socket.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join_all};
use tokio::{sync::oneshot, time::timeout};

use super::{
    announcer::RunningAnnouncer,
    daemon::Daemon,
    sync::{RunningLane, RunningSync},
};
use crate::{
    audit::Audited,
    capture::Capture,
    control::{AuditedTarget, Call, Request, Response, Which},
    dispatch::{LaneShared, SyncContext},
    journal::Noting,
    model::{Mark, Ops, RelPathBuf, Scope},
    observe::{CaptureStatus, LaneState, Status, SyncState, SyncStatus},
};

impl Daemon {
    /// Answers a call. A request to stop is not answered but returned.
    pub(super) async fn answer(&self, call: Call) -> Option<oneshot::Sender<Response>> {
        let response = match call.request {
            Request::Status => Response::Status { status: Box::new(self.status()) },
            Request::Config => Response::Config { config: Box::new(self.raw.clone()) },
            Request::Release(which) => {
                self.release_all(&which, call.answer).await;
                return None;
            }
            Request::Hold(which) => {
                self.hold(&which, call.answer);
                return None;
            }
            Request::Retry(which) => self.retry(&which),
            Request::Mark { sync, target, paths } => self.mark(&Which { sync: Some(sync), target: Some(target) }, paths),
            Request::Flush { timeout_ms } => {
                self.flush(Duration::from_millis(timeout_ms), call.answer);
                return None;
            }
            Request::Audit { which, timeout_ms } => {
                self.audit(&which, Duration::from_millis(timeout_ms), call.answer);
                return None;
            }
            Request::Stop => return Some(call.answer),
        };
        say(call.answer, response);
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
            syncs: self.sync_status(),
        }
    }

    /// Of every sync that is configured, those that could not be started included.
    pub(super) fn sync_status(&self) -> Vec<SyncStatus> {
        let broken = self.broken.iter().map(|(config, error)| SyncStatus {
            name: config.name.clone(),
            source: config.source.display().to_string(),
            state: SyncState::Stopped(error.clone()),
            search: None,
            canary_trouble: None,
            next_full_pass_ms: None,
            targets: Vec::new(),
            announcer: None,
            plugins: Vec::new(),
        });
        self.syncs.iter().map(RunningSync::status).chain(broken).collect()
    }

    /// Lanes that are meant, and what tells the plugins of syncs without targets; an error where there is neither.
    fn meant(&self, which: &Which) -> Result<(Vec<LaneOf<'_>>, Vec<AnnouncerOf<'_>>), Response> {
        let Which { sync: wanted, target } = which;
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let syncs: Vec<_> = self.syncs.iter().filter(|sync| is(wanted, &sync.context.config.name)).collect();
        let lanes = syncs.iter().flat_map(|sync| sync.lanes.iter().map(|lane| (*sync, lane)));
        let lanes: Vec<_> = lanes.filter(|(_, lane)| is(target, &lane.target.name)).collect();
        let announcers = syncs.iter().filter_map(|sync| Some((*sync, sync.announcer.as_ref()?)));
        let announcers: Vec<_> = announcers.filter(|_| target.is_none()).collect();
        match lanes.is_empty() && announcers.is_empty() {
            false => Ok((lanes, announcers)),
            true => Err(Response::Error {
                message: match (wanted, target) {
                    (Some(sync), None) => format!("there is no sync `{sync}`"),
                    (Some(sync), Some(target)) => format!("there is no target `{target}` in a sync `{sync}`"),
                    (None, target) => format!("there is no target `{}`", target.as_deref().unwrap_or_default()),
                },
            }),
        }
    }

    /// Lanes that are meant; an error where there are none.
    fn lanes_of(&self, which: &Which) -> Result<Vec<LaneOf<'_>>, Response> {
        match self.meant(which)?.0 {
            lanes if lanes.is_empty() => {
                Err(Response::Error { message: "there is no target: only plugins are told, and there is nothing to compare".into() })
            }
            lanes => Ok(lanes),
        }
    }

    async fn release_all(&self, which: &Which, answer: oneshot::Sender<Response>) {
        let (lanes, announcers) = match self.meant(which) {
            Ok(meant) => meant,
            Err(response) => return say(answer, response),
        };
        let (mut names, mut notings) = (Vec::new(), Vec::new());
        let mut last = None;
        for sync in lanes.iter().map(|(sync, _)| sync).chain(announcers.iter().map(|(sync, _)| sync)) {
            // Once for each sync, and not where only a target was named.
            if which.target.is_none() && last.replace(sync.id) != Some(sync.id) && sync.context.gate().stopped.is_some() {
                if let Err(error) = self.release(sync).await {
                    return say(answer, Response::Error { message: format!("sync {} stays stopped: {error}", sync.context.config.name) });
                }
                names.push(sync.context.config.name.clone());
            }
        }
        for (sync, lane) in lanes.into_iter().filter(|(_, lane)| lane.shared.release()) {
            notings.push(self.journal.held(sync.key_of(lane), false));
            names.push(lane.target.name.clone());
        }
        names.extend(announcers.into_iter().filter(|(_, announcer)| announcer.shared.release()).map(|(_, announcer)| announcer.name()));
        done_when_noted(names, notings, answer);
    }

    fn hold(&self, which: &Which, answer: oneshot::Sender<Response>) {
        let (lanes, announcers) = match self.meant(which) {
            Ok(meant) => meant,
            Err(response) => return say(answer, response),
        };
        let (mut names, mut notings) = (Vec::new(), Vec::new());
        for (sync, lane) in lanes.into_iter().filter(|(_, lane)| !lane.shared.is_held()) {
            tracing::info!("{}: {}: held by the operator", sync.context.config.name, lane.target.name);
            lane.shared.hold();
            notings.push(self.journal.held(sync.key_of(lane), true));
            names.push(lane.target.name.clone());
        }
        for (_, announcer) in announcers.into_iter().filter(|(_, announcer)| !announcer.shared.is_held()) {
            tracing::info!("{}: held by the operator", announcer.name());
            announcer.shared.hold();
            names.push(announcer.name());
        }
        done_when_noted(names, notings, answer);
    }

    fn retry(&self, which: &Which) -> Response {
        match self.meant(which) {
            Ok((lanes, announcers)) => {
                lanes.iter().for_each(|(_, lane)| lane.shared.retry());
                announcers.iter().for_each(|(_, announcer)| announcer.shared.retry());
                let names = lanes.iter().map(|(_, lane)| lane.target.name.clone());
                Response::Done { names: names.chain(announcers.iter().map(|(_, announcer)| announcer.name())).collect() }
            }
            Err(response) => response,
        }
    }

    fn mark(&self, which: &Which, paths: Vec<RelPathBuf>) -> Response {
        let lanes = match self.lanes_of(which) {
            Ok(lanes) => lanes,
            Err(response) => return response,
        };
        let marks: Vec<_> = paths.into_iter().map(|path| Mark { path, scope: Scope::Entry, ops: Ops::WRITE | Ops::RESCAN }).collect();
        for (_, lane) in lanes {
            lane.shared.mark_all(marks.iter().cloned());
        }
        Response::Marked
    }

    /// Answers when everything was compared; other requests are answered meanwhile.
    fn audit(&self, which: &Which, limit: Duration, answer: oneshot::Sender<Response>) {
        let lanes = match self.lanes_of(which) {
            Ok(lanes) => lanes,
            Err(response) => return say(answer, response),
        };
        let orders = lanes.into_iter().map(|(sync, lane)| {
            let (sync, target, orders) = (sync.context.config.name.clone(), lane.target.name.clone(), lane.audit.clone());
            async move {
                let (done, ended) = oneshot::channel();
                let ordered = async {
                    orders.send(done).await.ok()?;
                    ended.await.ok()
                };
                let (audited, trouble) = match timeout(limit, ordered).await {
                    Ok(Some(Ok(audited))) => (audited, None),
                    Ok(Some(Err(error))) => (Audited::default(), Some(error.to_string())),
                    Ok(None) => (Audited::default(), Some("it was cut short: the configuration changed, or the daemon is ending".into())),
                    Err(_) => (Audited::default(), Some("it has not ended in time, and goes on".into())),
                };
                let Audited { names, findings, unsettled } = audited;
                AuditedTarget { sync, target, names, findings, unsettled, trouble }
            }
        });
        let orders = join_all(orders.collect::<Vec<_>>());
        tokio::spawn(async move {
            say(answer, Response::Audited { targets: orders.await });
        });
    }

    /// Answers when everything that has changed until now has arrived; other requests are answered meanwhile.
    fn flush(&self, limit: Duration, answer: oneshot::Sender<Response>) {
        if !self.broken.is_empty() {
            // Nothing of these will ever arrive.
            let targets = self.broken.iter().map(|(config, error)| format!("{}: does not run: {error}", config.name)).collect();
            return say(answer, Response::Behind { targets });
        }
        let capture = self.capture.clone();
        let lanes: Vec<_> = self.syncs.iter().flat_map(|sync| sync.shared().map(|shared| (sync.context.clone(), shared.clone()))).collect();
        tokio::spawn(async move {
            let response = match timeout(limit, arrival(&capture, &lanes)).await {
                Ok(Ok(true)) => Response::Flushed,
                Ok(Ok(false)) | Err(_) => Response::Behind { targets: lanes.iter().filter_map(behind).collect() },
                Ok(Err(message)) => Response::Error { message },
            };
            say(answer, response);
        });
    }
}

/// A lane that is meant, and its sync.
type LaneOf<'a> = (&'a RunningSync, &'a RunningLane);

/// The same of what tells plugins alone.
type AnnouncerOf<'a> = (&'a RunningSync, &'a RunningAnnouncer);

fn say(answer: oneshot::Sender<Response>, response: Response) {
    // The client may have gone.
    let _ = answer.send(response);
}

/// Answers when a daemon that is killed now would leave it to the next one; other requests are answered meanwhile.
fn done_when_noted(names: Vec<String>, notings: Vec<Noting>, answer: oneshot::Sender<Response>) {
    tokio::spawn(async move {
        let noted = try_join_all(notings.into_iter().map(Noting::noted)).await;
        let message = |error: String| {
            format!("done for {}, but a next daemon may not know of it: the journal cannot be written now ({error})", names.join(", "))
        };
        say(
            answer,
            match noted {
                Ok(_) => Response::Done { names },
                Err(error) => Response::Error { message: message(error) + "; mend the state directory, and it is written by itself" },
            },
        );
    });
}

/// A lane and the sync that it belongs to.
type LaneOfSync = (Arc<SyncContext>, Arc<LaneShared>);

/// Whether everything has arrived: true as soon as it has, false as soon as a stopped sync makes that impossible.
async fn arrival(capture: &Capture, lanes: &[LaneOfSync]) -> Result<bool, String> {
    capture.barrier().await.map_err(|error| error.to_string())?;
    let arrivals = lanes.iter().map(|(context, shared)| async {
        // Nothing wakes a lane whose root has gone quietly.
        context.check_root();
        if shared.is_held() {
            return Ok(false);
        }
        tokio::select! {
            biased;
            () = context.stopped() => Ok(false),
            arrived = shared.flush() => match arrived {
                Ok(()) => Ok(true),
                Err(_) if shared.is_held() => Ok(false),
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
