//! The process itself: big lists, stops, drops, and what is left behind.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use trigsync::{
    model::{RelPath, RelPathBuf},
    rsync::{Compare, Deletions, Listing, Missing, Progress, Rsync, RsyncError, Run, Verdict, Work, list},
};

use super::lab::{Lab, script};

#[tokio::test]
async fn a_hundred_thousand_entries_do_not_block() {
    let Some(lab) = Lab::new() else { return };
    let to = lab.local("dst");
    // All of them are missing below a missing directory: as much text comes back as goes in.
    let paths: Vec<RelPathBuf> = (0..100_000).map(|number| RelPathBuf::new(format!("no/{number:06}/x").into_bytes()).unwrap()).collect();
    let list = list(paths.iter().map(|path| -> &RelPath { path }), Listing::Plain);
    let run = lab.run(&to, Work::Entries(Compare::Quick), Deletions::Allowed, list);
    let answer = tokio::time::timeout(Duration::from_secs(60), run).await.expect("no deadlock");
    let Verdict::Vanished(paths) = answer.verdict else { panic!("not vanished") };
    assert_eq!(paths.len(), 100_001, "each name's parent, and theirs");
}

#[tokio::test]
async fn a_child_that_talks_without_reading_and_one_that_never_reads() {
    let Some(mut lab) = Lab::new() else { return };
    let to = lab.local("dst");
    let fake = lab.path("fake");
    let mut fake_run = async |line: &str| {
        script(&fake, &format!("if [ \"$1\" = --version ]; then echo 'rsync  version 3.2.7  protocol version 31'; exit; fi\n{line}"));
        lab.rsync = Rsync::probe(&fake).unwrap();
        let run = lab.run(&to, Work::Trees(Compare::Quick), Deletions::Allowed, vec![b'x'; 8 << 20]);
        tokio::time::timeout(Duration::from_secs(20), run).await.expect("no deadlock").verdict
    };
    let talks = fake_run("head -c 20000000 /dev/zero | tr '\\0' x; head -c 2000000 /dev/zero >&2; exit 0").await;
    assert_eq!(talks, Verdict::Done);
    assert!(matches!(fake_run("echo rsync: oops >&2; exit 12").await, Verdict::Retry(reason) if reason == "rsync: oops"));
    assert!(matches!(fake_run("kill -9 $$").await, Verdict::Retry(reason) if reason.contains("signal 9")));
    // A grandchild that holds the outputs, as ssh's connection master does.
    let started = Instant::now();
    assert_eq!(fake_run("sleep 5 & exit 0").await, Verdict::Done);
    assert!(started.elapsed() < Duration::from_secs(4));
    // The environment.
    // SAFETY: no other thread of this test reads the environment now; the others only inherit one name more.
    unsafe { std::env::set_var("RSYNC_PASSWORD", "x") };
    assert_eq!(fake_run("[ -z \"${RSYNC_PASSWORD+x}\" ] && [ \"$LC_ALL\" = C ] && [ -n \"$PATH\" ] || exit 5").await, Verdict::Done);
}

#[tokio::test]
async fn a_stop_in_the_middle_leaves_nothing_behind() {
    let Some(lab) = Lab::new() else { return };
    let mut to = lab.local("dst");
    to.bandwidth_limit = Some("100".into());
    fs::write(lab.source.join("big"), vec![b'x'; 8 << 20]).unwrap();
    let stop = CancellationToken::new();
    let run = lab.run_until(&to, Work::Trees(Compare::Quick), Deletions::Allowed, b"/.\0".to_vec(), &stop);
    let (answer, ()) = tokio::join!(run, async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(fs::read_dir(lab.path("dst")).unwrap().count(), 1, "it is at work on its temporary file");
        stop.cancel();
    });
    assert_eq!(answer.verdict, Verdict::Stopped);
    nothing_left(&lab).await;
    // Dropped: the same.
    let run = lab.run(&to, Work::Trees(Compare::Quick), Deletions::Allowed, b"/.\0".to_vec());
    assert!(tokio::time::timeout(Duration::from_millis(700), run).await.is_err());
    nothing_left(&lab).await;
    // Stopped before it began.
    let answer = lab.run_until(&to, Work::Trees(Compare::Quick), Deletions::Allowed, b"/.\0".to_vec(), &stop).await;
    assert_eq!(answer.verdict, Verdict::Stopped);
}

async fn nothing_left(lab: &Lab) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::read_dir(lab.path("dst")).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the temporary file is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed() {
    let Some(mut lab) = Lab::new() else { return };
    let to = lab.local("dst");
    let fake = lab.path("fake");
    script(&fake, "[ \"$1\" = --version ] && echo 'rsync  version 3.2.7' && exit\ntrap '' TERM\nwhile :; do sleep 1; done");
    lab.rsync = Rsync::probe(&fake).unwrap();
    let stop = CancellationToken::new();
    let started = Instant::now();
    let run = lab.run_until(&to, Work::Trees(Compare::Quick), Deletions::Allowed, Vec::new(), &stop);
    let (answer, ()) = tokio::join!(run, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.cancel();
    });
    assert_eq!(answer.verdict, Verdict::Stopped);
    assert!((2..5).contains(&started.elapsed().as_secs()));
}

#[tokio::test]
async fn progress_is_told() {
    let Some(lab) = Lab::new() else { return };
    let to = lab.local("dst");
    fs::write(lab.source.join("big"), vec![b'x'; 1 << 20]).unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress: Progress| told.lock().unwrap().push(progress);
    let run = Run {
        work: Work::Trees(Compare::Quick),
        deletions: Deletions::Allowed,
        missing: Missing::Delete,
        list: b"/.\0".to_vec(),
        progress: Some(&tell),
    };
    assert_eq!(lab.rsync.run(&lab.route(&to), run, &CancellationToken::new()).await.verdict, Verdict::Done);
    let last = *told.lock().unwrap().last().expect("some progress");
    assert_eq!((last.bytes, last.percent), (1 << 20, 100));
}

#[test]
fn an_rsync_that_cannot_be_used_is_refused() {
    let Some(lab) = Lab::new() else { return };
    assert!(matches!(Rsync::probe(&lab.path("none")), Err(RsyncError::Missing { .. })));
    fs::write(lab.path("plain"), "").unwrap();
    assert!(matches!(Rsync::probe(&lab.path("plain")), Err(RsyncError::NotExecutable { .. })));
    script(&lab.path("old"), "echo 'rsync  version 3.1.2  protocol version 31'");
    assert!(matches!(Rsync::probe(&lab.path("old")), Err(RsyncError::TooOld { .. })));
    script(&lab.path("open"), "echo 'openrsync: protocol version 29'");
    assert!(matches!(Rsync::probe(&lab.path("open")), Err(RsyncError::NotRsync { .. })));
}

#[tokio::test]
async fn a_file_that_vanishes_meanwhile_is_named() {
    let Some(lab) = Lab::new() else { return };
    let mut to = lab.local("dst");
    to.bandwidth_limit = Some("1000".into());
    fs::write(lab.source.join("a-big"), vec![b'x'; 1 << 20]).unwrap();
    lab.write(&["b-\nvanishes", "c"]);
    let (answer, ()) = tokio::join!(lab.entries(&to, &["a-big", "b-\nvanishes", "c"]), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        fs::remove_file(lab.source.join("b-\nvanishes")).unwrap();
    });
    assert_eq!(answer.verdict, Verdict::Vanished(vec![super::lab::rel("b-\nvanishes")]));
    assert!(lab.path("dst/a-big").exists() && lab.path("dst/c").exists());
}

const KILLED: &str = "TRIGSYNC_TEST_KILLED";

/// What is killed is this test itself, started a second time: on a runtime with worker threads, as the real daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_a_killed_daemon() {
    let Some(mut lab) = Lab::new() else { return };
    if let Some(directory) = std::env::var_os(KILLED).map(std::path::PathBuf::from) {
        lab.source = directory.join("src");
        let mut to = super::lab::target(trigsync::config::TargetAddress::Local(directory.join("dst")));
        to.bandwidth_limit = Some("100".into());
        let run = async move { lab.run(&to, Work::Trees(Compare::Quick), Deletions::Allowed, b"/.\0".to_vec()).await };
        panic!("not killed: {:?}", tokio::spawn(run).await);
    }
    fs::create_dir(lab.path("dst")).unwrap();
    fs::write(lab.source.join("big"), vec![b'x'; 8 << 20]).unwrap();
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::nothing_outlives_a_killed_daemon"])
        .env(KILLED, lab.directory.path())
        .spawn()
        .unwrap();
    let busy = || fs::read_dir(lab.path("dst")).unwrap().count() > 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !busy() {
        assert!(Instant::now() < deadline, "it never began");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Long enough that only the thread which started the child, and lives on, keeps it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(busy(), "the run goes on while its daemon lives");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    nothing_left(&lab).await;
}
