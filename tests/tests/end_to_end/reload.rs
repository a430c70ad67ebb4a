//! SIGHUP: what changed in the configuration changes, what did not goes on undisturbed.

use std::{fs, path::Path, time::Duration};

use trigsync_tests::{compare, mirror::Launch, room::Room, skip, tree};

const LIMIT: Duration = Duration::from_secs(10);

fn sync(name: &str, source: &Path, targets: &[&Path]) -> String {
    format!("[[sync]]\nname = \"{name}\"\nsource = {source:?}\ntargets = {targets:?}\n")
}

#[test]
fn syncs_and_targets_come_and_go() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let [kept, grown, gone, new] = ["kept", "grown", "gone", "new"].map(|name| room.directory(name));
    let [kept_to, grown_to, grown_to_2, gone_to, new_to] = ["1", "2", "2b", "3", "4"].map(|name| room.directory(format!("target-{name}")));
    for source in [&kept, &grown, &gone, &new] {
        tree::web_site(source);
    }
    let always = sync("kept", &kept, &[&kept_to]);
    let launch = Launch::config(&room, &(always.clone() + &sync("grown", &grown, &[&grown_to]) + &sync("gone", &gone, &[&gone_to])));
    let mirror = launch.start();
    mirror.flush();
    let before = mirror.status();
    // A full pass would delete it; nothing else would.
    let witness = kept_to.join("only here");
    fs::write(&witness, "a full pass deletes this").expect("a file at the target");

    launch.rewrite(&(always + &sync("grown", &grown, &[&grown_to, &grown_to_2]) + &sync("new", &new, &[&new_to])));
    mirror.reload();
    mirror.until("the new configuration is in force", LIMIT, |status| {
        let grown_target = grown_to_2.to_str().expect("plain");
        (status.find_sync("new").is_some() && status.find_sync("gone").is_none() && status.find_target("grown", grown_target).is_some())
            .then_some(())
    });
    mirror.flush();
    for (source, target) in [(&grown, &grown_to), (&grown, &grown_to_2), (&new, &new_to)] {
        compare::assert_equal(source, target);
    }
    assert!(witness.exists(), "the sync that did not change got a new full pass");
    let after = mirror.status();
    assert_eq!(before.0["pid"], after.0["pid"]);
    let kept_target = kept_to.to_str().expect("plain");
    for counter in ["sent", "batches"] {
        let [before, after] = [&before, &after].map(|status| status.target("kept", kept_target)[counter].as_u64());
        assert_eq!(before, after, "the counter {counter} of the sync that did not change");
    }

    for (source, name) in [(&kept, "kept"), (&grown, "grown"), (&gone, "gone"), (&new, "new")] {
        fs::write(source.join("after the reload"), name).expect("a file in the source");
    }
    mirror.flush();
    fs::remove_file(&witness).expect("it is there");
    for (source, target) in [(&grown, &grown_to), (&grown, &grown_to_2), (&new, &new_to)] {
        compare::assert_equal(source, target);
    }
    assert_eq!(tree::content(kept_to.join("after the reload")), Some(b"kept".to_vec()));
    assert!(!gone_to.join("after the reload").exists(), "a sync that was taken out still sends");
    assert!(gone_to.join("index.html").exists(), "a sync that was taken out deletes nothing");
}

#[test]
fn changes_made_during_a_reload_arrive() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let text = sync("site", &source, &[&target]);
    let launch = Launch::config(&room, &text);
    let mirror = launch.start();
    for round in 0..20 {
        launch.rewrite(&if round % 2 == 0 { text.clone() + "settle = { quiet = \"30ms\" }\n" } else { text.clone() });
        tree::many_files(&source.join(format!("round-{round}")), 50);
        mirror.reload();
        tree::many_files(&source.join(format!("round-{round}/more")), 50);
    }
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn an_invalid_file_changes_nothing() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let text = sync("site", &source, &[&target]);
    let launch = Launch::config(&room, &text);
    let mirror = launch.start();
    mirror.flush();
    for (bad, word) in [
        (text.clone() + "exlude = [\"x\"]\n", "exlude"),
        ("[[sync\n".to_owned(), "trigsync.toml"),
        (text.clone() + &sync("second", &room.at("no-such-source"), &[&room.directory("t")]), "no-such-source"),
    ] {
        launch.rewrite(&bad);
        mirror.reload();
        mirror.until_logged(word);
        assert!(mirror.status().find_sync("second").is_none());
        fs::write(source.join(word), word).expect("a file in the source");
        mirror.flush();
        assert_eq!(tree::content(target.join(word)), Some(word.into()), "the old configuration still holds");
    }
}

#[test]
fn a_sync_that_cannot_be_started_again_is_not_forgotten() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (one, two) = (room.directory("one"), room.directory("two"));
    let (one_to, two_to) = (room.at("one-to"), room.at("two-to"));
    let text = sync("one", &one, &[&one_to]) + &sync("two", &two, &[&two_to]);
    let launch = Launch::config(&room, &text);
    let mirror = launch.start();
    mirror.flush();
    // It is there when the file is read, and cannot be watched: another file system that knows no events.
    let proc = Path::new("/proc/self/fdinfo");
    launch.rewrite(&(sync("one", &one, &[&one_to]) + &sync("two", proc, &[&two_to])));
    mirror.reload();
    mirror.until_logged("sync two does not run");
    let told = mirror.flush_within(Duration::from_secs(20)).expect(1);
    assert!(told.stderr.contains("two: does not run"), "{told}");
    assert!(mirror.ask(&["check"]).expect(2).stdout.contains("two is stopped"));
    launch.rewrite(&text);
    mirror.reload();
    mirror.until("it runs again", Duration::from_secs(20), |status| (status.find_sync("two")?["state"] == "running").then_some(()));
    fs::write(two.join("new"), "new").expect("a file in the source");
    mirror.flush();
    compare::assert_equal(&two, &two_to);
}
