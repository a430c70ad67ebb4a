//! What a scan leaves alone, what ends it, and what does not.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{Uid, setfsuid},
};
use tokio_util::sync::CancellationToken;
use trigsync::{config::Filter, scan::ScanError};
use trigsync_tests::{
    mount::Tmpfs,
    process::{Outcome, must},
    room::Room,
    skip::{self, Cause},
};

use crate::lab::{Lab, THREADS, words, write_old};

/// A file system that the kernel makes up, mounted for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, at: &Path) -> Self {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn what_is_excluded_is_not_gone_into_and_not_marked() {
    let mut lab = Lab::new(|source, _| {
        ["keep/cache/x", "keep/y", "top.tmp"].iter().for_each(|file| write_old(&source.join(file), "old"));
    });
    lab.filter = Filter::new(&["cache/".to_owned(), "*.tmp".to_owned()]).unwrap();
    for file in ["keep/cache/x", "keep/cache/new", "keep/y", "top.tmp"] {
        fs::write(lab.source().join(file), "new").unwrap();
    }
    let (marks, summary) = lab.scan();
    assert_eq!(marks.iter().map(words).collect::<Vec<_>>(), ["E keep/y"]);
    assert_eq!((summary.counts.directories, summary.counts.entries), (2, 4), "cache was not read");
    lab.filter = Filter::none();
    assert_eq!(lab.marked(), ["L keep/cache", "E keep/cache/new", "E keep/cache/x", "E keep/y", "E top.tmp"]);
}

#[test]
fn names_are_bytes_and_links_are_not_followed() {
    let names: [&[u8]; 5] = [b"\xff\xfe", b"a\nb", b"-rf", b" ", b"*?[]\\"];
    let lab = Lab::new(|source, outside| {
        names.iter().for_each(|name| write_old(&source.join(OsStr::from_bytes(name)).join("file"), "old"));
        write_old(&outside.join("secret"), "old");
        std::os::unix::fs::symlink(outside, source.join("link")).unwrap();
    });
    fs::write(lab.outside().join("secret"), "new").unwrap();
    for name in names {
        fs::write(lab.source().join(OsStr::from_bytes(name)).join("file"), "new").unwrap();
    }
    let found: BTreeSet<_> = lab.scan().0.into_iter().map(|mark| mark.path.as_bytes().to_vec()).collect();
    assert_eq!(found, names.iter().map(|name| [name, &b"/file"[..]].concat()).collect());
    lab.assert_caught_up("hostile names");
}

#[test]
fn another_file_system_is_gone_into_where_that_is_wanted() {
    if skip::without_root() {
        return;
    }
    let mut lab = Lab::new(|source, _| write_old(&source.join("d/file"), "old"));
    let _mounted = Tmpfs::mount(&lab.source().join("d/mounted"), 1);
    write_old(&lab.source().join("d/mounted/sub/x"), "old");
    let paths = |lab: &Lab| {
        let (marks, summary) = lab.scan();
        let mounts: Vec<_> = summary.mounts.iter().map(ToString::to_string).collect();
        (marks.iter().map(words).collect::<Vec<_>>(), mounts)
    };
    let met = || vec!["d/mounted".to_owned()];
    assert_eq!(paths(&lab), (vec!["L d".to_owned(), "E d/mounted".to_owned()], met()));
    lab.cross_mounts = true;
    assert_eq!(paths(&lab), (vec!["L d".to_owned(), "T d/mounted".to_owned()], met()));
    lab = lab.cut_off_now();
    assert_eq!(paths(&lab), (vec![], met()));
    write_old(&lab.source().join("d/mounted/sub/x"), "new");
    assert_eq!(paths(&lab), (vec!["E d/mounted/sub/x".to_owned()], met()));
    lab.cross_mounts = false;
    assert_eq!(paths(&lab), (vec![], met()));
}

#[test]
fn times_are_not_believed_where_nothing_is_known_of_them() {
    let refused = Lab::scan_of(Path::new("/proc"), SystemTime::UNIX_EPOCH);
    assert!(matches!(refused, Err(ScanError::Times { .. })), "{refused:?}");
    if skip::without_root() {
        return;
    }
    let mut lab = Lab::new(|source, _| write_old(&source.join("d/inside/file"), "old"));
    lab.cross_mounts = true;
    let mounted = Mounted::new("proc", &lab.source().join("d/inside"));
    let found = lab.marked();
    drop(mounted);
    assert_eq!(found, ["L d/inside", "T d/inside"], "what it holds was not looked at");
}

#[test]
fn an_exchange_that_renews_no_time_of_what_was_exchanged() {
    if skip::without_root() || skip::without_program(&["mkfs.xfs"]) {
        return;
    }
    let room = Room::new();
    let (image, place) = (room.at("image"), room.directory("xfs"));
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    must(Command::new("mkfs.xfs").arg("-q").arg(&image));
    let loop_mount = Outcome::of(Command::new("mount").args(["-o", "loop"]).args([&image, &place]), Duration::from_secs(30));
    if loop_mount.code != 0 {
        return skip::skip(&Cause::Unavoidable(format!("no loop mount: {}", loop_mount.stderr.trim())));
    }
    let _mounted = Mounted(place.clone());
    let make = |source: &Path, _: &Path| {
        for (file, content) in
            [("site/blue/a", "1"), ("site/blue/sub/b", "1"), ("site/green/a", "22"), ("site/green/sub/b", "22"), ("z/q", "3")]
        {
            write_old(&source.join(file), content);
        }
    };
    let exchange = |lab: &Lab, one: &str, other: &str| {
        let [one, other] = [one, other].map(|name| lab.source().join(name));
        renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
    };
    let lab = Lab::new_in(&place, make);
    exchange(&lab, "site/blue", "site/green");
    assert_eq!(lab.marked(), ["L site", "T site/blue", "T site/green"]);
    lab.assert_caught_up("directories exchanged");
    let lab = Lab::new_in(&place, make);
    exchange(&lab, "site/blue/sub/b", "site/green/a");
    assert_eq!(lab.marked(), ["L site/blue/sub", "L site/green", "T site/green/sub"]);
    lab.assert_caught_up("files exchanged");
}

#[test]
fn no_more_descriptors_than_threads() {
    const DEPTH: usize = 60;
    let at = |depth: usize| PathBuf::from("down/".repeat(depth)).join("side");
    let lab = Lab::new(|source, _| (0..DEPTH).for_each(|depth| write_old(&source.join(at(depth)).join("file"), "old")));
    (0..DEPTH).for_each(|depth| write_old(&lab.source().join(at(depth)).join("file"), "new"));
    let (most, marks) = (AtomicU64::new(0), AtomicU64::new(0));
    let source = lab.source();
    let summary = lab.scan_with(lab.cutoff, &CancellationToken::new(), |_| {
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        most.fetch_max(open.filter(|path| path.starts_with(&source)).count() as u64, Ordering::Relaxed);
        marks.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!((marks.into_inner(), summary.unwrap().counts.directories), (DEPTH as u64, 2 * DEPTH as u64));
    assert!(most.into_inner() <= THREADS as u64 + 1, "the root's beside them");
}

#[test]
fn a_time_in_the_future_is_new() {
    // The clock cannot be set here, so the cutoff is: one in the past finds everything that is later.
    let lab = Lab::new(|source, _| write_old(&source.join("d/file"), "old"));
    let marks = AtomicU64::new(0);
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    lab.scan_with(long_ago, &CancellationToken::new(), |_| _ = marks.fetch_add(1, Ordering::Relaxed)).unwrap();
    assert_eq!(marks.into_inner(), 2, "the root's level, and `d` as a subtree");
}

#[test]
fn a_clock_that_was_set_back_is_an_error() {
    let lab = Lab::new(|_, _| {});
    let later = SystemTime::now() + Duration::from_secs(60);
    let answer = lab.scan_with(later, &CancellationToken::new(), |mark| panic!("{mark:?}"));
    assert!(matches!(answer, Err(ScanError::Clock)), "{answer:?}");
}

#[test]
fn a_scan_that_is_told_to_stop_says_that_it_is_not_whole() {
    let lab = Lab::new(|source, _| {
        (0..200).for_each(|number| write_old(&source.join(format!("d{number}/file")), "old"));
    });
    (0..200).for_each(|number| write_old(&lab.source().join(format!("d{number}/file")), "new"));
    let stop = CancellationToken::new();
    let marks = AtomicU64::new(0);
    let answer = lab.scan_with(lab.cutoff, &stop, |_| {
        marks.fetch_add(1, Ordering::Relaxed);
        stop.cancel();
    });
    assert!(matches!(answer, Err(ScanError::Stopped)), "{answer:?}");
    // Each thread ends at the directory that it is at.
    assert!(marks.into_inner() < 10);
}

#[test]
fn directories_that_come_and_go_meanwhile_do_not_end_it() {
    let lab = Lab::new(|source, _| {
        (0..300).for_each(|number| write_old(&source.join(format!("stays{number}/file")), "old"));
    });
    let source = lab.source();
    write_old(&source.join("stays7/file"), "new");
    let done = CancellationToken::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.is_cancelled() {
                for number in 0..50 {
                    fs::create_dir_all(source.join(format!("goes{number}/below"))).unwrap();
                    let _ = fs::remove_dir_all(source.join(format!("goes{}", (number + 25) % 50)));
                }
            }
        });
        for _ in 0..20 {
            let marks = lab.marked();
            assert!(marks.contains(&"E stays7/file".to_owned()), "{marks:?}");
            assert!(marks.iter().all(|mark| mark.contains("goes") || mark == "L ." || mark == "E stays7/file"), "{marks:?}");
        }
        done.cancel();
    });
}

#[test]
fn what_cannot_be_read_is_marked_as_a_whole() {
    if skip::without_root() {
        return;
    }
    let lab = Lab::new(|source, _| {
        ["closed/file", "names/file", "open/file"].iter().for_each(|file| write_old(&source.join(file), "old"));
        fs::set_permissions(source.join("closed"), Permissions::from_mode(0o700)).unwrap();
        // Its names can be read, and nothing else.
        fs::set_permissions(source.join("names"), Permissions::from_mode(0o744)).unwrap();
    });
    write_old(&lab.source().join("open/file"), "new");
    // Of this thread, and of those that it starts: the scan's.
    setfsuid(Uid::from_raw(65_534));
    let (marks, summary) = lab.scan();
    setfsuid(Uid::from_raw(0));
    assert_eq!(marks.iter().map(words).collect::<Vec<_>>(), ["T closed", "T names/file", "E open/file"]);
    assert_eq!((summary.counts.unreadable, summary.counts.vanished), (2, 0));
    assert_eq!(lab.marked(), ["E open/file"], "with all rights");
}
