//! `cargo xtask`: reads the command line and calls the task.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{cargo, chaos, demonstration, ebpf, fuzz, packages, privilege, testing, tidy, vm};

/// Builds, shows, tests and measures trigsync.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Without arguments a demonstration of half a minute; with arguments the same as `trigsync ARGS`, as root.
    Run {
        /// What trigsync is told, after `--`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Format, lints, documentation, house rules, and every test; with FILTER only the tests whose names contain it.
    Test {
        /// Part of a test's name.
        filter: Option<String>,
    },
    /// Makes everything go wrong that can, for minutes, and asks whether a change was lost.
    Chaos(chaos::Options),
    /// Hands random bytes to everything that reads bytes from outside.
    Fuzz(fuzz::Options),
    /// Boots kernels under qemu and runs the suites in them: capture on every tier and file system.
    Vm(vm::Options),
    /// The house rules: layers, module documentation, size of files, words that must not stay.
    Tidy,
    /// Builds the programs in the kernel anew and keeps the object. Needs bpf-linker and rust-src; nothing else does.
    Ebpf {
        /// Only compares: is the object that is kept what its sources give?
        #[arg(long)]
        check: bool,
    },
    /// Measures the daemon beside rsync alone. `cargo xtask bench -- --help` lists the scenarios.
    Bench {
        /// What the benchmark is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// The demonstration itself, with a binary that is built already: what `run` becomes under sudo.
    #[command(hide = true)]
    Demonstrate {
        /// The trigsync to show.
        binary: PathBuf,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Run { args } if args.is_empty() => {
            packages::require(&[packages::RSYNC])?;
            let binary = cargo::build_binary("trigsync-user", "trigsync", cargo::Profile::Release)?;
            if privilege::is_root() {
                demonstration::demonstrate(&binary)?;
                return Ok(ExitCode::SUCCESS);
            }
            println!("The demonstration goes on under sudo: fanotify tells a whole file system's changes to root only (CAP_SYS_ADMIN).");
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("demonstrate").arg(&binary);
            Err(privilege::become_as_root(command)?)
        }
        Task::Run { args } => {
            let binary = cargo::build_binary("trigsync-user", "trigsync", cargo::Profile::Release)?;
            Err(privilege::become_as_root(with_args(&binary, args))?)
        }
        Task::Test { filter } => testing::test(filter.as_deref()),
        Task::Ebpf { check } => {
            ebpf::build(check)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Chaos(options) => chaos::chaos(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Vm(options) => vm::vm(&options),
        Task::Tidy => tidy::report(&cargo::workspace_root()),
        Task::Bench { args } => {
            packages::require(&[packages::RSYNC])?;
            let trigsync = cargo::build_binary("trigsync-user", "trigsync", cargo::Profile::Release)?;
            let bench = cargo::build_binary("trigsync-benches", "trigsync-benches", cargo::Profile::Release)?;
            let mut command = Command::new(bench);
            command.arg("--trigsync").arg(trigsync).args(args);
            Err(privilege::become_as_root(command)?)
        }
        Task::Demonstrate { binary } => {
            demonstration::demonstrate(&binary)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn with_args(binary: &Path, args: Vec<OsString>) -> Command {
    let mut command = Command::new(binary);
    command.args(args);
    command
}
