//! One source, five targets: what one of them suffers, the others do not notice.

use std::{fs, time::Duration};

use trigsync_tests::{
    compare,
    mirror::{ARRIVAL, Launch},
    process::eventually,
    room::Room,
    rsyncd::{self, Module, RsyncDaemon},
    site::{Kind, Served},
    skip, tree,
};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_slow_and_a_dead_target_hold_up_nobody() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let source = room.source();
    tree::web_site(&source);
    let [local, module, behind_ssh, slow, dead] = ["local", "module", "ssh-target", "slow", "dead"].map(|name| room.directory(name));
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &module)]);
    // Without an sshd the other four are still worth the test; tests/ssh.rs says by name that it is missing.
    let ssh = Served::start(&room, Kind::Ssh, &behind_ssh).ok();
    let dead_port = rsyncd::free_port();
    let mut text = format!(
        "[[sync]]\nname = \"site\"\nsource = {source:?}\n\
         [[sync.target]]\nname = \"local\"\nto = {local:?}\n\
         [[sync.target]]\nname = \"module\"\nto = \"{}\"\n\
         [[sync.target]]\nname = \"slow\"\nto = {slow:?}\nbandwidth_limit = \"1m\"\n\
         [[sync.target]]\nname = \"dead\"\nto = \"{}\"\n",
        server.url("mirror"),
        rsyncd::url(dead_port, "mirror"),
    );
    let mut healthy = vec![("local", &local), ("module", &module)];
    if let Some(ssh) = &ssh {
        text += &format!("[[sync.target]]\nname = \"edge\"\nto = \"{}\"\nidentity = \"{}\"\n", ssh.address, ssh.flags[1]);
        healthy.push(("edge", &behind_ssh));
    }
    let mut launch = Launch::config(&room, &text);
    if let Some(programs) = ssh.as_ref().and_then(|ssh| ssh.programs.as_deref()) {
        launch = launch.path_first(programs);
    }
    let mirror = launch.start();
    let targets = healthy.len() + 2;
    assert!(mirror.ready.contains(&format!("targets={targets}")), "the ready line counts the targets: {}", mirror.ready);

    let everyone_but_dead = healthy.iter().copied().chain([("slow", &slow)]);
    for (name, target) in everyone_but_dead {
        eventually(&format!("{name} has the first pass"), SECONDS(20), || compare::differences(&source, target).is_empty().then_some(()));
    }

    fs::write(source.join("large"), tree::noise(10_000_000, 3)).expect("a file in the source");
    mirror.until("the slow target is busy", SECONDS(10), |status| {
        (status.target("site", "slow")["in_flight"].as_u64() > Some(0)).then_some(())
    });
    for number in 0..5 {
        let name = format!("small-{number}");
        fs::write(source.join(&name), &name).expect("a file in the source");
        for (target_name, target) in &healthy {
            eventually(&format!("{target_name} gets {name} at once"), SECONDS(5), || {
                (tree::content(target.join(&name)) == Some(name.clone().into_bytes())).then_some(())
            });
        }
    }
    assert!(!slow.join("large").exists(), "the slow target was not slow: the test has shown nothing");

    let behind = mirror.flush_within(SECONDS(3)).expect(1);
    assert!(behind.stderr.contains("dead"), "flush names the dead target: {behind}");
    for (name, _) in &healthy {
        assert!(!behind.stderr.contains(&format!("{name}:")), "flush blames {name}, which is equal: {behind}");
    }
    mirror.until("the dead target is tried again, with a reason", SECONDS(10), |status| {
        let dead = status.target("site", "dead");
        (dead["state"] == "retrying" && dead["reason"].as_str().is_some_and(|reason| !reason.is_empty())).then_some(())
    });
    let status = mirror.status();
    for (name, _) in &healthy {
        let target = status.target("site", name);
        assert!(target["state"] == "ok" && target["pending"] == 0, "{name} is equal: {target:#}");
    }

    let _revived = RsyncDaemon::start_on(&room, dead_port, &[Module::new("mirror", &dead)]);
    mirror.flush_within(ARRIVAL).expect(0);
    for target in healthy.iter().map(|(_, target)| *target).chain([&slow, &dead]) {
        compare::assert_equal(&source, target);
    }
}

#[test]
fn a_module_that_takes_one_connection_at_a_time_is_enough() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let module =
        Module::new("mirror", &target).set("max connections", "1").set("lock file", room.at("rsyncd.lock").to_str().expect("plain"));
    let server = RsyncDaemon::start(&room, &[module]);
    let mirror = Launch::flags(&room, &source, &[&server.url("mirror")]).start();
    mirror.flush();
    tree::many_files(&source.join("many"), 1_000);
    mirror.flush();
    fs::rename(source.join("many"), source.join("moved")).expect("a rename");
    fs::write(source.join("index.html"), "rewritten").expect("a file in the source");
    mirror.flush();
    compare::assert_equal(&source, &target);
}
