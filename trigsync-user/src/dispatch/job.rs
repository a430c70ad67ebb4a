//! One planned run, carried to its end: counted before it deletes, split until a bad path stands alone, and every mark accounted for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

use super::{guard, sync::SyncContext};
use crate::{
    coalesce::Taken,
    config::TargetConfig,
    model::{Mark, Ops, RelPath, RelPathBuf, Scope},
    plan::{Gone, Item, PlannedRun, open_same_root, settled},
    rsync::{Answer, Compare, Deletions, Listing, Missing, Parked, Progress, Route, Rsync, Run, Stats, Verdict, Work, list, removal_rules},
};

/// A full target is asked again so often, within a second.
const PAUSES: usize = 5;

/// What every job of a lane needs.
#[derive(Clone)]
pub(super) struct JobContext {
    pub sync: Arc<SyncContext>,
    pub target: Arc<TargetConfig>,
    pub rsync: Rsync,
    pub stop: CancellationToken,
    /// The operator let the next batch delete.
    pub free_pass: bool,
    pub receiver: Arc<Receiver>,
    /// For a full pass that a person watches.
    pub progress: Option<ShowProgress>,
}

/// Shows how far rsync is.
pub type ShowProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What was learned about the other side.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// It does not let us set the root directory's own attributes.
    root_refused: AtomicBool,
    /// It cannot do `--delete-missing-args`.
    missing_args_refused: AtomicBool,
}

/// How a job ended. Every mark that went in is in `settled`, `again` or `failed`.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Arrived.
    pub settled: Vec<Item>,
    /// To be looked at again.
    pub again: Vec<Taken>,
    /// Failed alone.
    pub failed: Vec<(Taken, String)>,
    /// What ended the job early.
    pub trouble: Option<Trouble>,
    /// Names in the longest list whose rsync ended without its server's word.
    pub cut_off: Option<u64>,
    /// A guard would have stopped it, and the operator's release let it pass.
    pub used_free_pass: bool,
    /// Sums over all processes.
    pub stats: Stats,
    pub processes: u64,
}

/// Why a lane cannot go on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// All of the target's connections are taken.
    Full {
        /// In one line.
        reason: String,
        /// How many there are, as far as it says so.
        limit: Option<u32>,
    },
    /// It may pass.
    Retry(String),
    /// No space at the receiver.
    NoSpace(String),
    /// The operator has to act.
    Hold(String),
    /// The root is not what it was.
    RootGone(String),
    /// A guard objects to what would be deleted.
    Guard(String),
    /// We are stopping.
    Stopped,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full { reason, .. } | Self::Retry(reason) | Self::NoSpace(reason) | Self::Hold(reason) => reason,
            Self::RootGone(reason) | Self::Guard(reason) => reason,
            Self::Stopped => "the daemon was stopped",
        })
    }
}

impl Trouble {
    /// What follows from an answer for the lane; none where rsync has done its work, or part of it.
    fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Done | Verdict::Vanished(_) | Verdict::Partial { .. } => None,
            Verdict::MissingArgsRefused(text) | Verdict::Hold(text) => Some(Self::Hold(text)),
            Verdict::Withheld(due) => Some(Self::Hold(format!("rsync withheld {due} deletions that it was told to make"))),
            Verdict::Full { reason, limit } => Some(Self::Full { reason, limit }),
            Verdict::Retry(text) => Some(Self::Retry(text)),
            Verdict::NoSpace(text) => Some(Self::NoSpace(text)),
            Verdict::Stopped => Some(Self::Stopped),
        }
    }
}

/// Runs `run` to its end, with the rsync that is parked for it, if there is one.
pub(super) async fn carry_out(context: &JobContext, run: PlannedRun, mut parked: Option<Parked>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut parts = context.prepare(run);
    while let Some(part) = parts.pop() {
        if outcome.trouble.is_some() {
            outcome.again.extend(part.items.into_iter().map(|item| item.mark));
            continue;
        }
        // The root may have gone since the run was planned, and an empty directory in its place would empty the target.
        let root = context.sync.gate().root;
        if let Err(error) = open_same_root(&context.sync.config.source, root) {
            let trouble = if error.may_pass() { Trouble::Retry } else { Trouble::RootGone };
            outcome.give_up(part, trouble(error.to_string()), false);
            continue;
        }
        let answer = match context.attempt(&part, &mut parked, &mut outcome).await {
            Ok(answer) => answer,
            Err(objection) => {
                outcome.give_up(part, Trouble::Guard(objection), false);
                continue;
            }
        };
        // Where some of it may have arrived, what is sent again is compared by content first.
        let begun = answer.interrupted;
        match answer.verdict {
            Verdict::Done => context.settle(part.items, &mut outcome).await,
            Verdict::Vanished(paths) => context.vanished(part, &paths, &mut outcome).await,
            Verdict::Partial { paths, all_named, reason } => {
                parts.extend(context.partial(part, &paths, all_named, reason, &mut outcome).await);
            }
            Verdict::MissingArgsRefused(_) if !context.receiver.missing_args_refused.swap(true, Relaxed) => {
                tracing::info!("{}: the receiver cannot do --delete-missing-args; deleting by filter rules instead", context.target.name);
                parts.extend(context.prepare(part));
            }
            verdict => {
                let begun = begun || matches!(verdict, Verdict::NoSpace(_));
                if let Some(trouble) = Trouble::of(verdict) {
                    outcome.give_up(part, trouble, begun);
                }
            }
        }
    }
    if let Some(parked) = parked {
        parked.end(&Route::of(&context.sync.config, &context.target)).await;
    }
    if outcome.trouble.is_some() && crate::sabotage::asks_for("batch-dropped") {
        (outcome.again, outcome.failed) = Default::default();
    }
    outcome
}

/// Asks the target for nothing: whether it answers.
pub(super) async fn ask(context: &JobContext) -> Result<(), Trouble> {
    let route = Route::of(&context.sync.config, &context.target);
    let answer = context.rsync.ask(&route, &context.stop).await;
    answer.or_else(|answer| Trouble::of(answer.verdict).map_or(Ok(()), Err))
}

impl Outcome {
    /// The run comes to nothing more. `begun` tells whether some of it may have arrived.
    fn give_up(&mut self, run: PlannedRun, trouble: Trouble, begun: bool) {
        let again = run.items.into_iter().map(|item| if begun { rescan(item.mark) } else { item.mark });
        self.again.extend(again);
        self.trouble = Some(trouble);
    }
}

/// The same mark, for something that may have arrived in part: files are compared by content.
fn rescan(mut taken: Taken) -> Taken {
    taken.mark.ops |= Ops::RESCAN;
    taken
}

impl JobContext {
    /// Nothing is known of the receiver yet.
    pub fn new(sync: Arc<SyncContext>, target: TargetConfig, rsync: Rsync) -> Self {
        let (target, receiver) = (Arc::new(target), Arc::new(Receiver::default()));
        Self { sync, target, rsync, stop: CancellationToken::new(), free_pass: false, receiver, progress: None }
    }

    /// What becomes of a listed name that is missing: a receiver may be known not to do `--delete-missing-args`.
    pub fn missing(&self) -> Missing {
        if self.receiver.missing_args_refused.load(Relaxed) { Missing::Ignore } else { Missing::Delete }
    }

    /// Fits a run to what is known of the receiver.
    fn prepare(&self, mut run: PlannedRun) -> Vec<PlannedRun> {
        if self.receiver.root_refused.load(Relaxed) && run.listing == Listing::WithRoot {
            run.listing = Listing::Plain;
        }
        if self.missing() == Missing::Delete || !matches!(run.work, Work::Entries(_) | Work::Trees(_)) {
            return vec![run];
        }
        let (missing, present): (Vec<_>, Vec<_>) = run.items.iter().cloned().partition(|item| item.missing);
        let mut parts = Vec::new();
        if !present.is_empty() {
            parts.push(PlannedRun {
                gone: if matches!(run.work, Work::Trees(_)) { Gone::Unseen } else { Gone::Seen(0) },
                ..run.with_items(present)
            });
        }
        if !missing.is_empty() {
            parts.push(PlannedRun { work: Work::Removals, ..run.with_items(missing) });
        }
        parts
    }

    /// Runs rsync once; twice where deletions have to be counted first and there are some. Fails with a guard's objection, before anything
    /// is deleted.
    async fn attempt(&self, run: &PlannedRun, parked: &mut Option<Parked>, outcome: &mut Outcome) -> Result<Answer, String> {
        if run.work == Work::RootAttributes && self.receiver.root_refused.load(Relaxed) {
            return Ok(Answer { verdict: Verdict::Done, stats: Stats::default(), interrupted: false });
        }
        let mut work = run.work;
        let due = match run.gone {
            Gone::SeenWhole | Gone::Unseen => {
                // Where a path vanished as well, rsync's exit code tells only that: the count is what tells of deletions.
                let answer = self.once(run, work, Deletions::Counted, parked, outcome).await;
                if answer.stats.withheld == 0
                    || !matches!(answer.verdict, Verdict::Withheld(_) | Verdict::Vanished(_) | Verdict::Partial { .. })
                {
                    return Ok(answer);
                }
                // What has arrived just now is not sent a second time.
                work = work.sent_in_part(if matches!(answer.verdict, Verdict::Withheld(_)) { Compare::Quick } else { Compare::Checksum });
                answer.stats.withheld
            }
            Gone::Seen(due) => due,
        };
        if let Some(objection) = self.objection(due, run.gone).await {
            if !self.free_pass {
                return Err(objection);
            }
            outcome.used_free_pass = true;
        }
        Ok(self.once(run, work, Deletions::Allowed, parked, outcome).await)
    }

    /// One answer. A full target is asked again for a moment: the server's side of our own last connection may not have ended yet.
    async fn once(&self, run: &PlannedRun, work: Work, deletions: Deletions, parked: &mut Option<Parked>, outcome: &mut Outcome) -> Answer {
        let mut pauses = ExponentialBuilder::new().with_min_delay(Duration::from_millis(25)).with_max_times(PAUSES).build();
        loop {
            let answer = self.process(run, work, deletions, parked, outcome).await;
            match (&answer.verdict, pauses.next()) {
                (Verdict::Full { .. }, Some(pause)) if !self.stop.is_cancelled() => tokio::time::sleep(pause).await,
                _ => return answer,
            }
        }
    }

    async fn process(
        &self,
        run: &PlannedRun,
        work: Work,
        deletions: Deletions,
        parked: &mut Option<Parked>,
        outcome: &mut Outcome,
    ) -> Answer {
        let route = Route::of(&self.sync.config, &self.target);
        let list = match work {
            Work::Entries(_) | Work::InPlace(_) | Work::Levels | Work::Trees(_) => list(run.paths(), run.listing),
            Work::Removals => removal_rules(run.paths()),
            Work::RootAttributes => Vec::new(),
        };
        let missing = self.missing();
        let answer = match parked.take_if(|_| Parked::does(work, deletions, missing)) {
            Some(parked) => parked.run(&route, list, &self.stop).await,
            None => self.rsync.run(&route, Run { work, deletions, missing, list, progress: self.progress.as_deref() }, &self.stop).await,
        };
        outcome.processes += 1;
        if answer.interrupted {
            outcome.again.extend(leftovers(run));
            outcome.cut_off = outcome.cut_off.max(Some(run.items.len() as u64));
        }
        outcome.stats.add(&answer.stats);
        tracing::debug!(target = %self.target.name, ?work, paths = run.items.len(), ?deletions, verdict = ?answer.verdict, "rsync");
        answer
    }

    async fn objection(&self, due: u64, gone: Gone) -> Option<String> {
        if due == 0 || self.sync.config.keep {
            return None;
        }
        let config = self.sync.config.clone();
        tokio::task::spawn_blocking(move || guard::objection(&config.source, due, gone != Gone::Unseen, &config.guards))
            .await
            .expect("looking at the source does not panic")
    }

    /// Some paths failed. Returns what has to be tried apart to find them.
    async fn partial(
        &self,
        run: PlannedRun,
        paths: &[RelPathBuf],
        all_named: bool,
        reason: String,
        outcome: &mut Outcome,
    ) -> Vec<PlannedRun> {
        if paths.iter().any(|path| path.is_root()) && !self.receiver.root_refused.swap(true, Relaxed) {
            tracing::warn!("{}: the target's own directory keeps its attributes: {reason}", self.target.name);
        }
        let paths: Vec<_> = paths.iter().filter(|path| !path.is_root()).collect();
        if !all_named {
            return apart(run, reason, outcome);
        }
        let since = run.oldest().unwrap_or_default();
        let (failed, arrived): (Vec<_>, Vec<_>) =
            run.items.iter().cloned().partition(|item| paths.iter().any(|path| run.fails_with(item, path)));
        let explained = |path: &RelPath| failed.iter().any(|item| path.is_within(&item.listed) || item.listed.is_within(path));
        let strangers: Vec<_> =
            paths.into_iter().filter(|path| !explained(path) && !twin(path).is_some_and(|twin| explained(&twin))).collect();
        match run.work {
            // They stand below a listed subtree.
            Work::Trees(_) => {
                let mark = |path: &RelPathBuf| Mark { path: path.clone(), scope: Scope::Tree, ops: Ops::WRITE | Ops::RESCAN };
                outcome.failed.extend(strangers.into_iter().map(|path| (Taken::new(mark(path), since), reason.clone())));
            }
            // A name that was not listed stands for one that was, and nobody knows which.
            _ if !strangers.is_empty() => return apart(run, reason, outcome),
            _ => {}
        }
        self.settle(arrived, outcome).await;
        outcome.failed.extend(failed.into_iter().map(|item| (rescan(item.mark), reason.clone())));
        Vec::new()
    }

    /// These paths are to be looked at again; the rest of the run is done.
    async fn vanished(&self, run: PlannedRun, paths: &[RelPathBuf], outcome: &mut Outcome) {
        let since = run.oldest().unwrap_or_default();
        if paths.is_empty() {
            outcome.again.extend(run.items.into_iter().map(|item| item.mark));
            return;
        }
        // Where a whole tree was to be made equal, the target may have a directory at a path that was a file, vanished, and comes back as one.
        let trees: Vec<_> = run.items.iter().filter(|item| item.mark.mark.scope == Scope::Tree).map(|item| item.listed.clone()).collect();
        self.settle(run.items, outcome).await;
        outcome.again.extend(paths.iter().map(|path| {
            let scope = if trees.iter().any(|tree| path.is_within(tree)) { Scope::Tree } else { Scope::Entry };
            Taken::new(Mark { path: path.clone(), scope, ops: Ops::WRITE | Ops::RESCAN }, since)
        }));
    }

    /// rsync is done with these items.
    async fn settle(&self, items: Vec<Item>, outcome: &mut Outcome) {
        if !items.iter().any(Item::stands_for_more) {
            outcome.settled.extend(items);
            return;
        }
        let sync = self.sync.clone();
        let looked = tokio::task::spawn_blocking(move || match open_same_root(&sync.config.source, sync.gate().root) {
            Ok(root) => settled(root, items),
            // The next run finds that the root has gone.
            Err(_) => (Vec::new(), items.into_iter().map(|item| item.mark).collect()),
        });
        let (settled, again) = looked.await.expect("looking does not panic");
        outcome.settled.extend(settled);
        outcome.again.extend(again);
    }
}

impl PlannedRun {
    /// Whether a listed item has not arrived where `path` failed.
    fn fails_with(&self, item: &Item, path: &RelPath) -> bool {
        item.listed.is_within(path) || (!matches!(self.work, Work::Trees(_)) && self.reaches_below(item) && path.is_within(&item.listed))
    }
}

/// rsync's temporary name `.name.XXXXXX` is that of `name` or of `.name`: the other of the two.
fn twin(path: &RelPath) -> Option<RelPathBuf> {
    let name = path.file_name()?;
    let other = name.strip_prefix(b".").map_or_else(|| [b".", name].concat(), <[u8]>::to_vec);
    Some(path.parent()?.join(&other)).filter(|_| !other.is_empty())
}

/// The directories in which a receiver that was killed has left its temporary files. A subtree is made equal again as a whole.
fn leftovers(run: &PlannedRun) -> Vec<Taken> {
    if !matches!(run.work, Work::Entries(_) | Work::Levels) {
        return Vec::new();
    }
    let mut levels: Vec<Taken> = Vec::new();
    for item in run.items.iter().filter(|item| !item.missing) {
        let path = match (run.work, item.listed.parent()) {
            (Work::Levels, _) | (_, None) => &*item.listed,
            (_, Some(parent)) => parent,
        };
        if levels.last().is_none_or(|last| *last.mark.path != *path) {
            let mark = Mark { path: path.to_owned(), scope: Scope::Level, ops: Ops::RESCAN };
            levels.push(Taken::new(mark, item.mark.since));
        }
    }
    levels
}

/// Nobody told which path failed: halves, down to a single one.
fn apart(run: PlannedRun, reason: String, outcome: &mut Outcome) -> Vec<PlannedRun> {
    let mut items = run.items.clone();
    if items.len() <= 1 {
        outcome.failed.extend(items.into_iter().map(|item| (rescan(item.mark), reason.clone())));
        return Vec::new();
    }
    let half = items.split_off(items.len() / 2);
    let work = run.work.sent_in_part(Compare::Checksum);
    [items, half].into_iter().map(|items| PlannedRun { work, ..run.with_items(items) }).collect()
}
