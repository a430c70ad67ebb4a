//! What an ended job means for its lane: what arrived, what comes back, and how long to wait before the next attempt.

use std::time::{Duration, Instant, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};

use super::{
    connections::{Lesson, PATIENCE},
    job::{Outcome, Trouble},
    lane::Lane,
    now,
};
use crate::{
    journal::Batch,
    model::RelPath,
    observe::{LaneState, Sent, What},
    plan::Item,
};

impl Lane {
    /// Takes in how a job ended that was begun at `begun`.
    pub(super) fn take_outcome(&mut self, outcome: Outcome, begun: SystemTime) {
        let (arrived, ended) = (now(), Instant::now());
        {
            let mut report = self.shared.report();
            for item in &outcome.settled {
                report.arrived(item.mark.since, arrived);
            }
            let sent = Sent {
                marks: outcome.settled.len() as u64,
                processes: outcome.processes,
                bytes: outcome.stats.bytes_sent,
                failed: outcome.trouble.is_some() || !outcome.failed.is_empty(),
            };
            report.ended(sent, outcome.settled.iter().map(|item| arrived.saturating_sub(item.mark.since)).max());
        }
        if outcome.processes > 0 {
            self.shared.note(batch(&outcome, begun));
        }
        if let Some((taken, reason)) = outcome.failed.first() {
            let (target, count) = (&self.context.target.name, outcome.failed.len());
            tracing::warn!("{target}: {count} paths are set aside and tried again later, the first is {}: {reason}", taken.mark.path);
        }
        {
            // In one piece, and in this order: the journal must never know less than is left.
            let mut set = self.shared.set();
            for Item { mark: taken, .. } in &outcome.settled {
                set.settled(taken, arrived);
                let was_aside = self.aside.holds(&taken.mark.path);
                if let Some(waits) = self.aside.arrived(&taken.mark, ended) {
                    set.kept_outside(waits);
                } else if was_aside {
                    self.note(What::Arrived, Some(&taken.mark.path), "it was set aside");
                }
            }
            outcome.failed.iter().for_each(|(taken, _)| set.kept_outside(taken));
            set.put_back(outcome.again);
        }
        for (taken, reason) in outcome.failed {
            if !self.aside.holds(&taken.mark.path) {
                self.note(What::Failed, Some(&taken.mark.path), &reason);
            }
            self.aside.add(taken, reason, ended);
        }
        if !outcome.settled.is_empty()
            && let Some(listener) = self.shared.listener()
        {
            // What is kept there has not gone.
            let keep = self.context.sync.config.keep;
            listener.arrived(outcome.settled.iter().map(Item::arrived).filter(|arrived| !(keep && arrived.gone)).collect());
        }
        if let Some(names) = outcome.cut_off {
            self.shared.cut_off(names);
        }
        if outcome.used_free_pass {
            self.context.free_pass = false;
        }
        match outcome.trouble {
            Some(trouble) => self.suffer(trouble, ended),
            None => {
                if let Some((_, reason)) = self.trouble.take() {
                    tracing::info!("{}: goes on again after: {reason}", self.context.target.name);
                    self.note(What::Ok, None, &format!("it goes on again after: {reason}"));
                }
                (self.intervals, self.retry_at) = (None, None);
            }
        }
    }

    /// What waits goes back into the set, where it folds for as long as nothing is sent.
    pub(super) fn put_back_what_waits(&mut self) {
        let waiting = self.round.drain(..).chain(self.bulk.drain(..)).flat_map(|run| run.items).map(|item| item.mark).collect();
        self.shared.set().put_back(waiting);
    }

    /// The target has refused a connection, beside those that run and that are lent. `limit` is how many it takes.
    pub(super) fn learn(&mut self, limit: Option<u32>, reason: &str, at: Instant) {
        let ran = self.running.len() + self.warm.taken() + self.shared.loans().lent();
        let lesson = self.connections.refused(limit, ran, at);
        let (target, bound, most) = (&self.context.target.name, self.connections.bound(), self.connections.most());
        match lesson {
            Lesson::Limit => tracing::info!("{target}: from now on {most} connections at most: {reason}"),
            Lesson::Others => {
                let patience = humantime::format_duration(PATIENCE);
                tracing::info!(
                    "{target}: others have connections too; {bound} at most for now, and one more after each {patience}: {reason}"
                );
            }
            Lesson::Known => tracing::debug!("{target}: {bound} connections at most: {reason}"),
        }
    }

    /// Waits before the next attempt, or has the sync stopped.
    pub(super) fn suffer(&mut self, trouble: Trouble, ended: Instant) {
        self.put_back_what_waits();
        if let Trouble::Full { reason, limit } = &trouble {
            self.learn(*limit, reason, ended);
        }
        let (state, reason, first, longest) = match trouble {
            Trouble::Stopped => return,
            Trouble::RootGone(reason) => return self.context.sync.stop_without_root(&reason),
            Trouble::Guard(reason) => return self.context.sync.stop(&reason),
            // What waits goes on when one of them has ended.
            Trouble::Full { .. } if self.running.len() + self.warm.taken() > 0 => return,
            Trouble::Full { reason, limit: _ } => (LaneState::Retrying, reason, 1000, 15_000),
            Trouble::Retry(reason) => (LaneState::Retrying, reason, 500, 60_000),
            Trouble::NoSpace(reason) => (LaneState::Retrying, reason, 5000, 300_000),
            Trouble::Hold(reason) => (LaneState::Held, reason, 15_000, 600_000),
        };
        if self.trouble.as_ref().is_none_or(|(was, _)| *was != state) {
            tracing::warn!("{}: {reason}", self.context.target.name);
            self.note(if state == LaneState::Held { What::Held } else { What::Retrying }, None, &reason);
            self.intervals = None;
        }
        let retry_max = self.context.sync.config.retry_max.unwrap_or(Duration::MAX);
        let [first, longest] = [first, longest].map(|interval| Duration::from_millis(interval).min(retry_max));
        let intervals = self.intervals.get_or_insert_with(|| {
            ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times().with_jitter().build()
        });
        // What jitter adds is bounded too.
        self.retry_at = Some(ended + intervals.next().unwrap_or(longest).min(retry_max));
        self.trouble = Some((state, reason));
    }

    /// Tells of the target, or of one of its paths.
    pub(super) fn note(&self, what: What, path: Option<&RelPath>, reason: &str) {
        self.context.sync.note(Some(&self.context.target.name), what, path, reason);
    }
}

/// What the history keeps of a job.
fn batch(outcome: &Outcome, begun: SystemTime) -> Batch {
    let failed = outcome.failed.iter().map(|(taken, reason)| (taken, Some(reason.clone())));
    let settled = outcome.settled.iter().map(|item| (&item.mark, None));
    let paths = failed.chain(settled).map(|(taken, reason)| (taken.mark.path.clone(), taken.mark.scope, reason));
    Batch {
        started: begun,
        ended: SystemTime::now(),
        arrived: outcome.settled.len() as u64,
        failed: outcome.failed.len() as u64,
        paths: paths.take(Batch::MOST_PATHS).collect(),
        bytes: outcome.stats.bytes_sent,
        processes: outcome.processes,
        trouble: outcome.trouble.as_ref().map(ToString::to_string),
    }
}
