//! Against a model of a lane: whenever the daemon is killed, what the journal has covers what was not sent when it was written last.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::tempdir;

use super::*;
use crate::{
    coalesce::{Changes, DirtySet, Taken},
    config::Settle,
    model::{Ops, RelPathBuf, Scope},
};

/// A lane as the journal sees it.
struct Log(Mutex<DirtySet>);

impl Default for Log {
    fn default() -> Self {
        let mut set = DirtySet::new(Settle { finished: Duration::ZERO, quiet: Duration::ZERO, max_age: Duration::ZERO });
        set.record_changes();
        Self(Mutex::new(set))
    }
}

impl Log {
    fn set(&self) -> std::sync::MutexGuard<'_, DirtySet> {
        lock(&self.0)
    }
}

impl LaneLog for Log {
    fn take(&self) -> (Changes, Vec<Batch>) {
        (self.set().take_changes(), Vec::new())
    }
}

/// What the set holds.
#[derive(Default)]
struct Marked(BTreeMap<RelPathBuf, Scope>);

impl Marked {
    fn mark(&mut self, path: RelPathBuf, scope: Scope) {
        if self.0.iter().any(|(tree, scope)| *scope == Scope::Tree && path != *tree && path.is_within(tree)) {
            return;
        }
        if scope == Scope::Tree {
            self.0.retain(|other, _| !other.is_within(&path) || *other == path);
        }
        let was = self.0.entry(path).or_insert(scope);
        *was = scope.max(*was);
    }
}

fn writer(store: Store, log: Arc<Log>) -> Writer {
    let key = LaneKey { sync: "www".into(), target: "mirror".into(), ..LaneKey::default() };
    let enters = Some(Entered { key: key.clone(), keeps: false, searching_since: None });
    Writer {
        store,
        lanes: vec![Lane {
            key,
            log,
            enters,
            searched: false,
            held: None,
            audited: None,
            pending: Pending::default(),
            batches: Vec::new(),
        }],
        gone: Vec::new(),
        held: 0,
        reached: Arc::default(),
        written: Reached::default(),
        written_at: Instant::now(),
        trouble: Arc::default(),
        orders: Vec::new(),
    }
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

#[derive(Clone, Debug)]
enum Step {
    Mark(RelPathBuf, Scope),
    Cut(usize),
    /// So many of those that are out arrive, or come back.
    Settle(usize),
    PutBack(usize),
    /// The journal visits.
    Visit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = prop::sample::select(vec!["a", "b", "c-", "c"]);
    let path = prop::collection::vec(name, 0..4).prop_map(|names| RelPathBuf::new(names.join("/").into_bytes()).unwrap());
    let scope = prop::sample::select(vec![Scope::Entry, Scope::Entry, Scope::Level, Scope::Tree]);
    let step = prop_oneof![
        5 => (path, scope).prop_map(|(path, scope)| Step::Mark(path, scope)),
        2 => (1..4usize).prop_map(Step::Cut),
        2 => (1..4usize).prop_map(Step::Settle),
        1 => (1..3usize).prop_map(Step::PutBack),
        1 => Just(Step::Visit),
    ];
    prop::collection::vec(step, 1..40)
}

fn covers(left: &BTreeMap<RelPathBuf, Scope>, path: &RelPathBuf, scope: Scope) -> bool {
    left.get(path).is_some_and(|other| *other >= scope) || left.iter().any(|(tree, other)| *other == Scope::Tree && path.is_within(tree))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whenever the daemon is killed, what the journal has covers what was not sent when it was last visited.
    #[test]
    fn the_journal_never_knows_less_than_is_left(steps in steps()) {
        let state = tempdir().unwrap();
        let (store, _) = Store::open(state.path()).unwrap();
        let log = Arc::new(Log::default());
        let mut writer = writer(store, log.clone());
        let (mut out, mut now): (Vec<Taken>, u64) = (Vec::new(), 0);
        let mut marked = Marked::default();
        for step in steps.into_iter().chain([Step::Visit]) {
            now += 1;
            match step {
                Step::Mark(path, scope) => {
                    log.set().mark(&path, scope, Ops::WRITE, now);
                    marked.mark(path, scope);
                }
                Step::Cut(limit) => {
                    let cut = log.set().cut(now + 1, limit, 0);
                    cut.iter().for_each(|taken| _ = marked.0.remove(&taken.mark.path));
                    out.extend(cut);
                }
                Step::Settle(count) => {
                    let arrived: Vec<_> = out.drain(..count.min(out.len())).collect();
                    for taken in arrived {
                        log.set().settled(&taken, 0);
                        // What is older and no wider at the same path has arrived with it.
                        out.retain(|other| {
                            other.mark.path != taken.mark.path || other.mark.scope > taken.mark.scope || other.until > taken.until
                        });
                    }
                    if out.is_empty() {
                        log.set().all_settled();
                    }
                }
                Step::PutBack(count) => {
                    let back: Vec<_> = out.drain(..count.min(out.len())).collect();
                    back.iter().for_each(|taken| marked.mark(taken.mark.path.clone(), taken.mark.scope));
                    log.set().put_back(back);
                }
                Step::Visit => {
                    writer.write().unwrap();
                    let left = left_in(state.path());
                    let outside = out.iter().map(|taken| (&taken.mark.path, taken.mark.scope));
                    for (path, scope) in outside.chain(marked.0.iter().map(|(path, scope)| (path, *scope))) {
                        prop_assert!(covers(&left, path, scope), "{path} {scope:?} is not in {left:?}");
                    }
                    if out.is_empty() && marked.0.is_empty() {
                        log.set().all_settled();
                        writer.write().unwrap();
                        prop_assert!(left_in(state.path()).is_empty());
                    }
                }
            }
        }
    }
}
