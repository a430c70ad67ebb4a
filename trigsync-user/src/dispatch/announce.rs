//! The loop of a sync without targets: cut, look, tell.
//!
//! - What is told was looked at as a lane looks (`plan`), after a cut that was made after the batch was taken; nothing is run.
//! - Nobody keeps what is left: what is marked when it ends is told then, and what changes before the next daemon is told no more.
//! - Nothing fails here but a look for want of descriptors, and the root.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use super::{
    aside::Aside,
    cut::Cut,
    lane::wait_until,
    now,
    shared::LaneShared,
    stamp_to_instant,
    sync::{GateState, SyncContext},
};
use crate::{
    coalesce::Taken,
    config::{BatchLimits, InPlace},
    lock::lock,
    model::Stamp,
    observe::{Doing, HELD_BY_OPERATOR, LaneState, Sent},
    plan::{Item, Plan, RootError, Rules, open_same_root, plan},
};

/// After a look that was not possible.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells the plugins of a sync without targets what was marked. Runs until it is stopped.
pub struct Announcer {
    shared: Arc<LaneShared>,
    sync: Arc<SyncContext>,
    cut: Cut,
    gate: watch::Receiver<GateState>,
    /// One at the most.
    looks: JoinSet<Looked>,
    /// The batch that is looked at: how many marks, and when the oldest was made.
    out: Option<(usize, Stamp)>,
    trouble: Option<String>,
    retry_at: Option<Instant>,
    /// Marks up to this stamp do not wait for a quiet moment: a flush waits for them.
    hurry: Stamp,
    asked_at: Instant,
}

enum Looked {
    At(Plan),
    /// The root is not what it was; the batch was not looked at.
    RootGone(RootError, Vec<Taken>),
    /// No cut could be made, or nothing could be opened; the batch was not looked at.
    Failed(String, Vec<Taken>),
}

impl Announcer {
    /// One that has not started.
    pub fn new(shared: Arc<LaneShared>, sync: Arc<SyncContext>, cut: Cut) -> Self {
        let gate = sync.subscribe();
        Self {
            shared,
            sync,
            cut,
            gate,
            looks: JoinSet::new(),
            out: None,
            trouble: None,
            retry_at: None,
            hurry: 0,
            asked_at: Instant::now(),
        }
    }

    /// Works until `stop` is triggered; then tells what is marked, for up to `grace`, unless it is held or the sync is stopped.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        while !stop.is_cancelled() {
            self.shared.beats();
            self.start_look();
            self.report();
            let (wake_at, ask_at) = (self.wake_at(), self.ask_at());
            tokio::select! {
                () = stop.cancelled() => {}
                Some(looked) = self.looks.join_next() => self.account(looked.expect("looking does not panic")),
                () = self.shared.wake.notified() => self.hear(),
                () = wait_until(wake_at) => {}
                () = wait_until(ask_at) => {
                    self.asked_at = self.cut.ask_again();
                }
                changed = self.gate.changed() => changed.expect("the context holds the sender"),
            }
        }
        let deadline = Instant::now() + grace;
        self.hurry = Stamp::MAX;
        loop {
            if Instant::now() < deadline {
                self.start_look();
            }
            match self.looks.join_next().await {
                Some(looked) => self.account(looked.expect("looking does not panic")),
                None => break,
            }
        }
        self.report();
    }

    fn may_look(&self) -> bool {
        let is_pausing = self.retry_at.is_some_and(|at| at > Instant::now());
        self.gate.borrow().stopped.is_none() && !self.shared.is_held() && !is_pausing
    }

    fn start_look(&mut self) {
        if self.out.is_some() || !self.may_look() {
            return;
        }
        let batch = {
            let mut set = self.shared.set();
            let hurried = set.oldest().is_some_and(|oldest| oldest <= self.hurry);
            if !hurried && set.due().is_none_or(|due| due > now()) {
                return;
            }
            let limit = self.sync.config.batch.paths.min(set.most_out());
            let batch = set.cut(now(), limit, self.hurry);
            self.shared.takes(&batch);
            batch
        };
        let Some(oldest) = batch.iter().map(|taken| taken.since).min() else { return };
        self.out = Some((batch.len(), oldest));
        let (sync, root, cut) = (self.sync.clone(), self.gate.borrow().root, self.cut.clone());
        self.looks.spawn(async move {
            if let Err(error) = cut.make().await {
                return Looked::Failed(error.to_string(), batch);
            }
            // No bytes travel.
            let limits = BatchLimits { bytes: u64::MAX, ..sync.config.batch };
            let look = move || match open_same_root(&sync.config.source, root) {
                Ok(fd) => {
                    Looked::At(plan(fd, batch, &Rules { filter: &sync.config.filter, limits: &limits, inplace: &InPlace::default() }))
                }
                Err(error) if error.may_pass() => Looked::Failed(error.to_string(), batch),
                Err(error) => Looked::RootGone(error, batch),
            };
            spawn_blocking(look).await.expect("looking does not panic")
        });
    }

    fn account(&mut self, looked: Looked) {
        self.out = None;
        match looked {
            Looked::At(plan) => {
                self.trouble = None;
                self.tell(plan);
            }
            Looked::RootGone(error, batch) => {
                self.shared.set().put_back(batch);
                self.sync.stop_without_root(&error.to_string());
            }
            Looked::Failed(reason, batch) => {
                self.shared.set().put_back(batch);
                self.retry_at = Some(Instant::now() + PAUSE);
                if self.trouble.replace(reason.clone()).is_none() {
                    tracing::warn!("{}: its plugins are told later: {reason}", self.sync.config.name);
                }
            }
        }
    }

    fn tell(&self, plan: Plan) {
        let arrived = now();
        let Plan { entries, bulk, postponed, excluded: _ } = plan;
        let items: Vec<Item> = entries.into_iter().chain(bulk).flat_map(|run| run.items).collect();
        self.shared.set().put_back(postponed);
        {
            let mut report = self.shared.report();
            for item in &items {
                report.arrived(item.mark.since, arrived);
            }
            let slowest = items.iter().map(|item| arrived.saturating_sub(item.mark.since)).max();
            report.ended(Sent { marks: items.len() as u64, ..Sent::default() }, slowest);
        }
        if !items.is_empty()
            && let Some(listener) = self.shared.listener()
        {
            listener.arrived(items.iter().map(Item::arrived).collect());
        }
    }

    /// A flush does not wait for a quiet moment, nor for the next attempt.
    fn hear(&mut self) {
        let retry = self.shared.takes_retry();
        if self.shared.is_held() {
            // One may have come between the order and its being carried out.
            lock(&self.shared.flushes).clear();
        }
        let (barrier, is_new) = self.shared.hear_flushes();
        self.hurry = self.hurry.max(barrier);
        if retry || is_new {
            self.retry_at = None;
        }
    }

    /// When the oldest mark was made that was not told.
    fn oldest(&self) -> Option<Stamp> {
        self.out.map(|(_, oldest)| oldest).into_iter().chain(self.shared.set().oldest()).min()
    }

    fn report(&self) {
        self.shared.answer_flushes(|| self.oldest());
        let held = self.shared.is_held().then(|| (LaneState::Held, HELD_BY_OPERATOR.to_owned()));
        let trouble = held.or_else(|| self.trouble.clone().map(|reason| (LaneState::Retrying, reason)));
        let in_flight = self.out.map_or(0, |(marks, _)| marks as u64);
        self.shared.report().doing(Doing { trouble, in_flight, oldest: self.oldest(), ..Doing::default() }, now());
        self.shared.turned(self.out.map(|(_, oldest)| oldest), &Aside::new(None));
    }

    fn ask_at(&self) -> Option<Instant> {
        let is_written = self.shared.set().writing_until() > now();
        self.cut.ask_at(self.asked_at, self.sync.config.settle.quiet).filter(|_| is_written)
    }

    fn wake_at(&self) -> Option<Instant> {
        if self.gate.borrow().stopped.is_some() || self.shared.is_held() || self.out.is_some() {
            return None;
        }
        let pause = self.retry_at.filter(|at| *at > Instant::now());
        pause.or_else(|| self.shared.set().due().map(stamp_to_instant))
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex};

    use super::*;
    use crate::{
        config::{Overrides, RawConfig},
        dispatch::Listener,
        model::{Arrived, Mark, Ops, RelPathBuf, Scope},
        plan::open_root,
    };

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<Arrived>>);

    impl Listener for Heard {
        fn arrived(&self, arrived: Vec<Arrived>) {
            lock(&self.0).extend(arrived);
        }

        fn turned(&self) {}
    }

    impl Heard {
        fn take(&self) -> Vec<(String, bool, bool)> {
            let heard = std::mem::take(&mut *lock(&self.0));
            heard.into_iter().map(|Arrived { path, gone, below, .. }| (path.to_string(), gone, below)).collect()
        }
    }

    fn mark(path: &str, scope: Scope, ops: Ops) -> Mark {
        Mark { path: RelPathBuf::new(path.as_bytes().to_vec()).unwrap(), scope, ops }
    }

    /// A running announcer for `room`/www, which waits for quiet for ever.
    fn start(room: &Path) -> (Arc<LaneShared>, Arc<SyncContext>, Arc<Heard>, impl AsyncFnOnce()) {
        let text = "[[sync]]\nsource = 'www'\nexclude = ['*.tmp']\nsettle = { finished = '1h', quiet = '1h', max_age = '1h' }\n\
                    [[sync.plugin]]\nname = 'p'\nkind = 'exec'\ncommand = ['true']\n";
        let raw = RawConfig::parse(text, &room.join("trigsync.toml")).unwrap();
        let sync = raw.resolve(&Overrides::default(), &room.join("state")).unwrap().syncs.remove(0);
        let (_, root) = open_root(&sync.source).unwrap();
        let shared = Arc::new(LaneShared::unrecorded(sync.settle, "p".into(), "p".into()));
        let context = Arc::new(SyncContext::new(Arc::new(sync), root));
        let heard = Arc::new(Heard::default());
        shared.listen(Some(heard.clone()));
        let stop = CancellationToken::new();
        let announcer = Announcer::new(shared.clone(), context.clone(), Cut::default());
        let task = tokio::spawn(announcer.run(stop.clone(), Duration::from_secs(10)));
        let end = async move || {
            stop.cancel();
            task.await.unwrap();
        };
        (shared, context, heard, end)
    }

    fn wait<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn what_is_there_and_what_is_gone_is_told_once_and_at_the_end_too() {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(room.path().join("www/d")).unwrap();
        std::fs::write(room.path().join("www/file"), "").unwrap();
        wait(async {
            let (shared, _, heard, end) = start(room.path());
            let entry = |path, ops| mark(path, Scope::Entry, ops);
            shared.mark_all([entry("file", Ops::WRITE), entry("file", Ops::CLOSE_WRITE), entry("gone", Ops::DELETE)]);
            shared.mark_all([entry("x.tmp", Ops::WRITE), mark("d", Scope::Tree, Ops::MOVED_TO), entry("never/there", Ops::WRITE)]);
            shared.flush().await.unwrap();
            let told = |path: &str, gone, below| (path.to_owned(), gone, below);
            let mut found = heard.take();
            found.sort();
            assert_eq!(
                found,
                [told("d", false, true), told("file", false, false), told("gone", true, false), told("never", true, true)],
                "each once, as it is, and the topmost of what is missing"
            );
            let status = shared.status();
            assert_eq!((status.pending, status.in_flight, status.sent), (0, 0, 4));
            // What is lost, nobody knows what of.
            shared.mark_all([entry("file", Ops::WRITE), mark("", Scope::Tree, Ops::RESCAN)]);
            shared.flush().await.unwrap();
            assert_eq!(heard.take(), [told(".", false, true)]);
            shared.mark_all([entry("file", Ops::WRITE)]);
            end().await;
            assert_eq!(heard.take(), [told("file", false, false)], "nobody would tell it later");
        });
    }

    #[test]
    fn nothing_is_told_while_it_is_held_or_without_the_root() {
        let room = tempfile::tempdir().unwrap();
        let www = room.path().join("www");
        std::fs::create_dir(&www).unwrap();
        wait(async {
            let (shared, context, heard, end) = start(room.path());
            shared.hold();
            shared.mark_all([mark("a", Scope::Entry, Ops::WRITE)]);
            assert!(shared.flush().await.is_err(), "nobody waits for what is held");
            assert_eq!(heard.take(), []);
            assert!(shared.release());
            std::fs::remove_dir(&www).unwrap();
            let flushed = shared.flush();
            context.stopped().await;
            drop(flushed);
            std::fs::create_dir(&www).unwrap();
            assert_eq!((heard.take(), shared.status().pending), (vec![], 1), "an empty directory in its place says nothing");
            context.release(open_root(&www).unwrap().1);
            shared.flush().await.unwrap();
            assert_eq!(heard.take(), [("a".to_owned(), true, false)]);
            end().await;
        });
    }
}
