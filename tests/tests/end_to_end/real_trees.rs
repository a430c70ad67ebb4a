//! Trees that nobody here wrote: a kernel's source unpacked into the root, a git repository switching between distant tags,
//! `npm install`, and `rm -rf` of each. After every step rsync must find nothing left to do.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use trigsync_tests::{
    compare, fixtures,
    process::must,
    room::Room,
    site::{Kind, Site},
    skip,
};

/// A mirror to an rsync daemon; something stays in the root when everything else is removed.
fn site(room: &Room) -> Site<'_> {
    fs::write(room.source().join("anchor"), "so that `rm -rf` does not empty the root").expect("a file in the source");
    let site = Site::start(room, Kind::RsyncDaemon).expect("an rsync daemon needs nothing but rsync");
    site.arrived("the first pass");
    site
}

fn arrived(site: &Site<'_>, what: &str) {
    let start = Instant::now();
    // Other tests run beside it.
    site.mirror.flush_within(Duration::from_secs(240)).expect(0);
    println!("{what}: flush took {:?}", start.elapsed());
    compare::assert_equal_by_rsync(&site.source, &site.target, what);
}

fn remove(path: &Path) {
    must(Command::new("rm").arg("-rf").arg(path));
}

#[test]
fn a_kernel_source_is_unpacked_moved_and_removed() {
    if skip::without_root() {
        return;
    }
    let tarball = match fixtures::kernel_source() {
        Ok(tarball) => tarball,
        Err(cause) => return skip::skip(&cause),
    };
    let room = Room::new();
    let site = site(&room);
    let linux = site.source.join("linux");
    fs::create_dir(&linux).expect("a directory in the source");
    must(Command::new("tar").arg("-xf").arg(tarball).arg("-C").arg(&linux));
    arrived(&site, "a kernel source unpacked");
    fs::rename(&linux, site.source.join("linux-renamed")).expect("a rename");
    arrived(&site, "a kernel source renamed");
    must(Command::new("chmod").arg("-R").arg("go-w,o-x").arg(site.source.join("linux-renamed")));
    arrived(&site, "chmod -R of a kernel source");
    remove(&site.source.join("linux-renamed"));
    arrived(&site, "rm -rf of a kernel source");
}

#[test]
fn a_git_repository_switches_between_distant_tags() {
    if skip::without_root() {
        return;
    }
    let history = match fixtures::history() {
        Ok(history) => history,
        Err(cause) => return skip::skip(&cause),
    };
    let room = Room::new();
    let site = site(&room);
    let clone = site.source.join("clone");
    must(fixtures::git(&site.source).args(["clone", "-q", "--no-local"]).arg(&history).arg(&clone));
    arrived(&site, "git clone");
    let [oldest, .., newest] = fixtures::TAGS;
    for tag in [oldest, newest, fixtures::TAGS[1], fixtures::TAGS[2]] {
        must(fixtures::git(&clone).args(["checkout", "-q", tag]));
        arrived(&site, &format!("git checkout {tag}"));
    }
    // As fast as git can, without waiting for the mirror.
    for tag in fixtures::TAGS.iter().chain(&[oldest, newest]) {
        must(fixtures::git(&clone).args(["checkout", "-q", tag]));
    }
    must(fixtures::git(&clone).args(["gc", "-q"]));
    arrived(&site, "git checkout of one tag after the other, git gc");
    remove(&clone);
    arrived(&site, "rm -rf of a git repository");
}

#[test]
fn npm_installs_and_is_removed() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let site = site(&room);
    let project = site.source.join("project");
    if let Err(cause) = fixtures::npm_install(&project) {
        return skip::skip(&cause);
    }
    arrived(&site, "npm install");
    remove(&project.join("node_modules"));
    if let Err(cause) = fixtures::npm_install(&project) {
        return skip::skip(&cause);
    }
    arrived(&site, "npm install once more, from nothing");
    remove(&project);
    arrived(&site, "rm -rf of an npm project");
}
