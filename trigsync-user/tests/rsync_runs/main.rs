//! Runs of a real rsync against local directories, a real rsync daemon and a real sshd: what `rsync` says about an answer is true.

mod daemon;
mod inplace;
mod lab;
mod parked;
mod process;
mod ssh;

use std::{fs, os::unix::fs::MetadataExt};

use lab::{Lab, listed, plant, rel};
use tokio_util::sync::CancellationToken;
use trigsync::{
    config::Filter,
    model::{RelPath, RelPathBuf},
    rsync::{Compare, Deletions, Extent, Listing, Verdict, Work, list},
};

#[tokio::test]
async fn entries_are_flat_and_delete_only_what_is_listed() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a", "d/f", "d/g", "l -> a"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["gone/deep/1", "gone/2", "stale", "d/stale"]);
    let answer = lab.entries(&to, &["a", "d/f", "d", "gone", "l"]).await;
    assert_eq!(answer.verdict, Verdict::Done);
    assert_eq!((answer.stats.transferred, answer.stats.deleted), (2, 4), "{answer:?}");
    assert_eq!(fs::read(lab.path("dst/d/f")).unwrap(), b"d/f");
    assert!(!lab.path("dst/gone").exists() && !lab.path("dst/d/g").exists());
    assert!(lab.path("dst/stale").exists() && lab.path("dst/d/stale").exists());
    assert_eq!(fs::read_link(lab.path("dst/l")).unwrap().as_os_str(), "a");
}

#[tokio::test]
async fn trees_are_made_equal_and_nothing_outside() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["d/e/f", "x"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["d/e/stale", "d/old/1", "outside"]);
    assert_eq!(lab.trees(&to, &["d"]).await.verdict, Verdict::Done);
    assert!(lab.path("dst/d/e/f").exists() && lab.path("dst/outside").exists());
    assert!(!lab.path("dst/d/e/stale").exists() && !lab.path("dst/d/old").exists() && !lab.path("dst/x").exists());
    assert_eq!(lab.trees(&to, &[""]).await.verdict, Verdict::Done);
    assert!(!lab.path("dst/outside").exists() && lab.path("dst/x").exists());
}

#[tokio::test]
async fn root_attributes_alone() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["stale"]);
    fs::File::open(lab.path("src")).unwrap().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1)).unwrap();
    let mtime = |path| fs::metadata(path).unwrap().mtime_nsec();
    assert_ne!(mtime(lab.path("src")), mtime(lab.path("dst")));
    let answer = lab.run(&to, Work::RootAttributes, Deletions::Allowed, Vec::new()).await;
    assert_eq!(answer.verdict, Verdict::Done);
    assert_eq!(mtime(lab.path("src")), mtime(lab.path("dst")));
    assert!(lab.path("dst/stale").exists() && !lab.path("dst/a").exists());
}

#[tokio::test]
async fn the_root_may_be_sent_along_with_an_entry() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let to = lab.local("dst");
    let list = list([&*rel("a")], Listing::WithRoot);
    let answer = lab.run(&to, Work::Entries(Compare::Changed), Deletions::Allowed, list).await;
    assert_eq!(answer.verdict, Verdict::Done);
    assert_eq!(fs::metadata(lab.path("src")).unwrap().mtime_nsec(), fs::metadata(lab.path("dst")).unwrap().mtime_nsec());
}

#[tokio::test]
async fn comparisons() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["same"]);
    let to = lab.local("dst");
    assert_eq!(lab.entries(&to, &["same"]).await.verdict, Verdict::Done);
    // Other content, same size and time.
    let time = fs::metadata(lab.path("dst/same")).unwrap().modified().unwrap();
    fs::write(lab.path("dst/same"), "emas").unwrap();
    fs::File::options().write(true).open(lab.path("dst/same")).unwrap().set_modified(time).unwrap();
    let content = || fs::read(lab.path("dst/same")).unwrap();
    let run = |compare| lab.run(&to, Work::Entries(compare), Deletions::Allowed, listed(&["same"]));
    assert_eq!((run(Compare::Quick).await.stats.transferred, content()), (0, b"emas".to_vec()));
    let stop = CancellationToken::new();
    let drift = lab.rsync.compare(&lab.route(&to), false, Extent::Names(&[&rel("same")]), &stop).await.unwrap().drift;
    assert!(drift.is_empty(), "{drift:?}");
    let drift = lab.rsync.compare(&lab.route(&to), true, Extent::Names(&[&rel("same")]), &stop).await.unwrap().drift;
    assert_eq!(drift.iter().map(|drift| (&*drift.path, &*drift.item)).collect::<Vec<_>>(), [(&*rel("same"), ">fc........")]);
    assert_eq!((run(Compare::Checksum).await.stats.transferred, content()), (1, b"same".to_vec()));
    assert_eq!(run(Compare::Checksum).await.stats.transferred, 0);
    assert_eq!(run(Compare::Changed).await.stats.transferred, 1);
}

#[tokio::test]
async fn deletions_counted_and_never() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["gone/1", "gone/2"]);
    let work = Work::Entries(Compare::Changed);
    let answer = lab.run(&to, work, Deletions::Counted, listed(&["a", "gone"])).await;
    assert_eq!((answer.verdict, answer.stats.withheld), (Verdict::Withheld(2), 2));
    assert!(lab.path("dst/a").exists() && lab.path("dst/gone/1").exists());
    // Without anything to delete it is done.
    assert_eq!(lab.run(&to, work, Deletions::Counted, listed(&["a"])).await.verdict, Verdict::Done);
    let answer = lab.run(&to, work, Deletions::Never, listed(&["a", "gone"])).await;
    assert_eq!(answer.verdict.paths_of_partial(), [rel("gone")]);
    assert!(lab.path("dst/gone/1").exists());
}

#[tokio::test]
async fn excluded_names_are_kept_at_the_target() {
    let Some(mut lab) = Lab::new() else { return };
    lab.filter = Filter::new(&["*.cache".into()]).unwrap();
    lab.write(&["d/f", "d/source.cache"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["gone/x.cache", "gone/1", "d/y.cache", "d/stale"]);
    assert_eq!(lab.entries(&to, &["gone"]).await.verdict, Verdict::Done);
    assert!(lab.path("dst/gone/x.cache").exists() && !lab.path("dst/gone/1").exists());
    assert_eq!(lab.trees(&to, &["d"]).await.verdict, Verdict::Done);
    assert!(lab.path("dst/d/y.cache").exists() && !lab.path("dst/d/stale").exists() && !lab.path("dst/d/source.cache").exists());
}

#[tokio::test]
async fn types_change_both_ways() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["was-dir", "was-file/in", "was-link", "was-file-2 -> x", "was-dir-2 -> x"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["was-dir/deep/1", "was-file", "was-link -> nowhere", "was-file-2", "was-dir-2/deep/1"]);
    let answer = lab.entries(&to, &["was-dir", "was-file", "was-file/in", "was-link", "was-file-2", "was-dir-2"]).await;
    assert_eq!(answer.verdict, Verdict::Done);
    assert!(lab.path("dst/was-dir").is_file() && lab.path("dst/was-file/in").is_file() && lab.path("dst/was-link").is_file());
    assert!(lab.path("dst/was-file-2").is_symlink() && lab.path("dst/was-dir-2").is_symlink());
}

#[tokio::test]
async fn hostile_names_arrive_and_go() {
    let Some(lab) = Lab::new() else { return };
    let names: Vec<RelPathBuf> = [
        &b"#hash"[..],
        b";semicolon",
        b"-dash",
        b"--delete",
        b"new\nline",
        b"re\rturn",
        b"\xff\xfe",
        b"`id`",
        b"$(id)",
        b"*",
        b"[a]",
        b"back\\slash",
        b"\\#012",
        b" lead",
        b"trail ",
        b"quo\"te'",
        b"a:b",
        b"~",
        b".hidden",
        b"- rule",
        b"d/#in\n",
    ]
    .iter()
    .map(|name| RelPathBuf::new(name.to_vec()).unwrap())
    .collect();
    let all = || list(names.iter().map(|name| -> &RelPath { name }), Listing::Plain);
    let to = lab.local("dst");
    for name in &names {
        let path = lab.source.join(name.as_path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name.as_bytes()).unwrap();
    }
    let work = Work::Entries(Compare::Changed);
    assert_eq!(lab.run(&to, work, Deletions::Allowed, all()).await.verdict, Verdict::Done);
    let there = |name: &RelPathBuf| fs::read(lab.path("dst").join(name.as_path())).ok();
    for name in &names {
        assert_eq!(there(name).as_deref(), Some(name.as_bytes()), "{name}");
    }
    // The drift of each is named with its own bytes.
    for name in &names {
        fs::remove_file(lab.source.join(name.as_path())).unwrap();
    }
    let drift = lab.rsync.compare(&lab.route(&to), false, Extent::Whole, &CancellationToken::new()).await.unwrap().drift;
    for name in &names {
        assert!(drift.iter().any(|drift| drift.path == *name && drift.item == "*deleting"), "{name} in {drift:?}");
    }
    assert_eq!(lab.run(&to, work, Deletions::Allowed, all()).await.verdict, Verdict::Done);
    assert!(names.iter().all(|name| there(name).is_none()));
}

#[tokio::test]
async fn a_name_below_a_missing_one_has_vanished() {
    let Some(lab) = Lab::new() else { return };
    let to = lab.local("dst");
    let answer = lab.entries(&to, &["no\npe/x", "d/gone"]).await;
    assert_eq!(answer.verdict, Verdict::Vanished(vec![rel("d"), rel("no\npe")]));
}

#[tokio::test]
async fn single_paths_that_fail_are_named() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a", "a-file", "d/f", "d/.hidden", "d/sub/"]);
    let to = lab.local("dst");
    plant(&lab.path("dst"), &["d/"]);
    fs::File::open(lab.path("src/d")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let immutable =
        |flag: &str| std::process::Command::new("chattr").arg(flag).arg(lab.path("dst/d")).status().is_ok_and(|status| status.success());
    if !immutable("+i") {
        eprintln!("skipped: no immutable directories here");
        return;
    }
    let answer = lab.entries(&to, &["a", "a-file/below", "d/.hidden", "d/f", "d/sub"]).await;
    let root = lab.run(&to, Work::Entries(Compare::Quick), Deletions::Allowed, listed(&["d"])).await;
    immutable("-i");
    let paths = answer.verdict.paths_of_partial();
    for path in ["a-file/below", "d", "d/f", "d/.hidden", "d/sub"] {
        assert!(paths.contains(&rel(path)), "{path} in {answer:?}");
    }
    assert!(!paths.contains(&rel("a")));
    assert_eq!(root.verdict.paths_of_partial(), [rel("d")]);
}

#[tokio::test]
async fn a_source_or_target_that_is_not_there_is_held() {
    let Some(mut lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let mut to = lab.local("dst");
    fs::remove_dir(lab.path("dst")).unwrap();
    assert_eq!(lab.entries(&to, &["a"]).await.verdict, Verdict::Done, "the last directory is made");
    to.address = trigsync::config::TargetAddress::Local(lab.path("no/such/dst"));
    assert!(lab.entries(&to, &["a"]).await.held().contains("create the directory that is to hold the target"));
    to.address = trigsync::config::TargetAddress::Local(lab.path("src/a"));
    assert!(lab.entries(&to, &["a"]).await.held().contains("has to be a directory"));
    to.options = vec!["--no-such-option".into()];
    assert!(lab.entries(&to, &["a"]).await.held().contains("unknown option"));
    let to = lab.local("dst");
    lab.source = lab.path("elsewhere");
    assert!(lab.entries(&to, &["a"]).await.held().contains("the source cannot be entered"));
    assert!(lab.path("dst/a").exists());
}

#[tokio::test]
async fn checks_of_local_targets() {
    let Some(lab) = Lab::new() else { return };
    let to = lab.local("dst");
    let checks = lab.rsync.check_target(&lab.route(&to)).await;
    assert!(checks.iter().all(|check| check.result.is_ok()) && checks.len() == 4, "{checks:?}");
    assert_eq!(fs::read_dir(lab.path("dst")).unwrap().count(), 0, "nothing is left behind");
    let to = lab::target(trigsync::config::TargetAddress::Local(lab.path("no/such")));
    let checks = lab.rsync.check_target(&lab.route(&to)).await;
    assert!(checks.len() == 1 && checks[0].result.as_ref().is_err_and(|text| text.contains("create the directory")), "{checks:?}");
}

/// What the tests ask of a verdict.
trait Asked {
    fn paths_of_partial(&self) -> &[RelPathBuf];
}

impl Asked for Verdict {
    #[track_caller]
    fn paths_of_partial(&self) -> &[RelPathBuf] {
        match self {
            Self::Partial { paths, .. } => paths,
            other => panic!("not partial: {other:?}"),
        }
    }
}

trait Held {
    fn held(self) -> String;
}

impl Held for trigsync::rsync::Answer {
    #[track_caller]
    fn held(self) -> String {
        match self.verdict {
            Verdict::Hold(reason) => reason,
            other => panic!("not held: {other:?}"),
        }
    }
}
