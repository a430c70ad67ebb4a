//! What a lane does in an order that no target can be made to bring about.

use std::path::Path;

use super::*;
use crate::config::{Overrides, RawConfig};

/// A lane to an empty directory, with a file in its source that is marked.
fn lane(room: &Path) -> Lane {
    let [source, target] = ["source", "target"].map(|name| room.join(name));
    for directory in [&source, &target] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(source.join("file"), "it").unwrap();
    let raw = RawConfig::from_flags(&source, &[target.display().to_string()]).unwrap();
    let sync = raw.resolve(&Overrides::default(), &room.join("state")).unwrap().syncs.remove(0);
    let target = sync.targets[0].clone();
    let shared = Arc::new(LaneShared::new(sync.settle, "it".to_owned(), "it".to_owned(), []));
    shared.mark(&RelPathBuf::new(b"file".to_vec()).unwrap(), Scope::Entry, Ops::WRITE);
    let context = SyncContext::new(Arc::new(sync), crate::plan::open_root(&source).unwrap().1);
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
        lane.take_plan(plan(root, batch, &sync.config.filter, &sync.config.batch));
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
