//! What watching costs the program that writes, and the reader: instructions added to a cycle of create, write, close, unlink, and to further
//! writes to a file that was told already.
//!
//! - On tmpfs, four directories deep. The work is done and timed by a process that does not descend from the one that watches.
//! - Where the clock counts instructions (an emulator with `-icount shift=0,sleep=off` and one processor), on Linux 6.1 and with trampolines, the
//!   limits are asserted. Other kernels and probes cost what they cost; without such a clock the figures are nanoseconds, and say little.
//! - inotify and fanotify by themselves are measured beside the tier: published figures of theirs show that the method is right.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::utsname::uname,
};
use trigsync::{
    capture::{Event, Sink, WatchedRoot},
    model::RootId,
};

use super::{
    Arguments, Figures, NotCovered, Rows, clock,
    peers::{Fanotify, Inotify},
    worker::{Work, Worker},
};
use crate::{conformance::EBPF_FEXIT, report::Report};

pub const NAME: &str = "cost";

/// Added instructions for a cycle, reading included. fanotify by itself adds 10,040.
///
/// Five programs run in a cycle, and three tell: to call them takes 600 instructions, to put three records into the ring 550, to copy their
/// names 900, to read them 1,500. The walk, the fold, and whose change it was are the rest.
const CYCLE: f64 = 9_600.0;
/// For a write to a file that was told in this epoch: two programs, of which to call them is 250.
const FOLDED_WRITE: f64 = 700.0;
/// For an operation on a watched file system, outside every root: a quarter of a cycle.
const OUTSIDE: f64 = 400.0;
/// For a write alone, outside every root: it runs two programs.
const OUTSIDE_WRITE: f64 = 570.0;
/// From the load to a watched root.
const ARMING: Duration = Duration::from_millis(100);

/// Cycles between two reads, as few as fit into every queue.
const BATCH: u32 = 100;
const BATCHES: u32 = 10;
const WRITES: u32 = 1000;

/// Directories below the root that is armed.
const DIRECTORIES: usize = 10_000;

pub fn run(arguments: &Arguments) -> Vec<Report> {
    let counts = clock::counts_instructions();
    let mut rows = Rows::new(NAME, arguments);
    rows.case("peers, for comparison: inotify, fanotify", |figures| peers(arguments, figures));
    rows.case("a cycle of create, write, close, unlink, and further writes", |figures| {
        tier(arguments, figures)?;
        limits(arguments, figures, counts, &[("cycle added, reading included", CYCLE), ("folded write added", FOLDED_WRITE)])
    });
    rows.case("what each program takes of a cycle", |figures| programs(arguments, Place::root, figures));
    rows.case("what each program takes of a cycle outside every root", |figures| programs(arguments, Place::outside, figures));
    rows.case("operations outside every root", |figures| {
        outside(arguments, figures)?;
        limits(arguments, figures, counts, &[("operation outside added", OUTSIDE), ("write outside added", OUTSIDE_WRITE)])
    });
    rows.case("armed within 100 ms of the load, 10,000 directories", |figures| arming(arguments, figures, counts));
    rows.reports
}

/// A tmpfs with a directory four levels deep.
struct Place {
    point: PathBuf,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("cost").tempdir_in(arguments.dir())?;
        let point = dir.path().canonicalize()?;
        mount(Some("none"), &point, Some("tmpfs"), MsFlags::empty(), Some("size=64m"))?;
        let place = Self { point, _dir: dir };
        for top in [place.root(), place.outside()] {
            fs::create_dir_all(Self::deep(&top))?;
        }
        Ok(place)
    }

    fn root(&self) -> PathBuf {
        self.point.join("root")
    }

    fn outside(&self) -> PathBuf {
        self.point.join("outside")
    }

    fn deep(top: &Path) -> PathBuf {
        top.join("a/b/c")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = umount2(&self.point, MntFlags::MNT_DETACH);
    }
}

/// Nanoseconds for one cycle, for reading what it left, and for a write.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cycle: f64,
    read: f64,
    write: f64,
}

/// Measures in `directory`; `read` reads everything that waits.
fn measure(directory: &Path, mut read: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Cost> {
    let mut worker = Worker::start(directory)?;
    let (mut cycles, mut reads) = (Vec::new(), Vec::new());
    // The first batches warm up caches, and are not counted.
    for batch in 0..BATCHES + 3 {
        let took = worker.time(Work::Cycles, BATCH)?;
        let begun = Instant::now();
        read()?;
        let reading = begun.elapsed().as_nanos();
        if batch >= 3 {
            cycles.push(took as f64 / f64::from(BATCH));
            reads.push(reading as f64 / f64::from(BATCH));
        }
    }
    let mut writes = Vec::new();
    for _ in 0..5 {
        read()?;
        // The first write of an epoch is told, the further ones are what is measured.
        worker.time(Work::Writes, 1)?;
        writes.push(worker.time(Work::Writes, WRITES)? as f64 / f64::from(WRITES));
    }
    Ok(Cost { cycle: median(cycles), read: median(reads), write: median(writes) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn unwatched(place: &Place, top: &Path) -> anyhow::Result<Cost> {
    ensure!(top.starts_with(&place.point), "on the same tmpfs");
    wait_until_nothing_is_loaded()?;
    measure(&Place::deep(top), || Ok(()))
}

/// The programs of the case before go a while after their last descriptor.
fn wait_until_nothing_is_loaded() -> anyhow::Result<()> {
    let begun = Instant::now();
    while loaded_programs().next().is_some() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "programs of another case do not go");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Counts what is delivered.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn event(&mut self, _: Event<'_>) {
        self.0 += 1;
    }

    fn delivered(&mut self) {}
}

/// A root as the daemon watches it.
fn watched(path: PathBuf) -> WatchedRoot {
    WatchedRoot { sees_own: false, ..WatchedRoot::all(path) }
}

fn tier(arguments: &Arguments, figures: &mut Figures) -> anyhow::Result<()> {
    let place = Place::new(arguments)?;
    let base = unwatched(&place, &place.root())?;
    let mut source = arguments.source(&arguments.wish)?;
    source.add_root(RootId(1), &watched(place.root()))?;
    let mut count = Count::default();
    let cost = measure(&Place::deep(&place.root()), || {
        source.cut()?;
        while source.read(&mut count)? > 0 {}
        Ok(())
    })?;
    if count.0 < u64::from(BATCH * BATCHES) {
        return Err(anyhow::anyhow!("{} marks were delivered for {} cycles", count.0, BATCH * BATCHES));
    }
    let added = cost.cycle - base.cycle;
    figures.extend([
        ("cycle unwatched", base.cycle),
        ("cycle added", added),
        ("read of a cycle", cost.read),
        ("cycle added, reading included", added + cost.read),
        ("write unwatched", base.write),
        ("folded write added", cost.write - base.write),
    ]);
    Ok(())
}

/// The kernel's own account of its programs, for each that ran: its part of a cycle, without what it takes to call it.
fn programs(arguments: &Arguments, top: fn(&Place) -> PathBuf, figures: &mut Figures) -> anyhow::Result<()> {
    let place = Place::new(arguments)?;
    let mut source = arguments.source(&arguments.wish)?;
    source.add_root(RootId(1), &watched(place.root()))?;
    let _counting = enable_stats(Stats::RunTime)?;
    let mut count = Count::default();
    let (directory, mut before) = (Place::deep(&top(&place)), BTreeMap::new());
    let mut worker = Worker::start(&directory)?;
    for batch in 0..=BATCHES {
        worker.time(Work::Cycles, BATCH)?;
        source.cut()?;
        while source.read(&mut count)? > 0 {}
        if batch == 0 {
            before = taken()?;
        }
    }
    let cycles = f64::from(BATCH * BATCHES);
    for (program, (name, time, calls)) in taken()? {
        let (_, time_before, calls_before) = before.remove(&program).unwrap_or_default();
        // The worker's pipes and this process's own reads are below one call in a cycle.
        if calls - calls_before >= u64::from(BATCH * BATCHES) {
            figures.push(&format!("{name}: calls"), (calls - calls_before) as f64 / cycles);
            figures.push(&name, (time - time_before).as_nanos() as f64 / cycles);
        }
    }
    Ok(())
}

/// Name, time and calls of each loaded program, by its number.
fn taken() -> anyhow::Result<BTreeMap<u32, (String, Duration, u64)>> {
    let mut taken = BTreeMap::new();
    for program in loaded_programs() {
        let program = program?;
        taken.insert(program.id(), (program.name_as_str().unwrap_or_default().to_owned(), program.run_time(), program.run_count()));
    }
    Ok(taken)
}

fn outside(arguments: &Arguments, figures: &mut Figures) -> anyhow::Result<()> {
    let place = Place::new(arguments)?;
    let base = unwatched(&place, &place.outside())?;
    let mut source = arguments.source(&arguments.wish)?;
    source.add_root(RootId(1), &watched(place.root()))?;
    let cost = measure(&Place::deep(&place.outside()), || Ok(()))?;
    figures.extend([
        ("cycle outside added", cost.cycle - base.cycle),
        ("operation outside added", (cost.cycle - base.cycle) / 4.0),
        ("write outside added", cost.write - base.write),
    ]);
    Ok(())
}

fn peers(arguments: &Arguments, figures: &mut Figures) -> anyhow::Result<()> {
    let place = Place::new(arguments)?;
    let directory = Place::deep(&place.root());
    let base = unwatched(&place, &place.root())?;
    figures.push("cycle unwatched", base.cycle);
    let mut inotify = Inotify::on(&directory)?;
    let cost = measure(&directory, || Ok(inotify.read_all()?))?;
    drop(inotify);
    figures.extend([
        ("inotify: cycle added", cost.cycle - base.cycle),
        ("inotify: read of a cycle", cost.read),
        ("inotify: write added", cost.write - base.write),
    ]);
    let mut fanotify = match Fanotify::on(&directory) {
        Err(errno) => return Err(NotCovered(format!("fanotify reports no names on tmpfs here ({errno})")).into()),
        Ok(fanotify) => fanotify,
    };
    let cost = measure(&directory, || Ok(fanotify.read_all()?))?;
    figures.extend([
        ("fanotify: cycle added", cost.cycle - base.cycle),
        ("fanotify: read of a cycle", cost.read),
        ("fanotify: write added", cost.write - base.write),
    ]);
    Ok(())
}

fn arming(arguments: &Arguments, figures: &mut Figures, counts: bool) -> anyhow::Result<()> {
    if counts {
        return Err(NotCovered("the clock counts instructions here, not time".to_owned()).into());
    }
    let place = Place::new(arguments)?;
    for number in 0..DIRECTORIES {
        fs::create_dir_all(place.root().join(format!("{}/{number}", number % 100)))?;
    }
    let begun = Instant::now();
    let mut source = arguments.source(&arguments.wish)?;
    let loaded = begun.elapsed();
    source.add_root(RootId(1), &watched(place.root()))?;
    let armed = begun.elapsed() - loaded;
    figures.extend([("ms to load", loaded.as_secs_f64() * 1e3), ("ms to arm", armed.as_secs_f64() * 1e3)]);
    if armed > ARMING { Err(anyhow::anyhow!("armed after {armed:?}")) } else { Ok(()) }
}

/// Asserts, where they hold, that none of these figures is above its limit.
fn limits(arguments: &Arguments, figures: &Figures, counts: bool, limits: &[(&str, f64)]) -> anyhow::Result<()> {
    if !counts {
        return Err(NotCovered("the clock of this machine does not count instructions: these are nanoseconds".to_owned()).into());
    }
    if arguments.tier.name != EBPF_FEXIT.name || !uname()?.release().to_string_lossy().starts_with("6.1.") {
        return Ok(());
    }
    for (name, limit) in limits {
        let figure = figures.get(name).context("a limit of something that was measured")?;
        if figure > *limit {
            return Err(anyhow::anyhow!("{name}: {figure:.0} instructions, at most {limit:.0}"));
        }
    }
    Ok(())
}
