//! A flood of changes while every target is dead: memory stays within the configured bound, and everything arrives when they are back.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use trigsync_tests::{
    compare,
    mirror::{Launch, Mirror},
    mount::Tmpfs,
    process::eventually,
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

/// For three targets together. Each may hold some 20,000 marks.
const BOUND: u64 = 16 << 20;

const DIRECTORIES: usize = 250;
const FILES: usize = 220;
/// Of the files of a directory so many stay.
const STAY: usize = 20;

/// What `/proc/PID/status` says, in bytes.
fn memory(mirror: &Mirror<'_>, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mirror.pid())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_else(|| panic!("no {field} in {status}")) * 1024
}

/// Makes files in many directories and deletes most of them. Returns how many changes that were.
fn flood(source: &Path) -> u64 {
    for directory in 0..DIRECTORIES {
        let path = source.join(format!("site-{}/uploads/{directory}", directory % 10));
        fs::create_dir_all(&path).expect("a directory in the source");
        for file in 0..FILES {
            File::create(path.join(format!("picture-{file}.jpg"))).expect("a file in the source");
        }
    }
    for directory in 0..DIRECTORIES {
        let path = source.join(format!("site-{}/uploads/{directory}", directory % 10));
        for file in STAY..FILES {
            fs::remove_file(path.join(format!("picture-{file}.jpg"))).expect("just made");
        }
    }
    (DIRECTORIES * (FILES + FILES - STAY)) as u64
}

#[test]
fn a_flood_while_every_target_is_dead_stays_within_the_bound_and_arrives() {
    if skip::without_root() {
        return;
    }
    // In memory: on ext4 it can take a minute to make so many files shortly after others were deleted.
    let outside = Room::new();
    let tmpfs = outside.at("tmpfs");
    let _tmpfs = Tmpfs::mount(&tmpfs, 256);
    let room = Room::new_in(&tmpfs);
    let source = room.source();
    tree::web_site(&source);
    // Its one change is made after the flood, and everything is told in order.
    let [witness, witnessed] = ["witness", "witnessed"].map(|name| room.directory(name));
    let places = ["left", "right"].map(|name| room.directory(name));
    let modules = [Module::new("left", &places[0]), Module::new("right", &places[1])];
    let mut server = RsyncDaemon::start(&room, &modules);
    let config = format!(
        "memory = {BOUND}\n[[sync]]\nname = \"site\"\nsource = {source:?}\nmax_delete = \"100%\"\n\
         [[sync.target]]\nname = \"left\"\nto = \"{}\"\n[[sync.target]]\nname = \"right\"\nto = \"{}\"\n\
         [[sync]]\nname = \"witness\"\nsource = {witness:?}\ntargets = [{witnessed:?}]\n",
        server.url("left"),
        server.url("right"),
    );
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    server.kill9();
    let before = memory(&mirror, "VmRSS");
    // From now on the highest is that of the flood.
    fs::write(format!("/proc/{}/clear_refs", mirror.pid()), "5").expect("we are root");

    let changes = flood(&source);
    fs::write(witness.join("last"), "").expect("the witness' source");
    eventually("the last change arrives where the target lives", Duration::from_secs(30), || witnessed.join("last").exists().then_some(()));
    let status = mirror.status();
    let told = &status.0["capture"]["changes"];
    let above = memory(&mirror, "VmHWM").saturating_sub(before);
    println!("{changes} changes made, {told} told, {above} bytes above {before}, bound {BOUND}");
    for name in ["left", "right"] {
        let target = status.target("site", name);
        println!("{name}: {} pending, {} in flight, {} degraded", target["pending"], target["in_flight"], target["degraded"]);
        assert!(target["degraded"].as_u64() > Some(10), "{name} did without degrading: the test has shown nothing: {target:#}");
        assert!(target["pending"].as_u64().max(target["in_flight"].as_u64()) > Some(10), "directories, not the whole source: {target:#}");
        assert_eq!(target["state"], "retrying", "{target:#}");
    }
    assert_eq!(status.0["capture"]["overflows"], 0);
    assert!(above < BOUND, "{above} bytes above {before} at the highest, and {BOUND} are allowed");
    mirror.until_logged("than fit into `memory`");

    server.restart();
    mirror.flush();
    for place in &places {
        compare::assert_equal_by_rsync(&source, place, "after a flood");
    }
    let above = memory(&mirror, "VmHWM").saturating_sub(before);
    assert!(above < BOUND, "{above} bytes above {before} until everything had arrived, and {BOUND} are allowed");
}
