//! `on_state_change`: a program of the operator's hears of every target and sync that gets into trouble, and out of it.
//!
//! - It is started with its arguments, never through a shell, and what happened stands on its standard input as one JSON object.
//! - One at a time, in order, each for a limited time. Nothing waits for it; where many changes come while it runs, it hears what they have come
//!   to. States that last less than a second may pass unseen.

use std::{collections::HashMap, process::Stdio, time::Duration};

use serde::Serialize;
use tokio::{io::AsyncWriteExt as _, process::Command, sync::mpsc, time::timeout};

use crate::observe::{LaneState, SyncState, SyncStatus};

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Changes that wait while it runs.
const WAITING: usize = 64;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct StateChange {
    /// The sync's name.
    pub sync: String,
    /// The target's name; none where the sync as a whole is meant.
    pub target: Option<String>,
    /// `ok`, `retrying`, `held` or `stopped`.
    pub from: &'static str,
    /// The same.
    pub to: &'static str,
    /// Why, where it is not `ok`.
    pub reason: Option<String>,
    /// When, in RFC 3339.
    pub at: String,
}

/// Looks for changes, and tells the program.
#[derive(Debug, Default)]
pub(super) struct Hook {
    known: HashMap<(String, Option<String>), &'static str>,
    changes: Option<mpsc::Sender<StateChange>>,
}

impl Hook {
    /// Tells this program; nobody where it is empty.
    pub fn new(program: &[String]) -> Self {
        let Some((program, arguments)) = program.split_first() else { return Self::default() };
        let (changes, received) = mpsc::channel(WAITING);
        tokio::spawn(tell(program.clone(), arguments.to_vec(), received));
        Self { known: HashMap::new(), changes: Some(changes) }
    }

    /// Whether anybody is told.
    pub fn is_on(&self) -> bool {
        self.changes.is_some()
    }

    /// Compares with the last look. What is seen for the first time and is well is no change.
    pub fn look(&mut self, syncs: impl IntoIterator<Item = SyncStatus>) {
        let Some(changes) = self.changes.clone() else { return };
        for sync in syncs {
            let (state, reason) = match (&sync.state, &sync.announcer) {
                (SyncState::Stopped(reason), _) => ("stopped", Some(reason.clone())),
                // A sync without targets is all that there is to tell of.
                (SyncState::Running, Some(announcer)) => (word(announcer.state), announcer.reason.clone()),
                (SyncState::Running, None) => ("ok", None),
            };
            self.compare(&changes, &sync.name, None, state, reason);
            for target in &sync.targets {
                self.compare(&changes, &sync.name, Some(target.name.clone()), word(target.state), target.reason.clone());
            }
        }
    }

    fn compare(
        &mut self,
        changes: &mpsc::Sender<StateChange>,
        sync: &str,
        target: Option<String>,
        to: &'static str,
        reason: Option<String>,
    ) {
        let key = (sync.to_owned(), target);
        let from = self.known.get(&key).copied().unwrap_or("ok");
        if from == to {
            return;
        }
        let at = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        let change = StateChange { sync: sync.to_owned(), target: key.1.clone(), from, to, reason, at };
        // Where there is no room, the next look tells what it has come to by then.
        if changes.try_send(change).is_ok() {
            self.known.insert(key, to);
        }
    }
}

fn word(state: LaneState) -> &'static str {
    match state {
        LaneState::Ok | LaneState::Behind => "ok",
        LaneState::Retrying => "retrying",
        LaneState::Held => "held",
    }
}

async fn tell(program: String, arguments: Vec<String>, mut changes: mpsc::Receiver<StateChange>) {
    while let Some(change) = changes.recv().await {
        match timeout(LIMIT, run(&program, &arguments, &change)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("on_state_change: {program}: {error}"),
            Err(_) => tracing::warn!("on_state_change: {program} took longer than {} and was ended", humantime::format_duration(LIMIT)),
        }
    }
}

async fn run(program: &str, arguments: &[String], change: &StateChange) -> std::io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        match input.write_all(&line).await {
            // It need not read.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("it ended with {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::LaneReport;

    fn sync(state: SyncState, target: LaneState) -> SyncStatus {
        let mut target_status = LaneReport::new("mirror".into(), "/m".into()).status(0, 0, None, 0, 0);
        (target_status.state, target_status.reason) = (target, Some("so".into()));
        SyncStatus {
            name: "www".into(),
            source: "/www".into(),
            state,
            search: None,
            canary_trouble: None,
            next_full_pass_ms: None,
            targets: vec![target_status],
            announcer: None,
            plugins: vec![],
        }
    }

    #[test]
    fn only_trouble_and_its_end_are_told() {
        let (sender, mut told) = mpsc::channel(8);
        let mut hook = Hook { known: HashMap::new(), changes: Some(sender) };
        let mut look = |state, target| {
            hook.look([sync(state, target)]);
            let mut changes = Vec::new();
            while let Ok(change) = told.try_recv() {
                changes.push((change.target.is_some(), change.from, change.to));
            }
            changes
        };
        assert_eq!(look(SyncState::Running, LaneState::Ok), []);
        assert_eq!(look(SyncState::Running, LaneState::Behind), [], "that comes and goes all day");
        assert_eq!(look(SyncState::Running, LaneState::Retrying), [(true, "ok", "retrying")]);
        assert_eq!(look(SyncState::Running, LaneState::Retrying), []);
        assert_eq!(look(SyncState::Stopped("empty".into()), LaneState::Held), [(false, "ok", "stopped"), (true, "retrying", "held")]);
        assert_eq!(look(SyncState::Running, LaneState::Behind), [(false, "stopped", "ok"), (true, "held", "ok")]);
    }

    #[test]
    fn a_sync_without_targets_is_told_of_itself() {
        let (sender, mut told) = mpsc::channel(8);
        let mut hook = Hook { known: HashMap::new(), changes: Some(sender) };
        for (state, to) in [(LaneState::Held, Some("held")), (LaneState::Held, None), (LaneState::Ok, Some("ok"))] {
            let mut sync = sync(SyncState::Running, state);
            sync.announcer = sync.targets.pop().map(Into::into);
            hook.look([sync]);
            assert_eq!(told.try_recv().ok().map(|change| (change.target, change.to)), to.map(|to| (None, to)));
        }
    }
}
