//! A lane and a tier that folds: whatever is written silently reaches the target, and silence is not taken for quiet.
//!
//! One tier here is as unkind as a kernel may be: at the end of every epoch, at the last moment before it is raised, it writes once more to
//! each file that was told in this epoch, and says nothing; and as soon as an epoch begins, another file is told in it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trigsync::{
    capture::{Capture, CaptureError, Continuity, Event, Sink, Source, Tier, WatchedRoot},
    config::{Overrides, RawConfig, Settle},
    dispatch::{Cut, Lane, LaneShared, SyncContext},
    model::{Ops, RelPath, RootId, Scope},
    plan::open_root,
    rsync::Rsync,
};

/// What the writers and the kernel did.
#[derive(Default)]
struct State {
    queue: Vec<String>,
    told_in_this_epoch: BTreeSet<String>,
    cuts: usize,
    /// Files that are told in the first moments of the next epochs.
    early: Vec<String>,
}

struct Unkind {
    source: PathBuf,
    state: Arc<Mutex<State>>,
    bell: Arc<EventFd>,
}

impl Unkind {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A write that is told.
fn tell(source: &Path, state: &mut State, name: String) {
    fs::write(source.join(&name), "told").unwrap();
    state.queue.push(name.clone());
    state.told_in_this_epoch.insert(name);
}

impl Source for Unkind {
    fn tier(&self) -> Tier {
        Tier::EbpfFexit
    }

    fn add_root(&mut self, _: RootId, _: &WatchedRoot) -> Result<Continuity, CaptureError> {
        Ok(Continuity::Began)
    }

    fn remove_root(&mut self, _: RootId) {}

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn cut(&mut self) -> io::Result<()> {
        let mut state = self.state();
        for name in std::mem::take(&mut state.told_in_this_epoch) {
            fs::write(self.source.join(name), format!("silent, before cut {}", state.cuts)).unwrap();
        }
        state.cuts += 1;
        if let Some(name) = state.early.pop() {
            tell(&self.source, &mut state, name);
            // What the epoch begins with waits to be read.
            let _ = self.bell.write(1);
        }
        Ok(())
    }

    fn barrier(&mut self) -> io::Result<u64> {
        self.cut()?;
        Ok(self.state().queue.len() as u64)
    }

    fn read(&mut self, sink: &mut dyn Sink) -> io::Result<u64> {
        let _ = self.bell.read();
        let told = std::mem::take(&mut self.state().queue);
        for name in &told {
            let path = RelPath::new(name.as_bytes()).unwrap();
            sink.event(Event::Changed { root: RootId(1), path, scope: Scope::Entry, ops: Ops::WRITE | Ops::CLOSE_WRITE });
        }
        Ok(told.len() as u64)
    }

    fn check_roots(&mut self, _: &mut dyn Sink) {}
}

struct Into(Arc<LaneShared>);

impl Sink for Into {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Changed { path, scope, ops, .. } = event {
            self.0.mark(path, scope, ops);
        }
    }

    fn delivered(&mut self) {
        self.0.wake();
    }
}

/// A lane from a source to a target, and the capture that marks for it.
struct Site {
    room: TempDir,
    shared: Arc<LaneShared>,
    capture: Arc<Capture>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Site {
    /// None where there is no rsync.
    fn new(settle: Settle, source: impl FnOnce(&Path) -> Box<dyn Source>) -> Option<Self> {
        let rsync = Rsync::probe(Path::new("rsync")).inspect_err(|error| eprintln!("SKIPPED: {error}")).ok()?;
        let room = tempfile::tempdir().unwrap();
        let (from, to) = (room.path().join("source"), room.path().join("target"));
        fs::create_dir(&from).unwrap();
        let raw = RawConfig::from_flags(&from, &[to.to_str().unwrap().to_owned()]).unwrap();
        let mut sync = raw.resolve(&Overrides::default(), &room.path().join("state")).unwrap().syncs.remove(0);
        sync.settle = settle;
        let target = sync.targets[0].clone();
        let shared = Arc::new(LaneShared::new(settle, target.name.clone(), "it".to_owned(), []));
        let (_, root) = open_root(&from).unwrap();
        let context = Arc::new(SyncContext::new(Arc::new(sync), root));
        let capture = Arc::new(Capture::spawn(source(&from), Box::new(Into(shared.clone()))).unwrap());
        let lane = Lane::new(shared.clone(), context, target, rsync, Cut::of(&capture));
        let stop = CancellationToken::new();
        let running = tokio::spawn(lane.run(stop.clone(), Duration::from_secs(5)));
        Some(Self { room, shared, capture, stop, running })
    }

    fn source(&self, name: &str) -> PathBuf {
        self.room.path().join("source").join(name)
    }

    fn target(&self, name: &str) -> PathBuf {
        self.room.path().join("target").join(name)
    }

    /// As `trigsync flush` does it.
    async fn flush(&self) {
        self.capture.barrier().await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.shared.flush()).await.expect("it arrives").unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
        self.capture.halt().await;
        assert!(matches!(self.capture.barrier().await, Err(CaptureError::Ended)), "nothing is read after the halt");
    }
}

fn unkind(source: &Path, state: &Arc<Mutex<State>>, bell: &Arc<EventFd>) -> Box<dyn Source> {
    Box::new(Unkind { source: source.to_owned(), state: state.clone(), bell: bell.clone() })
}

fn bell() -> Arc<EventFd> {
    Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_silently_arrives() {
    let (state, bell) = (Arc::new(Mutex::new(State::default())), bell());
    let Some(site) = Site::new(Settle::default(), |source| unkind(source, &state, &bell)) else { return };
    {
        let mut state = state.lock().unwrap();
        state.early = (0..3).map(|index| format!("early {index}")).collect();
        tell(&site.source(""), &mut state, "first".to_owned());
    }
    bell.write(1).unwrap();
    // Until the tier has done its worst.
    loop {
        site.flush().await;
        let state = state.lock().unwrap();
        if state.early.is_empty() && state.told_in_this_epoch.is_empty() {
            break;
        }
    }
    for name in ["first", "early 0", "early 1", "early 2"] {
        let [here, there] = [site.source(name), site.target(name)].map(|path| fs::read_to_string(path).unwrap());
        assert!(here.starts_with("silent"), "{name} was never written silently: {here}");
        assert_eq!(there, here, "{name}");
    }
    site.end().await;
}

/// A tier that tells of one file that stays open, once in an epoch.
struct Folding {
    /// Whether the file was told in this epoch, and how many records wait.
    told: Arc<Mutex<(bool, u64)>>,
    bell: Arc<EventFd>,
}

impl Source for Folding {
    fn tier(&self) -> Tier {
        Tier::EbpfFexit
    }

    fn add_root(&mut self, _: RootId, _: &WatchedRoot) -> Result<Continuity, CaptureError> {
        Ok(Continuity::Began)
    }

    fn remove_root(&mut self, _: RootId) {}

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn cut(&mut self) -> io::Result<()> {
        self.told.lock().unwrap().0 = false;
        Ok(())
    }

    fn barrier(&mut self) -> io::Result<u64> {
        self.cut()?;
        Ok(self.told.lock().unwrap().1)
    }

    fn read(&mut self, sink: &mut dyn Sink) -> io::Result<u64> {
        let _ = self.bell.read();
        let records = std::mem::take(&mut self.told.lock().unwrap().1);
        for _ in 0..records {
            sink.event(Event::Changed { root: RootId(1), path: RelPath::new(b"log").unwrap(), scope: Scope::Entry, ops: Ops::WRITE });
        }
        Ok(records)
    }

    fn check_roots(&mut self, _: &mut dyn Sink) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_always_written_to_goes_at_its_age_and_not_more_often() {
    let (told, bell) = (Arc::new(Mutex::new((false, 0))), bell());
    let settle = Settle { finished: Duration::from_millis(5), quiet: Duration::from_millis(400), max_age: Duration::from_secs(3) };
    let Some(site) = Site::new(settle, |_| Box::new(Folding { told: told.clone(), bell: bell.clone() })) else { return };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) && !site.target("log").exists() {
        fs::write(site.source("log"), format!("{:?}", begun.elapsed())).unwrap();
        {
            let mut told = told.lock().unwrap();
            if !std::mem::replace(&mut told.0, true) {
                told.1 += 1;
                bell.write(1).unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let arrived = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&arrived), "after {arrived:?}");
    site.end().await;
}
