//! `trigsync doctor`: what works here, what does not, and what mends it.

use std::{path::Path, process::ExitCode};

use super::{FAILED, args::CaptureFlags, small_runtime};
use crate::{
    capture::{
        Finding, Tier,
        choose::{Wanted, allowed, ebpf_options, open, with_causes},
        ebpf,
        fanotify::probe,
    },
    config::{Config, Overrides, RawConfig},
    observe::check_fail_log,
    plugin,
    rsync::{Route, Rsync, check_connections},
};

pub fn doctor(state_dir: &Path, config: Option<&Path>, flags: &CaptureFlags) -> anyhow::Result<ExitCode> {
    let overrides = Overrides { backend: flags.backend, btf: flags.btf.clone(), ..Overrides::default() };
    let raw = config.map(RawConfig::read).transpose()?;
    for warning in raw.iter().flat_map(RawConfig::warnings) {
        println!("      {warning}");
    }
    let config = raw.map(|raw| raw.resolve(&overrides, state_dir)).transpose()?;
    let mut report = Report { faults: 0 };
    let wanted = config.as_ref().map_or_else(|| flags.wanted(), |config| Wanted::new(&config.daemon, flags.capture_mask.clone()));
    report.capture(&wanted, config.as_ref())?;
    if let Some(file) = config.as_ref().and_then(|config| config.daemon.fail_log.as_ref()) {
        let shown = file.display().to_string();
        let result = check_fail_log(file).map_err(|why| format!("{shown} {why}"));
        report.line("fail_log", result.as_ref().map(|()| &*shown).map_err(String::as_str));
    }
    if let Some(config) = &config {
        small_runtime()?.block_on(report.plugins(config));
    }
    if config.as_ref().is_some_and(|config| config.syncs.iter().all(|sync| sync.targets.is_empty())) {
        println!("      rsync: not needed, no sync has a target");
        return Ok(report.code());
    }
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
    Ok(report.code())
}

struct Report {
    faults: usize,
}

impl Report {
    fn code(&self) -> ExitCode {
        ExitCode::from(if self.faults > 0 { FAILED } else { 0 })
    }

    fn line(&mut self, subject: &str, result: Result<&str, &str>) {
        match result {
            Ok(text) => println!("OK    {subject}: {text}"),
            Err(text) => {
                println!("FAULT {subject}: {text}");
                self.faults += 1;
            }
        }
    }

    /// Every tier, best first: the one that a daemon would take, and why not the others.
    fn capture(&mut self, wanted: &Wanted, config: Option<&Config>) -> anyhow::Result<()> {
        let allowed = allowed(wanted.backend);
        let mut taken = None;
        for Finding { subject, works, detail } in ebpf::probe(&ebpf_options(wanted)?) {
            let tier = Tier::ALL.into_iter().find(|tier| tier.to_string() == subject);
            match tier.filter(|tier| works && allowed.contains(tier)) {
                Some(tier) if taken.is_none() => {
                    taken = Some(tier);
                    self.line(&subject, Ok(&format!("taken: {detail}")));
                }
                _ if works => println!("      {subject}: {detail}"),
                _ => println!("      {subject}: not taken: {detail}"),
            }
        }
        if taken.is_none() && allowed.contains(&Tier::Fanotify) {
            taken = Some(Tier::Fanotify);
            self.fanotify(config);
        } else {
            match open(Tier::Fanotify, wanted, &mut None) {
                Ok(_) => println!("      {}: works, and is not needed", Tier::Fanotify),
                Err(error) => println!("      {}: {}", Tier::Fanotify, with_causes(&error)),
            }
        }
        match taken {
            Some(tier) => tier.not_covered().iter().for_each(|what| println!("      not covered by {tier}: {what}")),
            None => {
                self.line("capture", Err(&format!("nothing works that backend = \"{}\" allows; the reasons are above", wanted.backend)))
            }
        }
        Ok(())
    }

    fn fanotify(&mut self, config: Option<&Config>) {
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
    }

    async fn plugins(&mut self, config: &Config) {
        for sync in &config.syncs {
            for plugin in &sync.plugins {
                let subject = format!("{}: plugin {}", sync.name, plugin.name);
                self.line(&subject, plugin::check(plugin).await.as_deref().map_err(String::as_str));
            }
        }
    }

    async fn targets(&mut self, config: &Config, rsync: &Rsync) {
        for sync in &config.syncs {
            for target in &sync.targets {
                let route = Route::of(sync, target);
                let mut checks = rsync.check_target(&route).await;
                if checks.iter().all(|check| check.result.is_ok()) {
                    let wanted = target.connections.get() + u32::from(sync.canary.is_some());
                    checks.extend(check_connections(target, wanted).await);
                }
                for check in checks {
                    let subject = format!("{}: {}: {}", sync.name, target.name, check.name);
                    self.line(&subject, check.result.as_deref().map_err(String::as_str));
                }
            }
        }
    }
}
