//! A million marks fit in 200 MB, and the millionth costs what the first did.

use std::{fs, time::Instant};

use trigsync::{
    coalesce::DirtySet,
    config::Settle,
    model::{Ops, RelPath, Scope},
};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Marks the uploads of sites `sites`, 1,000 a site, and returns the seconds it took.
fn mark(set: &mut DirtySet, sites: std::ops::Range<usize>) -> f64 {
    let begun = Instant::now();
    for site in sites {
        for index in 0..1000 {
            let path = format!("srv/www/site-{site:04}/uploads/2026/{:02}/a-picture-with-a-name-{index:06}.jpg", index % 12);
            set.mark(
                RelPath::new(path.as_bytes()).unwrap(),
                Scope::Entry,
                Ops::CREATE | Ops::CLOSE_WRITE,
                begun.elapsed().as_micros() as u64,
            );
        }
    }
    begun.elapsed().as_secs_f64()
}

#[test]
fn a_million_marks() {
    let before = resident();
    let mut set = DirtySet::new(Settle::default());
    let first = mark(&mut set, 0..100);
    mark(&mut set, 100..900);
    let last = mark(&mut set, 900..1000);
    assert_eq!(set.len(), 1_000_000);
    let used = (resident() - before) / 1_000_000;
    println!("{used} MB for a million marks; 100,000 marks took {first:.3} s at first and {last:.3} s at last");
    assert!(used < 200, "{used} MB for a million marks");
    assert!(last < first * 5.0, "folding grows with the set: 100,000 marks took {first:.3} s at first and {last:.3} s at last");

    // Marked a second time, nothing grows; cut in batches, everything comes out, and the memory is given back.
    mark(&mut set, 0..50);
    assert_eq!(set.len(), 1_000_000);
    let mut batches = 0;
    while !set.is_empty() {
        assert_eq!(set.cut(u64::MAX / 2, 50_000, 0).len(), 50_000);
        batches += 1;
    }
    assert_eq!(batches, 20);
    let kept = resident().saturating_sub(before) / 1_000_000;
    assert!(kept < 60, "{kept} MB are kept for an empty set");
}
