//! The capture cases on the fanotify tier: here, and on every other file system that can be mounted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use trigsync::{
    capture::{Capture, CaptureError, Event, Sink, Source, Tier, WatchedRoot, fanotify},
    model::RootId,
};
use trigsync_tests::conformance::{self, FANOTIFY, FANOTIFY_MOVED, Wish, stress};

/// Cases change the table of mounts, which every other case would notice: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On the file system that the build is on: a temporary directory of the machine is often tmpfs, which has a test of its own.
fn here() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn can_capture(test: &str) -> bool {
    let works = fanotify::probe(None).iter().all(|finding| finding.works || finding.subject == "FAN_RENAME");
    if !works {
        println!("skipped: {test}: {:?}", fanotify::probe(None));
    }
    works
}

#[track_caller]
fn all_cases(tier: &'static conformance::Tier, dir: &Path) {
    let reports = conformance::run_all(tier, &Wish::default(), &[dir.to_owned()], "", |row| row.print(false));
    let failed: Vec<_> = reports.iter().filter(|row| row.failed()).map(|row| &row.case).collect();
    assert!(failed.is_empty() && reports.len() > 1, "{}: {failed:?}", tier.name);
}

/// A queue that does not overflow, where there is none by default.
fn unlimited() -> Wish {
    Wish { unlimited: true, ..Wish::default() }
}

/// A file system in a file, unmounted and removed with this.
struct Image {
    point: PathBuf,
    _dir: TempDir,
}

impl Image {
    fn new(kind: &str, make: &[&str]) -> Result<Self, String> {
        let dir = here();
        let (file, point) = (dir.path().join("image"), dir.path().join("point"));
        fs::create_dir(&point).unwrap();
        fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
        let run = |command: &mut Command| match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("{command:?}: {error}")),
        };
        if !make.is_empty() {
            run(Command::new(make[0]).args(&make[1..]).arg(&file))?;
        }
        match kind {
            "tmpfs" => run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&point))?,
            _ => run(Command::new("mount").args(["-t", kind, "-o", "loop"]).args([&file, &point]))?,
        }
        Ok(Self { point, _dir: dir })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Nothing may be kept open: a plain unmount must do.
        let unmounted = Command::new("umount").arg(&self.point).status();
        if !std::thread::panicking() {
            assert!(unmounted.unwrap().success(), "the file system is still in use");
        }
    }
}

#[track_caller]
fn on(kind: &str, make: &[&str]) {
    let _alone = alone();
    if !can_capture(kind) {
        return;
    }
    match Image::new(kind, make) {
        Ok(image) => all_cases(&FANOTIFY, &image.point),
        Err(why) => println!("skipped: {kind}: {why}"),
    }
}

#[test]
fn here_with_rename_events() {
    let _alone = alone();
    if can_capture("here_with_rename_events") {
        all_cases(&FANOTIFY, here().path());
    }
}

#[test]
fn here_without_rename_events() {
    let _alone = alone();
    if can_capture("here_without_rename_events") {
        all_cases(&FANOTIFY_MOVED, here().path());
    }
}

#[test]
fn on_ext4() {
    on("ext4", &["mkfs.ext4", "-q", "-F"]);
}

#[test]
fn on_xfs() {
    on("xfs", &["mkfs.xfs", "-q"]);
}

#[test]
fn on_btrfs() {
    on("btrfs", &["mkfs.btrfs", "-q"]);
}

#[test]
fn on_tmpfs() {
    on("tmpfs", &[]);
}

struct Ignore;

impl Sink for Ignore {
    fn event(&mut self, _: Event<'_>) {}
    fn delivered(&mut self) {}
}

#[test]
fn an_overlay_and_a_subvolume_are_refused_with_the_reason() {
    let _alone = alone();
    if !can_capture("an_overlay_and_a_subvolume_are_refused_with_the_reason") {
        return;
    }
    let refused = |path: &Path| {
        let mut source = fanotify::Fanotify::new(true).unwrap();
        let root = WatchedRoot::all(path.canonicalize().unwrap());
        source.add_root(RootId(1), &root).unwrap_err()
    };
    let dir = here();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let merged = dir.path().join("merged");
    let options = "lowerdir=lower,upperdir=upper,workdir=work";
    let overlay =
        Command::new("mount").args(["-t", "overlay", "none", "-o", options]).arg(&merged).current_dir(dir.path()).output().unwrap();
    if overlay.status.success() {
        let error = refused(&merged);
        Command::new("umount").arg(&merged).status().unwrap();
        assert!(error.to_string().contains("overlay"), "{error}");
    } else {
        println!("skipped: overlay: {}", String::from_utf8_lossy(&overlay.stderr));
    }
    match Image::new("btrfs", &["mkfs.btrfs", "-q"]) {
        Ok(image) => {
            let subvolume = image.point.join("sub");
            assert!(Command::new("btrfs").args(["subvolume", "create"]).arg(&subvolume).output().unwrap().status.success());
            let error = refused(&subvolume);
            assert!(error.to_string().contains("subvolid=5"), "{error}");
        }
        Err(why) => println!("skipped: btrfs: {why}"),
    }
}

#[test]
fn writers_and_renames_at_full_speed_lose_nothing() {
    let _alone = alone();
    if !can_capture("writers_and_renames_at_full_speed_lose_nothing") {
        return;
    }
    // Says why, where something could not be placed.
    let _ = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).with_test_writer().try_init();
    for tier in [&FANOTIFY, &FANOTIFY_MOVED] {
        let report = stress::mirror(tier, &unlimited(), here().path(), Duration::from_secs(2)).unwrap();
        println!("{}: {report:?}", tier.name);
        assert!(report.operations > 1000 && report.losses == 0, "{report:?}");
    }
}

#[test]
fn what_an_event_costs() {
    let _alone = alone();
    if can_capture("what_an_event_costs") {
        for directories in [10, 10_000] {
            let (events, nanoseconds) = stress::cost(&FANOTIFY, &unlimited(), here().path(), 20_000, directories).unwrap();
            println!("{events} events in {directories} directories: {nanoseconds:.0} ns each");
        }
    }
}

#[tokio::test]
async fn a_barrier_comes_after_everything_before_it() {
    struct Count(std::sync::Arc<std::sync::atomic::AtomicU64>);
    impl Sink for Count {
        fn event(&mut self, _: Event<'_>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        fn delivered(&mut self) {}
    }
    if !can_capture("a_barrier_comes_after_everything_before_it") {
        return;
    }
    let (dir, seen) = (here(), std::sync::Arc::default());
    let source = fanotify::Fanotify::new(true).unwrap();
    let capture = Capture::spawn(Box::new(source), Box::new(Count(std::sync::Arc::clone(&seen)))).unwrap();
    assert_eq!(capture.tier(), Tier::Fanotify);
    let root = WatchedRoot::all(dir.path().canonicalize().unwrap());
    capture.add_root(RootId(1), root).await.unwrap();
    let mut made = 0;
    for round in 0..50 {
        for number in 0..100 {
            fs::create_dir(dir.path().join(format!("{round}-{number}"))).unwrap();
            made += 1;
        }
        capture.barrier().await.unwrap();
        assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), made);
    }
    assert_eq!(capture.counters().changes(), made);
    capture.remove_root(RootId(1)).await.unwrap();
    fs::write(dir.path().join("unseen"), "").unwrap();
    capture.barrier().await.unwrap();
    assert_eq!(capture.counters().events(), made);
    let ended = capture.ended();
    capture.stop();
    assert_eq!(&*ended.await, "it was stopped");
}

#[tokio::test]
async fn the_death_of_the_thread_is_told() {
    struct Dies;
    impl Sink for Dies {
        fn event(&mut self, _: Event<'_>) {
            panic!("for this test");
        }
        fn delivered(&mut self) {}
    }
    if !can_capture("the_death_of_the_thread_is_told") {
        return;
    }
    let dir = here();
    let capture = Capture::spawn(Box::new(fanotify::Fanotify::new(true).unwrap()), Box::new(Dies)).unwrap();
    let root = WatchedRoot::all(dir.path().canonicalize().unwrap());
    capture.add_root(RootId(1), root).await.unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    assert_eq!(&*capture.ended().await, "it panicked: for this test");
    assert!(matches!(capture.barrier().await, Err(CaptureError::Ended)));
}

#[tokio::test]
async fn a_root_that_is_none_is_refused() {
    if !can_capture("a_root_that_is_none_is_refused") {
        return;
    }
    let capture = Capture::spawn(Box::new(fanotify::Fanotify::new(true).unwrap()), Box::new(Ignore)).unwrap();
    for path in ["/proc/version", "/none"] {
        let root = WatchedRoot::all(path.into());
        assert!(matches!(capture.add_root(RootId(1), root).await, Err(CaptureError::Io { action: "opening", .. })), "{path}");
    }
    let root = WatchedRoot::all("/proc".into());
    let error = capture.add_root(RootId(1), root).await.unwrap_err();
    assert!(matches!(error, CaptureError::FileSystem { .. }), "{error}");
}
