//! Excludes and includes hold for events, full passes and deletions alike.

use std::{fs, path::Path};

use trigsync_tests::{
    mirror::{Launch, Mirror},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
};

fn write(path: &Path) {
    fs::create_dir_all(path.parent().expect("it lies in the room")).expect("a directory");
    fs::write(path, path.file_name().expect("it has a name").as_encoded_bytes()).expect("a file");
}

#[track_caller]
fn assert_there(root: &Path, names: &[&str]) {
    for name in names {
        assert!(root.join(name).symlink_metadata().is_ok(), "missing at the target: {name}");
    }
}

#[track_caller]
fn assert_not_there(root: &Path, names: &[&str]) {
    for name in names {
        assert!(root.join(name).symlink_metadata().is_err(), "must not be at the target: {name}");
    }
}

/// Where target files are that no pass and no event may ever delete, since an exclude holds them.
const PROTECTED: [&str; 4] = ["target-only.tmp", "cache/target-only", "sub/target-only.tmp", "other/deep/target-only.tmp"];

fn fill(source: &Path, target: &Path) {
    for name in [
        "a.txt",
        "a.tmp",
        "keep.tmp",
        "cache/x",
        "sub/b.txt",
        "sub/b.tmp",
        "sub/keep.tmp",
        "sub/cache/y",
        "other/deep/c.txt",
        "stays/d.txt",
    ] {
        write(&source.join(name));
    }
    // A file of this name is a file like any other: the trees' own ignore files mean nothing here.
    fs::write(source.join(".gitignore"), "*.txt\n").expect("a file");
    PROTECTED.iter().chain(&["alien.txt", "sub/alien.txt"]).for_each(|name| write(&target.join(name)));
}

fn check(source: &Path, target: &Path, mirror: &Mirror<'_>) {
    mirror.flush();
    let equal = ["a.txt", "keep.tmp", "sub/b.txt", "sub/keep.tmp", "sub/cache/y", "other/deep/c.txt", ".gitignore"];
    assert_there(target, &equal);
    assert_there(target, &PROTECTED);
    assert_not_there(target, &["a.tmp", "sub/b.tmp", "cache/x", "alien.txt", "sub/alien.txt"]);

    // Events: what is excluded is not sent, what is included again is.
    for name in ["new.txt", "new.tmp", "new/keep.tmp", "new/x.tmp", "cache/new", "new/cache/z"] {
        write(&source.join(name));
    }
    mirror.flush();
    assert_there(target, &["new.txt", "new/keep.tmp", "new/cache/z"]);
    assert_not_there(target, &["new.tmp", "new/x.tmp", "cache/new"]);

    // Renames over the border, in both directions, by file and by directory.
    fs::rename(source.join("new.tmp"), source.join("was-tmp.txt")).expect("a rename");
    fs::rename(source.join("a.txt"), source.join("was-txt.tmp")).expect("a rename");
    fs::rename(source.join("cache"), source.join("was-cache")).expect("a rename");
    fs::rename(source.join("new"), source.join("renamed")).expect("a rename");
    mirror.flush();
    assert_there(target, &["was-tmp.txt", "was-cache/x", "was-cache/new", "renamed/keep.tmp", "renamed/cache/z", "cache/target-only"]);
    assert_not_there(target, &["new.tmp", "a.txt", "was-txt.tmp", "renamed/x.tmp", "new"]);

    // Deletions stop before what is excluded, also where the directory around it goes away at the source.
    for name in ["sub", "other"] {
        fs::remove_dir_all(source.join(name)).expect("it was made before");
    }
    fs::remove_file(source.join("was-txt.tmp")).expect("it was made before");
    mirror.flush();
    assert_there(target, &PROTECTED);
    assert_not_there(target, &["sub/b.txt", "sub/keep.tmp", "sub/cache", "other/deep/c.txt"]);

    // And a directory that stands in the way of a new file.
    write(&source.join("stays/sub"));
    mirror.flush();
    assert_there(target, &["stays/sub"]);
}

fn config(source: &Path, target: &str) -> String {
    format!(
        "[[sync]]\nname = \"site\"\nsource = {source:?}\ntargets = [{target:?}]\nexclude = [\"*.tmp\", \"/cache/\"]\n\
         include = [\"keep.tmp\"]\nmax_delete = \"100%\"\n"
    )
}

#[test]
fn at_a_local_target() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    fill(&source, &target);
    let mirror = Launch::config(&room, &config(&source, target.to_str().expect("plain"))).start();
    check(&source, &target, &mirror);
}

#[test]
fn at_an_rsync_daemon() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    fill(&source, &target);
    let server = RsyncDaemon::start(&room, &[Module::new("mirror", &target)]);
    let mirror = Launch::config(&room, &config(&source, &server.url("mirror"))).start();
    check(&source, &target, &mirror);
}

#[test]
fn a_full_pass_at_the_next_start_deletes_nothing_that_is_excluded() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    fill(&source, &target);
    let flags = ["--exclude", "*.tmp", "--exclude", "/cache/", "--include", "keep.tmp", "--max-delete", "100%", "--initial-sync", "always"];
    let launch = Launch::flags(&room, &source, &[target.to_str().expect("plain")]).and(flags);
    let mut mirror = launch.start();
    mirror.flush();
    mirror.stop();
    fs::remove_dir_all(source.join("sub")).expect("it was made before");
    let mirror = launch.start();
    mirror.flush();
    assert_there(&target, &PROTECTED);
    assert_not_there(&target, &["sub/b.txt", "sub/keep.tmp", "alien.txt"]);
}

#[test]
fn names_that_are_patterns_exclude_only_what_they_say() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    for name in ["[a]", "a", "*", "b", "back\\slash", "build/x", "sub/build/x", "#hash", "!bang", "tail "] {
        write(&source.join(name));
    }
    let patterns = ["\\[a\\]", "\\*", "/build/**", "\\#hash"];
    let flags = patterns.iter().flat_map(|pattern| ["--exclude", pattern]);
    let mirror = Launch::flags(&room, &source, &[target.to_str().expect("plain")]).and(flags).start();
    mirror.flush();
    assert_there(&target, &["a", "b", "back\\slash", "sub/build/x", "!bang", "tail "]);
    assert_not_there(&target, &["[a]", "*", "build/x", "#hash"]);
    for name in ["[a]", "*", "build/y", "a", "b"] {
        fs::write(source.join(name), "rewritten").expect("a file");
    }
    mirror.flush();
    assert_not_there(&target, &["[a]", "*", "build/y"]);
    assert!(tree::content(target.join("a")) == Some(b"rewritten".to_vec()), "`\\[a\\]` does not exclude `a`");
}
