//! `trigsync run`, and what `trigsync sersync` makes of sersync2's options.

use std::{io::Write, num::NonZeroU32, path::Path, process::ExitCode};

use super::{
    args::{Run, Sersync, absolute},
    detach,
};
use crate::{
    config::{Overrides, RawConfig},
    runtime::{Daemon, InitialSync, Options, Origin},
};

pub fn run(state_dir: &Path, run: &Run) -> anyhow::Result<ExitCode> {
    if detach::is_wanted(run.background) {
        return detach::start(state_dir);
    }
    mirror(run.definition.options(state_dir, &run.capture, run.initial_sync)?, run.background.detached)
}

pub fn sersync(state_dir: &Path, sersync: &Sersync) -> anyhow::Result<ExitCode> {
    if detach::is_wanted(sersync.background) {
        return detach::start(state_dir);
    }
    let config = absolute(&sersync.config);
    let connections = match sersync.processes {
        Some(processes) if sersync.plugin.is_none() => Some(share(processes, RawConfig::read(&config)?.target_count())),
        _ => None,
    };
    for (is_given, option) in [(sersync.full_pass, "-r"), (sersync.processes.is_some(), "-n")] {
        if is_given && sersync.plugin.is_some() {
            tracing::warn!("{option} has no effect beside -m: no rsync is started, and nothing is made equal");
        }
    }
    let options = Options {
        origin: match &sersync.plugin {
            Some(plugin) => Origin::Plugin { file: config, plugin: plugin.clone() },
            None => Origin::File(config),
        },
        overrides: Overrides { connections, ..Overrides::default() },
        capture_mask: None,
        capture_ring: None,
        state_dir: absolute(state_dir),
        initial_sync: if sersync.full_pass { InitialSync::Always } else { InitialSync::Auto },
    };
    mirror(options, sersync.background.detached)
}

/// How many processes each of so many targets gets: at least one, since one that waits for a dead target would hold up all.
fn share(processes: NonZeroU32, targets: usize) -> u32 {
    let targets = u32::try_from(targets).unwrap_or(u32::MAX).max(1);
    (processes.get() / targets).max(1)
}

fn mirror(options: Options, detached: bool) -> anyhow::Result<ExitCode> {
    if detached {
        detach::leave()?;
    }
    let state_dir = options.state_dir.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let daemon = Daemon::start(options).await?;
        let _pid_file = if detached { Some(detach::PidFile::write(&state_dir)?) } else { None };
        say_ready(&daemon);
        daemon.run().await?;
        Ok(ExitCode::SUCCESS)
    });
    // A plugin's server whose name is being looked up is not waited for.
    runtime.shutdown_background();
    result
}

/// One line on standard output. Nobody may read it.
fn say_ready(daemon: &Daemon) {
    let syncs = &daemon.config().syncs;
    let roots: Vec<_> = syncs.iter().map(|sync| sync.source.display().to_string()).collect();
    let targets: usize = syncs.iter().map(|sync| sync.targets.len()).sum();
    let mut out = std::io::stdout().lock();
    let plugins: usize = syncs.iter().map(|sync| sync.plugins.len()).sum();
    let plugins = if plugins > 0 { format!(" plugins={plugins}") } else { String::new() };
    let _ = writeln!(out, "ready tier={} roots={} targets={targets}{plugins}", daemon.tier(), roots.join(",")).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_shared_out_and_every_target_has_one() {
        let share = |processes, targets| share(NonZeroU32::new(processes).unwrap(), targets);
        assert_eq!(share(10, 1), 10);
        assert_eq!(share(10, 3), 3);
        assert_eq!(share(1, 3), 1);
        assert_eq!(share(4, 0), 4);
    }
}
