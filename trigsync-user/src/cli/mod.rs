//! The command line: what each command prints, and its exit code.
//!
//! 0 fine, 1 it failed, 2 usage, configuration or no daemon, 3 a guard stopped it. Every failure is one line on standard error.

mod args;
mod ask;
mod check;
mod detach;
mod doctor;
mod events;
mod history;
mod import;
mod rsyncd_snippet;
mod run;
mod service;
mod sync;
mod uninstall;
mod verify;

use std::{env, ffi::OsString, io::Write, path::Path, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Args, Command, LogFormat};

use crate::{
    config::ConfigError,
    control::{ClientError, Request},
    journal::JournalError,
    runtime::{RuntimeError, write_canary},
};

/// It failed.
const FAILED: u8 = 1;
/// Usage, configuration, or no daemon.
const WRONG: u8 = 2;
/// A guard stopped it.
const GUARDED: u8 = 3;

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let args = Args::parse_from(as_sersync(env::args_os()));
    start_log(&args);
    let result = match args.command {
        Command::Run(run) => run::run(&args.state_dir, &run),
        Command::Sersync(sersync) => run::sersync(&args.state_dir, &sersync),
        Command::Sync(definition) => sync::sync(&args.state_dir, &definition),
        Command::Events { directory, json, capture } => events::events(&directory, json, &capture),
        Command::Doctor { config, capture } => doctor::doctor(&args.state_dir, config.as_deref(), &capture),
        Command::Import { file, plugin } => import::import(&file, plugin.as_deref()),
        Command::Flush { timeout } => ask::flush(&args.state_dir, timeout.into()),
        Command::Status { json } => ask::status(&args.state_dir, json),
        Command::Check(limits) => return check::check(&args.state_dir, &limits),
        Command::History(question) => history::history(&args.state_dir, question),
        Command::Verify(verify) => verify::verify(&args.state_dir, &verify),
        Command::Audit(audit) => ask::audit(&args.state_dir, &audit),
        Command::Release(which) => ask::order(&args.state_dir, &Request::Release(which), "released", "nothing was stopped or held"),
        Command::Hold(which) => ask::order(&args.state_dir, &Request::Hold(which), "held", "everything was held already"),
        Command::Retry(which) => ask::order(&args.state_dir, &Request::Retry(which), "tried now", "there is no target"),
        Command::Stop => ask::stop(&args.state_dir),
        Command::WriteCanary { orphan } => {
            write_canary(orphan);
            Ok(ExitCode::SUCCESS)
        }
        Command::UninstallCapture => uninstall::uninstall(&args.state_dir),
        Command::InstallService(install) => service::install(&args.state_dir, &install),
        Command::UninstallService(service) => service::uninstall(&service),
        Command::RsyncdSnippet(definition) => rsyncd_snippet::rsyncd_snippet(&args.state_dir, &definition),
    };
    result.unwrap_or_else(|error| {
        // Not `eprintln!`, which panics where standard error takes nothing, on a full disk for one.
        let _ = writeln!(std::io::stderr(), "trigsync: {error:#}");
        let wrong = error.is::<ConfigError>()
            || error.is::<ClientError>()
            || error.is::<JournalError>()
            || matches!(error.downcast_ref(), Some(RuntimeError::Config(_)));
        ExitCode::from(if wrong { WRONG } else { FAILED })
    })
}

/// Called by sersync's name, it takes sersync's options.
fn as_sersync(mut words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let name = words.next();
    let is_sersync = name.as_deref().map(Path::new).and_then(Path::file_name).is_some_and(|name| name == "sersync2" || name == "sersync");
    name.into_iter().chain(is_sersync.then(|| "sersync".into())).chain(words)
}

fn start_log(args: &Args) {
    // That it makes its tables is of interest to nobody.
    let filter = EnvFilter::new(format!("{},rusqlite_migration=warn", args.log_level));
    // Otherwise a line that could not be written is told by `eprintln!`, and its panic ends a daemon for a full disk under its log.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// A runtime for commands that wait for little.
fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
