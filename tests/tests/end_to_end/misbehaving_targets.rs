//! Targets that take nothing for a reason of their own: the reason stands in the status, and once it has gone everything arrives.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::Duration,
};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror, one_target},
    room::Room,
    rsyncd::{Module, RsyncDaemon, free_port, url},
    skip, tree,
};

/// Waits until the target is in a state, and says why in words that hold `words`, and since when.
#[track_caller]
fn until(mirror: &Mirror<'_>, states: &[&str], words: &str) {
    mirror.until(&format!("{states:?}, {words}"), Duration::from_secs(20), |status| {
        let target = status.target("site", "it");
        let is_so = states.iter().any(|state| target["state"] == *state);
        let says_why = target["reason"].as_str().is_some_and(|reason| reason.to_lowercase().contains(words));
        (is_so && says_why && target["since_ms"].is_u64()).then_some(())
    });
}

#[test]
fn a_target_that_turns_read_only() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, port) = (room.source(), room.target(), free_port());
    tree::web_site(&source);
    let module = || Module::new("mirror", &target);
    let server = RsyncDaemon::start_on(&room, port, &[module()]);
    let mirror = Launch::config(&room, &one_target(&room.source(), &url(port, "mirror"), "")).start();
    mirror.flush();
    drop(server);
    let server = RsyncDaemon::start_on(&room, port, &[module().set("read only", "yes")]);
    fs::write(source.join("index.html"), "rewritten").expect("a file in the source");
    until(&mirror, &["held", "retrying"], "read only");
    drop(server);
    let _server = RsyncDaemon::start_on(&room, port, &[module()]);
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_target_that_changes_its_password() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, port) = (room.source(), room.target(), free_port());
    tree::web_site(&source);
    let module = |password: &str| Module::new("mirror", &target).secret("web", password);
    let password = room.secret("password", "the old one\n");
    let server = RsyncDaemon::start_on(&room, port, &[module("the old one")]);
    let to = url(port, "mirror").replace("rsync://", "rsync://web@");
    let mirror = Launch::config(&room, &one_target(&room.source(), &to, &format!("password_file = {password:?}\n"))).start();
    mirror.flush();
    drop(server);
    let _server = RsyncDaemon::start_on(&room, port, &[module("the new one")]);
    fs::write(source.join("index.html"), "rewritten").expect("a file in the source");
    until(&mirror, &["held"], "auth");
    room.secret("password", "the new one\n");
    mirror.flush();
    compare::assert_equal(&source, &target);
}

/// Takes one of a module's connections, as long as it lives.
fn occupy(port: u16, module: &str) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.write_all(format!("@RSYNCD: 31.0 md5\n{module}\n").as_bytes()).expect("it listens");
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    assert!(lines.any(|line| line.expect("it answers") == "@RSYNCD: OK"), "the module takes the connection");
    stream
}

#[test]
fn a_target_whose_connections_are_in_use() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, port) = (room.source(), room.target(), free_port());
    tree::web_site(&source);
    let locks = room.at("rsyncd.lock").to_str().expect("plain").to_owned();
    let module = Module::new("mirror", &target).set("max connections", "1").set("lock file", &locks);
    let _server = RsyncDaemon::start_on(&room, port, &[module]);
    let mirror = Launch::config(&room, &one_target(&room.source(), &url(port, "mirror"), "connections = 1\n")).start();
    mirror.flush();
    // The connection that the daemon had may be on its way out.
    thread::sleep(Duration::from_millis(500));
    let occupied = occupy(port, "mirror");
    fs::write(source.join("index.html"), "rewritten").expect("a file in the source");
    until(&mirror, &["retrying"], "max connections");
    drop(occupied);
    mirror.flush();
    compare::assert_equal(&source, &target);
}

#[test]
fn a_target_that_takes_fewer_connections_than_are_configured() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let locks = room.at("rsyncd.lock").to_str().expect("plain").to_owned();
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target).set("max connections", "1").set("lock file", &locks)]);
    let more = "connections = 3\nbandwidth_limit = \"20m\"\n";
    let mirror = Launch::config(&room, &one_target(&room.source(), &server.url("mirror"), more)).start();
    mirror.flush();
    // A large file goes beside the rounds, for three seconds and more. Nobody sees it before it is whole.
    fs::write(room.at("large"), vec![b'x'; 66 << 20]).expect("a file in the room");
    fs::rename(room.at("large"), source.join("large")).expect("one file system");
    mirror.until("the large file is on its way", Duration::from_secs(20), |status| {
        (status.target("site", "it")["in_flight"].as_u64()? > 0).then_some(())
    });
    thread::sleep(Duration::from_millis(300));
    fs::write(source.join("index.html"), "rewritten").expect("a file in the source");
    mirror.until_logged("from now on 1 connections at most: @ERROR: max connections (1) reached");
    mirror.flush();
    for number in 0..5 {
        fs::write(source.join("index.html"), format!("rewritten {number}")).expect("a file in the source");
        mirror.flush();
    }
    compare::assert_equal(&source, &target);
    assert_eq!(mirror.log().matches("connections at most").count(), 1, "{}", mirror.log());
}
