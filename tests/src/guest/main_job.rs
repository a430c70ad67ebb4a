//! The main job: a daemon between two directories, random changes by two processes, flush, compare. With ends and new beginnings.

use std::{thread, time::Duration};

use anyhow::ensure;
use nix::sys::signal::Signal;

use super::{Arguments, Figures, Rows, clock, job::Job, operations::Kind};
use crate::{mirror::Status, report::Report};

pub const NAME: &str = "main";

const ROUNDS: usize = 3;

/// Seconds by which the clock jumps in a round: half way forward, farther back, and forward to where it would be.
const JUMPS: [i64; ROUNDS] = [3600, -7200, 3600];

/// What the log says where a daemon goes on with the capture of one that was stopped, and of one that was killed.
const TAKEN_OVER: [&str; 2] =
    ["no full pass: capture went on since the last stop", "no full pass: capture went on, and what the last daemon knew"];

pub fn run(arguments: &Arguments) -> Vec<Report> {
    let duration = arguments.duration.unwrap_or(Duration::from_secs(10));
    let mut rows = Rows::new(NAME, arguments);
    // One job for all of them: where the capture outlives a daemon, its programs are verified once, which takes half a minute under an emulator.
    let mut job = None;
    rows.case("random changes by two processes, flush, equal trees", |figures| {
        rounds(the(&mut job, arguments)?, arguments, duration, figures)
    });
    rows.case("killed and started again while changes go on", |figures| {
        again(the(&mut job, arguments)?, arguments, duration, true, figures)
    });
    rows.case("stopped and started again while changes go on", |figures| {
        again(the(&mut job, arguments)?, arguments, duration, false, figures)
    });
    rows.case("what the kernel keeps is taken away", |_| the(&mut job, arguments)?.uninstall());
    rows.reports
}

fn the<'job, 'a>(job: &'job mut Option<Job<'a>>, arguments: &'a Arguments) -> anyhow::Result<&'job Job<'a>> {
    if job.is_none() {
        *job = Some(Job::new(arguments)?);
    }
    Ok(job.as_ref().expect("it was just made"))
}

fn rounds(job: &Job<'_>, arguments: &Arguments, duration: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    // The first is sent at once; another one would be on its way while trees are compared.
    let launch = job.launch_with("max_delete = '100%'\ncanary = '1h'\n");
    let mut mirror = job.start(&launch)?;
    let canary = |status: &Status| status.0["syncs"][0]["targets"][0]["canary"]["last_delay_ms"].as_f64();
    figures.push("canary_delay_ms", mirror.until("a canary has passed through the capture", Duration::from_secs(120), canary));
    let (mut operations, mut entries) = (0, 0);
    for (round, jump) in (1..=ROUNDS).zip(JUMPS) {
        let writers = job.writers(&[Kind::Mixed, Kind::Mixed], duration / 3)?;
        if arguments.jumps {
            thread::sleep(duration / 6);
            clock::jump(jump)?;
        }
        if round == ROUNDS {
            job.audited("while changes go on")?;
        }
        operations += writers.finish()?;
        entries = job.arrived(&format!("round {round}"))?;
    }
    job.audited("after the last round")?;
    figures.extend([("operations", operations as f64), ("entries", entries as f64)]);
    mirror.stop();
    Ok(())
}

fn again(job: &Job<'_>, arguments: &Arguments, duration: Duration, kill: bool, figures: &mut Figures) -> anyhow::Result<()> {
    let launch = job.launch();
    let mirror = job.start(&launch)?;
    job.writers(&[Kind::Mixed, Kind::Deep], duration / 5)?.finish()?;
    job.arrived("before the end")?;
    let writers = job.writers(&[Kind::Mixed, Kind::Deep], duration)?;
    thread::sleep(duration / 3);
    let mut mirror = mirror;
    let before = mirror.log().len();
    if kill {
        mirror.kill9_alone();
    } else {
        let status = mirror.terminate(Duration::from_secs(60));
        ensure!(status.success(), "it ended with {status}");
        drop(mirror);
    }
    thread::sleep(duration / 3);
    let resumed = job.start(&launch)?;
    let operations = writers.finish()?;
    let entries = job.arrived("after the new beginning")?;
    figures.extend([("operations", operations as f64), ("entries", entries as f64)]);
    if arguments.tier.name == "ebpf-fexit" && arguments.wish.mask.as_deref().is_none_or(|mask| mask == "el8.4") {
        resumed.until_logged_after(before, TAKEN_OVER[usize::from(kill)]);
    }
    mirror = resumed;
    mirror.signal(Signal::SIGTERM);
    mirror.terminate(Duration::from_secs(60));
    Ok(())
}
