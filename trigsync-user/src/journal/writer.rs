//! The thread that writes: takes what changed from every lane, a few times a second, and puts it into one transaction.
//!
//! - How far capture was read is asked *before* the lanes are: what came until then is in their changes.
//! - Where the file cannot be written, nothing is forgotten: changes go on folding, and are written when there is room again.
//! - An order of the operator is written at once, and who gave it hears when it is in the file.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::oneshot;

use super::{
    batch::Batch,
    lane::{AuditPoint, Entered, LaneKey, LaneLog, Reached},
    left::Left,
    pending::Pending,
    store::{JournalError, LanePart, Store, understood, uptime},
};
use crate::{capture::Position, lock::lock};

/// How long changes gather.
const PACE: Duration = Duration::from_millis(200);

/// How often it is written that nothing happened.
const IDLE: Duration = Duration::from_secs(5);

/// How long to wait after a transaction that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A running journal.
#[derive(Debug)]
pub struct Journal {
    commands: mpsc::Sender<Command>,
    reached: Arc<Mutex<Reached>>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Enter(Entered, Arc<dyn LaneLog>),
    Searched(LaneKey),
    Held(LaneKey, bool, oneshot::Sender<Result<(), String>>),
    Leave(LaneKey),
    Hold,
    GoOn,
    Finish(mpsc::Sender<Result<(), String>>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Enter(..) => "Enter",
            Self::Searched(..) => "Searched",
            Self::Held(..) => "Held",
            Self::Leave(..) => "Leave",
            Self::Hold => "Hold",
            Self::GoOn => "GoOn",
            Self::Finish(..) => "Finish",
        })
    }
}

/// An order that is to outlive the daemon. It is written whether or not anybody waits for it.
#[derive(Debug)]
pub struct Noting(oneshot::Receiver<Result<(), String>>);

impl Noting {
    /// Ends when it is in the file, or with the reason why it cannot be written now; it is tried again then.
    pub async fn noted(self) -> Result<(), String> {
        self.0.await.unwrap_or_else(|_| Err("the daemon is ending".to_owned()))
    }
}

/// Where capture notes how far it was read.
#[derive(Clone, Debug)]
pub struct Note(Arc<Mutex<Reached>>);

impl Note {
    /// Everything until here was handed to the lanes. What is not known now stays as it was.
    pub fn reached(&self, position: Option<Position>, until: Option<SystemTime>) {
        let mut reached = lock(&self.0);
        if position.is_some() {
            reached.position = position;
        }
        if until.is_some() {
            (reached.until, reached.uptime) = (until, uptime());
        }
    }
}

impl Journal {
    /// Opens the journal of a state directory and tells what the last daemon left. Where it cannot be written now, what this daemon knows is
    /// kept in memory only. Nothing of how far capture was read is written before [`go_on`](Self::go_on).
    pub fn open(state_dir: &Path) -> Result<(Self, Left), JournalError> {
        let mut trouble = None;
        let (store, left) = match Store::open(state_dir) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!("{error}; what is not sent when this daemon ends is found by comparing everything");
                trouble = Some(error.to_string());
                let failed = |source| understood(state_dir, source);
                (Store::in_memory().map_err(failed)?, Left { set_aside: Some(error.to_string()), ..Left::default() })
            }
        };
        let (commands, received) = mpsc::channel();
        let reached = Arc::new(Mutex::new(Reached { uptime: uptime(), ..Reached::default() }));
        let trouble = Arc::new(Mutex::new(trouble));
        let mut writer = Writer {
            store,
            lanes: Vec::new(),
            gone: Vec::new(),
            held: 1,
            reached: reached.clone(),
            written: Reached::default(),
            written_at: Instant::now(),
            trouble: trouble.clone(),
            orders: Vec::new(),
        };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&received));
        let thread = thread.map_err(|error| understood(state_dir, rusqlite::Error::ToSqlConversionFailure(error.into())))?;
        Ok((Self { commands, reached, trouble, thread: Some(thread) }, left))
    }

    /// Where capture notes how far it was read.
    pub fn note(&self) -> Note {
        Note(self.reached.clone())
    }

    /// Writes for a lane from now on. Whatever is due for it is marked already, or is searched for.
    pub fn enter(&self, lane: Entered, log: Arc<dyn LaneLog>) {
        self.tell(Command::Enter(lane, log));
    }

    /// To be called, from any thread, when all that was searched for is marked.
    pub fn searched(&self, key: LaneKey) -> impl FnOnce() + Send + 'static {
        let commands = self.commands.clone();
        move || {
            // As in `tell`.
            let _ = commands.send(Command::Searched(key));
        }
    }

    /// The operator holds a lane, or no longer does.
    pub fn held(&self, key: LaneKey, held: bool) -> Noting {
        let (noted, noting) = oneshot::channel();
        self.tell(Command::Held(key, held, noted));
        Noting(noting)
    }

    /// Forgets a lane.
    pub fn leave(&self, key: LaneKey) {
        self.tell(Command::Leave(key));
    }

    /// How far capture was read is not written until [`go_on`](Self::go_on): there are lanes that are not entered yet.
    pub fn hold(&self) {
        self.tell(Command::Hold);
    }

    /// Ends [`hold`](Self::hold).
    pub fn go_on(&self) {
        self.tell(Command::GoOn);
    }

    /// Why nothing can be written at present.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Writes what there is, has it on the disk, and ends. Nothing may be captured any more.
    pub fn finish(mut self) -> Result<(), String> {
        let (answer, answered) = mpsc::channel();
        self.tell(Command::Finish(answer));
        let result = answered.recv().unwrap_or_else(|_| Err("its thread has ended".to_owned()));
        if let Some(thread) = self.thread.take() {
            // It has answered, or has said why not.
            let _ = thread.join();
        }
        result
    }

    fn tell(&self, command: Command) {
        // A thread that is gone is found out by `finish`, and by the next start.
        let _ = self.commands.send(command);
    }
}

struct Lane {
    key: LaneKey,
    log: Arc<dyn LaneLog>,
    enters: Option<Entered>,
    searched: bool,
    held: Option<bool>,
    audited: Option<AuditPoint>,
    pending: Pending,
    batches: Vec<Batch>,
}

impl Lane {
    /// The history does without the oldest batches where too many wait to be written.
    fn forget_batches(&mut self) {
        let mut paths = 0;
        let fits = |batch: &&Batch| {
            paths += batch.paths.len();
            paths <= MOST_PATHS
        };
        let kept = self.batches.iter().rev().take(MOST_BATCHES).take_while(fits).count();
        self.batches.drain(..self.batches.len() - kept);
    }
}

struct Writer {
    store: Store,
    lanes: Vec<Lane>,
    gone: Vec<LaneKey>,
    held: usize,
    reached: Arc<Mutex<Reached>>,
    written: Reached,
    written_at: Instant,
    trouble: Arc<Mutex<Option<String>>>,
    /// Who waits until an order of theirs is in the file.
    orders: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Writer {
    fn run(&mut self, commands: &mpsc::Receiver<Command>) {
        let mut pace = PACE;
        let mut next = Instant::now() + pace;
        loop {
            match commands.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Finish(answer)) => {
                    let result = self.write().and_then(|()| self.store.finish(&self.written)).map_err(|error| error.to_string());
                    // Whoever asked waits for it.
                    let _ = answer.send(result);
                    return;
                }
                Ok(command) => {
                    self.obey(command);
                    if !self.orders.is_empty() {
                        next = Instant::now();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let result = self.write();
                    pace = if result.is_ok() { PACE } else { PAUSE };
                    next = Instant::now() + pace;
                    self.tell(result);
                    self.let_go();
                }
                // The daemon has ended without a word: as after a crash.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let is = |key: &LaneKey, other: &LaneKey| key.sync == other.sync && key.target == other.target;
        match command {
            Command::Enter(entered, log) => {
                let key = entered.key.clone();
                self.lanes.retain(|lane| !is(&lane.key, &key));
                self.gone.retain(|gone| !is(gone, &key));
                let (pending, batches) = (Pending::default(), Vec::new());
                self.lanes.push(Lane { key, log, enters: Some(entered), searched: false, held: None, audited: None, pending, batches });
            }
            Command::Searched(key) => {
                // What was found is in the log, and is taken from there before this is written.
                self.lanes.iter_mut().filter(|lane| is(&lane.key, &key)).for_each(|lane| lane.searched = true);
            }
            Command::Held(key, held, noted) => {
                self.lanes.iter_mut().filter(|lane| is(&lane.key, &key)).for_each(|lane| lane.held = Some(held));
                self.orders.push(noted);
            }
            Command::Leave(key) => {
                self.lanes.retain(|lane| !is(&lane.key, &key));
                self.gone.push(key);
            }
            Command::Hold => self.held += 1,
            Command::GoOn => {
                self.held = self.held.saturating_sub(1);
                // What a daemon of before was told to send to somewhere else.
                let keys: Vec<_> = self.lanes.iter().map(|lane| lane.key.clone()).collect();
                match self.store.strangers(&keys) {
                    Ok(strangers) => self.gone.extend(strangers),
                    Err(error) => tracing::warn!("the journal keeps lanes that are not configured any more: {error}"),
                }
            }
            Command::Finish(_) => {}
        }
    }

    fn write(&mut self) -> rusqlite::Result<()> {
        let reached = lock(&self.reached).clone();
        for lane in &mut self.lanes {
            let (changes, batches) = lane.log.take();
            lane.pending.fold(changes, lane.log.bound());
            if crate::sabotage::asks_for("journal-skipped") {
                lane.pending = Pending::default();
            }
            lane.batches.extend(batches);
            lane.audited = lane.log.audit_point().or(lane.audited.take());
            lane.forget_batches();
        }
        let moved = reached.position != self.written.position || self.written_at.elapsed() >= IDLE && reached != self.written;
        let reached = Some(&reached).filter(|_| self.held == 0);
        let is_idle = |lane: &Lane| {
            let is_as_it_was = lane.enters.is_none() && lane.held.is_none() && lane.audited.is_none() && !lane.searched;
            lane.pending.is_empty() && lane.batches.is_empty() && is_as_it_was
        };
        if self.gone.is_empty() && self.lanes.iter().all(is_idle) && !(moved && reached.is_some()) {
            return Ok(());
        }
        let parts: Vec<_> = self
            .lanes
            .iter()
            .filter(|lane| !is_idle(lane))
            .map(|Lane { key, enters, searched, held, audited, pending, batches, .. }| LanePart {
                key,
                enters: enters.as_ref(),
                searched: *searched,
                held: *held,
                audited: audited.as_ref(),
                pending,
                batches,
            })
            .collect();
        self.store.commit(&parts, &self.gone, reached)?;
        if let Some(reached) = reached {
            self.written = reached.clone();
        }
        self.written_at = Instant::now();
        self.gone.clear();
        for lane in &mut self.lanes {
            (lane.enters, lane.searched, lane.held, lane.audited) = (None, false, None, None);
            lane.pending = Pending::default();
            lane.batches.clear();
        }
        Ok(())
    }

    /// After an attempt to write: whoever gave an order hears what became of it.
    fn let_go(&mut self) {
        // A journal that is kept in memory only has its trouble all the time.
        let result = lock(&self.trouble).clone().map_or(Ok(()), Err);
        // Whoever asked may have gone.
        self.orders.drain(..).for_each(|noted| drop(noted.send(result.clone())));
    }

    fn tell(&self, result: rusqlite::Result<()>) {
        let mut trouble = lock(&self.trouble);
        match result {
            Ok(()) => {
                if trouble.take_if(|_| self.store.path().is_absolute()).is_some() {
                    tracing::info!("the journal is written again");
                }
            }
            Err(error) => {
                if trouble.is_none() {
                    let path = self.store.path().display();
                    tracing::error!(
                        "the journal {path} cannot be written ({error}); it is tried again, and nothing is forgotten meanwhile"
                    );
                }
                *trouble = Some(error.to_string());
            }
        }
    }
}

/// Batches that wait to be written, and paths in them.
const MOST_BATCHES: usize = 1_000;
const MOST_PATHS: usize = 20_000;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model_tests;
