//! As many changes as two processors can make: none is lost with the default ring, and every loss with a tiny one is covered.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use trigsync::{
    capture::{Capture, Event, Sink, WatchedRoot, ebpf::layout::interrupts_programs},
    model::{Ops, RootId, Scope},
};

use super::{Arguments, Figures, NotCovered, Rows};
use crate::{
    conformance::{Wish, in_child, stress},
    report::Report,
};

pub const NAME: &str = "flood";

const WRITERS: usize = 2;

/// How often a daemon cuts a batch, about.
const CUT_EVERY: Duration = Duration::from_millis(20);

pub fn run(arguments: &Arguments) -> Vec<Report> {
    let duration = arguments.duration.unwrap_or(Duration::from_secs(10));
    let mut rows = Rows::new(NAME, arguments);
    rows.case("the highest rate of two processors, nothing lost", |figures| highest_rate(arguments, duration, figures));
    let unlimited = Wish { unlimited: true, ..arguments.wish.clone() };
    rows.case("writers and renames at full speed, default ring", |figures| mirrored(arguments, &unlimited, duration, figures));
    let tiny = Wish { ring_bytes: Some(4096), ..unlimited.clone() };
    rows.case("writers and renames at full speed, tiny ring, every loss covered", |figures| {
        mirrored(arguments, &tiny, duration, figures)?;
        let covered = ["losses", "trees"].iter().any(|name| figures.get(name).is_some_and(|count| count > 0.0));
        if arguments.tier.name.starts_with("fanotify") {
            return Err(NotCovered("fanotify has no ring that could be made tiny".to_owned()).into());
        }
        if covered { Ok(()) } else { Err(anyhow::anyhow!("nothing was lost with a ring of one page")) }
    });
    rows.reports
}

/// Which files were told.
#[derive(Default)]
struct Seen {
    files: [Vec<bool>; WRITERS],
    marks: u64,
    trees: u64,
    losses: u64,
}

impl Seen {
    /// Files are `WRITER/DIRECTORY/NUMBER`.
    fn mark(&mut self, path: &Path) -> Option<()> {
        let mut names = path.to_str()?.split('/');
        let writer: usize = names.next()?.parse().ok()?;
        let number: usize = names.nth(1)?.parse().ok()?;
        let files = self.files.get_mut(writer)?;
        if files.len() <= number {
            files.resize(number + 1, false);
        }
        files[number] = true;
        Some(())
    }
}

struct Shared(Arc<Mutex<Seen>>);

impl Sink for Shared {
    fn event(&mut self, event: Event<'_>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Changed { path, scope: Scope::Entry, .. } => {
                seen.marks += 1;
                seen.mark(path.as_path());
            }
            // No directory is moved here: a tree stands for something that is not known.
            Event::Changed { ops, .. } if !ops.contains(Ops::CREATE) => seen.trees += 1,
            Event::Changed { .. } => seen.marks += 1,
            Event::Lost { .. } | Event::RootGone { .. } => seen.losses += 1,
        }
    }

    fn delivered(&mut self) {}
}

/// Makes files one after the other until the time is over, and says by a file how many: each is new, written, and most are removed.
fn write(root: &Path, writer: usize, end: Instant) -> Result<(), Errno> {
    let own = root.join(writer.to_string());
    let directories: Vec<_> = (0..16).map(|number| own.join(number.to_string())).collect();
    let mut number = 0;
    while Instant::now() < end {
        for _ in 0..32 {
            let file = directories[number % directories.len()].join(number.to_string());
            fs::write(&file, b"twenty bytes of text").map_err(|_| Errno::EIO)?;
            if number % 8 != 0 {
                fs::remove_file(&file).map_err(|_| Errno::EIO)?;
            }
            number += 1;
        }
    }
    fs::write(root.parent().ok_or(Errno::EIO)?.join(format!("count{writer}")), number.to_string()).map_err(|_| Errno::EIO)
}

fn highest_rate(arguments: &Arguments, duration: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("flood").tempdir_in(arguments.dir())?;
    let base = dir.path().canonicalize()?;
    let root = base.join("root");
    for writer in 0..WRITERS {
        for number in 0..16 {
            fs::create_dir_all(root.join(format!("{writer}/{number}")))?;
        }
    }
    // fanotify's queue has a limit unless told otherwise, which is a choice of the configuration.
    let wish = Wish { unlimited: true, ..arguments.wish.clone() };
    let source = arguments.source(&wish)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let capture = Capture::spawn(source, Box::new(Shared(Arc::clone(&seen))))?;
    if let Err(error) = runtime.block_on(capture.add_root(RootId(1), WatchedRoot::all(root.clone()))) {
        return Err(if arguments.tier.may_refuse(&error) { NotCovered(error.to_string()).into() } else { error.into() });
    }
    let end = Instant::now() + duration;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let root = root.clone();
            thread::spawn(move || in_child(|| write(&root, writer, end)))
        })
        .collect();
    while Instant::now() < end {
        runtime.block_on(capture.barrier())?;
        thread::sleep(CUT_EVERY);
    }
    for writer in writers {
        writer.join().expect("a writer does not panic").context("a writer")?;
    }
    runtime.block_on(capture.barrier())?;
    capture.stop();
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut made = 0;
    for writer in 0..WRITERS {
        let count: usize = fs::read_to_string(base.join(format!("count{writer}")))?.parse()?;
        let told = &seen.files[writer];
        let missed = (0..count).filter(|number| !told.get(*number).copied().unwrap_or(false)).count();
        ensure!(missed == 0 || seen.losses + seen.trees > 0, "{missed} of {count} files were never told, and no loss was");
        made += count;
    }
    let rate = made as f64 / duration.as_secs_f64();
    figures.extend([("files", made as f64), ("files/s", rate), ("marks", seen.marks as f64)]);
    if seen.losses > 0 && arguments.tier.name == "ebpf-kprobe" && interrupts_programs() {
        return Err(NotCovered("this kernel takes the processor from threads within a probe, and then misses calls".to_owned()).into());
    }
    ensure!(seen.losses == 0 && seen.trees == 0, "lost: {} roots, {} directories, at {rate:.0} files a second", seen.losses, seen.trees);
    Ok(())
}

fn mirrored(arguments: &Arguments, wish: &Wish, duration: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    arguments.check()?;
    let report = stress::mirror(arguments.tier, wish, arguments.dir(), duration)?;
    figures.extend([
        ("operations", report.operations as f64),
        ("marks", report.marks as f64),
        ("losses", report.losses as f64),
        ("trees", report.trees as f64),
        ("entries", report.entries as f64),
    ]);
    Ok(())
}
