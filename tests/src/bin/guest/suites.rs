//! Runs a suite's program for a tier on a file system, and hands on what it prints.
//!
//! A suite is called as `PROGRAM … --tier TIER [--mask MASK] --dir DIR… --json [--only TEXT]` and prints one object a line: `dir`, `case`, `outcome`
//! (`passed`, `failed` or `not covered`) and `why`. Anything else that it says belongs on its standard error, which is the console.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    file_systems::Place,
    machine,
    plan::Run,
    report::{Case, Of, Report},
};

/// How a suite ended.
enum End {
    Exited(ExitStatus),
    TooLate,
}

/// Runs one suite on one tier, on as many of its file systems as there are. An error means that the host cannot be told.
pub fn run(run: &Run, places: &[Place], report: &Report) -> Result<()> {
    let of = |file_system| Of { suite: &run.suite, tier: &run.tier, file_system };
    let mut there = Vec::new();
    for file_system in &run.file_systems {
        match places.iter().find(|place| place.file_system == *file_system).map(|place| &place.directory) {
            Some(Ok(directory)) => there.push((file_system.as_str(), directory.as_path())),
            Some(Err(why)) => report.whole(of(file_system), "not covered", why)?,
            None => report.whole(of(file_system), "failed", "the plan makes no such file system")?,
        }
    }
    if there.is_empty() { Ok(()) } else { run_in(&there, run, report) }
}

fn run_in(there: &[(&str, &Path)], run: &Run, report: &Report) -> Result<()> {
    let names = there.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    let of_all = Of { suite: &run.suite, tier: &run.tier, file_system: &names };
    println!("guest: {} {} {names}", run.suite, run.tier);
    let (begun, limit) = (Instant::now(), Duration::from_secs(run.limit_seconds) * u32::try_from(there.len())?);
    let mut child = match start(run, there) {
        Ok(child) => child,
        Err(error) => return report.whole(of_all, "failed", &format!("{error:#}")),
    };
    let group = Pid::from_raw(child.id().cast_signed());
    let lines = lines_of(child.stdout.take().expect("it is piped"));
    let (mut cases, mut failed, mut last) = (0, 0, begun);
    let end = follow(&mut child, &lines, begun + limit, |case| {
        cases += 1;
        failed += usize::from(case.outcome == "failed");
        let took = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        last = Instant::now();
        let place = there.iter().find(|(_, directory)| *directory == case.dir).map_or(names.as_str(), |(name, _)| *name);
        report.case(Of { file_system: place, ..of_all }, &Case { milliseconds: took, ..case })
    })?;
    // Whatever it left behind must not disturb the next one.
    let _ = killpg(group, Signal::SIGKILL);
    machine::take_away_what_is_left();
    match end {
        End::TooLate => {
            let _ = child.wait();
            let why = format!("did not end within {} s; {cases} cases were through", limit.as_secs());
            report.whole(of_all, "failed", &why)?;
        }
        End::Exited(status) if !status.success() && failed == 0 => {
            report.whole(of_all, "failed", &format!("ended with {status} after {cases} cases; the console says more"))?;
        }
        End::Exited(_) if cases == 0 => report.whole(of_all, "failed", "ran no case")?,
        End::Exited(_) => {}
    }
    report.ended(of_all, begun.elapsed())
}

fn start(run: &Run, there: &[(&str, &Path)]) -> Result<Child> {
    let (program, first) = run.command.split_first().context("a suite without a program")?;
    let mut command = Command::new(program);
    command.args(first);
    match run.tier.split_once('@') {
        Some((tier, mask)) => command.args(["--tier", tier, "--mask", mask]),
        None => command.args(["--tier", &run.tier]),
    };
    for (_, directory) in there {
        command.arg("--dir").arg(directory);
    }
    command.arg("--json");
    if let Some(only) = &run.only {
        command.args(["--only", only]);
    }
    command.env_clear().envs([
        ("PATH", "/bin"),
        ("TRIGSYNC_BIN", "/bin/trigsync"),
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("RUST_BACKTRACE", "1"),
    ]);
    // A process group of its own, which is ended with it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("{program} does not start"))
}

fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Hands on lines until the suite has ended or its time is over. A descendant may keep the pipe open after the suite itself.
fn follow(child: &mut Child, lines: &Receiver<String>, until: Instant, mut take: impl FnMut(Case) -> Result<()>) -> Result<End> {
    let mut exited = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(if exited.is_some() { 50 } else { 200 })) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(case) => take(case)?,
                Err(_) => println!("{line}"),
            },
            Err(RecvTimeoutError::Disconnected) if exited.is_none() => thread::sleep(Duration::from_millis(20)),
            Err(_) => {
                if let Some(status) = exited {
                    return Ok(End::Exited(status));
                }
            }
        }
        if exited.is_none() {
            exited = child.try_wait()?;
        }
        if exited.is_none() && Instant::now() >= until {
            tell_where_it_hangs(child.id());
            return Ok(End::TooLate);
        }
    }
}

/// For the console: which system call each thread waits in.
fn tell_where_it_hangs(pid: u32) {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for thread in threads.flatten() {
        for file in ["comm", "wchan", "stack"] {
            let text = fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            println!("guest: {} {file}: {}", thread.path().display(), text.trim());
        }
    }
}
