//! Random trees, random operations on them, the real daemon and a real rsync: the target equals the source, byte for byte, with modes,
//! times, links and owners.
//!
//! The source is its own model: an operation that the kernel refuses is as good a step as any. One daemon serves all cases, each in a
//! directory of its own. What fails is shrunk and kept in `model.seeds`.
//!
//! One thing is left out on purpose: a file with several names is not written to. The kernel tells which name was written to, and only
//! that one is sent; rsync without `--hard-links` keeps the other as a file of its own.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::{
        stat::{Mode, UtimensatFlags, utimensat},
        time::TimeSpec,
    },
    unistd::mkfifo,
};
use proptest::{
    prelude::*,
    test_runner::{FileFailurePersistence, TestRunner},
};
use trigsync_tests::{
    compare,
    mirror::ARRIVAL,
    room::Room,
    site::{Kind, Site},
    skip, tree,
};

/// Few names, so that operations meet.
const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"-d", b"#e\n", b"\xff ", b"*"];

/// A path of one to three of the names.
type Where = Vec<usize>;

#[derive(Clone, Debug)]
enum Step {
    Write(Where, usize, u64),
    WriteKeepingTime(Where, u64),
    Append(Where, usize),
    Truncate(Where, u64),
    MakeDirectories(Where),
    Remove(Where),
    RemoveAll(Where),
    Rename(Where, Where),
    Exchange(Where, Where),
    MoveOut(Where, usize),
    MoveIn(usize, Where),
    Link(Where, Where),
    HardLink(Where, Where),
    Fifo(Where),
    Mode(Where, u32),
    Owner(Where, u32, u32),
    Time(Where, i64, i64),
    /// Everything has to be equal at this moment.
    Flush,
    /// Time for a batch to leave.
    Wait(u64),
}

fn place() -> impl Strategy<Value = Where> {
    prop::collection::vec(0..NAMES.len(), 1..=3)
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0..200_usize, 2 => 200..20_000_usize, 1 => 20_000..400_000_usize];
    prop_oneof![
        8 => (place(), size, any::<u64>()).prop_map(|(at, size, seed)| Step::Write(at, size, seed)),
        2 => (place(), any::<u64>()).prop_map(|(at, seed)| Step::WriteKeepingTime(at, seed)),
        3 => (place(), 1..2_000_usize).prop_map(|(at, size)| Step::Append(at, size)),
        1 => (place(), 0..10_000_u64).prop_map(|(at, size)| Step::Truncate(at, size)),
        5 => place().prop_map(Step::MakeDirectories),
        3 => place().prop_map(Step::Remove),
        2 => place().prop_map(Step::RemoveAll),
        8 => (place(), place()).prop_map(|(old, new)| Step::Rename(old, new)),
        2 => (place(), place()).prop_map(|(old, new)| Step::Exchange(old, new)),
        1 => (place(), 0..3_usize).prop_map(|(at, slot)| Step::MoveOut(at, slot)),
        2 => (0..3_usize, place()).prop_map(|(slot, at)| Step::MoveIn(slot, at)),
        2 => (place(), place()).prop_map(|(to, at)| Step::Link(to, at)),
        1 => (place(), place()).prop_map(|(old, new)| Step::HardLink(old, new)),
        1 => place().prop_map(Step::Fifo),
        2 => (place(), 0..0o7777_u32).prop_map(|(at, mode)| Step::Mode(at, mode)),
        1 => (place(), 0..5_000_u32, 0..5_000_u32).prop_map(|(at, uid, gid)| Step::Owner(at, uid, gid)),
        2 => (place(), 0..4_000_000_000_i64, 0..1_000_000_000_i64).prop_map(|(at, s, ns)| Step::Time(at, s, ns)),
        1 => Just(Step::Flush),
        1 => (0..40_u64).prop_map(Step::Wait),
    ]
}

/// One case's directories: the one inside the source, and one outside that things are moved to and from.
struct Case {
    inside: PathBuf,
    outside: PathBuf,
}

impl Case {
    fn at(&self, place: &[usize]) -> PathBuf {
        place.iter().fold(self.inside.clone(), |path, name| path.join(OsStr::from_bytes(NAMES[*name])))
    }

    /// A regular file (by way of symbolic links too) that has one name, or nothing yet.
    fn writable(&self, place: &[usize]) -> Option<PathBuf> {
        let path = self.at(place);
        let free = fs::metadata(&path).map_or(true, |metadata| metadata.is_file() && metadata.nlink() == 1);
        free.then_some(path)
    }

    /// Something with one name: a file, or a directory, of which there is only ever one.
    fn single(&self, place: &[usize]) -> Option<PathBuf> {
        let path = self.at(place);
        let single = |metadata: fs::Metadata| metadata.is_dir() || metadata.nlink() == 1;
        (fs::metadata(&path).is_ok_and(single) && fs::symlink_metadata(&path).is_ok_and(single)).then_some(path)
    }

    /// Does the step; what the kernel refuses is refused.
    fn act(&self, step: &Step) -> Option<()> {
        match step {
            Step::Write(at, size, seed) => fs::write(self.writable(at)?, tree::noise(*size, *seed)).ok(),
            Step::WriteKeepingTime(at, seed) => {
                let path = self.single(at).filter(|path| path.is_file())?;
                let metadata = fs::metadata(&path).ok()?;
                let file = OpenOptions::new().write(true).open(&path).ok()?;
                (&file).write_all(&tree::noise(usize::try_from(metadata.len()).ok()?, *seed)).ok()?;
                file.set_modified(metadata.modified().ok()?).ok()
            }
            Step::Append(at, size) => {
                let file = OpenOptions::new().append(true).create(true).open(self.writable(at)?).ok()?;
                (&file).write_all(&tree::noise(*size, 1)).ok()
            }
            Step::Truncate(at, size) => OpenOptions::new().write(true).open(self.writable(at)?).ok()?.set_len(*size).ok(),
            Step::MakeDirectories(at) => fs::create_dir_all(self.at(at)).ok(),
            Step::Remove(at) => {
                let path = self.at(at);
                fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).ok()
            }
            Step::RemoveAll(at) => fs::remove_dir_all(self.at(at)).ok(),
            Step::Rename(old, new) => fs::rename(self.at(old), self.at(new)).ok(),
            Step::Exchange(one, other) => renameat2(AT_FDCWD, &self.at(one), AT_FDCWD, &self.at(other), RenameFlags::RENAME_EXCHANGE).ok(),
            Step::MoveOut(at, slot) => fs::rename(self.at(at), self.outside.join(slot.to_string())).ok(),
            Step::MoveIn(slot, at) => fs::rename(self.outside.join(slot.to_string()), self.at(at)).ok(),
            Step::Link(to, at) => {
                let to: PathBuf = to.iter().map(|name| OsStr::from_bytes(NAMES[*name])).collect();
                symlink(to, self.at(at)).ok()
            }
            Step::HardLink(old, new) => fs::hard_link(self.at(old), self.at(new)).ok(),
            Step::Fifo(at) => mkfifo(&self.at(at), Mode::from_bits_truncate(0o640)).ok(),
            Step::Mode(at, mode) => fs::set_permissions(self.single(at)?, fs::Permissions::from_mode(*mode)).ok(),
            Step::Owner(at, uid, gid) => lchown(self.single(at)?, Some(*uid), Some(*gid)).ok(),
            Step::Time(at, seconds, nanoseconds) => {
                let time = TimeSpec::new(*seconds, *nanoseconds);
                utimensat(AT_FDCWD, &self.single(at)?, &time, &time, UtimensatFlags::NoFollowSymlink).ok()
            }
            Step::Wait(milliseconds) => {
                std::thread::sleep(std::time::Duration::from_millis(*milliseconds));
                Some(())
            }
            Step::Flush => Some(()),
        }
    }
}

/// Flushes and compares the case's directory.
fn equal(site: &Site<'_>, name: &str) -> Result<(), TestCaseError> {
    let flush = site.mirror.flush_within(ARRIVAL);
    prop_assert!(flush.code == 0, "flush failed: {}", flush);
    let differences = compare::differences(&site.source.join(name), &site.target.join(name));
    prop_assert!(differences.is_empty(), "{} differences:\n    {}", differences.len(), differences.join("\n    "));
    Ok(())
}

fn run(kind: Kind, cases: u32) {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    fs::write(room.source().join("anchor"), "so that no case empties the root").expect("a file in the source");
    let site = match Site::start(&room, kind) {
        Ok(site) => site,
        Err(cause) => return skip::skip(&cause),
    };
    let seeds = FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model.seeds"));
    let config = ProptestConfig { cases, max_shrink_iters: 60, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() };
    let number = AtomicUsize::new(0);
    let steps = (prop::collection::vec(step(), 0..25), prop::collection::vec(step(), 1..40));
    let result = TestRunner::new(config).run(&steps, |(tree, steps)| {
        let name = format!("case-{}", number.fetch_add(1, Ordering::Relaxed));
        let case = Case { inside: site.source.join(&name), outside: room.directory(Path::new("outside").join(&name)) };
        fs::create_dir(&case.inside).expect("a directory in the source");
        for step in &tree {
            case.act(step);
        }
        equal(&site, &name)?;
        for step in &steps {
            case.act(step);
            if matches!(step, Step::Flush) {
                equal(&site, &name)?;
            }
        }
        equal(&site, &name)?;
        // Some cases go away, the others stay and are compared again at the end.
        if steps.len().is_multiple_of(2) {
            fs::remove_dir_all(&case.inside).expect("it was made above");
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    site.arrived("after all cases");
}

#[test]
fn a_local_target_equals_the_source() {
    run(Kind::Local, 24);
}

#[test]
fn a_target_behind_an_rsync_daemon_equals_the_source() {
    run(Kind::RsyncDaemon, 16);
}
