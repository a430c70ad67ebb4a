//! A large file that changes in place, and is sent so where it is asked for.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
};

use trigsync_tests::{
    compare,
    mirror::{Launch, one_target},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

#[test]
fn a_database_is_written_into_and_what_stands_beside_it_is_replaced() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    fs::create_dir(source.join("db")).expect("a directory in the source");
    let names = ["db/table", "copy"];
    for name in names {
        fs::write(source.join(name), tree::noise(4 << 20, 1)).expect("a file in the source");
    }
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    let config = one_target(&source, &server.url("mirror"), "inplace = [\"/db/\"]\n");
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    let inodes = || names.map(|name| fs::metadata(target.join(name)).expect("it has arrived").ino());
    let sent = || mirror.status().target("site", "it")["bytes"].as_u64().expect("a number");
    let (inodes_before, sent_before) = (inodes(), sent());
    for round in 0..3 {
        for name in names {
            let file = File::options().write(true).open(source.join(name)).expect("it is there");
            file.write_at(b"changed", round * 1_000_000).expect("it can be written to");
        }
        mirror.flush();
        compare::assert_equal(&source, &target);
    }
    let inodes_after = inodes();
    assert_eq!(inodes_after[0], inodes_before[0], "the database's own file");
    assert_ne!(inodes_after[1], inodes_before[1], "another in its place");
    assert!(sent() - sent_before < 1 << 20, "{} bytes for a few that changed", sent() - sent_before);
}
