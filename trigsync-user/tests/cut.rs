//! A lane and a tier that folds: whatever is written silently reaches the target.
//!
//! The tier here is as unkind as a kernel may be: at the end of every epoch, at the last moment before it is raised, it writes once more to
//! each file that was told in this epoch, and says nothing; and as soon as an epoch begins, another file is told in it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio_util::sync::CancellationToken;
use trigsync::{
    capture::{Capture, CaptureError, Continuity, Event, Sink, Source, Tier, WatchedRoot},
    config::{Overrides, RawConfig},
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_silently_arrives() {
    let Ok(rsync) = Rsync::probe(Path::new("rsync")) else {
        return eprintln!("SKIPPED what_is_written_silently_arrives: there is no rsync");
    };
    let room = tempfile::tempdir().unwrap();
    let [source, target] = ["source", "target"].map(|name| room.path().join(name));
    fs::create_dir(&source).unwrap();
    let raw = RawConfig::from_flags(&source, &[target.to_str().unwrap().to_owned()]).unwrap();
    let sync = raw.resolve(&Overrides::default(), &room.path().join("state")).unwrap().syncs.remove(0);
    let of_target = sync.targets[0].clone();
    let shared = Arc::new(LaneShared::new(sync.settle, of_target.name.clone(), "it".to_owned()));
    let (_, root) = open_root(&source).unwrap();
    let context = Arc::new(SyncContext::new(Arc::new(sync), root));

    let state = Arc::new(Mutex::new(State::default()));
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
    let unkind = Unkind { source: source.clone(), state: state.clone(), bell: bell.clone() };
    let capture = Arc::new(Capture::spawn(Box::new(unkind), Box::new(Into(shared.clone()))).unwrap());
    let lane = Lane::new(shared.clone(), context, of_target, rsync, Cut::of(&capture));
    let stop = CancellationToken::new();
    let running = tokio::spawn(lane.run(stop.clone(), Duration::from_secs(5)));

    {
        let mut state = state.lock().unwrap();
        state.early = (0..3).map(|index| format!("early {index}")).collect();
        tell(&source, &mut state, "first".to_owned());
    }
    bell.write(1).unwrap();
    // As `trigsync flush` does it, until the tier has done its worst.
    loop {
        capture.barrier().await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), shared.flush()).await.expect("it arrives").unwrap();
        let state = state.lock().unwrap();
        if state.early.is_empty() && state.told_in_this_epoch.is_empty() {
            break;
        }
    }
    for name in ["first", "early 0", "early 1", "early 2"] {
        let [here, there] = [&source, &target].map(|root| fs::read_to_string(root.join(name)).unwrap());
        assert!(here.starts_with("silent"), "{name} was never written silently: {here}");
        assert_eq!(there, here, "{name}");
    }
    stop.cancel();
    running.await.unwrap();
    capture.halt().await;
    assert!(matches!(capture.barrier().await, Err(CaptureError::Ended)), "nothing is read after the halt");
}
