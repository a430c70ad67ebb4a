//! Runs a source on a thread of its own, and takes commands for it from async code.
//!
//! - Commands are served between bounded stretches of reading, so a flood of events does not lock them out.
//! - A barrier is answered only after every event that was queued in the kernel before the call went to the sink.
//! - The thread's death is told ([`Capture::ended`]), and every later command answers [`CaptureError::Ended`].

use std::{
    any::Any,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::sync::{oneshot, watch};

use super::{CaptureError, Continuity, Event, Position, Sink, Source, Tier, WatchedRoot};
use crate::model::RootId;

/// The only timer: how often the roots are looked at where neither an event nor the table of mounts says that something happened.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads between two looks at the commands.
const READS_PER_STEP: usize = 16;

/// What the capture thread counted since it began.
#[derive(Debug, Default)]
pub struct Counters {
    events: AtomicU64,
    changes: AtomicU64,
    overflows: AtomicU64,
}

impl Counters {
    /// Everything that was delivered: changes, losses, and roots that went away.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Changes that were delivered.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Times that a root was told to have lost events.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }
}

enum Command {
    AddRoot(RootId, WatchedRoot, oneshot::Sender<Result<Continuity, CaptureError>>),
    RemoveRoot(RootId, oneshot::Sender<()>),
    Cut(oneshot::Sender<io::Result<()>>),
    Barrier(oneshot::Sender<io::Result<()>>),
    Stop,
}

/// A running source. Dropping it ends the thread and the watch.
#[derive(Debug)]
pub struct Capture {
    tier: Tier,
    commands: mpsc::Sender<Command>,
    bell: Arc<EventFd>,
    counters: Arc<Counters>,
    ended: watch::Receiver<Option<Arc<str>>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts a thread that reads `source` and delivers to `sink`. Nothing is watched until [`add_root`](Self::add_root).
    pub fn spawn(source: Box<dyn Source>, sink: Box<dyn Sink>) -> Result<Self, CaptureError> {
        let failed = |action: &'static str, path: &'static str| move |source: io::Error| CaptureError::io(action, Path::new(path), source);
        let table = "/proc/self/mountinfo";
        let mounts = File::open(table).map_err(failed("opening", table))?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let bell = Arc::new(bell.map_err(|errno| failed("making", "eventfd")(errno.into()))?);
        let tier = source.tier();
        let counters = Arc::new(Counters::default());
        let (commands, received) = mpsc::channel();
        let (tell_end, ended) = watch::channel(None);
        let mut reader = Reader {
            source,
            sink: CountingSink { sink, counters: Arc::clone(&counters), undelivered: false },
            commands: received,
            bell: Arc::clone(&bell),
            mounts,
            bytes_read: 0,
            barriers: Vec::new(),
        };
        let body = move || {
            let why = match catch_unwind(AssertUnwindSafe(|| reader.run())) {
                Ok(Ok(())) => "it was stopped".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
            };
            // Before the watch is told, so that whoever hears of the end finds the source closed and the commands refused.
            drop(reader);
            tell_end.send_replace(Some(why.into()));
        };
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(body).map_err(failed("starting the thread", "capture"))?;
        Ok(Self { tier, commands, bell, counters, ended, thread: Some(thread) })
    }

    /// Which tier runs.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The thread's counters, for good.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Starts to watch a root: from the return on no change below it is missed.
    pub async fn add_root(&self, id: RootId, root: WatchedRoot) -> Result<Continuity, CaptureError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::AddRoot(id, root, answer))?;
        answered.await.unwrap_or(Err(CaptureError::Ended))
    }

    /// Stops watching a root. After the return nothing more is delivered for it.
    pub async fn remove_root(&self, id: RootId) -> Result<(), CaptureError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::RemoveRoot(id, answer))?;
        answered.await.map_err(|_| CaptureError::Ended)
    }

    /// Begins a new epoch. Whoever looks at files after it sees whatever the kernel kept silent about before.
    pub async fn cut(&self) -> Result<(), CaptureError> {
        self.answered(Command::Cut, "beginning a new epoch in").await
    }

    /// The same, some time soon; not at all where the thread has ended.
    pub fn cut_soon(&self) {
        let (answer, _) = oneshot::channel();
        let _ = self.command(Command::Cut(answer));
    }

    /// Begins a new epoch, and returns when every event that was queued in the kernel before the call has been delivered to the sink.
    pub async fn barrier(&self) -> Result<(), CaptureError> {
        self.answered(Command::Barrier, "asking how many events wait in").await
    }

    async fn answered(&self, command: fn(oneshot::Sender<io::Result<()>>) -> Command, action: &'static str) -> Result<(), CaptureError> {
        let (answer, answered) = oneshot::channel();
        self.command(command(answer))?;
        match answered.await {
            Ok(done) => done.map_err(|source| CaptureError::io(action, Path::new("the kernel"), source)),
            Err(_) => Err(CaptureError::Ended),
        }
    }

    /// Waits until the thread has ended and says why.
    pub fn ended(&self) -> impl Future<Output = Arc<str>> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(why) => why.as_ref().map_or_else(|| "it was stopped".into(), Arc::clone),
                Err(_) => "it vanished without a word".into(),
            }
        }
    }

    /// Ends the thread and the watch, and returns when nothing more is read from the kernel: what was read has been delivered, what was
    /// not is still there for whoever takes over.
    pub async fn halt(&self) {
        // Where it has ended already there is nothing to end.
        let _ = self.command(Command::Stop);
        self.ended().await;
    }

    /// Ends the thread and the watch; waits for the step that is under way.
    pub fn stop(self) {
        drop(self);
    }

    fn command(&self, command: Command) -> Result<(), CaptureError> {
        self.commands.send(command).map_err(|_| CaptureError::Ended)?;
        // A full counter cannot happen with so few rings, and a bell that is already ringing will be heard.
        let _ = self.bell.write(1);
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // The body catches panics itself; there is nothing left to tell.
            let _ = thread.join();
        }
    }
}

/// Counts what passes, and remembers whether the sink still has to be told that a step is complete.
struct CountingSink {
    sink: Box<dyn Sink>,
    counters: Arc<Counters>,
    undelivered: bool,
}

impl Sink for CountingSink {
    fn event(&mut self, event: Event<'_>) {
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        match event {
            Event::Changed { .. } => self.counters.changes.fetch_add(1, Ordering::Relaxed),
            Event::Lost { .. } => self.counters.overflows.fetch_add(1, Ordering::Relaxed),
            Event::RootGone { .. } => 0,
        };
        self.undelivered = true;
        self.sink.event(event);
    }

    fn delivered(&mut self) {
        if self.undelivered {
            self.undelivered = false;
            self.sink.delivered();
        }
    }

    fn reached(&mut self, position: Option<Position>, until: Option<SystemTime>) {
        self.sink.reached(position, until);
    }
}

/// What the thread owns.
struct Reader {
    source: Box<dyn Source>,
    sink: CountingSink,
    commands: mpsc::Receiver<Command>,
    bell: Arc<EventFd>,
    mounts: File,
    bytes_read: u64,
    barriers: Vec<(u64, oneshot::Sender<io::Result<()>>)>,
}

/// What woke the thread.
struct Woken {
    events: bool,
    commands: bool,
    mounts: bool,
}

impl Reader {
    fn run(&mut self) -> io::Result<()> {
        let mut check_at = Instant::now() + CHECK_INTERVAL;
        loop {
            let woken = self.wait(check_at.saturating_duration_since(Instant::now()))?;
            if woken.commands && !self.serve()? {
                return Ok(());
            }
            if woken.events || !self.barriers.is_empty() {
                self.drain()?;
            }
            if woken.mounts || Instant::now() >= check_at {
                self.source.check_roots(&mut self.sink);
                self.sink.delivered();
                self.drain()?;
                check_at = Instant::now() + CHECK_INTERVAL;
            }
        }
    }

    fn wait(&self, at_most: Duration) -> io::Result<Woken> {
        let pace = self.source.pace().filter(|_| self.barriers.is_empty());
        let at_most = pace.map_or(at_most, |pace| pace.min(at_most));
        // Rounded up: a wait of less than a millisecond must not become a spin.
        let timeout = PollTimeout::try_from(at_most + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut fds = [
            PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.mounts.as_fd() as BorrowedFd<'_>, PollFlags::POLLPRI),
            PollFd::new(self.source.as_fd(), PollFlags::POLLIN),
        ];
        // While events gather, the source shall not even wake the thread for nothing.
        let polled = if pace.is_some() { &mut fds[..2] } else { &mut fds[..] };
        match poll(polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [commands, mounts, events] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if events.intersects(PollFlags::POLLNVAL | PollFlags::POLLERR | PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN) {
            return Err(io::Error::other(format!("the kernel closed the source of events ({events:?})")));
        }
        Ok(Woken { events: pace.is_some() || !events.is_empty(), commands: !commands.is_empty(), mounts: !mounts.is_empty() })
    }

    /// Carries out what was asked. False when the thread is to end.
    fn serve(&mut self) -> io::Result<bool> {
        match self.bell.read() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Whoever asked may have stopped waiting for the answer: that is no error.
        loop {
            match self.commands.try_recv() {
                Ok(Command::AddRoot(id, root, answer)) => {
                    let _ = answer.send(self.source.add_root(id, &root));
                }
                Ok(Command::RemoveRoot(id, answer)) => {
                    self.source.remove_root(id);
                    let _ = answer.send(());
                }
                Ok(Command::Cut(answer)) => {
                    let _ = answer.send(self.source.cut());
                }
                Ok(Command::Barrier(answer)) => match self.source.barrier() {
                    Ok(bytes) => self.barriers.push((self.bytes_read + bytes, answer)),
                    Err(error) => {
                        let _ = answer.send(Err(error));
                    }
                },
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return Ok(false),
                Err(mpsc::TryRecvError::Empty) => return Ok(true),
            }
        }
    }

    /// Reads until nothing waits, or for one step's worth, and answers the barriers that were reached.
    fn drain(&mut self) -> io::Result<()> {
        let mut emptied = None;
        for _ in 0..READS_PER_STEP {
            let asked = SystemTime::now();
            match self.source.read(&mut self.sink) {
                Ok(0) => {
                    emptied = Some(asked);
                    break;
                }
                Ok(bytes) => self.bytes_read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sink.delivered();
        self.sink.reached(self.source.position(), emptied);
        let read = self.bytes_read;
        for (_, answer) in self.barriers.extract_if(.., |(until, _)| emptied.is_some() || *until <= read) {
            let _ = answer.send(Ok(()));
        }
        Ok(())
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
