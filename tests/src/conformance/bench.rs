//! What a case works with: a watched root, a directory beside it, and the marks that were made.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    mem,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork, getpid, getppid, pipe},
};
use tempfile::TempDir;
use trigsync::{
    capture::{Event, Sink, Source, WatchedRoot},
    model::{Ops, RelPathBuf, RootId, Scope},
};

use super::{Fault, Tier, Wish};

/// A mark that must be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want(Scope, Vec<u8>);

/// The entry must be marked.
#[expect(non_snake_case, reason = "the table calls it E")]
pub fn E(path: impl AsRef<[u8]>) -> Want {
    Want(Scope::Entry, path.as_ref().to_vec())
}

/// The subtree must be marked.
#[expect(non_snake_case, reason = "the table calls it T")]
pub fn T(path: impl AsRef<[u8]>) -> Want {
    Want(Scope::Tree, path.as_ref().to_vec())
}

/// Keeps what was delivered.
#[derive(Default)]
pub struct Recorder {
    /// Marks, in order.
    pub marks: Vec<(RootId, RelPathBuf, Scope, Ops)>,
    /// Roots that lost events.
    pub lost: Vec<RootId>,
    /// Roots that are gone.
    pub gone: Vec<RootId>,
}

impl Sink for Recorder {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Changed { root, path, scope, ops } => self.marks.push((root, path.to_owned(), scope, ops)),
            Event::Lost { root } => self.lost.push(root),
            Event::RootGone { root } => self.gone.push(root),
        }
    }

    fn delivered(&mut self) {}
}

/// A watched root of its own for each case.
pub struct Bench<'a> {
    /// The root, empty and watched when the case begins.
    pub root: PathBuf,
    /// A directory on the same file system, beside the root.
    pub outside: PathBuf,
    /// The tier under test.
    pub source: &'a mut Box<dyn Source>,
    /// What stands in its place while the case needs another one.
    aside: Option<Box<dyn Source>>,
    tier: &'static Tier,
    wish: &'a Wish,
    _dir: TempDir,
}

/// The root's number.
pub const ROOT: RootId = RootId(1);

/// Roots that cases watch.
const ROOTS: [RootId; 3] = [ROOT, RootId(2), RootId(3)];

impl<'a> Bench<'a> {
    pub(super) fn new(tier: &'static Tier, wish: &'a Wish, source: &'a mut Box<dyn Source>, dir: &Path) -> Result<Self, Fault> {
        let dir = tempfile::Builder::new().prefix("case").tempdir_in(dir)?;
        let base = dir.path().canonicalize()?;
        let (root, outside) = (base.join("root"), base.join("outside"));
        fs::create_dir(&root)?;
        fs::create_dir(&outside)?;
        let mut bench = Self { root, outside, source, aside: None, tier, wish, _dir: dir };
        bench.arm(&bench.root.clone())?;
        Ok(bench)
    }

    /// Watches another directory in the root's place.
    pub fn arm(&mut self, path: &Path) -> Result<(), Fault> {
        self.arm_as(WatchedRoot::all(path.to_owned()))
    }

    /// Watches the root anew, by a source with another ring.
    pub fn remake(&mut self, ring_bytes: u32) -> Result<(), Fault> {
        self.source.remove_root(ROOT);
        let made = (self.tier.make)(&Wish { ring_bytes: Some(ring_bytes), ..self.wish.clone() })?;
        self.aside = Some(mem::replace(self.source, made.source));
        self.arm(&self.root.clone())
    }

    /// Watches in other ways than the plain one.
    pub fn arm_as(&mut self, root: WatchedRoot) -> Result<(), Fault> {
        self.source.remove_root(ROOT);
        self.read_all()?;
        self.source.add_root(ROOT, &root)?;
        Ok(())
    }

    /// A path below the root.
    pub fn at(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.root.join(Path::new(std::ffi::OsStr::from_bytes(name.as_ref())))
    }

    /// Begins a new epoch, as for every batch, and reads all events that wait.
    pub fn read_all(&mut self) -> io::Result<Recorder> {
        let mut recorder = Recorder::default();
        self.source.barrier()?;
        while self.source.read(&mut recorder)? > 0 {}
        Ok(recorder)
    }

    /// What happened so far was only preparation.
    pub fn forget(&mut self) -> Result<(), Fault> {
        self.read_all()?;
        Ok(())
    }

    /// Exactly these marks were made since the last look (each perhaps more than once).
    pub fn expect(&mut self, wanted: &[Want]) -> Result<(), Fault> {
        self.expect_with(wanted, |_| false)
    }

    /// Nothing was marked since the last look.
    pub fn expect_nothing(&mut self) -> Result<(), Fault> {
        self.expect(&[])
    }

    /// [`expect`](Self::expect), for what the kernel completes on its own time: within a second.
    pub fn expect_soon(&mut self, wanted: &[Want]) -> Result<(), Fault> {
        let (mut seen, end) = (Recorder::default(), Instant::now() + Duration::from_secs(1));
        loop {
            let more = self.read_all()?;
            seen.marks.extend(more.marks);
            seen.lost.extend(more.lost);
            match check(&seen, wanted, |_| false) {
                Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                result => return result,
            }
        }
    }

    /// These marks were made, and no others than those that `also` allows by their path.
    pub fn expect_with(&mut self, wanted: &[Want], also: impl Fn(&[u8]) -> bool) -> Result<(), Fault> {
        let seen = self.read_all()?;
        self.source.check_roots(&mut Recorder::default());
        check(&seen, wanted, also)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if let Some(first) = self.aside.take() {
            *self.source = first;
        }
        // The next case finds a source without roots, and nothing of this one in it.
        for root in ROOTS {
            self.source.remove_root(root);
        }
        let _ = self.read_all();
    }
}

/// Compares what was delivered with what had to be.
pub fn check(seen: &Recorder, wanted: &[Want], also: impl Fn(&[u8]) -> bool) -> Result<(), Fault> {
    let shown = |marks: &[Want]| {
        let shown: Vec<String> = marks.iter().take(20).map(|Want(scope, path)| format!("{scope:?} {}", path.escape_ascii())).collect();
        format!("[{}]", shown.join(", "))
    };
    // A directory that went away may be marked whole where its entry would do.
    let went = |ops: Ops| ops.contains(Ops::DIRECTORY) && ops.intersects(Ops::DELETE | Ops::MOVED_FROM);
    let as_wanted = |(_, path, scope, ops): &(RootId, RelPathBuf, Scope, Ops)| {
        let entry = Want(Scope::Entry, path.as_bytes().to_vec());
        if went(*ops) && wanted.contains(&entry) { entry } else { Want(*scope, path.as_bytes().to_vec()) }
    };
    let mut marks: Vec<Want> = seen.marks.iter().map(as_wanted).collect();
    marks.dedup();
    let missing: Vec<Want> = wanted.iter().filter(|want| !marks.contains(want)).cloned().collect();
    let surplus: Vec<Want> = marks.iter().filter(|mark| !wanted.contains(mark) && !also(&mark.1)).cloned().collect();
    match (missing.is_empty(), surplus.is_empty()) {
        _ if !seen.lost.is_empty() => Err(Fault::Failed("events were lost".to_owned())),
        _ if !seen.gone.is_empty() => Err(Fault::Failed("the root was told to be gone".to_owned())),
        (true, true) => Ok(()),
        (false, _) => Err(Fault::Failed(format!("not marked: {}; marked: {}", shown(&missing), shown(&marks)))),
        (_, false) => Err(Fault::Failed(format!("marked without reason: {}", shown(&surplus)))),
    }
}

/// Does something in a process of its own, which may change its namespaces, root or user.
pub fn in_child(work: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    // SAFETY: the child touches no lock that another thread may hold: the allocator's are taken care of by the C library's fork, and it
    // ends with `_exit`, without running anything of the parent's.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, code) => Err(Errno::from_raw(code)),
            _ => Err(Errno::ECHILD),
        },
        ForkResult::Child => {
            let code = work().err().map_or(0, |errno| errno as i32);
            // SAFETY: ends the process at once, which is what is wanted.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Does something in a process that does not descend from this one any more: its parent has ended.
pub fn by_a_stranger(work: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    let (answer, tell) = pipe()?;
    in_child(|| {
        let middle = getpid();
        // SAFETY: as in `in_child`; the middle process ends at once, without running anything of its parent's.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => Ok(()),
            ForkResult::Child => {
                while getppid() == middle {
                    thread::yield_now();
                }
                let code = work().err().map_or(0, |errno| errno as i32);
                let _ = File::from(tell.try_clone().map_err(errno)?).write_all(&code.to_le_bytes());
                // SAFETY: ends the process at once, which is what is wanted.
                unsafe { libc::_exit(0) }
            }
        }
    })?;
    drop(tell);
    let mut code = [0; 4];
    File::from(answer).read_exact(&mut code).map_err(errno)?;
    match i32::from_le_bytes(code) {
        0 => Ok(()),
        code => Err(Errno::from_raw(code)),
    }
}

/// An `io::Error` as the number that a child can return.
pub fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
