//! A source and a target that were equal at a moment, and what a scan since then comes to.

use std::{
    fs::{self, File},
    num::{NonZeroU32, NonZeroUsize},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, statfs},
        time::TimeSpec,
    },
};
use tokio_util::sync::CancellationToken;
use trigsync::{
    coalesce::DirtySet,
    config::{BatchLimits, Filter, InPlace, Settle, TargetAddress, TargetConfig},
    model::{Mark, Scope},
    plan::{Rules, open_root, plan},
    rsync::{Deletions, Missing, Route, Rsync, Run, Verdict, Work, list, removal_rules},
    scan::{Progress, Scan, ScanError, Summary},
};
use trigsync_tests::{compare, process::must, room::Room};

/// What everything in a tree was last written at, as far as its modification times say.
const OLD: TimeSpec = TimeSpec::new(1_000_000_000, 0);

const TELLING: [FsType; 3] = [BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, TMPFS_MAGIC];

/// Threads of every scan here.
pub const THREADS: usize = 3;

pub struct Lab {
    pub room: Room,
    pub filter: Filter,
    pub cross_mounts: bool,
    pub cutoff: SystemTime,
}

impl Lab {
    /// Makes a tree with `make`, which gets the source and a directory outside of it. Everything in both bears the same old time then, so
    /// that nothing but content and change times can tell files of one size apart; the target is a copy.
    pub fn new(make: impl FnOnce(&Path, &Path)) -> Self {
        Self::without_target(make).with_target()
    }

    /// The same on another file system.
    pub fn new_in(place: &Path, make: impl FnOnce(&Path, &Path)) -> Self {
        Self::made_in(place, make).with_target()
    }

    /// The same without the copy.
    pub fn without_target(make: impl FnOnce(&Path, &Path)) -> Self {
        // The exact marks are those of file systems whose times tell everything.
        let places = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
        let tells = |place: &&PathBuf| statfs(place.as_path()).is_ok_and(|found| TELLING.contains(&found.filesystem_type()));
        Self::made_in(places.iter().find(tells).unwrap_or(&places[0]), make)
    }

    fn with_target(self) -> Self {
        must(Command::new("cp").arg("-a").arg(self.source()).arg("-T").arg(self.room.target()));
        self
    }

    fn made_in(place: &Path, make: impl FnOnce(&Path, &Path)) -> Self {
        let room = Room::new_in(place);
        let lab = Self { filter: Filter::none(), cross_mounts: false, cutoff: SystemTime::UNIX_EPOCH, room };
        make(&lab.source(), &lab.outside());
        [lab.source(), lab.outside()].iter().for_each(|tree| set_back(tree));
        lab.cut_off_now()
    }

    /// The cutoff is a moment that everything before the call is older than.
    pub fn cut_off_now(mut self) -> Self {
        let newest = newest_change(&self.room.path());
        let probe = self.room.at("probe");
        // The kernel's clock advances with its timer.
        self.cutoff = loop {
            fs::write(&probe, "").expect("a file in the room");
            let changed = changed(&probe);
            if changed > newest {
                break changed;
            }
        };
        self
    }

    pub fn source(&self) -> PathBuf {
        self.room.source()
    }

    pub fn outside(&self) -> PathBuf {
        self.room.directory("outside")
    }

    /// Marks, sorted, each path once.
    pub fn scan(&self) -> (Vec<Mark>, Summary) {
        let found = Mutex::new(Vec::<Mark>::new());
        let summary = self.scan_with(self.cutoff, &CancellationToken::new(), |mark| found.lock().expect("no panic").push(mark));
        let mut marks = found.into_inner().expect("no panic");
        marks.sort_by(|a, b| a.path.cmp(&b.path));
        let summary = summary.expect("a scan");
        assert_eq!(summary.counts.marks(), marks.len() as u64);
        (marks, summary)
    }

    /// A scan of some directory, whose marks nobody wants.
    pub fn scan_of(root: &Path, cutoff: SystemTime) -> Result<Summary, ScanError> {
        let (root, _) = open_root(root).expect("the directory is there");
        let filter = Filter::none();
        let scan = Scan { root: root.as_fd(), filter: &filter, cross_mounts: false, cutoff, threads: NonZeroUsize::MIN };
        scan.run(&Progress::default(), &CancellationToken::new(), drop)
    }

    pub fn scan_with(&self, cutoff: SystemTime, stop: &CancellationToken, found: impl Fn(Mark) + Sync) -> Result<Summary, ScanError> {
        let (root, _) = open_root(&self.source()).expect("the source is there");
        let threads = NonZeroUsize::new(THREADS).expect("not zero");
        let scan = Scan { root: root.as_fd(), filter: &self.filter, cross_mounts: self.cross_mounts, cutoff, threads };
        scan.run(&Progress::default(), stop, found)
    }

    /// The marks in words: `E path`, `L path`, `T path`.
    pub fn marked(&self) -> Vec<String> {
        self.scan().0.iter().map(words).collect()
    }

    /// Scans, and carries out what the marks come to, as a lane does.
    pub fn catch_up(&self) -> Vec<Mark> {
        let marks = self.scan().0;
        let instantly = Settle { finished: Duration::ZERO, quiet: Duration::ZERO, max_age: Duration::ZERO };
        let mut set = DirtySet::new(instantly);
        marks.iter().for_each(|mark| set.mark(&mark.path, mark.scope, mark.ops, 1));
        let batch = set.cut(u64::MAX / 4, usize::MAX, u64::MAX / 4);
        let (root, _) = open_root(&self.source()).expect("the source is there");
        let plan = plan(
            root,
            batch,
            &Rules { filter: &self.filter, limits: &BatchLimits { paths: usize::MAX, bytes: u64::MAX }, inplace: &InPlace::default() },
        );
        assert!(plan.postponed.is_empty() && plan.excluded.is_empty(), "{plan:?}");
        for run in plan.entries.iter().chain(&plan.bulk) {
            let list = match run.work {
                Work::Removals => removal_rules(run.paths()),
                Work::RootAttributes => Vec::new(),
                Work::Entries(_) | Work::InPlace(_) | Work::Levels | Work::Trees(_) => list(run.paths(), run.listing),
            };
            self.rsync(Run { work: run.work, deletions: Deletions::Allowed, missing: Missing::Delete, list, progress: None });
        }
        marks
    }

    /// Catches up, and demands that the trees are equal then.
    #[track_caller]
    pub fn assert_caught_up(&self, what: &str) {
        let marks: Vec<_> = self.catch_up().iter().map(words).collect();
        compare::assert_equal_for(&self.source(), &self.room.target(), &format!("{what}, marked {marks:?}"));
    }

    fn rsync(&self, run: Run<'_>) {
        let target = TargetConfig {
            name: "lab".into(),
            address: TargetAddress::Local(self.room.target()),
            password_file: None,
            identity: None,
            options: Vec::new(),
            bandwidth_limit: None,
            connections: NonZeroU32::MIN,
            warm: 0,
            inplace: InPlace::default(),
            timeout: Duration::from_secs(60),
            modify_window: -1,
        };
        let source = self.source();
        let route = Route { source: &source, filter: &self.filter, cross_mounts: self.cross_mounts, keep: false, target: &target };
        let rsync = Rsync::probe(Path::new("rsync")).expect("rsync is there");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answer = runtime.block_on(rsync.run(&route, run, &CancellationToken::new()));
        assert_eq!(answer.verdict, Verdict::Done);
    }
}

pub fn words(mark: &Mark) -> String {
    let letter = match mark.scope {
        Scope::Entry => 'E',
        Scope::Level => 'L',
        Scope::Tree => 'T',
    };
    format!("{letter} {}", mark.path)
}

/// Sets the modification time back to what everything had at first.
pub fn set_back_one(path: &Path) {
    utimensat(AT_FDCWD, path, &OLD, &OLD, UtimensatFlags::NoFollowSymlink).expect("a time can be set");
}

fn set_back(path: &Path) {
    if path.symlink_metadata().expect("it is there").is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            set_back(&entry.expect("a directory").path());
        }
    }
    set_back_one(path);
}

fn changed(path: &Path) -> SystemTime {
    let found = path.symlink_metadata().expect("it is there");
    let since = Duration::new(found.ctime().try_into().expect("after 1970"), found.ctime_nsec().try_into().expect("below a second"));
    SystemTime::UNIX_EPOCH + since
}

fn newest_change(path: &Path) -> SystemTime {
    let own = changed(path);
    if !path.symlink_metadata().expect("it is there").is_dir() {
        return own;
    }
    fs::read_dir(path)
        .expect("a directory")
        .map(|entry| newest_change(&entry.expect("a directory").path()))
        .max()
        .map_or(own, |max| own.max(max))
}

/// Writes `content` and gives the file the old time.
pub fn write_old(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("below the room")).expect("directories can be made");
    fs::write(path, content).expect("a file can be written");
    File::open(path)
        .expect("it was written")
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .expect("its own time");
}
