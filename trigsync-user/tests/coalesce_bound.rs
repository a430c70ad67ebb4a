//! A set that is held to a bound says less, and never too little.

use std::{fs, time::Duration};

use proptest::prelude::*;
use trigsync::{
    coalesce::{DirtySet, Taken},
    config::Settle,
    model::{Ops, RelPathBuf, Scope},
};

fn path(text: &str) -> RelPathBuf {
    RelPathBuf::new(text.as_bytes().to_vec()).unwrap()
}

fn set(bytes: usize) -> DirtySet {
    let at_once = Settle { finished: Duration::ZERO, quiet: Duration::ZERO, max_age: Duration::ZERO };
    let mut set = DirtySet::new(at_once);
    set.bound(bytes);
    set
}

fn all(set: &mut DirtySet) -> Vec<Taken> {
    set.cut(u64::MAX / 2, usize::MAX, u64::MAX)
}

fn covers(taken: &[Taken], path: &RelPathBuf) -> bool {
    taken.iter().any(|taken| taken.mark.path == *path || taken.mark.scope == Scope::Tree && path.is_within(&taken.mark.path))
}

#[test]
fn the_deepest_directories_with_the_most_in_them_go_first() {
    let mut set = set(200 * 1_000);
    set.mark(&path("index.html"), Scope::Entry, Ops::WRITE, 1);
    set.mark(&path("uploads/readme"), Scope::Entry, Ops::WRITE, 2);
    for index in 0..1_000 {
        set.mark(&path(&format!("uploads/2026/11/{index}.jpg")), Scope::Entry, Ops::WRITE, 3 + index);
    }
    assert_eq!(set.degraded(), 1);
    assert_eq!(set.oldest(), Some(1), "what is compared in place of a mark is as old as it");
    let left: Vec<_> = all(&mut set).into_iter().map(|taken| (taken.mark.path.to_string(), taken.mark.scope, taken.since)).collect();
    let expected = [("index.html", Scope::Entry, 1), ("uploads/2026/11", Scope::Tree, 3), ("uploads/readme", Scope::Entry, 2)];
    assert_eq!(left, expected.map(|(path, scope, since)| (path.to_owned(), scope, since)));
}

#[test]
fn names_that_have_no_directory_in_common_are_the_whole_source() {
    let mut set = set(200 * 100);
    for index in 0..101 {
        set.mark(&path(&index.to_string()), Scope::Entry, Ops::WRITE, index);
    }
    let left = all(&mut set);
    assert_eq!((left.len(), &left[0].mark.path, left[0].mark.scope), (1, &RelPathBuf::root(), Scope::Tree));
    // It begins anew.
    set.mark(&path("a"), Scope::Entry, Ops::WRITE, 500);
    assert_eq!(all(&mut set)[0].mark.scope, Scope::Entry);
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn many_marks_stay_within_the_bound() {
    let before = resident();
    let mut set = set(30 << 20);
    for site in 0..600 {
        for index in 0..1_000 {
            let name = format!("srv/www/site-{site:04}/uploads/2026/{:02}/a-picture-with-a-name-{index:06}.jpg", index % 12);
            set.mark(&path(&name), Scope::Entry, Ops::CREATE | Ops::CLOSE_WRITE, site * 1_000 + index);
        }
    }
    let used = (resident() - before) / 1_000_000;
    println!("{used} MB, {} marks, {} directories", set.len(), set.degraded());
    assert!(used < 60, "{used} MB");
    assert!(set.len() > 10_000 && set.degraded() > 300);
    let left = all(&mut set);
    for site in (0..600).step_by(37) {
        let name = path(&format!("srv/www/site-{site:04}/uploads/2026/05/a-picture-with-a-name-{:06}.jpg", 5));
        assert!(covers(&left, &name), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_was_marked_is_covered(
        names in prop::collection::vec(prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "e"]), 1..6), 1..200),
        most in 1..60_usize,
    ) {
        let mut set = set(200 * most);
        let marked: Vec<_> = names.iter().map(|names| path(&names.join("/"))).collect();
        for (index, path) in marked.iter().enumerate() {
            set.mark(path, Scope::Entry, Ops::WRITE, index as u64 + 1);
            prop_assert!(set.len() <= most.max(1));
        }
        prop_assert_eq!(set.oldest(), Some(1));
        let left = all(&mut set);
        for path in &marked {
            prop_assert!(covers(&left, path), "{path} is not covered");
        }
        prop_assert!(set.is_empty());
    }
}
