//! The dirty set against a model that is too simple to be wrong: random marks, cuts and returns.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use trigsync::{
    coalesce::{DirtySet, Taken},
    config::Settle,
    model::{Mark, Ops, RelPathBuf, Scope, Stamp},
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Mark(RelPathBuf, Scope),
    Cut { limit: usize },
    PutBack { every: usize },
}

/// Marks by path, with the age of each. A tree covers what is below it.
#[derive(Default)]
struct Model {
    marks: BTreeMap<RelPathBuf, (Scope, Stamp)>,
}

impl Model {
    fn mark(&mut self, path: RelPathBuf, scope: Scope, mut since: Stamp) {
        if let Some((_, age)) =
            self.marks.iter_mut().find(|(tree, (scope, _))| *scope == Scope::Tree && path.is_within(tree)).map(|(_, mark)| mark)
        {
            *age = since.min(*age);
            return;
        }
        if scope == Scope::Tree {
            since = self.marks.extract_if(.., |below, _| below.is_within(&path)).map(|(_, (_, since))| since).chain([since]).min().unwrap();
        }
        let (was, age) = self.marks.entry(path).or_insert((scope, since));
        *was = scope.max(*was);
        *age = since.min(*age);
    }
}

fn paths() -> impl Strategy<Value = RelPathBuf> {
    // Few names, so that paths meet.
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c"]), 0..5)
        .prop_map(|names| RelPathBuf::new(names.join("/").into_bytes()).unwrap())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let scope = prop_oneof![6 => Just(Scope::Entry), 1 => Just(Scope::Level), 2 => Just(Scope::Tree)];
    let step = prop_oneof![
        8 => (paths(), scope).prop_map(|(path, scope)| Step::Mark(path, scope)),
        1 => (1..6_usize).prop_map(|limit| Step::Cut { limit }),
        1 => (1..3_usize).prop_map(|every| Step::PutBack { every }),
    ];
    prop::collection::vec(step, 1..80)
}

fn check(set: &DirtySet, model: &Model) {
    assert_eq!(set.len(), model.marks.len(), "how many");
    assert_eq!(set.oldest(), model.marks.values().map(|(_, since)| *since).min(), "the oldest");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_set_holds_what_the_model_holds(steps in steps()) {
        let instantly = Settle { finished: Duration::ZERO, quiet: Duration::ZERO, max_age: Duration::ZERO };
        let (mut set, mut model) = (DirtySet::new(instantly), Model::default());
        let mut out: Vec<Taken> = Vec::new();
        let mut now = 10;
        for step in steps {
            now += 10;
            match step {
                Step::Mark(path, scope) => {
                    set.mark(&path, scope, Ops::DELETE, now);
                    model.mark(path, scope, now);
                }
                Step::Cut { limit } => {
                    let cut = set.cut(now + 1, limit, 0);
                    prop_assert!(cut.is_sorted_by(|a, b| a.mark.path < b.mark.path));
                    let mut oldest: Vec<_> = model.marks.values().map(|(_, since)| *since).collect();
                    oldest.sort_unstable();
                    oldest.truncate(limit);
                    let mut taken: Vec<_> = cut.iter().map(|taken| taken.since).collect();
                    taken.sort_unstable();
                    prop_assert_eq!(taken, oldest, "the oldest are taken");
                    for Taken { mark, since, .. } in &cut {
                        prop_assert_eq!(model.marks.remove(&mark.path), Some((mark.scope, *since)));
                    }
                    out.extend(cut);
                }
                Step::PutBack { every } => {
                    let (back, stay): (Vec<_>, Vec<_>) = out.drain(..).enumerate().partition(|(index, _)| index % every == 0);
                    out = stay.into_iter().map(|(_, taken)| taken).collect();
                    let mut back: Vec<_> = back.into_iter().map(|(_, taken)| taken).collect();
                    set.put_back(back.clone());
                    back.sort_by_key(|taken| taken.since);
                    for Taken { mark: Mark { path, scope, .. }, since, .. } in back {
                        model.mark(path, scope, since);
                    }
                }
            }
            check(&set, &model);
        }
        let rest = set.cut(Stamp::MAX / 2, usize::MAX, 0);
        prop_assert_eq!(rest.len(), model.marks.len());
        prop_assert!(set.is_empty() && set.oldest().is_none());
    }
}
