//! What is folded in the kernel, and what becomes of events that find no room there.

use std::{
    fs::{self, File},
    io::Write as _,
    thread,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use trigsync::{capture::Tier, model::Scope};

use super::{
    Bench, E, Fault, Row,
    bench::{ROOT, Recorder, errno, in_child},
};

pub const CASES: &[Row] = &[
    ("ten thousand writes to one file are few marks", folded),
    ("a write after a cut is told again", told_again),
    ("one change of each kind in one epoch", kinds),
    ("overflow", overflow),
];

fn folded(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut file = File::create(b.at("f"))?;
    b.forget()?;
    for _ in 0..10_000 {
        file.write_all(b"x")?;
    }
    let seen = b.read_all()?;
    if seen.marks.len() > 10 {
        Err(Fault::Failed(format!("{} marks", seen.marks.len())))
    } else {
        super::bench::check(&seen, &[E("f")], |_| false)
    }
}

fn told_again(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut file = File::create(b.at("f"))?;
    b.forget()?;
    for _ in 0..100 {
        file.write_all(b"x")?;
        b.source.cut()?;
    }
    file.write_all(b"x")?;
    let mut seen = Recorder::default();
    while b.source.read(&mut seen)? > 0 {}
    super::bench::check(&seen, &[E("f")], |_| false)?;
    // fanotify merges what nobody has read yet, and whoever reads it looks after all of it.
    match (b.source.tier(), seen.marks.len()) {
        (Tier::EbpfFexit | Tier::EbpfKprobe, told) if told != 101 => Err(Fault::Failed(format!("told {told} times in 101 epochs"))),
        _ => Ok(()),
    }
}

fn kinds(b: &mut Bench<'_>) -> Result<(), Fault> {
    // A file that was told in this epoch may stay untold when it is written to, but not when its name changes.
    fs::write(b.at("a"), "x")?;
    fs::rename(b.at("a"), b.at("b"))?;
    fs::write(b.at("b"), "xy")?;
    fs::hard_link(b.at("b"), b.at("c"))?;
    fs::remove_file(b.at("b"))?;
    fs::create_dir(b.at("b"))?;
    fs::rename(b.at("c"), b.at("b/c"))?;
    fs::write(b.at("b/c"), "xyz")?;
    fs::write(b.at("c"), "anew")?;
    b.expect(&[E("a"), E("b"), E("c"), E("b/c")])
}

fn overflow(b: &mut Bench<'_>) -> Result<(), Fault> {
    const DIRECTORIES: usize = 10;
    for number in 0..DIRECTORIES {
        fs::create_dir_all(b.at(format!("d{number}/inner")))?;
    }
    // fanotify has no ring; its queue holds 16,384 events by default.
    b.remake(4096)?;
    let names: Vec<_> = (0..20_000).map(|number| format!("d{}/inner/f{number}", number % DIRECTORIES)).collect();
    in_child(|| names.iter().try_for_each(|name| fs::write(b.at(name), "").map_err(errno)))?;
    let seen = b.read_all()?;
    let everything = seen.lost.contains(&ROOT);
    let trees: Vec<_> = seen.marks.iter().filter(|mark| mark.2 == Scope::Tree).map(|mark| mark.1.as_bytes()).collect();
    let told: std::collections::HashSet<_> = seen.marks.iter().map(|mark| mark.1.as_bytes()).collect();
    let within = |name: &[u8], tree: &[u8]| tree.is_empty() || name.starts_with(tree) && name[tree.len()..].starts_with(b"/");
    let covered = |name: &String| told.contains(name.as_bytes()) || trees.iter().any(|tree| within(name.as_bytes(), tree));
    if !everything && trees.is_empty() {
        return Err(Fault::Failed(format!("{} marks, and no loss was told", seen.marks.len())));
    }
    if let Some(missed) = names.iter().find(|name| !everything && !covered(name)) {
        return Err(Fault::Failed(format!("{missed} was neither told nor covered by one of {} trees", trees.len())));
    }
    // A processor's perf buffer says with the next record in it that something was lost before.
    for processor in 0..thread::available_parallelism()?.get() {
        in_child(|| {
            let mut this = CpuSet::new();
            this.set(processor)?;
            sched_setaffinity(Pid::from_raw(0), &this)?;
            fs::write(b.at("next"), "").map_err(errno)
        })?;
    }
    b.forget()?;
    fs::write(b.at("later"), "")?;
    let seen = b.read_all()?;
    // A perf buffer that once dropped what nobody counted is suspected whenever it is nearly full, and one of this size always is.
    if everything && !seen.lost.is_empty() {
        return Ok(());
    }
    super::bench::check(&seen, &[E("later")], |_| false)
}
