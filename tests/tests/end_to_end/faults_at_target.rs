//! Targets that cannot take what is sent, for a while: everything else arrives, and the rest does when the cause has gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use trigsync_tests::{
    compare,
    mirror::Launch,
    mount::Tmpfs,
    process::{eventually, must},
    room::Room,
    skip, tree,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A file that nobody may change, root included.
struct Immutable(PathBuf);

impl Immutable {
    /// None, after saying so, where the file system has no such attribute.
    fn make(path: &Path) -> Option<Self> {
        if skip::without_program(&["chattr"]) {
            return None;
        }
        let done = Command::new("chattr").arg("+i").arg(path).status().is_ok_and(|status| status.success());
        if !done {
            skip::skip(&skip::Cause::Unavoidable(format!("no immutable files on the file system of {}", path.display())));
        }
        done.then(|| Self(path.to_owned()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn a_file_that_cannot_be_written_holds_up_no_other() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    for name in ["bad", "bad-to-delete"] {
        fs::write(source.join(name), name).expect("a file in the source");
    }
    let config = format!(
        "[[sync]]\nname = \"site\"\nsource = {source:?}\nmax_delete = \"100%\"\n[[sync.target]]\nname = \"local\"\nto = {target:?}\n"
    );
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    let Some(bad) = Immutable::make(&target.join("bad")) else { return };
    let Some(bad_to_delete) = Immutable::make(&target.join("bad-to-delete")) else { return };
    fs::write(source.join("bad"), "rewritten").expect("a file in the source");
    fs::remove_file(source.join("bad-to-delete")).expect("it was made before");
    for number in 0..20 {
        fs::write(source.join(format!("good-{number}")), "good").expect("a file in the source");
    }
    for number in 0..20 {
        let name = format!("good-{number}");
        eventually(&format!("{name} arrives beside a file that cannot"), Duration::from_secs(10), || {
            (tree::content(target.join(&name)) == Some(b"good".to_vec())).then_some(())
        });
    }
    for name in ["bad", "bad-to-delete"] {
        mirror.until(&format!("{name} is set aside, with a reason"), Duration::from_secs(20), |status| {
            let set_aside = status.target("site", "local")["set_aside"].as_array()?.clone();
            let found = set_aside.iter().find(|pair| pair[0].as_str().is_some_and(|path| path.trim_start_matches('/') == name))?;
            found[1].as_str().filter(|reason| !reason.is_empty()).map(|_| ())
        });
    }
    fs::write(source.join("later"), "later").expect("a file in the source");
    eventually("what changes later arrives too", Duration::from_secs(5), || target.join("later").exists().then_some(()));
    let behind = mirror.flush_within(Duration::from_secs(1)).expect(1);
    assert!(behind.stderr.contains("bad"), "flush names what has not arrived: {behind}");
    drop((bad, bad_to_delete));
    mirror.flush_within(MINUTE).expect(0);
    compare::assert_equal(&source, &target);
    let status = mirror.status();
    assert_eq!(status.target("site", "local")["set_aside"].as_array().map(Vec::len), Some(0));
}

#[test]
fn many_files_that_cannot_be_written_hold_up_no_other() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let names: Vec<_> = (0..30).map(|number| format!("bad-{number}")).collect();
    for name in &names {
        fs::write(source.join(name), name).expect("a file in the source");
    }
    let config = format!(
        "[[sync]]\nname = \"site\"\nsource = {source:?}\nmax_delete = \"100%\"\n[[sync.target]]\nname = \"local\"\nto = {target:?}\n"
    );
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    let mut bad = Vec::new();
    // So that they fail together, however slow the machine is.
    mirror.ask(&["hold"]).expect(0);
    for name in &names {
        let Some(immutable) = Immutable::make(&target.join(name)) else { return };
        bad.push(immutable);
        fs::write(source.join(name), "rewritten").expect("a file in the source");
    }
    mirror.ask(&["release"]).expect(0);
    mirror.until("all of them are set aside", Duration::from_secs(20), |status| {
        (status.target("site", "local")["set_aside"].as_array()?.len() == names.len()).then_some(())
    });
    for number in 0..5 {
        let name = format!("good-{number}");
        fs::write(source.join(&name), "good").expect("a file in the source");
        eventually(&format!("{name} arrives beside many that cannot"), Duration::from_secs(5), || {
            target.join(&name).exists().then_some(())
        });
    }
    let before = mirror.status().target("site", "local")["processes"].as_u64().expect("a number");
    std::thread::sleep(Duration::from_secs(5));
    let after = mirror.status().target("site", "local")["processes"].as_u64().expect("a number");
    assert!(after - before <= 5, "{} rsync processes in 5 s: they are tried again together, and ever more seldom", after - before);
    drop(bad);
    mirror.flush_within(MINUTE).expect(0);
    compare::assert_equal(&source, &target);
}

#[test]
fn a_target_that_is_full() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let source = room.source();
    tree::web_site(&source);
    let target = room.target();
    let tmpfs = Tmpfs::mount(&target, 2);
    let config = format!("[[sync]]\nname = \"site\"\nsource = {source:?}\n[[sync.target]]\nname = \"full\"\nto = {target:?}\n");
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    fs::write(source.join("large"), tree::noise(5_000_000, 9)).expect("a file in the source");
    mirror.until("the status tells that the target is full", Duration::from_secs(15), |status| {
        let target = status.target("site", "full");
        (target["state"] != "ok" && target["reason"].as_str().is_some_and(|reason| reason.to_lowercase().contains("space"))).then_some(())
    });
    tmpfs.resize(64);
    mirror.flush_within(MINUTE).expect(0);
    compare::assert_equal(&source, &target);
}

#[test]
fn a_local_target_is_taken_away_and_comes_back() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mirror = Launch::flags(&room, &source, &[target.to_str().expect("plain")]).start();
    mirror.flush();
    must(Command::new("rm").arg("-rf").arg(&target));
    fs::write(&target, "a file where the target belongs").expect("a file in the room");
    fs::write(source.join("new"), "new").expect("a file in the source");
    mirror.until("the target is in trouble, with a reason", Duration::from_secs(15), |status| {
        let target = status.sync("source")["targets"][0].clone();
        (target["state"] != "ok" && target["reason"].is_string()).then_some(())
    });
    fs::remove_file(&target).expect("just made");
    fs::create_dir(&target).expect("a directory in the room");
    // What was there before the target went away is not known to be missing; a comparison finds it, and repairs it.
    mirror.ask(&["verify", "--repair"]);
    mirror.flush();
    compare::assert_equal(&source, &target);
}
