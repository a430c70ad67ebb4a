//! What the lanes of one sync share: its configuration, which directory its root is, and whether a guard has stopped it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    config::SyncConfig,
    model::RelPath,
    observe::{FailLog, Failure, What},
    plan::{RootIdentity, open_same_root},
};

/// One sync, as its lanes see it.
#[derive(Debug)]
pub struct SyncContext {
    /// What the operator asked for.
    pub config: Arc<SyncConfig>,
    gate: watch::Sender<GateState>,
    fail_log: FailLog,
}

/// Whether a sync may work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateState {
    /// Which directory the root was when it was armed.
    pub root: RootIdentity,
    /// Why nothing may be sent.
    pub stopped: Option<String>,
    /// The root has to be armed again, and everything below it compared, before the sync goes on.
    pub root_lost: bool,
    /// How often the operator has let the sync go on.
    pub releases: u64,
}

impl SyncContext {
    /// A sync that may work.
    pub fn new(config: Arc<SyncConfig>, root: RootIdentity) -> Self {
        let gate = watch::Sender::new(GateState { root, stopped: None, root_lost: false, releases: 0 });
        Self { config, gate, fail_log: FailLog::default() }
    }

    /// One that tells there of what fails.
    pub fn telling(self, fail_log: FailLog) -> Self {
        Self { fail_log, ..self }
    }

    /// Tells of what one of its targets has come to, or, where none is named, it itself.
    pub(super) fn note(&self, target: Option<&str>, what: What, path: Option<&RelPath>, reason: &str) {
        self.fail_log.note(&Failure { sync: &self.config.name, target, what, path, reason });
    }

    /// A guard objects.
    pub fn stop(&self, reason: &str) {
        self.close(reason, false);
    }

    /// The root is not the directory that was armed.
    pub fn stop_without_root(&self, reason: &str) {
        let source = self.config.source.display();
        self.close(&format!("the source {source} is gone: {reason}; when it is back, run `trigsync release`"), true);
    }

    /// The first reason stands.
    fn close(&self, reason: &str, root_lost: bool) {
        self.gate.send_if_modified(|state| {
            let first = state.stopped.is_none();
            if first {
                tracing::error!("sync {} is stopped, nothing is sent or deleted: {reason}", self.config.name);
                self.note(None, What::Stopped, None, reason);
                state.stopped = Some(reason.to_owned());
            }
            state.root_lost |= root_lost;
            first
        });
    }

    /// Lets the sync go on, with the root as it is armed now.
    pub fn release(&self, root: RootIdentity) {
        tracing::info!("sync {} is released", self.config.name);
        self.gate.send_modify(|state| {
            if let Some(reason) = &state.stopped {
                self.note(None, What::Ok, None, &format!("it is released after: {reason}"));
            }
            *state = GateState { root, stopped: None, root_lost: false, releases: state.releases + 1 };
        });
    }

    /// Whether it may work now.
    pub fn gate(&self) -> GateState {
        self.gate.borrow().clone()
    }

    /// Stops the sync if its root is not the directory that was armed.
    pub fn check_root(&self) {
        // What may pass is found out by the lanes, which wait for it.
        if let Err(error) = open_same_root(&self.config.source, self.gate().root)
            && !error.may_pass()
        {
            self.stop_without_root(&error.to_string());
        }
    }

    /// Resolves when the sync is stopped; at once where it is.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.gate.subscribe().wait_for(|state| state.stopped.is_some()).await;
    }

    /// To be told of changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<GateState> {
        self.gate.subscribe()
    }
}
