//! What every kind of target has to pass; [`every_change_arrives`](crate::every_change_arrives) makes tests of these.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{
    changes::{self, Change},
    room::Room,
    site::{Kind, Site},
    skip, tree,
};

/// Runs one of the tests below in a room of its own.
pub fn run(kind: Kind, test: fn(&Room, Kind) -> Result<(), skip::Cause>) {
    if skip::without_root() {
        return;
    }
    if let Err(cause) = test(&Room::new(), kind) {
        skip::skip(&cause);
    }
}

/// A site with something in its source that stays, so that no change empties the root.
fn site(room: &Room, kind: Kind) -> Result<Site<'_>, skip::Cause> {
    tree::web_site(&room.source().join("site"));
    let site = Site::start(room, kind)?;
    site.arrived("the first pass");
    Ok(site)
}

fn drive(room: &Room, kind: Kind, changes: &[Change]) -> Result<(), skip::Cause> {
    let site = site(room, kind)?;
    changes::drive(changes, &site.source, &room.directory("outside"), |what| site.arrived(what));
    Ok(())
}

/// [`changes::CONTENTS`].
pub fn contents(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    drive(room, kind, changes::CONTENTS)
}

/// [`changes::RENAMES`].
pub fn renames(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    drive(room, kind, changes::RENAMES)
}

/// [`changes::DELETIONS`].
pub fn deletions(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    drive(room, kind, changes::DELETIONS)
}

/// [`changes::TYPES`].
pub fn types(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    drive(room, kind, changes::TYPES)
}

/// [`changes::METADATA`].
pub fn metadata(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    drive(room, kind, changes::METADATA)
}

/// Names that a careless program trips over: made, rewritten, renamed, deleted, in the root and below it.
pub fn hostile_names(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    let site = site(room, kind)?;
    let names = tree::hostile_names();
    tree::plant_hostile_names(&site.source.join("below"));
    for name in &names {
        fs::write(site.source.join(name), "in the root").expect("a file with a hostile name");
    }
    site.arrived("hostile names made");
    for name in &names {
        fs::write(site.source.join(name), "in the root, and rewritten").expect("a file with a hostile name");
        fs::write(site.source.join("below/directories").join(name).join("new"), "new").expect("a file below a hostile name");
    }
    site.arrived("hostile names rewritten");
    fs::create_dir(site.source.join("moved")).expect("a directory");
    for (number, name) in names.iter().enumerate() {
        fs::rename(site.source.join(name), site.source.join("moved").join(name)).expect("a rename");
        fs::rename(site.source.join("below/directories").join(name), site.source.join("moved").join(format!("d{number}")))
            .expect("a rename");
    }
    site.arrived("hostile names renamed");
    for name in &names {
        fs::remove_file(site.source.join("below/files").join(name)).expect("it was made before");
        fs::remove_file(site.source.join("moved").join(name)).expect("it was made before");
    }
    site.arrived("hostile names deleted");
    let home = std::env::var_os("HOME").unwrap_or_default();
    for directory in [&room.at("cwd"), &site.source, &site.target, Path::new(&home), Path::new("/")] {
        assert!(!directory.join("pwned").exists(), "a name reached a shell: {} has a file `pwned`", directory.display());
    }
    Ok(())
}

/// A log that is appended to and never closed.
pub fn a_file_that_stays_open(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    let site = site(room, kind)?;
    let mut log = OpenOptions::new().create(true).append(true).open(site.source.join("log")).expect("a file in the source");
    for number in 0..5 {
        writeln!(log, "line {number}").expect("a write");
        site.arrived("a line appended without a close");
    }
    // And by itself, without anybody asking for it.
    writeln!(log, "the last line").expect("a write");
    crate::process::eventually("the last line arrives without close or flush", Duration::from_secs(10), || {
        (tree::content(site.target.join("log")) == tree::content(site.source.join("log"))).then_some(())
    });
    drop(log);
    site.arrived("closed");
    Ok(())
}

/// Five thousand files made as fast as they can be, then deleted.
pub fn five_thousand_files(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    let site = site(room, kind)?;
    tree::many_files(&site.source.join("many"), 5_000);
    site.arrived("5,000 files");
    fs::remove_dir_all(site.source.join("many")).expect("it was made before");
    site.arrived("5,000 files deleted");
    Ok(())
}

/// Mode, owner and time of the root directory, and files that lie in it.
pub fn the_root_itself(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    let site = site(room, kind)?;
    fs::set_permissions(&site.source, fs::Permissions::from_mode(0o711)).expect("chmod");
    site.arrived("chmod of the root");
    chown(&site.source, Some(1234), Some(4321)).expect("chown");
    site.arrived("chown of the root");
    let root = fs::File::open(&site.source).expect("the root");
    root.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("utimes");
    site.arrived("time of the root");
    fs::write(site.source.join("x"), "x").expect("a file in the root");
    site.arrived("a file made in the root");
    fs::remove_file(site.source.join("x")).expect("it was made before");
    site.arrived("a file deleted from the root");
    Ok(())
}

/// A target that is not empty at the start: equal after the first pass.
pub fn what_was_there_before(room: &Room, kind: Kind) -> Result<(), skip::Cause> {
    tree::web_site(&room.source());
    let target = room.target();
    tree::web_site(&target.join("posts"));
    fs::create_dir(target.join("index.html")).expect("a directory");
    fs::write(target.join("index.html/in the way"), "").expect("a file");
    fs::write(target.join("css"), "a file where a directory belongs").expect("a file");
    fs::write(target.join("alien"), "alien").expect("a file");
    let site = Site::start(room, kind)?;
    site.arrived("the first pass over a target with other things in it");
    Ok(())
}
