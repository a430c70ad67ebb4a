//! Full passes on schedule.

use std::{fs, time::Duration};

use trigsync_tests::{compare, mirror::Launch, process::eventually, room::Room, skip, tree};

#[test]
fn what_somebody_else_did_at_the_target_is_mended_by_the_next_full_pass() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let config = |more: &str| format!("[[sync]]\nname = \"site\"\nsource = {source:?}\ntargets = [{target:?}]\naudit = false\n{more}\n");
    let launch = Launch::config(&room, &config(""));
    let mirror = launch.start();
    mirror.flush();
    assert!(mirror.status().sync("site")["next_full_pass_ms"].is_null());
    let stray = || fs::write(target.join("stray"), "not the source's").expect("a file at the target");
    let is_gone = || (!target.join("stray").exists()).then_some(());
    stray();
    std::thread::sleep(Duration::from_secs(3));
    assert!(target.join("stray").exists(), "nothing looks at the target by itself: the test shows nothing");

    for schedule in ["full_pass = { every = \"1s\" }", "full_pass = { cron = \"* * * * * *\", jitter = \"1s\" }"] {
        launch.rewrite(&config(schedule));
        mirror.reload();
        eventually(&format!("{schedule}: the target is equal again"), Duration::from_secs(20), is_gone);
        assert!(mirror.status().sync("site")["next_full_pass_ms"].is_u64());
        stray();
        eventually(&format!("{schedule}: and once more"), Duration::from_secs(20), is_gone);
    }
    mirror.until_logged("a full pass, as scheduled");

    launch.rewrite(&config("full_pass = { cron = \"0 0 29 2 *\" }"));
    mirror.reload();
    mirror.until("the next one is some years away", Duration::from_secs(10), |status| {
        status.sync("site")["next_full_pass_ms"].as_u64().filter(|at| *at > 1_800_000_000_000).map(|_| ())
    });
    mirror.flush();
    compare::assert_equal(&source, &target);
}
