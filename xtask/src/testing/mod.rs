//! `cargo xtask test`: every check in stages, each with its name and its seconds; all run, whatever failed before.
//!
//! The last line is `N passed, N failed, N skipped`, summed over all test binaries.

mod results;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo, chaos,
    on_path::on_path,
    packages, privilege, tidy,
    vm::{self, Verdict},
};
use results::Results;

/// Tests that run at once, for each processor.
const AT_ONCE: usize = 3;

/// Runs everything; with a filter only the tests whose names contain it. The exit code is 0 where nothing failed.
pub fn test(filter: Option<&str>) -> Result<ExitCode> {
    let mut stages = Stages::default();
    let mut results = Results::default();
    stages.run("tools", tools);
    if filter.is_none() {
        stages.run("fmt", || checked(cargo::cargo().args(["fmt", "--all", "--check"])));
        stages
            .run("clippy", || checked(cargo::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])));
        stages
            .run("doc", || checked(cargo::cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings")));
        stages.run("tidy", tidy_workspace);
    }
    stages.run("build", || cargo::build_binary("trigsync-user", "trigsync", cargo::Profile::Dev).map(drop));
    // Tests leave the processors time, and what the guests run takes minutes to build.
    let guests = filter.is_none().then(vm::begin);
    stages.run("test", || run_tests(filter, &mut results));
    if let Some(begun) = guests {
        stages.run("guests and chaos", || {
            begun?.wait()?;
            guests_and_chaos(&mut results)
        });
    }
    Ok(stages.close(&results))
}

#[derive(Default)]
struct Stages {
    failures: Vec<String>,
    seconds: Vec<(&'static str, f64)>,
}

impl Stages {
    fn run(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        let begun = Instant::now();
        let outcome = stage();
        let seconds = begun.elapsed().as_secs_f64();
        self.seconds.push((name, seconds));
        match outcome {
            Ok(()) => println!("== {name}: {seconds:.1} s"),
            Err(error) => {
                println!("== {name}: FAILED after {seconds:.1} s");
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
    }

    fn close(&self, results: &Results) -> ExitCode {
        println!();
        println!("{}", self.seconds.iter().map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect::<Vec<_>>().join(" · "));
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        println!("{}", results.closing_line());
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn tools() -> Result<()> {
    for component in ["fmt", "clippy"] {
        let there = cargo::cargo().args([component, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
        if !there && on_path("rustup") {
            let component = if component == "fmt" { "rustfmt" } else { component };
            println!("{component}: not here; `rustup component add {component}`");
            checked(Command::new("rustup").args(["component", "add", component]).current_dir(cargo::workspace_root()))?;
        }
    }
    if let Err(error) = packages::require(&packages::WELCOME_FOR_TESTS) {
        println!("{error:#}; the tests that want it are skipped");
    }
    if !on_path("npm") {
        println!("npm: not here, and not installed by xtask; the test that wants it is skipped");
    }
    packages::require(&packages::FOR_TESTS)
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} does not start", command.get_program().display()))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("`{} {}` failed ({status})", command.get_program().display(), arguments.join(" "));
    }
    Ok(())
}

fn tidy_workspace() -> Result<()> {
    let violations = tidy::check(&cargo::workspace_root())?;
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} breaches of the house rules", violations.len());
    }
    Ok(())
}

/// Plain `cargo test`, wherever it runs: one way to run the tests, the documentation's examples included.
fn run_tests(filter: Option<&str>, results: &mut Results) -> Result<()> {
    let mut command = cargo::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(filter).args(["--", "--show-output"]);
    command.envs(privilege::cargo_runner()?);
    // Most of them wait, for something to arrive or to be given up: another test can run meanwhile.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    command.env("RUST_TEST_THREADS", (processors * AT_ONCE).to_string());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cargo does not start")?;
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let shared = Mutex::new(results);
    thread::scope(|scope| {
        scope.spawn(|| {
            each_line(stderr, |line| {
                if shared.lock().expect("no reader panics").line(line) {
                    eprintln!("{line}")
                }
            })
        });
        each_line(stdout, |line| {
            if shared.lock().expect("no reader panics").line(line) {
                println!("{line}")
            }
        });
    });
    let status = child.wait()?;
    let results = shared.into_inner().expect("no reader panics");
    if !status.success() {
        results.ended_badly();
        bail!("{} tests failed ({status})", results.failed());
    }
    let avoidable = results.avoidable_skips();
    if is_ci() && !avoidable.is_empty() {
        bail!("skipped for want of a tool that can be installed: {}", avoidable.join("; "));
    }
    Ok(())
}

/// Chaos goes by the clock and waits often; guests keep the processors busy. What chaos says is printed when it has ended.
fn guests_and_chaos(results: &mut Results) -> Result<()> {
    let (guests, (chaos, said)) = thread::scope(|scope| {
        let chaos = scope.spawn(|| {
            let mut said = Vec::new();
            (chaos::for_tests(&mut said), said)
        });
        (run_guests(results), chaos.join().expect("chaos does not panic"))
    });
    println!("chaos, beside the guests:\n{}", String::from_utf8_lossy(&said));
    match (guests, chaos) {
        (Err(guests), Err(chaos)) => bail!("{guests:#}; {chaos:#}"),
        (guests, chaos) => guests.and(chaos),
    }
}

/// The suites in guests. A machine that cannot run them skips them, but not where everything has to run.
fn run_guests(results: &mut Results) -> Result<()> {
    let tests = match vm::for_tests() {
        Ok(tests) => tests,
        Err(error) if is_ci() => return Err(error),
        Err(error) => {
            println!("SKIPPED guests: {error:#}");
            results.add("guests", Verdict::Skipped(format!("{error:#}")));
            return Ok(());
        }
    };
    let failed = tests.iter().filter(|(_, verdict)| *verdict == Verdict::Failed).count();
    for (name, verdict) in tests {
        if let Verdict::Skipped(cause) = &verdict {
            println!("SKIPPED {name}: {cause}");
        }
        results.add(&name, verdict);
    }
    if failed > 0 {
        bail!("{failed} suites failed in guests");
    }
    Ok(())
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

fn each_line(stream: impl Read, mut take: impl FnMut(&str)) {
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        take(&String::from_utf8_lossy(&line));
    }
}
