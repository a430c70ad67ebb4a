//! The first process of a guest: gets the machine ready, runs the suites of the plan, tells the host what became of each case, and
//! ends the machine.
//!
//! - The host writes `/plan.json` into the initramfs and reads one JSON object a line from the second serial port ([`report`]). The first
//!   port is the kernel's console, where everything else goes.
//! - Process 1 only reaps, as an init has to: daemons that a suite leaves behind do not stay as zombies, which a test would take for
//!   running. Everything else happens in a child of it, so that a panic there ends the machine in order.
//! - The machine ends whatever happens: a suite has a time limit, and the host has one for the whole guest.

mod file_systems;
mod machine;
mod plan;
mod report;
mod suites;

use std::{env, process::Command};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

use plan::Plan;
use report::Report;

/// The argument that makes another process than the first do the work.
const WORK: &str = "work";

fn main() {
    if env::args().nth(1).as_deref() == Some(WORK) {
        if let Err(error) = work() {
            eprintln!("guest: {error:#}");
            std::process::exit(1);
        }
        return;
    }
    if nix::unistd::getpid().as_raw() != 1 {
        eprintln!("guest is the first process of a machine that `cargo xtask vm` starts; here it would mount over this one");
        std::process::exit(2);
    }
    if let Err(error) = machine::mount_everything().and_then(|()| reap_until_work_is_done()) {
        eprintln!("guest: {error:#}");
    }
    machine::end();
}

fn reap_until_work_is_done() -> Result<()> {
    let worker = Command::new("/proc/self/exe").arg(WORK).spawn().context("the worker does not start")?;
    let worker = Pid::from_raw(worker.id().cast_signed());
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) if pid == worker => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the worker"),
        }
    }
}

fn work() -> Result<()> {
    let report = Report::open()?;
    let plan = Plan::read()?;
    report.booted()?;
    machine::bring_up_loopback().context("the loopback interface does not come up")?;
    machine::load_modules(&plan.modules);
    if plan.counts {
        machine::go_first().context("other processes would be counted")?;
    }
    let places = file_systems::make(&plan.file_systems);
    for run in &plan.runs {
        suites::run(run, &places, &report)?;
    }
    report.done()
}
