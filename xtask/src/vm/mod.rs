//! `cargo xtask vm`: boots kernels, and runs suites in them.
//!
//! - A guest needs nothing from this machine but what is put into its initramfs: a kernel from anywhere can be tried.
//! - What a kernel, a tier or a file system cannot do is told as not covered, with the reason; it never passes.
//! - Everything lies in `target/guests`: kernels that were fetched, the last initramfs and console of each, and `results.json`.

mod fetch;
mod initramfs;
mod kernel;
mod matrix;
mod modules;
mod plan;
mod programs;
mod qemu;
mod report;

use std::{
    collections::VecDeque,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::{Child, ExitCode},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, interrupt, packages};
use initramfs::Archive;
use kernel::Kernel;
use plan::{Plan, Wanted};
use qemu::{Accelerator, Ended, Guest};
use report::{Case, Line, Outcome};

/// How long a guest may be silent: a suite ends within its own limit, and starting takes a while where nothing helps the emulator.
const LIMIT: Duration = Duration::from_secs(plan::LIMIT_SECONDS + 120);

/// How often a guest is started anew when the emulator was at fault.
const TRIES: usize = 3;

/// What `cargo xtask vm` is told.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// A bzImage to boot, or a Debian release (bullseye, bookworm, trixie, forky) whose cloud kernel is fetched. Default: all four.
    #[arg(long, value_name = "BZIMAGE")]
    pub kernel: Vec<String>,
    /// Where modules are: a directory like /lib/modules, or one of a single release in it. Default: beside the image, and /lib/modules.
    #[arg(long, value_name = "DIR")]
    pub modules: Vec<PathBuf>,
    /// Run only this suite.
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<String>,
    /// Run only this tier.
    #[arg(long, value_name = "NAME")]
    pub tier: Vec<String>,
    /// Run only on this file system.
    #[arg(long = "fs", value_name = "NAME")]
    pub file_system: Vec<String>,
    /// Run only cases whose names hold this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Run as much as `cargo xtask test` does: the same suites for a shorter time.
    #[arg(long)]
    pub brief: bool,
    /// Show the consoles.
    #[arg(long)]
    pub verbose: bool,
}

/// Runs the guests and prints what came of it. The exit code is 0 where nothing failed.
pub fn vm(options: &Options) -> Result<ExitCode> {
    interrupt::watch()?;
    let cases = run(options)?;
    Ok(if cases.iter().any(|case| case.outcome == Outcome::Failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Begins to build what the guests run, beside something else.
pub fn begin() -> Result<Child> {
    programs::begin()
}

/// What every change has to pass: a brief run on Debian's kernels, where each tier must be covered somewhere. Each suite on one tier
/// and file system of one kernel is one test, with its name and what came of it.
pub fn for_tests() -> Result<Vec<(String, Verdict)>> {
    interrupt::watch()?;
    let mut cases = run(&Options { brief: true, ..Options::default() })?;
    let missing = report::covered_nowhere(&cases);
    for case in &missing {
        println!("FAILED {} {} {}: {}", case.kernel, case.suite, case.tier, case.why);
    }
    cases.extend(missing);
    let verdict = |ran: report::Ran<'_>| match ran.count.0 {
        [0, 0, _] => Verdict::Skipped(ran.why.to_owned()),
        [_, 0, _] => Verdict::Passed,
        _ => Verdict::Failed,
    };
    Ok(report::by_run(&cases).into_iter().map(|ran| (ran.name.join(" ").trim_end().to_owned(), verdict(ran))).collect())
}

/// What came of a suite, as one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some cases passed, and none failed.
    Passed,
    /// A case failed.
    Failed,
    /// Nothing was covered, for this reason.
    Skipped(String),
}

fn run(options: &Options) -> Result<Vec<Case>> {
    let Options { suite: suites, tier: tiers, file_system: file_systems, only, brief, .. } = options.clone();
    let wanted = Wanted { suites, tiers, file_systems, only, brief };
    wanted.check()?;
    packages::require(&packages::FOR_GUESTS)?;
    if let Err(error) = packages::require(&packages::WELCOME_FOR_TESTS) {
        println!("{error:#}; its file system is not covered");
    }
    let directory = cargo::target_directory()?.join("guests");
    fs::create_dir_all(&directory)?;
    let kernels = kernels(options, &directory)?;
    let shared = directory.join("shared.cpio");
    println!("building what the guests run");
    programs::pack(&shared)?;
    let accelerator = qemu::accelerator(&kernels[0].image)?;
    let mut guests = Vec::new();
    for kernel in &kernels {
        guests.extend(wanted.plans(kernel).into_iter().map(|plan| (kernel, plan)));
    }
    let machine = Machine { directory: &directory, shared: &shared, accelerator, verbose: options.verbose };
    let cases = machine.run_all(guests)?;
    let results = directory.join("results.json");
    fs::write(&results, serde_json::to_vec_pretty(&cases)?)?;
    println!("\n{}\nresults: {}", matrix::text(&cases), results.display());
    Ok(cases)
}

fn kernels(options: &Options, directory: &Path) -> Result<Vec<Kernel>> {
    let own = directory.join("kernels");
    let names = if options.kernel.is_empty() { fetch::SUITES.map(str::to_owned).to_vec() } else { options.kernel.clone() };
    let mut kernels = Vec::new();
    for name in names {
        let image = if fetch::SUITES.contains(&name.as_str()) {
            let place = std::env::var_os(fetch::VARIABLE).map_or_else(|| own.clone(), PathBuf::from);
            fetch::image(&name, &place)?
        } else {
            name.into()
        };
        let kernel = Kernel::at(&image, &options.modules)?;
        let modules = kernel.modules.as_ref().map_or_else(|| "none: only what is built in".to_owned(), |place| place.display().to_string());
        println!("kernel {}, modules: {modules}", kernel.release);
        kernels.push(kernel);
    }
    if kernels.is_empty() {
        bail!("no kernel");
    }
    Ok(kernels)
}

/// What all guests of a run share.
struct Machine<'a> {
    directory: &'a Path,
    shared: &'a Path,
    accelerator: Accelerator,
    verbose: bool,
}

impl Machine<'_> {
    /// As many guests at a time as there are processors, up to four: a guest mostly keeps one busy. The newest kernels, which are named last, take
    /// longest, and come first: one that began last would run alone.
    fn run_all(&self, guests: Vec<(&Kernel, Plan)>) -> Result<Vec<Case>> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let at_once = processors.clamp(1, 4);
        let mut results: Vec<_> = guests.iter().map(|_| Ok(Vec::new())).collect();
        let waiting = Mutex::new(guests.into_iter().zip(results.iter_mut()).collect::<VecDeque<_>>());
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
                        let Some(((kernel, plan), result)) = next else { return };
                        *result = self.run_one(kernel, plan);
                    }
                });
            }
        });
        drop(waiting);
        Ok(results.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Boots one guest, and again for what is left where the emulator was at fault. That it ended badly is a failure among the cases;
    /// an error means that it could not be started.
    fn run_one(&self, kernel: &Kernel, mut plan: Plan) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for tried in 1.. {
            match self.boot(kernel, &mut plan, &mut cases)? {
                Ended::Done => break,
                Ended::Tripped if tried < TRIES => {
                    println!(
                        "{}: the emulator ran a breakpoint that the kernel had taken back; starting again for what is left",
                        kernel.release
                    );
                }
                Ended::Tripped => {
                    let why = format!("the emulator made the kernel panic (a breakpoint that was taken back) {TRIES} times");
                    cases.push(Case::failed(&kernel.release, "to its end", why));
                    break;
                }
                Ended::Lost(error) => {
                    cases.push(Case::failed(&kernel.release, "to its end", format!("{error:#}")));
                    break;
                }
            }
        }
        Ok(cases)
    }

    /// Boots one guest. What ended is taken out of the plan. Of what the emulator cut short only the failures are kept: it runs again.
    fn boot(&self, kernel: &Kernel, plan: &mut Plan, cases: &mut Vec<Case>) -> Result<Ended> {
        let console = qemu::console_of(self.directory, &kernel.release, plan.counts);
        let initramfs = console.with_extension("cpio");
        self.pack(kernel, plan, &initramfs)?;
        let guest = Guest {
            image: &kernel.image,
            initramfs: &initramfs,
            console: &console,
            shown_as: self.verbose.then_some(kernel.release.as_str()),
            counts: plan.counts,
            limit: LIMIT,
        };
        let begun = Instant::now();
        let mut unfinished: Vec<Case> = Vec::new();
        let ended = guest.run(self.accelerator, |line| match line {
            Line::Booted { release } => println!("{release}: up after {:.0} s", begun.elapsed().as_secs_f64()),
            Line::Ended { suite, tier, file_system, seconds } => {
                println!("{}: {suite} {tier} {file_system}: {seconds} s", kernel.release);
                plan.ended(&suite, &tier, &file_system);
                cases.append(&mut unfinished);
            }
            Line::Case(case) => {
                if case.outcome == Outcome::Failed {
                    println!("{}: FAILED {} {} {} `{}`: {}", kernel.release, case.suite, case.tier, case.file_system, case.case, case.why);
                }
                unfinished.push(Case { kernel: kernel.release.clone(), ..case });
            }
            Line::Done => {}
        });
        interrupt::check()?;
        let ended = ended?;
        if matches!(ended, Ended::Tripped) {
            unfinished.retain(|case| case.outcome == Outcome::Failed);
        }
        cases.append(&mut unfinished);
        println!("{}: ended after {:.0} s", kernel.release, begun.elapsed().as_secs_f64());
        Ok(ended)
    }

    fn pack(&self, kernel: &Kernel, plan: &mut Plan, initramfs: &Path) -> Result<()> {
        let mut archive = Archive::create(initramfs, Some(self.shared))?;
        plan.modules.clear();
        if let Some(directory) = &kernel.modules {
            let wanted = modules::for_file_systems(&plan.file_systems);
            for module in modules::closure(directory, &wanted)? {
                let path = format!("/modules/{}.ko", module.name);
                archive.file(Path::new(&path), &module.object)?;
                plan.modules.push(path);
            }
        }
        archive.file(Path::new("/plan.json"), &serde_json::to_vec(plan)?)?;
        archive.finish().with_context(|| format!("writing {}", initramfs.display()))
    }
}
