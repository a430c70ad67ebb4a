//! Writers as fast as they can, directories renamed at the same time: does looking where the marks point, at the very moment they are
//! delivered, yield the tree as it is in the end?

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use trigsync::{
    capture::{Capture, Event, Sink, WatchedRoot},
    model::{Ops, Scope},
};

use super::{
    Tier, Wish,
    bench::{ROOT, Recorder},
};

/// What identifies the state of an entry: kind and inode, and for a file size and time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Directory { inode: u64 },
    File { inode: u64, size: u64, time: (i64, i64) },
}

impl State {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(match found.is_dir() {
            true => Self::Directory { inode: found.ino() },
            false => Self::File { inode: found.ino(), size: found.len(), time: (found.mtime(), found.mtime_nsec()) },
        })
    }
}

type Tree = BTreeMap<PathBuf, State>;

/// A copy that knows nothing but where the marks said to look.
#[derive(Default)]
struct Mirror {
    root: PathBuf,
    tree: Tree,
    marks: u64,
    losses: u64,
    trees: u64,
}

impl Mirror {
    fn remove(&mut self, path: &Path) {
        // Also what is below a name that was never marked itself: its files may have been told before it.
        let within: Vec<PathBuf> =
            self.tree.range(path.to_owned()..).map(|(at, _)| at.clone()).take_while(|at| at.starts_with(path)).collect();
        for at in within {
            self.tree.remove(&at);
        }
    }

    fn look(&mut self, path: &Path, scope: Scope) {
        match State::of(&self.root.join(path)) {
            Some(state @ State::Directory { .. }) if scope == Scope::Entry => {
                self.tree.insert(path.to_owned(), state);
            }
            state => {
                self.remove(path);
                if let Some(state) = state {
                    walk(&self.root, path, state, &mut self.tree);
                }
            }
        }
    }
}

fn walk(root: &Path, path: &Path, state: State, tree: &mut Tree) {
    let directory = matches!(state, State::Directory { .. });
    tree.insert(path.to_owned(), state);
    let entries = directory.then(|| fs::read_dir(root.join(path)).ok()).flatten();
    for entry in entries.into_iter().flatten().flatten() {
        let below = path.join(entry.file_name());
        if let Some(state) = State::of(&root.join(&below)) {
            walk(root, &below, state, tree);
        }
    }
}

struct Shared(Arc<Mutex<Mirror>>);

impl Sink for Shared {
    fn event(&mut self, event: Event<'_>) {
        let mut mirror = self.0.lock().expect("no panic while it was held");
        match event {
            Event::Changed { path, scope, ops, .. } => {
                mirror.marks += 1;
                let named = Ops::CREATE | Ops::DELETE | Ops::MOVED_FROM | Ops::MOVED_TO;
                mirror.trees += u64::from(scope == Scope::Tree && !ops.intersects(named));
                mirror.look(path.as_path(), scope);
            }
            Event::Lost { .. } => {
                mirror.losses += 1;
                mirror.look(Path::new(""), Scope::Tree);
            }
            Event::RootGone { .. } => panic!("the root is still there"),
        }
    }

    fn delivered(&mut self) {}
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Operations of the writers.
    pub operations: u64,
    /// Marks that were delivered.
    pub marks: u64,
    /// Times that a loss was told.
    pub losses: u64,
    /// Directories that were marked whole although nothing was moved or removed there.
    pub trees: u64,
    /// Entries that exist in the end.
    pub entries: usize,
}

/// Two writers and one that renames directories, for `duration`; then compares what the marks led to with what is there.
pub fn mirror(tier: &Tier, wish: &Wish, dir: &Path, duration: Duration) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new().prefix("stress").tempdir_in(dir)?;
    let root = dir.path().canonicalize()?.join("root");
    let outside = dir.path().canonicalize()?.join("outside");
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&outside)?;
    let mirror = Arc::new(Mutex::new(Mirror { root: root.clone(), ..Mirror::default() }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let capture = Capture::spawn((tier.make)(wish)?.source, Box::new(Shared(Arc::clone(&mirror))))?;
    runtime.block_on(capture.add_root(ROOT, WatchedRoot::all(root.clone())))?;
    mirror.lock().expect("no panic while it was held").look(Path::new(""), Scope::Tree);
    let end = Instant::now() + duration;
    let writers: Vec<_> =
        (0..2_u64).map(|seed| (root.clone(), seed)).map(|(root, seed)| thread::spawn(move || write(&root, seed, end))).collect();
    let renamer = thread::spawn({
        let root = root.clone();
        move || rename(&root, &outside, end)
    });
    let mut operations = renamer.join().expect("the renaming thread does not panic");
    for writer in writers {
        operations += writer.join().expect("a writing thread does not panic");
    }
    runtime.block_on(capture.barrier())?;
    let mirror = mirror.lock().expect("no panic while it was held");
    let mut tree = Tree::new();
    walk(&root, Path::new(""), State::of(&root).context("the root is there")?, &mut tree);
    let wrong: Vec<_> = tree.iter().filter(|(path, state)| mirror.tree.get(*path) != Some(*state)).map(|(path, _)| path).take(5).collect();
    let surplus: Vec<_> = mirror.tree.keys().filter(|path| !tree.contains_key(*path)).take(5).collect();
    ensure!(wrong.is_empty() && surplus.is_empty(), "missed or outdated: {wrong:?}; still there by the marks: {surplus:?}");
    Ok(Report { operations, marks: mirror.marks, losses: mirror.losses, trees: mirror.trees, entries: tree.len() })
}

/// A small generator of numbers that look random, so that a run can be repeated.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn write(root: &Path, seed: u64, end: Instant) -> u64 {
    let (mut state, mut operations) = (seed, 0);
    while Instant::now() < end {
        for _ in 0..64 {
            let dir = root.join(format!("d{}", next(&mut state) % 40)).join(format!("e{}", next(&mut state) % 3));
            let file = dir.join(format!("f{}", next(&mut state) % 20));
            // The directory may be elsewhere just now; then the next number is tried.
            let _ = match next(&mut state) % 8 {
                0 => fs::create_dir_all(&dir),
                1 | 2 => fs::remove_file(&file),
                3 => fs::rename(&file, dir.join("g")),
                4 if next(&mut state).is_multiple_of(20) => fs::remove_dir_all(&dir),
                _ => fs::write(&file, [b'x'; 9].get(..(next(&mut state) % 9) as usize).unwrap_or_default()),
            };
            operations += 1;
        }
    }
    operations
}

fn rename(root: &Path, outside: &Path, end: Instant) -> u64 {
    let (mut state, mut operations) = (99, 0);
    while Instant::now() < end {
        let mut name = || format!("d{}", next(&mut state) % 40);
        let (from, to) = (root.join(name()), root.join(name()));
        let (inner, other) = (from.join("e0"), to.join("e2"));
        let aside = outside.join("aside");
        let _ = match operations % 4 {
            0 => fs::rename(&from, &to),
            1 => fs::rename(&inner, &other),
            2 => fs::rename(&from, &aside).and_then(|()| fs::rename(&aside, &to)),
            _ => fs::rename(&from, root.join("tmp")).and_then(|()| fs::rename(root.join("tmp"), &from)),
        };
        if fs::exists(&aside).unwrap_or(false) {
            let _ = fs::remove_dir_all(&aside);
        }
        let _ = fs::remove_dir_all(root.join("tmp"));
        operations += 1;
        thread::sleep(Duration::from_micros(next(&mut state) % 500));
    }
    operations
}

/// Nanoseconds that one event costs to read, place and deliver: `files` new files in `directories`, read after they were all made.
pub fn cost(tier: &Tier, wish: &Wish, dir: &Path, files: usize, directories: usize) -> anyhow::Result<(u64, f64)> {
    let dir = tempfile::Builder::new().prefix("cost").tempdir_in(dir)?;
    let root = dir.path().canonicalize()?;
    for number in 0..directories {
        fs::create_dir_all(root.join(number.to_string()))?;
    }
    let mut source = (tier.make)(wish)?.source;
    source.add_root(ROOT, &WatchedRoot::all(root.clone()))?;
    for number in 0..files {
        fs::write(root.join((number % directories).to_string()).join(number.to_string()), "")?;
    }
    let mut recorder = Recorder::default();
    let (mut events, started) = (0, Instant::now());
    loop {
        match source.read(&mut recorder)? {
            0 => break,
            count => events += count,
        }
    }
    let elapsed = started.elapsed();
    ensure!(recorder.lost.is_empty(), "the queue was too short for this measurement");
    let expected = recorder.marks.iter().filter(|(_, path, _, _)| path.as_bytes().contains(&b'/')).count();
    ensure!(expected >= files, "{expected} of {files} files were told");
    Ok((events, elapsed.as_nanos() as f64 / events as f64))
}
