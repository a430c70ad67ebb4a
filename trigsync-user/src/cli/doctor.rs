//! `trigsync doctor`: what works here, what does not, and what mends it.

use std::{path::Path, process::ExitCode};

use super::{FAILED, small_runtime};
use crate::{
    capture::{
        Tier,
        fanotify::{Finding, probe},
    },
    config::{Config, Overrides, RawConfig},
    rsync::{Route, Rsync},
};

pub fn doctor(state_dir: &Path, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = config.map(|file| RawConfig::read(file)?.resolve(&Overrides::default(), state_dir)).transpose()?;
    let mut report = Report { faults: 0 };
    report.capture(config.as_ref());
    let binary = config.as_ref().map_or(Path::new("rsync"), |config| &config.daemon.rsync);
    match Rsync::probe(binary) {
        Ok(rsync) => {
            report.line("rsync", Ok(&format!("{} {}", rsync.binary().display(), rsync.version())));
            if let Some(config) = &config {
                small_runtime()?.block_on(report.targets(config, &rsync));
            }
        }
        Err(error) => report.line("rsync", Err(&error.to_string())),
    }
    if config.is_none() {
        println!("      with --config FILE the sources and targets are tried too");
    }
    Ok(ExitCode::from(if report.faults > 0 { FAILED } else { 0 }))
}

struct Report {
    faults: usize,
}

impl Report {
    fn line(&mut self, subject: &str, result: Result<&str, &str>) {
        match result {
            Ok(text) => println!("OK    {subject}: {text}"),
            Err(text) => {
                println!("FAULT {subject}: {text}");
                self.faults += 1;
            }
        }
    }

    fn capture(&mut self, config: Option<&Config>) {
        let paths: Vec<_> = match config {
            Some(config) => config.syncs.iter().map(|sync| Some(&*sync.source)).collect(),
            None => vec![None],
        };
        for path in paths {
            for Finding { subject, works, detail } in probe(path) {
                // What a kernel lacks and nobody misses is no fault.
                let needed = subject != "FAN_RENAME";
                self.line(&subject, if works || !needed { Ok(&detail) } else { Err(&detail) });
            }
        }
        for what in Tier::Fanotify.not_covered() {
            println!("      not covered by {}: {what}", Tier::Fanotify);
        }
    }

    async fn targets(&mut self, config: &Config, rsync: &Rsync) {
        for sync in &config.syncs {
            for target in &sync.targets {
                let route = Route { source: &sync.source, filter: &sync.filter, cross_mounts: sync.cross_mounts, target };
                for check in rsync.check_target(&route).await {
                    let subject = format!("{}: {}: {}", sync.name, target.name, check.name);
                    self.line(&subject, check.result.as_deref().map_err(String::as_str));
                }
            }
        }
    }
}
