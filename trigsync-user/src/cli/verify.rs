//! `trigsync verify`: what differs between sources and targets.
//!
//! Changes that are on their way are no drift: what a first look finds is flushed and looked at a second time.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::{
    FAILED, WRONG,
    args::{CaptureFlags, Verify},
    small_runtime,
    sync::say_who_has_no_target,
};
use crate::{
    config::{Config, Overrides, SyncConfig, TargetConfig},
    control::{ClientError, Request, Response, call},
    model::RelPath,
    plan::{open_root, standing},
    rsync::{Comparison, Drift, Extent, Route, Rsync},
    runtime::InitialSync,
};

/// How long what a first look finds may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// So many paths are marked with one request.
const AT_ONCE: usize = 10_000;

pub fn verify(state_dir: &Path, verify: &Verify) -> anyhow::Result<ExitCode> {
    let config = configuration(state_dir, verify)?;
    say_who_has_no_target(&config)?;
    let rsync = Rsync::probe(&config.daemon.rsync)?;
    let runtime = small_runtime()?;
    let (mut drifted, mut unknown) = (false, false);
    for sync in &config.syncs {
        for target in &sync.targets {
            match runtime.block_on(look(state_dir, verify, &rsync, sync, target)) {
                Ok(drift) => {
                    for Drift { path, item } in &drift {
                        println!("{}: {item} {path}", target.name);
                    }
                    if verify.repair && !drift.is_empty() {
                        repair(state_dir, sync, target, &drift)?;
                    } else {
                        drifted |= !drift.is_empty();
                    }
                }
                Err(error) => {
                    eprintln!("trigsync: {}: {error:#}", target.name);
                    unknown = true;
                }
            }
        }
    }
    Ok(ExitCode::from(if unknown {
        WRONG
    } else if drifted {
        FAILED
    } else {
        0
    }))
}

/// What the command line says, or else what the running daemon does.
fn configuration(state_dir: &Path, verify: &Verify) -> anyhow::Result<Config> {
    if verify.definition.is_given() {
        return Ok(verify.definition.options(state_dir, &CaptureFlags::default(), InitialSync::Auto)?.configuration()?.1);
    }
    match call(state_dir, &Request::Config)
        .context("say what to compare: --config FILE, or --source DIR --target TARGET; or start the daemon")
    {
        Ok(Response::Config { config }) => Ok(config.resolve(&Overrides::default(), state_dir)?),
        Ok(_) => bail!("the daemon's answer does not fit the question; is it of another version?"),
        Err(error) => Err(error),
    }
}

async fn look(state_dir: &Path, verify: &Verify, rsync: &Rsync, sync: &SyncConfig, target: &TargetConfig) -> anyhow::Result<Vec<Drift>> {
    let route = Route::of(sync, target);
    let stop = CancellationToken::new();
    let compare = async |extent: Extent<'_>| match rsync.compare(&route, verify.checksum, extent, &stop).await {
        Ok(Comparison { drift, incomplete: None }) => Ok(drift),
        Ok(Comparison { incomplete: Some(answer), .. }) | Err(answer) => bail!("cannot compare: {}", answer.reason()),
    };
    let flush = || match call(state_dir, &Request::Flush { timeout_ms: ARRIVAL.as_millis() as u64 }) {
        Ok(_) | Err(ClientError::NoDaemon { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    flush()?;
    let first = compare(Extent::Whole).await?;
    if first.is_empty() {
        return Ok(first);
    }
    flush()?;
    let (root, _) = open_root(&sync.source)?;
    let paths = standing(root, first.into_iter().map(|drift| drift.path).collect());
    let paths: Vec<&RelPath> = paths.iter().map(|path| &**path).collect();
    compare(Extent::Names(&paths)).await
}

fn repair(state_dir: &Path, sync: &SyncConfig, target: &TargetConfig, drift: &[Drift]) -> anyhow::Result<()> {
    for part in drift.chunks(AT_ONCE) {
        let paths = part.iter().map(|drift| drift.path.clone()).collect();
        let request = Request::Mark { sync: sync.name.clone(), target: target.name.clone(), paths };
        match call(state_dir, &request).context("only a running daemon repairs; `trigsync sync` makes targets equal without one")? {
            Response::Marked => {}
            Response::Error { message } => bail!(message),
            _ => bail!("the daemon's answer does not fit the question; is it of another version?"),
        }
    }
    match call(state_dir, &Request::Flush { timeout_ms: ARRIVAL.as_millis() as u64 })? {
        Response::Flushed => {
            println!("{}: repaired {}", target.name, drift.len());
            Ok(())
        }
        Response::Behind { targets } => bail!("not repaired yet: {}", targets.join("; ")),
        Response::Error { message } => bail!(message),
        _ => bail!("the daemon's answer does not fit the question; is it of another version?"),
    }
}
