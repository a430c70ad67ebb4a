//! The journal: what a daemon that was killed has left is what it had not sent.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use tempfile::{TempDir, tempdir};
use trigsync::{
    capture::Position,
    coalesce::{Changes, DirtySet},
    config::Settle,
    journal::{Batch, Entered, Journal, LaneKey, LaneLog, Left, NAME, Question, Store},
    model::{Ops, RelPathBuf, Scope},
};

const AT_ONCE: Settle = Settle { finished: Duration::ZERO, quiet: Duration::ZERO, max_age: Duration::ZERO };

/// A lane as the journal sees it.
struct Log {
    set: Mutex<DirtySet>,
    batches: Mutex<Vec<Batch>>,
}

impl Log {
    fn new(left: &Left) -> Arc<Self> {
        let mut set = DirtySet::new(AT_ONCE);
        for mark in left.of("www", "mirror").into_iter().flat_map(|lane| lane.marks()) {
            set.mark(&mark.path, mark.scope, mark.ops, 1);
        }
        set.record_changes();
        Arc::new(Self { set: Mutex::new(set), batches: Mutex::default() })
    }

    fn set(&self) -> MutexGuard<'_, DirtySet> {
        self.set.lock().unwrap()
    }
}

impl LaneLog for Log {
    fn take(&self) -> (Changes, Vec<Batch>) {
        (self.set().take_changes(), std::mem::take(&mut self.batches.lock().unwrap()))
    }
}

fn key() -> LaneKey {
    LaneKey { sync: "www".into(), target: "mirror".into(), source: b"/srv/www".to_vec(), meaning: "so".into() }
}

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes().to_vec()).unwrap()
}

/// What the lane had not sent, by path.
fn left_in(state: &Path) -> BTreeMap<RelPathBuf, Scope> {
    let (_, left) = Store::open(state).unwrap();
    let mut found = BTreeMap::new();
    for mark in left.of("www", "mirror").unwrap().marks() {
        let scope = found.entry(mark.path).or_insert(mark.scope);
        *scope = mark.scope.max(*scope);
    }
    found
}

/// Writes what is there, as a daemon that stops does.
fn stop(journal: Journal) {
    journal.finish().unwrap();
}

fn begin(state: &Path) -> (Journal, Arc<Log>, Left) {
    let (journal, left) = Journal::open(state).unwrap();
    let log = Log::new(&left);
    journal.enter(Entered { key: key(), keeps: left.of("www", "mirror").is_some(), searching_since: None }, log.clone());
    journal.go_on();
    (journal, log, left)
}

#[test]
fn what_was_not_sent_is_there_at_the_next_start() {
    let state = tempdir().unwrap();
    let (journal, log, left) = begin(state.path());
    assert!(left.passed().is_none() && left.of("www", "mirror").is_none() && left.set_aside().is_none());
    let now = SystemTime::now();
    log.set().mark(&path("a/b"), Scope::Entry, Ops::WRITE, 10);
    log.set().mark(&path("a/c"), Scope::Tree, Ops::MOVED_TO, 11);
    let position = Position { ring: 7, read: u64::MAX - 5, told: 3 };
    journal.note().reached(Some(position), Some(now));
    stop(journal);
    assert_eq!(fs::metadata(state.path().join(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
    let (_, left) = Store::open(state.path()).unwrap();
    let passed = left.passed().unwrap();
    assert!(passed.same_boot && passed.clean && passed.position == Some(position));
    assert!(passed.until.unwrap() <= now && passed.until.unwrap() + Duration::from_secs(1) > now);
    let lane = left.of("www", "mirror").unwrap();
    assert!(lane.meaning == "so" && !lane.is_incomplete && lane.len() == 2);
    assert_eq!(left_in(state.path()), BTreeMap::from([(path("a/b"), Scope::Entry), (path("a/c"), Scope::Tree)]));
}

#[test]
fn a_next_daemon_that_sends_it_leaves_nothing() {
    let state = tempdir().unwrap();
    let (journal, log, _) = begin(state.path());
    log.set().mark(&path("old"), Scope::Entry, Ops::WRITE, 5_000_000);
    log.set().mark(&path("kept"), Scope::Entry, Ops::WRITE, 5_000_001);
    stop(journal);
    // Its clock begins anew.
    let (journal, log, _) = begin(state.path());
    let taken = log.set().cut(3, usize::MAX, u64::MAX);
    let sent: Vec<_> = taken.iter().filter(|taken| taken.mark.path == path("old")).collect();
    assert_eq!((taken.len(), sent.len()), (2, 1));
    log.set().settled(sent[0], 0);
    stop(journal);
    assert_eq!(left_in(state.path()), BTreeMap::from([(path("kept"), Scope::Entry)]));
    let (journal, log, _) = begin(state.path());
    let taken = log.set().cut(3, usize::MAX, u64::MAX);
    assert_eq!(taken.len(), 1);
    log.set().all_settled();
    stop(journal);
    assert_eq!(left_in(state.path()), BTreeMap::new());
}

#[test]
fn a_lane_that_is_entered_anew_has_no_rows_of_before() {
    let state = tempdir().unwrap();
    let (journal, log, _) = begin(state.path());
    log.set().mark(&path("old"), Scope::Entry, Ops::WRITE, 1);
    stop(journal);
    let (journal, _) = Journal::open(state.path()).unwrap();
    let log = Log::new(&Left::default());
    log.set().mark(&path(""), Scope::Tree, Ops::RESCAN, 2);
    journal.enter(Entered { key: key(), keeps: false, searching_since: None }, log);
    journal.go_on();
    stop(journal);
    assert_eq!(left_in(state.path()), BTreeMap::from([(path(""), Scope::Tree)]));
    // One that is not entered is not configured any more.
    let (journal, _) = Journal::open(state.path()).unwrap();
    journal.go_on();
    stop(journal);
    assert!(Store::open(state.path()).unwrap().1.of("www", "mirror").is_none());
}

#[test]
fn how_far_capture_was_read_is_not_told_before_every_lane_is_there() {
    let state = tempdir().unwrap();
    let (journal, log, _) = begin(state.path());
    let position = |read| Position { ring: 1, read, told: 0 };
    journal.note().reached(Some(position(1)), None);
    until(state.path(), |left| left.passed().is_some_and(|passed| passed.position == Some(position(1))));
    journal.hold();
    log.set().mark(&path("a"), Scope::Entry, Ops::WRITE, 1);
    journal.note().reached(Some(position(2)), None);
    until(state.path(), |left| left.of("www", "mirror").is_some_and(|lane| lane.len() == 1));
    assert_eq!(Store::open(state.path()).unwrap().1.passed().unwrap().position, Some(position(1)));
    journal.go_on();
    until(state.path(), |left| left.passed().is_some_and(|passed| passed.position == Some(position(2)) && !passed.clean));
}

/// Waits until the file says so.
fn until(state: &Path, holds: impl Fn(&Left) -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds(&Store::open(state).unwrap().1) {
        assert!(std::time::Instant::now() < deadline, "not written");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_search_that_was_not_ended_is_known_until_all_is_marked() {
    let state = tempdir().unwrap();
    let (journal, _) = Journal::open(state.path()).unwrap();
    let (log, since) = (Log::new(&Left::default()), SystemTime::now() - Duration::from_secs(500));
    journal.enter(Entered { key: key(), keeps: false, searching_since: Some(since) }, log.clone());
    journal.go_on();
    let searching = |left: &Left| left.of("www", "mirror").map(|lane| lane.searching_since.is_some());
    until(state.path(), |left| searching(left) == Some(true));
    log.set().mark(&path("found"), Scope::Entry, Ops::WRITE, 1);
    journal.searched(key())();
    stop(journal);
    let (_, left) = Store::open(state.path()).unwrap();
    assert_eq!((searching(&left), left_in(state.path()).len()), (Some(false), 1));
}

#[test]
fn more_than_can_be_kept_is_known_to_be_missing_until_all_was_sent() {
    let state = tempdir().unwrap();
    let (journal, log, _) = begin(state.path());
    {
        let mut set = log.set();
        let long = "d".repeat(200);
        for index in 0..150_000 {
            set.mark(&path(&format!("{long}/{index}")), Scope::Entry, Ops::WRITE, 1);
        }
    }
    stop(journal);
    let lane = |state: &TempDir| Store::open(state.path()).unwrap().1.of("www", "mirror").map(|lane| (lane.is_incomplete, lane.len()));
    assert_eq!(lane(&state), Some((true, 0)));
    let (journal, log, _) = begin(state.path());
    log.set().mark(&path("one"), Scope::Entry, Ops::WRITE, 1);
    stop(journal);
    assert_eq!(lane(&state), Some((true, 1)), "one mark that is kept does not make it whole");
    let (journal, log, _) = begin(state.path());
    log.set().cut(9, usize::MAX, u64::MAX);
    log.set().all_settled();
    log.set().mark(&path("two"), Scope::Entry, Ops::WRITE, 1);
    stop(journal);
    assert_eq!(lane(&state), Some((false, 1)));
}

#[test]
fn a_file_that_is_no_journal_is_set_aside_and_said_so() {
    let good = tempdir().unwrap();
    stop(begin(good.path()).0);
    let good = fs::read(good.path().join(NAME)).unwrap();
    let newer = {
        let state = tempdir().unwrap();
        fs::write(state.path().join(NAME), &good).unwrap();
        let connection = rusqlite::Connection::open(state.path().join(NAME)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        fs::read(state.path().join(NAME)).unwrap()
    };
    let foreign = {
        let state = tempdir().unwrap();
        let connection = rusqlite::Connection::open(state.path().join(NAME)).unwrap();
        connection.execute_batch("CREATE TABLE lane (id INTEGER)").unwrap();
        drop(connection);
        fs::read(state.path().join(NAME)).unwrap()
    };
    let mut torn = good.clone();
    torn[4096..].fill(0xa5);
    for (content, what) in [
        (b"{\"format\":2}, and more than a header's length of something else, whatever it may have been once".to_vec(), "no database"),
        (newer, "of a newer version"),
        (foreign, "another program's"),
        (torn, "damaged"),
    ] {
        let state = tempdir().unwrap();
        fs::write(state.path().join(NAME), &content).unwrap();
        let (journal, left) = Journal::open(state.path()).unwrap();
        let why = left.set_aside().unwrap_or_else(|| panic!("{what}: not noticed"));
        assert!(why.contains(what) && why.contains("journal.db.unusable"), "{why}");
        assert_eq!(fs::read(state.path().join("journal.db.unusable")).unwrap(), content);
        journal.go_on();
        stop(journal);
        assert!(Store::open(state.path()).unwrap().1.set_aside().is_none(), "not a second time");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_no_reason_not_to_start() {
    let state = tempdir().unwrap();
    fs::create_dir(state.path().join(NAME)).unwrap();
    let (journal, left) = Journal::open(state.path()).unwrap();
    assert!(left.set_aside().is_some() && journal.trouble().is_some());
    journal.go_on();
    stop(journal);
}

#[test]
fn the_history_tells_when_a_path_went_where() {
    let state = tempdir().unwrap();
    let (journal, log, _) = begin(state.path());
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let batch = |ended, paths: &[(&str, Scope, Option<&str>)], trouble: Option<&str>| Batch {
        started: at(ended - 1),
        ended: at(ended),
        arrived: paths.iter().filter(|(_, _, failure)| failure.is_none()).count() as u64,
        failed: paths.iter().filter(|(_, _, failure)| failure.is_some()).count() as u64,
        paths: paths.iter().map(|(name, scope, failure)| (path(name), *scope, failure.map(str::to_owned))).collect(),
        bytes: 10,
        processes: 1,
        trouble: trouble.map(str::to_owned),
    };
    log.batches.lock().unwrap().extend([
        batch(100, &[("img/a.png", Scope::Entry, None), ("img-old", Scope::Entry, None)], None),
        batch(200, &[("img", Scope::Tree, None)], None),
        batch(300, &[("img", Scope::Entry, None), ("index.html", Scope::Entry, Some("Permission denied"))], None),
        batch(400, &[], Some("connection refused")),
    ]);
    stop(journal);
    let store = Store::read_only(state.path()).unwrap();
    let ask = |question: Question| {
        let history = store.history(&Question { limit: 10, ..question }).unwrap();
        assert_eq!(history.kept_since, Some(at(100)));
        history.entries.iter().map(|entry| entry.ended.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).collect::<Vec<_>>()
    };
    let of = |path: &str| Question { path: Some(path.into()), ..Question::default() };
    assert_eq!(ask(Question::default()), [400, 300, 200, 100]);
    assert_eq!(ask(of("img/a.png")), [200, 100], "itself, and the subtree that it is in; not the directory's own attributes");
    assert_eq!(ask(of("/srv/www/img/a.png")), [200, 100]);
    assert_eq!(ask(of("img")), [300, 200, 100], "and what is below it");
    assert_eq!(ask(of("./img/")), [300, 200, 100]);
    assert_eq!(ask(of("/srv/elsewhere")), [0u64; 0]);
    assert_eq!(ask(Question { target: Some("other".into()), ..Question::default() }), [0u64; 0]);
    assert_eq!(ask(Question { failed: true, target: Some("mirror".into()), ..Question::default() }), [400, 300]);
    assert_eq!(ask(Question { failed: true, ..of("index.html") }), [300]);
    let failed = store.history(&Question { failed: true, limit: 10, ..Question::default() }).unwrap();
    assert_eq!(failed.entries[1].arrivals[0].failure.as_deref(), Some("Permission denied"));
    assert!(!failed.paths_missing);
}

#[test]
fn asking_where_nothing_ever_ran_names_the_remedy() {
    let error = Store::read_only(tempdir().unwrap().path()).unwrap_err();
    assert!(error.to_string().contains("--state-dir"), "{error}");
}
