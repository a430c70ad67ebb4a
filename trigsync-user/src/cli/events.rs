//! `trigsync events`: inotifywait for huge trees.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{args::CaptureFlags, small_runtime};
use crate::{
    capture::{
        Capture, Event, Sink, WatchedRoot,
        choose::{Opened, choose},
    },
    model::{RelPath, RelPathBuf, RootId, Scope},
};

pub fn events(directory: &Path, json: bool, flags: &CaptureFlags) -> anyhow::Result<ExitCode> {
    let path = directory.canonicalize().with_context(|| format!("cannot watch {}", directory.display()))?;
    small_runtime()?.block_on(async {
        let (ended, mut end) = mpsc::channel(1);
        let chosen = choose(&flags.wanted())?;
        tracing::info!("{}", chosen.summary());
        let Opened { source, details } = chosen.opened;
        for lack in details.lacks {
            tracing::warn!("{}: {lack}", source.tier());
        }
        let capture = Capture::spawn(source, Box::new(Printer { json, line: Vec::new(), ended }))?;
        capture.add_root(RootId(1), WatchedRoot::all(path.clone())).await?;
        eprintln!("watching {} ({})", path.display(), capture.tier());
        tokio::select! {
            why = end.recv() => match why {
                Some(End::RootGone) => anyhow::bail!("{} is gone: it was replaced, unmounted or deleted", path.display()),
                // Whoever read the events has gone.
                Some(End::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
                Some(End::Output(error)) => Err(error).context("cannot print"),
                None => Ok(ExitCode::SUCCESS),
            },
            why = capture.ended() => anyhow::bail!("{why}"),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| ExitCode::SUCCESS)?),
        }
    })
}

enum End {
    RootGone,
    Output(io::Error),
}

/// Prints on the capture thread: a slow reader slows only this capture.
struct Printer {
    json: bool,
    line: Vec<u8>,
    ended: mpsc::Sender<End>,
}

#[derive(Serialize)]
struct Line<'a> {
    path: &'a RelPathBuf,
    scope: Scope,
    ops: Vec<&'static str>,
}

impl Printer {
    fn changed(&mut self, path: &RelPath, scope: Scope, ops: crate::model::Ops) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.line, &Line { path: &path.to_owned(), scope, ops: ops.words().collect() })?;
            return self.line.write_all(b"\n");
        }
        let tree = match scope {
            Scope::Entry => "",
            Scope::Level => ",level",
            Scope::Tree => ",tree",
        };
        writeln!(self.line, "{ops}{tree} {path}")
    }
}

impl Sink for Printer {
    fn event(&mut self, event: Event<'_>) {
        let written = match event {
            Event::Changed { path, scope, ops, .. } => self.changed(path, scope, ops),
            Event::Lost { .. } => self.line.write_all(if self.json { b"{\"lost\":true}\n" } else { b"lost\n" }),
            Event::RootGone { .. } => {
                // The first reason to end is enough.
                let _ = self.ended.try_send(End::RootGone);
                Ok(())
            }
        };
        written.expect("writing to memory does not fail");
    }

    fn delivered(&mut self) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(&self.line).and_then(|()| out.flush()) {
            let _ = self.ended.try_send(End::Output(error));
        }
        self.line.clear();
    }
}
