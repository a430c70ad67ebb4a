//! `trigsync sync`: one full pass to every target.

use std::{io::IsTerminal, path::Path, process::ExitCode, sync::Arc};

use anyhow::bail;
use futures_util::future::join_all;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::{
    FAILED, GUARDED,
    args::{CaptureFlags, Definition},
    small_runtime,
};
use crate::{
    config::{Config, TargetConfig},
    dispatch::{FullPass, SyncContext, full_pass},
    plan::open_root,
    rsync::{Progress, Rsync},
    runtime::InitialSync,
};

pub fn sync(state_dir: &Path, definition: &Definition) -> anyhow::Result<ExitCode> {
    let (_, config) = definition.options(state_dir, &CaptureFlags::default(), InitialSync::Always)?.configuration()?;
    say_who_has_no_target(&config)?;
    let rsync = Rsync::probe(&config.daemon.rsync)?;
    let bars = MultiProgress::new();
    let mut passes = Vec::new();
    for sync in config.syncs {
        let (_, root) = open_root(&sync.source)?;
        let context = Arc::new(SyncContext::new(Arc::new(sync), root));
        for target in context.config.targets.clone() {
            passes.push(one(context.clone(), target, &rsync, &bars));
        }
    }
    let codes = small_runtime()?.block_on(join_all(passes));
    // A guard's objection is told before a mere failure: it wants an answer.
    Ok(ExitCode::from(codes.into_iter().max().unwrap_or(0)))
}

/// A sync of plugins alone has nothing that could be made equal, or compared. Fails where there is no other.
pub(super) fn say_who_has_no_target(config: &Config) -> anyhow::Result<()> {
    let (without, with): (Vec<_>, Vec<_>) = config.syncs.iter().partition(|sync| sync.targets.is_empty());
    if with.is_empty() {
        bail!("no sync has a target: there are plugins alone, which `trigsync run` tells of changes");
    }
    for sync in without {
        eprintln!("trigsync: {}: left out, it has no targets", sync.name);
    }
    Ok(())
}

/// Returns the exit code.
async fn one(sync: Arc<SyncContext>, target: TargetConfig, rsync: &Rsync, bars: &MultiProgress) -> u8 {
    let name = target.name.clone();
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {prefix}: {msg}").expect("the template is valid");
        bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(name.clone()))
    });
    let shown = bar.clone();
    let progress = move |progress: Progress| {
        if let Some(bar) = &shown {
            let checked = progress.to_check.map(|(left, of)| format!(", {left} of {of} entries to look at")).unwrap_or_default();
            bar.set_message(format!("{} sent{checked}", HumanBytes(progress.bytes)));
            bar.tick();
        }
    };
    let result = full_pass(sync, target, rsync.clone(), Arc::new(progress)).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match result {
        FullPass::Equal(stats) => {
            println!("{name}: equal; {} files sent, {} deleted, {}", stats.transferred, stats.deleted, HumanBytes(stats.bytes_sent));
            0
        }
        FullPass::Failed(reason) => {
            eprintln!("trigsync: {name}: {reason}");
            FAILED
        }
        FullPass::Guarded(reason) => {
            eprintln!(
                "trigsync: {name}: stopped, nothing was deleted: {}",
                reason.replace("run `trigsync release`", "say --max-delete 100%")
            );
            GUARDED
        }
    }
}
