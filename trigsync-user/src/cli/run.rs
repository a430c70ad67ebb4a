//! `trigsync run`.

use std::{io::Write, path::Path, process::ExitCode};

use super::args::Run;
use crate::runtime::Daemon;

pub fn run(state_dir: &Path, run: Run) -> anyhow::Result<ExitCode> {
    let options = run.definition.options(state_dir, &run.capture, run.initial_sync)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let daemon = Daemon::start(options).await?;
        say_ready(&daemon);
        daemon.run().await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One line on standard output. Nobody may read it.
fn say_ready(daemon: &Daemon) {
    let syncs = &daemon.config().syncs;
    let roots: Vec<_> = syncs.iter().map(|sync| sync.source.display().to_string()).collect();
    let targets: usize = syncs.iter().map(|sync| sync.targets.len()).sum();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "ready tier={} roots={} targets={targets}", daemon.tier(), roots.join(",")).and_then(|()| out.flush());
}
