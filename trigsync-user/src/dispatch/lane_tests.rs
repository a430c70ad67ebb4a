//! What a lane does in an order that no target can be made to bring about.

use std::path::Path;

use super::*;
use crate::{
    config::{Overrides, RawConfig, SyncConfig},
    observe::FailLog,
    plan::Item,
};

/// A lane to an empty directory, with a file in its source that is marked.
fn lane(room: &Path) -> Lane {
    lane_of(room, |_| {}, FailLog::default())
}

/// The same, of a sync that is configured otherwise.
fn lane_of(room: &Path, configure: impl FnOnce(&mut SyncConfig), fail_log: FailLog) -> Lane {
    let [source, target] = ["source", "target"].map(|name| room.join(name));
    for directory in [&source, &target] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(source.join("file"), "it").unwrap();
    let raw = RawConfig::from_flags(&source, &[target.display().to_string()]).unwrap();
    let mut sync = raw.resolve(&Overrides::default(), &room.join("state")).unwrap().syncs.remove(0);
    configure(&mut sync);
    let target = sync.targets[0].clone();
    let shared = Arc::new(LaneShared::new(sync.settle, "it".to_owned(), "it".to_owned(), []));
    shared.mark(&RelPathBuf::new(b"file".to_vec()).unwrap(), Scope::Entry, Ops::WRITE);
    let context = SyncContext::new(Arc::new(sync), crate::plan::open_root(&source).unwrap().1).telling(fail_log);
    Lane::new(shared, Arc::new(context), target, Rsync::probe(Path::new("rsync")).unwrap(), Cut::default())
}

#[test]
fn a_plan_that_comes_while_servers_linger_does_not_keep_the_target_from_being_asked() {
    let room = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut lane = lane(room.path());
        let batch = lane.shared.set().cut(Stamp::MAX / 2, usize::MAX, Stamp::MAX);
        let sync = lane.context.sync.clone();
        let root = open_same_root(&sync.config.source, sync.gate().root).unwrap();
        // An rsync beside it was cut off while this was planned.
        lane.shared.cut_off(1);
        let inplace = &lane.context.target.inplace.clone();
        lane.take_plan(plan(root, batch, &Rules { filter: &sync.config.filter, limits: &sync.config.batch, inplace }));
        assert!(!lane.round.is_empty(), "there is a plan");
        for _ in 0..2 {
            lane.start_what_can_start();
            assert_eq!(lane.running.len(), 1, "the target is asked, once");
        }
        let ended = lane.jobs.join_next().await.unwrap().unwrap();
        assert!(matches!(ended.done, Done::Asked(Ok(()))));
        lane.account(ended);
        lane.start_what_can_start();
        assert!(lane.running.is_empty() && !lane.round.is_empty(), "it has answered, and what is planned waits a moment longer");
        let until = lane.wake_at().expect("the end of that moment");
        sleep_until(until.into()).await;
        lane.start_what_can_start();
        assert!(lane.running.len() == 1 && lane.round.is_empty(), "it is sent");
        let ended = lane.jobs.join_next().await.unwrap().unwrap();
        lane.account(ended);
        assert_eq!(lane.oldest(lane.oldest_out()), None, "all has arrived");
        assert_eq!(std::fs::read(room.path().join("target/file")).unwrap(), b"it");
    });
}

#[test]
fn no_two_attempts_are_further_apart_than_retry_max() {
    let room = tempfile::tempdir().unwrap();
    let longest = Duration::from_secs(20);
    let mut lane = lane_of(room.path(), |sync| sync.retry_max = Some(longest), FailLog::default());
    let now = Instant::now();
    let mut pauses = |trouble: fn(String) -> Trouble| -> Vec<Duration> {
        let mut pause = || {
            lane.suffer(trouble("so".to_owned()), now);
            lane.retry_at.unwrap() - now
        };
        (0..10).map(|_| pause()).collect()
    };
    let retried = pauses(Trouble::Retry);
    assert!(retried[0] <= Duration::from_secs(1) && retried[9] == longest, "{retried:?}");
    let held = pauses(Trouble::Hold);
    assert!(held[0] >= Duration::from_secs(15) && held.iter().all(|pause| *pause <= longest), "{held:?}");
}

#[test]
fn failures_are_told_once_and_so_is_their_end() {
    let room = tempfile::tempdir().unwrap();
    let (log, file) = (FailLog::default(), room.path().join("failures"));
    log.write_to(Some(&file));
    let mut lane = lane_of(room.path(), |_| {}, log.clone());
    let end = |lane: &mut Lane, outcome| lane.take_outcome(outcome, SystemTime::now());
    let taken = Taken::new(Mark { path: RelPathBuf::new(b"a\nb".to_vec()).unwrap(), scope: Scope::Entry, ops: Ops::WRITE }, 1);
    for _ in 0..2 {
        end(&mut lane, Outcome { failed: vec![(taken.clone(), "it cannot be read".to_owned())], ..Outcome::default() });
        lane.aside.due(None);
    }
    for trouble in [Trouble::Retry("it broke".to_owned()), Trouble::Retry("it broke".to_owned()), Trouble::Hold("no".to_owned())] {
        end(&mut lane, Outcome { trouble: Some(trouble), ..Outcome::default() });
    }
    for _ in 0..2 {
        let item = Item { listed: taken.mark.path.clone(), mark: taken.clone(), missing: false, directory: false };
        end(&mut lane, Outcome { settled: vec![item], ..Outcome::default() });
    }
    lane.context.sync.stop("it is empty");
    lane.context.sync.release(lane.context.sync.gate().root);
    log.finish(Duration::from_secs(10));
    let text = std::fs::read_to_string(file).unwrap();
    let target = &lane.context.target.name;
    let told: Vec<_> = text.lines().map(|line| line.split('\t').skip(1).collect::<Vec<_>>().join("|").replace(target, "T")).collect();
    let expected = [
        "source|T|failed|a\\nb|it cannot be read",
        "source|T|retrying|-|it broke",
        "source|T|held|-|no",
        "source|T|arrived|a\\nb|it was set aside",
        "source|T|ok|-|it goes on again after: no",
        "source|-|stopped|-|it is empty",
        "source|-|ok|-|it is released after: it is empty",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_target_that_is_full_teaches_how_many_may_run() {
    let room = tempfile::tempdir().unwrap();
    let configure = |sync: &mut SyncConfig| sync.targets[0].connections = std::num::NonZeroU32::new(4).unwrap();
    let mut lane = lane_of(room.path(), configure, FailLog::default());
    let full = |limit| Trouble::Full { reason: format!("@ERROR: max connections ({limit:?}) reached"), limit };
    let run = |lane: &mut Lane| {
        lane.enlist(Running::new(0, None));
    };
    let now = Instant::now();
    (0..3).for_each(|_| run(&mut lane));
    lane.suffer(full(Some(8)), now);
    assert!(lane.trouble.is_none() && lane.retry_at.is_none(), "what runs goes on, and is no trouble");
    assert_eq!((lane.connections.bound(), lane.not_lent()), (3, 3), "others have them");
    lane.start_what_can_start();
    assert_eq!(lane.running.len(), 3, "nothing is started beside them");
    assert_eq!(lane.wake_at(), lane.connections.more_at(), "one more is tried without anything else happening");
    assert!(lane.wake_at().is_some_and(|at| at > now));

    lane.suffer(full(Some(2)), now);
    assert_eq!(lane.connections.bound(), 2, "it takes no more, however many of ours may still seem to run");
    assert_eq!(lane.connections.more_at(), None, "and never will");

    lane.running.clear();
    lane.suffer(full(Some(2)), now);
    assert!(matches!(&lane.trouble, Some((LaneState::Retrying, _))) && lane.retry_at.is_some(), "nothing of ours runs");
    assert_eq!(lane.connections.bound(), 1, "others have both");
    assert!(lane.connections.more_at().is_some());
}

/// One turn of the lane's loop, with what ends in it.
async fn turn(lane: &mut Lane) {
    lane.start_what_can_start();
    lane.park();
    let most = lane.connections.bound();
    let beside = lane.running.iter().filter(|job| job.reach.is_some()).count();
    assert!(beside + lane.warm.taken() <= most, "no more connections than there are");
    tokio::select! {
        Some(ended) = lane.jobs.join_next() => lane.account(ended.unwrap()),
        answer = lane.warm.left() => lane.left_unused(answer),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
}

/// Turns until it is so.
async fn until(lane: &mut Lane, what: &str, mut is_so: impl FnMut(&mut Lane) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so(lane) {
        assert!(Instant::now() < deadline, "{what}");
        turn(lane).await;
    }
}

async fn until_equal(lane: &mut Lane) {
    lane.hurry = Stamp::MAX;
    until(lane, "all has arrived", |lane| lane.oldest(lane.oldest_out()).is_none()).await;
}

#[test]
fn a_parked_rsync_takes_a_small_change_and_gives_way_to_a_tree() {
    let room = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let configure = |sync: &mut SyncConfig| {
            let target = &mut sync.targets[0];
            (target.connections, target.warm) = (std::num::NonZeroU32::MIN, 1);
        };
        let mut lane = lane_of(room.path(), configure, FailLog::default());
        lane.park();
        assert_eq!(lane.warm.parked(), 1, "one connects ahead");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !lane.warm.is_ready() {
            assert!(Instant::now() < deadline, "it is ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lane.hurry = Stamp::MAX;
        until(&mut lane, "it is given the file", |lane| lane.running.iter().any(|job| job.parked_for.is_some())).await;
        assert_eq!(lane.warm.taken(), 0, "it was there for the file");
        until_equal(&mut lane).await;
        assert_eq!(std::fs::read(room.path().join("target/file")).unwrap(), b"it");

        until(&mut lane, "another has connected ahead", |lane| lane.warm.parked() > 0).await;
        let source = room.path().join("source");
        std::fs::create_dir_all(source.join("tree/deep")).unwrap();
        lane.shared.mark(&RelPathBuf::new(b"tree".to_vec()).unwrap(), Scope::Tree, Ops::MOVED_TO);
        until_equal(&mut lane).await;
        assert!(room.path().join("target/tree/deep").exists());

        until(&mut lane, "another has connected ahead", |lane| lane.warm.parked() > 0).await;
        lane.shared.hold();
        lane.start_what_can_start();
        lane.park();
        assert_eq!(lane.warm.parked(), 0, "a target that is held is left alone");
        lane.warm.all_left().await;
        lane.shared.release();
        lane.suffer(Trouble::Retry("it broke".to_owned()), Instant::now());
        turn(&mut lane).await;
        assert_eq!(lane.warm.taken(), 0, "and so is one that fails");
    });
}

#[test]
fn a_target_with_one_connection_for_all_keeps_it_free() {
    let room = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut lane = lane(room.path());
        assert_eq!(lane.context.target.warm, 1, "as it is where nothing is written");
        lane.learn(Some(1), "@ERROR: max connections (1) reached", Instant::now());
        lane.park();
        assert_eq!(lane.warm.parked(), 0);
    });
}
