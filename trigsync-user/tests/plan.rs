//! What a batch of marks comes to, against real trees.

use std::{fs, os::unix::fs::symlink, path::Path};

use trigsync::{
    coalesce::Taken,
    config::{BatchLimits, Filter, InPlace},
    model::{Mark, Ops, RelPathBuf, Scope},
    plan::{Gone, Plan, PlannedRun, RootError, Rules, open_root, open_same_root, plan, settled},
    rsync::{Compare, Listing, Work},
};

const WIDE: BatchLimits = BatchLimits { paths: 1000, bytes: 1 << 30 };

fn mark(path: &str, scope: Scope, ops: Ops) -> Taken {
    Taken::new(Mark { path: RelPathBuf::new(path.as_bytes().to_vec()).unwrap(), scope, ops }, 1)
}

fn write(path: &str, ops: Ops) -> Taken {
    mark(path, Scope::Entry, ops)
}

fn planned(root: &Path, marks: Vec<Taken>, filter: &[&str], limits: BatchLimits) -> Plan {
    planned_in_place(root, marks, filter, limits, &InPlace::default())
}

fn planned_in_place(root: &Path, mut marks: Vec<Taken>, filter: &[&str], limits: BatchLimits, inplace: &InPlace) -> Plan {
    marks.sort_by(|a, b| a.mark.path.cmp(&b.mark.path));
    let filter = Filter::new(&filter.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap();
    let before = marks.len();
    let plan = plan(open_root(root).unwrap().0, marks, &Rules { filter: &filter, limits: &limits, inplace });
    let after =
        plan.entries.iter().chain(&plan.bulk).map(|run| run.items.len()).sum::<usize>() + plan.postponed.len() + plan.excluded.len();
    assert_eq!(before, after, "every mark goes somewhere: {plan:?}");
    plan
}

fn paths(run: &PlannedRun) -> Vec<String> {
    run.paths().map(ToString::to_string).collect()
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    root
}

#[test]
fn a_deleted_tree_is_one_deletion_at_its_topmost_missing_path() {
    let root = tree(&["a/stays"]);
    let gone = Ops::DELETE;
    let marks = vec![
        write("a/gone/b/c", gone),
        write("a/gone/b", gone | Ops::DIRECTORY),
        write("a/gone", gone | Ops::DIRECTORY),
        write("a/gone/x", gone),
    ];
    let plan = planned(root.path(), marks, &[], WIDE);
    assert_eq!(plan.entries.len(), 1);
    assert_eq!(paths(&plan.entries[0]), ["a/gone"]);
    assert_eq!(plan.entries[0].gone, Gone::SeenWhole);
    assert!(plan.bulk.is_empty());
}

#[test]
fn files_seen_going_are_counted_and_need_no_counting_first() {
    let root = tree(&["a/stays"]);
    let plan = planned(root.path(), vec![write("a/one", Ops::DELETE), write("a/two", Ops::MOVED_FROM)], &[], WIDE);
    assert_eq!(plan.entries[0].gone, Gone::Seen(2));
    let plan = planned(root.path(), vec![write("a/one", Ops::DELETE), write("a/two", Ops::RESCAN)], &[], WIDE);
    assert_eq!(plan.entries[0].gone, Gone::Unseen);
}

#[test]
fn no_link_is_followed_below_the_root() {
    let outside = tree(&["secret"]);
    let root = tree(&["file"]);
    symlink(outside.path(), root.path().join("link")).unwrap();
    let marks = vec![write("link/secret", Ops::WRITE), write("file/below/it", Ops::DELETE)];
    let plan = planned(root.path(), marks, &[], WIDE);
    assert_eq!(paths(&plan.entries[0]), ["file", "link"], "what stands in the way is listed itself");
    assert_eq!(plan.entries[0].gone, Gone::Seen(0));
}

#[test]
fn written_files_are_sent_whatever_their_time_says_and_others_are_compared() {
    let root = tree(&["d/written", "d/chmodded"]);
    let big = vec![b'x'; 2 << 20];
    fs::write(root.path().join("d/big"), &big).unwrap();
    let written = || write("d/written", Ops::WRITE | Ops::CLOSE_WRITE);
    let runs = |plan: &Plan| plan.entries.iter().map(|run| (run.work, paths(run))).collect::<Vec<_>>();
    let both = planned(root.path(), vec![written(), write("d/big", Ops::ATTRIB)], &[], WIDE);
    assert_eq!(
        runs(&both),
        [(Work::Entries(Compare::Changed), vec!["d/written".into()]), (Work::Entries(Compare::Quick), vec!["d/big".into()])],
        "a chmod of a big file does not send it again"
    );
    let small = planned(root.path(), vec![written(), write("d/chmodded", Ops::ATTRIB)], &[], WIDE);
    assert_eq!(runs(&small), [(Work::Entries(Compare::Changed), vec!["d/chmodded".into(), "d/written".into()])]);
    let again = planned(root.path(), vec![write("d/written", Ops::WRITE | Ops::RESCAN)], &[], WIDE);
    assert_eq!(runs(&again)[0].0, Work::Entries(Compare::Checksum));
    let attributes = planned(root.path(), vec![write("d", Ops::ATTRIB | Ops::DIRECTORY), write("d/big", Ops::ATTRIB)], &[], WIDE);
    assert_eq!(runs(&attributes), [(Work::Entries(Compare::Quick), vec!["d".into(), "d/big".into()])]);
}

#[test]
fn subtrees_levels_and_large_files_go_beside_the_batch() {
    let root = tree(&["d/x", "e/y", "f/z", "failed/x", "lost/x"]);
    let large = fs::File::create(root.path().join("large")).unwrap();
    large.set_len(100 << 20).unwrap();
    let marks = vec![
        mark("d", Scope::Tree, Ops::MOVED_TO | Ops::DIRECTORY),
        mark("lost", Scope::Tree, Ops::RESCAN | Ops::DIRECTORY),
        mark("failed", Scope::Tree, Ops::MOVED_TO | Ops::RESCAN),
        mark("e", Scope::Level, Ops::RESCAN),
        mark("", Scope::Tree, Ops::RESCAN),
        mark("f/z", Scope::Tree, Ops::MOVED_TO),
        mark("f/none", Scope::Tree, Ops::DELETE | Ops::DIRECTORY),
        write("large", Ops::WRITE),
    ];
    let plan = planned(root.path(), marks, &[], WIDE);
    let bulk: Vec<_> = plan.bulk.iter().map(|run| (run.work, paths(run), run.is_full_pass())).collect();
    assert_eq!(
        bulk,
        [
            (Work::Entries(Compare::Changed), vec!["large".into()], false),
            (Work::Levels, vec!["e".into()], false),
            (Work::Trees(Compare::Quick), vec![".".into()], true),
            (Work::Trees(Compare::Quick), vec!["lost".into()], false),
            (Work::Trees(Compare::Changed), vec!["d".into()], false),
            (Work::Trees(Compare::Checksum), vec!["failed".into()], false),
        ]
    );
    assert_eq!(paths(&plan.entries[0]), ["f/none", "f/z"], "a tree that is a file, or gone, is an entry");
}

#[test]
fn a_batch_is_bounded_in_bytes_and_a_larger_file_goes_alone() {
    let root = tree(&[]);
    for (name, size) in [("a", 600), ("b", 600), ("c", 300), ("huge", 5000)] {
        fs::write(root.path().join(name), vec![0; size]).unwrap();
    }
    let limits = BatchLimits { paths: 10, bytes: 1000 };
    let plan = planned(root.path(), ["a", "b", "c", "huge"].map(|name| write(name, Ops::WRITE)).into(), &[], limits);
    assert_eq!(paths(&plan.entries[0]), ["a", "c"]);
    assert_eq!(plan.postponed.iter().map(|taken| taken.mark.path.to_string()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(paths(&plan.bulk[0]), ["huge"]);
}

#[test]
fn what_is_excluded_is_neither_sent_nor_deleted() {
    let root = tree(&["x.tmp", "cache/y", "keep"]);
    let marks = vec![
        write("x.tmp", Ops::WRITE),
        write("cache/y", Ops::WRITE),
        write("gone.tmp", Ops::DELETE),
        write("was/cache", Ops::RESCAN),
        write("was/file", Ops::DELETE),
        write("keep", Ops::WRITE),
    ];
    let plan = planned(root.path(), marks, &["*.tmp", "cache/", "was/"], WIDE);
    assert_eq!(paths(&plan.entries[0]), ["keep"], "what may have been an excluded directory is left alone");
    assert_eq!(plan.excluded.len(), 5);
}

#[test]
fn the_roots_own_attributes_travel_with_its_entries_or_alone() {
    let root = tree(&["a", "d/b"]);
    let listing = |marks| {
        let plan = planned(root.path(), marks, &[], WIDE);
        plan.entries.iter().map(|run| (run.work, run.listing)).collect::<Vec<_>>()
    };
    let attributes = || write("", Ops::ATTRIB | Ops::DIRECTORY);
    assert_eq!(listing(vec![write("a", Ops::CREATE)]), [(Work::Entries(Compare::Changed), Listing::WithRoot)]);
    assert_eq!(listing(vec![write("a", Ops::ATTRIB)]), [(Work::Entries(Compare::Quick), Listing::Plain)]);
    assert_eq!(listing(vec![write("d/b", Ops::CREATE)]), [(Work::Entries(Compare::Changed), Listing::Plain)]);
    assert_eq!(listing(vec![attributes()]), [(Work::RootAttributes, Listing::Plain)]);
    assert_eq!(listing(vec![attributes(), write("a", Ops::ATTRIB)]), [(Work::Entries(Compare::Quick), Listing::WithRoot)]);
}

#[test]
fn a_long_list_is_cut_between_directories() {
    let files: Vec<_> = (0..40).map(|index| format!("d{}/f{index}", index / 10)).collect();
    let root = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let plan = planned(root.path(), files.iter().map(|file| write(file, Ops::WRITE)).collect(), &[], WIDE);
    let run = plan.entries.into_iter().next().unwrap();
    assert_eq!(run.clone().split(3, 100).len(), 1, "too short to be cut");
    let parts = run.split(3, 5);
    assert_eq!(parts.iter().map(|part| part.items.len()).collect::<Vec<_>>(), [20, 20], "14 and 13 would share a directory");
    assert_eq!(parts.iter().flat_map(paths).collect::<Vec<_>>(), {
        let mut all = files;
        all.sort();
        all
    });
}

#[test]
fn a_directory_that_came_back_settles_nothing_that_was_below_it() {
    let root = tree(&["other"]);
    let marks = vec![write("d/x", Ops::DELETE), mark("d", Scope::Tree, Ops::DELETE | Ops::DIRECTORY), write("e", Ops::DELETE)];
    let plan = planned(root.path(), marks, &[], WIDE);
    let items = plan.entries.into_iter().next().unwrap().items;
    let look = |items| {
        let (settled, again) = settled(open_root(root.path()).unwrap().0, items);
        (settled.len(), again.iter().map(|taken: &Taken| taken.mark.path.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(look(items.clone()), (3, vec![]));
    fs::create_dir(root.path().join("d")).unwrap();
    assert_eq!(look(items), (1, vec!["d".into(), "d/x".into()]));
}

#[test]
fn another_directory_in_the_roots_place_is_noticed() {
    let parent = tree(&["root/a"]);
    let (root, aside) = (parent.path().join("root"), parent.path().join("aside"));
    let (_, identity) = open_root(&root).unwrap();
    assert!(open_same_root(&root, identity).is_ok());
    fs::rename(&root, &aside).unwrap();
    assert!(matches!(open_same_root(&root, identity), Err(RootError::Open { .. })));
    fs::create_dir(&root).unwrap();
    assert!(matches!(open_same_root(&root, identity), Err(RootError::Replaced { .. })));
}

#[test]
fn what_waits_travels_in_one_list() {
    let root = tree(&["b/x", "a/y"]);
    let bulk = |path: &str, scope| planned(root.path(), vec![mark(path, scope, Ops::RESCAN)], &[], WIDE).bulk.remove(0);
    let mut waiting = bulk("b", Scope::Tree);
    assert!(!waiting.joins(&bulk("", Scope::Tree)), "a full pass goes alone");
    assert!(!waiting.joins(&bulk("a", Scope::Level)));
    let other = bulk("a", Scope::Tree);
    assert!(waiting.joins(&other));
    waiting.join(other);
    assert_eq!(paths(&waiting), ["a", "b"]);

    for name in ["large", "larger"] {
        fs::File::create(root.path().join(name)).unwrap().set_len(100 << 20).unwrap();
    }
    let large = |path: &str| planned(root.path(), vec![write(path, Ops::WRITE)], &[], WIDE).bulk.remove(0);
    let mut waiting = large("large");
    assert!(!waiting.joins(&large("larger")));
    assert!(waiting.joins(&large("large")));
    waiting.join(large("large"));
    assert_eq!((paths(&waiting), waiting.items.len()), (vec!["large".into()], 2), "sent once, and both marks are settled");
}

#[test]
fn files_that_change_in_place_travel_together_and_beside_the_others() {
    let inplace = InPlace { files: Filter::new(&["*.img".to_owned(), "/db/".to_owned()]).unwrap(), from: Some(1 << 20) };
    let root = tree(&["a.img", "db/t", "other", "sub/b.img"]);
    let large = fs::File::create(root.path().join("large")).unwrap();
    large.set_len(1 << 20).unwrap();
    let marks = vec![
        write("a.img", Ops::WRITE),
        write("db/t", Ops::WRITE),
        write("large", Ops::WRITE),
        write("other", Ops::WRITE),
        write("sub/b.img", Ops::WRITE | Ops::RESCAN),
    ];
    let plan = planned_in_place(root.path(), marks, &[], WIDE, &inplace);
    assert_eq!(
        plan.entries.iter().map(|run| (run.work, paths(run))).collect::<Vec<_>>(),
        [(Work::Entries(Compare::Changed), vec!["other".to_owned()])]
    );
    let beside: Vec<_> = plan.bulk.iter().map(|run| (run.work, paths(run).join(" "))).collect();
    let expected = [(Work::InPlace(Compare::Changed), "a.img db/t large"), (Work::InPlace(Compare::Checksum), "sub/b.img")];
    assert_eq!(beside, expected.map(|(work, paths)| (work, paths.to_owned())));
    // New modes alone, and what is gone, need no such care.
    let marks = vec![write("a.img", Ops::ATTRIB), write("gone.img", Ops::DELETE)];
    let plan = planned_in_place(root.path(), marks, &[], WIDE, &inplace);
    assert!(plan.bulk.is_empty() && plan.entries.iter().all(|run| matches!(run.work, Work::Entries(_))), "{plan:?}");
}
