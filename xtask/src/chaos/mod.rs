//! `cargo xtask chaos`: a real daemon, real targets, a random workload and random faults, and the question whether anything was lost.
//!
//! - Every choice comes from the seed. Threads and processes still meet as they like: a seed repeats what is done, not always what happens.
//! - After each round nothing changes and nothing is wrong any more; then `trigsync flush` is believed, and each target is compared with the
//!   source, by a walk of our own, by rsync, and by the daemon's own audit.
//! - What differs is told with what was done to it; the scratch directory with all records is kept then.
//! - With `--sabotage` a daemon that loses changes on purpose has to be found out: a search that cannot fail proves nothing.

mod compare;
mod daemon;
mod disk;
mod faults;
mod finding;
mod log;
mod operation;
mod plan;
mod record;
mod report;
mod site;
mod workload;

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    cargo::{self, Profile},
    interrupt,
    on_path::on_path,
    packages, privilege,
};
use faults::Faults;
use finding::Finding;
use log::Log;
use plan::{Fault, Plan};
use record::Record;
use report::Tally;
use site::Site;
use workload::{End, WORKERS, Workload};

/// How long the workload and the faults of a round last.
const ROUND: Duration = Duration::from_secs(12);
/// A flush is asked for so often, each time for so long, before it counts as one that does not come back.
const FLUSHES: (usize, &str) = (3, "60s");
/// What arrives within this time after a flush was late, not lost; a finding all the same.
const LATE: Duration = Duration::from_secs(3);
/// How long the audit may take after a round.
const AUDIT: &str = "120s";
/// So many paths that differ are shown with their record.
const SHOWN: usize = 5;
/// What `cargo xtask test` runs: minutes with a seed that stays, and with one that is drawn.
const FOR_TESTS: [(&str, Option<&str>); 2] = [("2", Some("4")), ("1", None)];

/// How chaos is made.
#[derive(Debug, Args)]
pub struct Options {
    /// How long rounds are begun.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    minutes: f64,
    /// Ends after so many rounds, however long they take.
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Where all choices come from; drawn, and printed, where it is not given.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only this fault; may be repeated.
    #[arg(long, value_name = "KIND")]
    fault: Vec<Fault>,
    /// Which tier captures.
    #[arg(long, value_name = "TIER")]
    backend: Option<String>,
    /// Keeps the scratch directory in any case.
    #[arg(long)]
    keep: bool,
    /// Lets the clock of this machine jump, by up to an hour, for seconds.
    #[arg(long)]
    clock: bool,
    /// Also makes changes that keep size and time of a file: a pass by size and time cannot see those made while nothing was captured.
    #[arg(long)]
    unseen: bool,
    /// Builds trigsync as for release.
    #[arg(long, conflicts_with = "sabotage")]
    release: bool,
    /// Builds a trigsync that loses changes; succeeds only where that is found out.
    #[arg(long, value_name = "KIND")]
    sabotage: Option<Sabotage>,
    /// The trigsync to run, built already: what this becomes under sudo.
    #[arg(long, hide = true)]
    binary: Option<PathBuf>,
}

/// A loss made on purpose.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sabotage {
    /// That the kernel lost events is not followed by a comparison.
    OverflowIgnored,
    /// What a failed batch held is forgotten.
    BatchDropped,
    /// The journal is not written.
    JournalSkipped,
}

impl Sabotage {
    fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }

    /// What brings it out; other faults might have the daemon compare everything, and so hide it.
    fn faults(self) -> &'static [Fault] {
        match self {
            Self::OverflowIgnored => &[Fault::Overflow],
            Self::BatchDropped => &[Fault::Children, Fault::Restart],
            Self::JournalSkipped => &[Fault::Kill],
        }
    }

    /// The tier where it shows: an eBPF tier has other ways to tell of a full ring.
    fn backend(self) -> Option<&'static str> {
        matches!(self, Self::OverflowIgnored).then_some("fanotify")
    }
}

/// Makes chaos. The exit code is 0 where nothing was lost; with `--sabotage`, where the loss was found.
pub fn chaos(options: &Options) -> Result<ExitCode> {
    let Some(binary) = &options.binary else { return build_and_go_on(options) };
    interrupt::watch()?;
    let backend = options.backend.clone().or_else(|| options.sabotage.and_then(Sabotage::backend).map(str::to_owned));
    let mut site = Site::make(binary, backend, options.sabotage.map(Sabotage::name))?;
    if options.keep {
        site.keep();
    }
    let possible = possible(options, &site)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("seed {seed} ({}), in {}", if options.seed.is_some() { "given" } else { "drawn" }, site.at("").display());
    let daemon = site.launch.start(false)?;
    println!("{}", daemon.ready);
    site.daemon = Some(daemon);
    let (mut tally, mut log) = (Tally::default(), Log::new(site.launch.log.clone()));
    let deadline = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut result = Ok(());
    let is_due = |rounds: u64| options.rounds.map_or_else(|| Instant::now() < deadline, |wanted| rounds < wanted);
    while result.is_ok() && is_due(tally.rounds) {
        tally.rounds += 1;
        result = round(&mut site, seed, &possible, options.unseen, &mut tally).and_then(|()| look_at(&mut log));
    }
    if result.is_err() {
        // Nothing of the log may be missing in the table; what failed is told below.
        let _ = log.follow();
    }
    println!("{}", tally.table(&log.full_passes, log.audited));
    if result.is_ok() && tally.of(Fault::Overflow) > 0 && tally.overflows == 0 {
        bail!("no flood made the queue of events overflow: this run says nothing about overflows");
    }
    close(result, options, seed, &tally, &mut site)
}

/// What happened, as the exit code tells it.
fn close(result: Result<()>, options: &Options, seed: u64, tally: &Tally, site: &mut Site) -> Result<ExitCode> {
    let Err(error) = result else {
        let Some(sabotage) = options.sabotage else {
            println!("nothing was lost (seed {seed})");
            return Ok(ExitCode::SUCCESS);
        };
        println!("FAILED: the sabotage {} was not found out (seed {seed})", sabotage.name());
        return Ok(ExitCode::FAILURE);
    };
    let Some(finding) = error.downcast_ref::<Finding>() else { return Err(error) };
    if let Some(sabotage) = options.sabotage.filter(|_| finding.lost > 0) {
        println!("the sabotage {} was found out: {finding}", sabotage.name());
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED in round {} of seed {seed}: {finding}", tally.rounds);
    print!("{}", finding.details);
    println!("the daemon's log ends with:\n{}", daemon::tail(&site.launch.log, 40));
    println!("kept: {}", site.keep().display());
    Ok(ExitCode::FAILURE)
}

/// Builds as whoever we are, and goes on as root.
fn build_and_go_on(options: &Options) -> Result<ExitCode> {
    packages::require(&[packages::RSYNC])?;
    let profile = if options.release { Profile::Release } else { Profile::Dev };
    let build = |features: &[&str]| cargo::build_binary_with("trigsync-user", "trigsync", profile, features);
    let binary = match options.sabotage {
        None => build(&[])?,
        Some(_) => {
            // It must not stay where the tests find their trigsync.
            let built = build(&["sabotage"])?;
            let aside = built.with_file_name("trigsync-sabotaged");
            std::fs::copy(&built, &aside).with_context(|| format!("copying {}", built.display()))?;
            build(&[])?;
            aside
        }
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--binary").arg(binary);
    if !privilege::is_root() {
        println!("This goes on under sudo: it mounts, signals processes of root, and watches a whole file system.");
    }
    Err(privilege::become_as_root(command)?)
}

/// Runs it for `cargo xtask test`, with what it says in `said`.
pub fn for_tests(said: &mut Vec<u8>) -> Result<()> {
    let binary = cargo::build_binary("trigsync-user", "trigsync", Profile::Dev)?;
    for (minutes, seed) in FOR_TESTS {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["chaos", "--minutes", minutes]).args(seed.iter().flat_map(|seed| ["--seed", seed])).arg("--binary").arg(&binary);
        let output = privilege::as_root(command)?.stdin(Stdio::null()).output().context("xtask does not start")?;
        said.extend(output.stdout.into_iter().chain(output.stderr));
        if !output.status.success() {
            bail!("`cargo xtask chaos` failed ({}); what it says names seed and evidence", output.status);
        }
    }
    Ok(())
}

/// The faults that were asked for and that this machine can make.
fn possible(options: &Options, site: &Site) -> Result<Vec<Fault>> {
    let asked = match options.sabotage {
        _ if !options.fault.is_empty() => options.fault.clone(),
        Some(sabotage) => sabotage.faults().to_vec(),
        None => Fault::all().filter(|fault| *fault != Fault::Clock || options.clock).collect(),
    };
    if asked.contains(&Fault::Clock) && !options.clock {
        bail!("the fault clock changes the clock of this machine: say --clock too");
    }
    let mut possible = asked;
    if let Err(reason) = &site.disks {
        println!("no disk can be filled, and the source has no file system of its own: {reason}");
        possible.retain(|fault| !matches!(fault, Fault::FullTarget | Fault::FullState));
    }
    if !on_path("prlimit") {
        println!("trigsync cannot be made short of descriptors: prlimit is missing (package util-linux)");
        possible.retain(|fault| *fault != Fault::Files);
    }
    if possible.is_empty() {
        bail!("none of the faults that were asked for can be made here");
    }
    Ok(possible)
}

/// One round: work and faults, then peace, then the comparison.
fn round(site: &mut Site, seed: u64, possible: &[Fault], unseen: bool, tally: &mut Tally) -> Result<()> {
    let round = tally.rounds;
    let (begun, faults_before) = (Instant::now(), tally.all());
    let (record, source) = (Record::new(), site.source.clone());
    let work = Workload { source: &source, record: &record, seed, round, unseen, changes: Default::default(), end: Default::default() };
    let disturbed = thread::scope(|scope| {
        let end = End(&work.end);
        for worker in 0..WORKERS {
            let work = &work;
            scope.spawn(move || work.work(worker));
        }
        let mut faults = Faults::new(site, &record, tally, possible.contains(&Fault::Overflow));
        let mut plan = Plan::new(seed, round, possible);
        let until = begun + ROUND;
        loop {
            let step = plan.next();
            faults.wait((Instant::now() + step.after).min(until))?;
            if Instant::now() >= until {
                break;
            }
            faults.make(&step)?;
        }
        drop(end);
        faults.end()
    });
    let changes = work.changes.load(Relaxed);
    tally.changes += changes;
    let judged = disturbed.and_then(|()| judge(site, &record, tally));
    record.write(&site.at("record"))?;
    let flush = judged?;
    let faults = tally.all() - faults_before;
    let seconds = begun.elapsed().as_secs_f64();
    println!("round {round}: {changes} changes, {faults} faults, flush {:.1} s, all targets equal; {seconds:.0} s", flush.as_secs_f64());
    Ok(())
}

/// Reads the log on. What the audit finds while everything goes wrong is lost, too, though it is sent again before anybody compares.
fn look_at(log: &mut Log) -> Result<()> {
    log.follow()?;
    match usize::try_from(log.audited).unwrap_or(usize::MAX) {
        0 => Ok(()),
        lost => bail!(Finding { what: format!("the audit has found {lost} lost changes"), lost, details: String::new() }),
    }
}

/// Flushes, compares, and has the audit compare. How long the flush took.
fn judge(site: &Site, record: &Record, tally: &mut Tally) -> Result<Duration> {
    let begun = Instant::now();
    let (attempts, limit) = FLUSHES;
    let mut said = String::new();
    let arrived = (0..attempts).try_fold(false, |arrived, _| -> Result<bool> {
        if arrived {
            return Ok(true);
        }
        let output = site.launch.ask(&["flush", "--timeout", limit])?;
        said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(output.status.success())
    })?;
    interrupt::check()?;
    if !arrived {
        bail!(Finding::misconduct(format!("flush does not come to an end within {attempts} times {limit}: {said}")));
    }
    let took = begun.elapsed();
    tally.slowest = tally.slowest.max((took, tally.rounds));
    let mut finding = Finding { what: String::new(), lost: 0, details: String::new() };
    for target in &site.targets {
        let differences = compare::differences(&site.source, &target.directory)?;
        if differences.is_empty() {
            continue;
        }
        thread::sleep(LATE);
        let still = compare::differences(&site.source, &target.directory)?.len();
        finding.lost += differences.len();
        write!(
            finding.what,
            "{}{} paths differ at {} ({still} still after {LATE:?})",
            comma(&finding.what),
            differences.len(),
            target.name
        )?;
        writeln!(finding.details, "== {}", target.name)?;
        for (path, what) in &differences {
            writeln!(finding.details, "{path:?}: {what}")?;
        }
        for path in differences.keys().take(SHOWN) {
            writeln!(finding.details, "-- done to {path:?}:\n    {}", record.of(path).join("\n    "))?;
        }
    }
    tally.lost += finding.lost;
    if finding.lost > 0 {
        return Err(finding.into());
    }
    tally.audited += audit(site)?;
    Ok(took)
}

/// Has the audit compare every target. How many names it has looked at; what it finds stands in the log.
fn audit(site: &Site) -> Result<u64> {
    let output = site.launch.ask(&["audit", "--timeout", AUDIT])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let names = |line: &str| line.split(": ").nth(2)?.split(' ').next()?.parse::<u64>().ok();
    let compared: Vec<_> = said.lines().filter_map(names).collect();
    if !matches!(output.status.code(), Some(0 | 1)) || compared.len() != site.targets.len() {
        let said = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
        bail!(Finding::misconduct(format!("the audit does not come to an end within {AUDIT}: {}", said.trim())));
    }
    Ok(compared.iter().sum())
}

fn comma(before: &str) -> &'static str {
    if before.is_empty() { "" } else { "; " }
}
