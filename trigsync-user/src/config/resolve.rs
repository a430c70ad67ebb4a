//! From what was written to a [`Config`] that cannot be wrong, as far as this machine can tell.
//!
//! - Every source is a directory, every file that is named can be read and is closed to others.
//! - No target of this machine touches its source, another target or the daemon's own state, by whatever path.
//! - The first thing that is wrong is told, with its place and its remedy; nothing is started.

use std::{
    collections::HashMap,
    fs::{self, File},
    num::NonZeroU32,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    AuditConfig, BatchLimits, CANARY, Config, ConfigError, DaemonConfig, Filter, Guards, InPlace, InvalidAddress, Overrides, RawConfig,
    Schedule, Settle, SyncConfig, TargetAddress, TargetConfig, Times, alone, options,
    places::{Mounts, Place, last_name},
    plugin,
    raw::{At, RawAudit, RawSchedule, RawSync, RawTarget, absolute},
};
use crate::model::RelPath;

impl RawConfig {
    /// Fills in the defaults and checks everything that can be checked without touching a target. `state_dir` is where the daemon
    /// keeps its state; it need not exist.
    pub fn resolve(self, overrides: &Overrides, state_dir: &Path) -> Result<Config, ConfigError> {
        let raw = self.with_overrides(overrides)?;
        let mounts = Mounts::read();
        let state = mounts
            .place(&absolute(state_dir, "--state-dir")?)
            .map_err(|error| ConfigError::new("--state-dir", format!("`{}` cannot be used: {error}", state_dir.display())))?;
        let resolver = Resolver { file: raw.file.as_deref(), mounts, state };
        let mut syncs = Vec::with_capacity(raw.syncs.len());
        let mut names = HashMap::new();
        for sync in &raw.syncs {
            let resolved = resolver.sync(sync)?;
            let at = sync.name.as_ref().map_or_else(|| sync.section.mention(), At::mention);
            if let Some(first) = names.insert(resolved.name.clone(), at) {
                let message = format!("`{}` is also the name of {first} (write another name =)", resolved.name);
                return Err(match &sync.name {
                    Some(name) => resolver.error(name, message),
                    None => resolver.error(&sync.section, message),
                });
            }
            syncs.push(resolved);
        }
        resolver.guard_places(&raw, &mut syncs)?;
        let daemon = DaemonConfig {
            backend: value(&raw.backend).unwrap_or_default(),
            btf: raw.btf.as_ref().map(|btf| resolver.btf(btf)).transpose()?,
            unlimited_queue: value(&raw.unlimited_queue).unwrap_or(true),
            on_state_change: raw.on_state_change.iter().map(|word| word.value.clone()).collect(),
            fail_log: value(&raw.fail_log),
            metrics: value(&raw.metrics),
            memory: value(&raw.memory).unwrap_or(MEMORY),
            rsync: value(&raw.rsync).unwrap_or_else(|| "rsync".into()),
            stop_timeout: value(&raw.stop_timeout).unwrap_or(Duration::from_secs(10)),
            control_group: raw.control_group.as_ref().map(|group| resolver.group(group)).transpose()?,
        };
        Ok(Config { syncs, daemon })
    }
}

/// Of it, marks get what the journal's buffers and the rest of the daemon leave.
const MEMORY: u64 = 512 << 20;

/// Between two full passes.
const SHORTEST: Duration = Duration::from_secs(1);

fn value<T: Clone>(at: &Option<At<T>>) -> Option<T> {
    at.as_ref().map(|at| at.value.clone())
}

pub(super) struct Resolver<'a> {
    file: Option<&'a Path>,
    pub(super) mounts: Mounts,
    /// The state directory.
    pub(super) state: Place,
}

impl plugin::Wrong for Resolver<'_> {
    fn error<T>(&self, at: &At<T>, message: String) -> ConfigError {
        at.error(self.file, message)
    }

    fn private_file(&self, file: &At<PathBuf>) -> Result<(), ConfigError> {
        self.private_file(file)
    }
}

impl Resolver<'_> {
    pub(super) fn error<T>(&self, at: &At<T>, message: impl Into<String>) -> ConfigError {
        at.error(self.file, message)
    }

    fn sync(&self, raw: &RawSync) -> Result<SyncConfig, ConfigError> {
        let Some(source) = &raw.source else {
            return Err(self.error(&raw.section, "has no `source` (write the directory to mirror)"));
        };
        alone::check(raw).map_err(|(at, message)| self.error(&at, message))?;
        let path = self.source(source)?;
        let name = match &raw.name {
            Some(name) => self.name(name)?,
            None => last_name(&path),
        };
        let mut targets = Vec::with_capacity(raw.targets.len());
        let mut names = HashMap::new();
        for target in &raw.targets {
            let resolved = self.target(target)?;
            let at = target.name.as_ref().unwrap_or(&target.to);
            if let Some(first) = names.insert(resolved.name.clone(), at.mention()) {
                return Err(self.error(at, format!("`{}` is also the name of {first} (write another name =)", resolved.name)));
            }
            targets.push(resolved);
        }
        let mut plugins: Vec<plugin::PluginConfig> = Vec::with_capacity(raw.plugins.len());
        for written in &raw.plugins {
            let resolved = plugin::resolve(written, self)?;
            if plugins.iter().any(|other| other.name == resolved.name) {
                return Err(
                    self.error(&written.name, format!("`{}` is also the name of another plugin (write another name =)", resolved.name))
                );
            }
            if let Some(after) = written.after.as_ref().filter(|after| !names.contains_key(&after.value)) {
                return Err(
                    self.error(after, format!("there is no target `{}` in this sync (write its name =, or its address)", after.value))
                );
            }
            plugins.push(resolved);
        }
        let filter = self.filter(&raw.patterns, &path)?;
        if let Some(canary) = &raw.canary {
            self.canary(canary, &filter)?;
        }
        Ok(SyncConfig {
            name,
            filter: Arc::new(filter),
            source: path,
            cross_mounts: value(&raw.cross_mounts).unwrap_or(false),
            keep: !value(&raw.delete).unwrap_or(true),
            written_here: false, // until all places are known
            settle: self.settle(raw)?,
            batch: BatchLimits {
                paths: value(&raw.batch_paths).map_or(50_000, |paths| usize::try_from(paths).unwrap_or(usize::MAX)),
                bytes: value(&raw.batch_bytes).unwrap_or(1 << 30),
            },
            guards: Guards {
                max_delete: value(&raw.max_delete).unwrap_or(0.5),
                max_delete_floor: value(&raw.max_delete_floor).unwrap_or(if raw.max_delete.is_some() { 0 } else { 1000 }),
            },
            retry_max: value(&raw.retry_max),
            audit: audit(&raw.audit),
            full_pass: raw.full_pass.as_ref().map(|raw| self.schedule(raw)).transpose()?,
            canary: value(&raw.canary),
            targets,
            plugins,
        })
    }

    fn schedule(&self, raw: &RawSchedule) -> Result<Schedule, ConfigError> {
        let times = match (&raw.cron, &raw.every) {
            (Some(_), Some(every)) => return Err(self.error(every, "stands beside `cron` (write one of the two)")),
            (Some(cron), None) => Times::Cron(cron.value.clone()),
            (None, Some(every)) if every.value < SHORTEST => {
                return Err(self.error(every, "is less than a second (write the time between two full passes, such as \"1d\")"));
            }
            (None, Some(every)) => Times::Every(every.value),
            (None, None) => return Err(self.error(&raw.section, "says no time (write cron = \"30 3 * * 0\" or every = \"1d\")")),
        };
        Ok(Schedule { times, jitter: value(&raw.jitter).unwrap_or_default(), window: value(&raw.window) })
    }

    fn source(&self, source: &At<PathBuf>) -> Result<PathBuf, ConfigError> {
        let shown = source.value.display();
        let path = fs::canonicalize(&source.value).map_err(|error| self.error(source, format!("`{shown}` cannot be used: {error}")))?;
        if !path.is_dir() {
            return Err(self.error(source, format!("`{shown}` is not a directory (name the directory to mirror)")));
        }
        Ok(path)
    }

    fn btf(&self, btf: &At<PathBuf>) -> Result<PathBuf, ConfigError> {
        let shown = btf.value.display();
        let file = File::open(&btf.value).and_then(|file| file.metadata());
        match file.map_err(|error| self.error(btf, format!("`{shown}` cannot be used: {error}")))?.is_file() {
            true => Ok(btf.value.clone()),
            false => Err(self.error(btf, format!("`{shown}` is not a file (name a BTF file of the running kernel, or leave it out)"))),
        }
    }

    fn group(&self, group: &At<String>) -> Result<u32, ConfigError> {
        let name = &group.value;
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        match nix::unistd::Group::from_name(name) {
            Ok(Some(found)) => Ok(found.gid.as_raw()),
            Ok(None) => {
                Err(self.error(group, format!("there is no group `{name}` (make it, or write the name or number of one that exists)")))
            }
            Err(errno) => Err(self.error(group, format!("the group `{name}` cannot be looked up: {errno} (write its number)"))),
        }
    }

    /// What is excluded never arrives.
    fn canary(&self, canary: &At<Duration>, filter: &Filter) -> Result<(), ConfigError> {
        let file = RelPath::new(CANARY.as_bytes()).map_err(|error| self.error(canary, error.to_string()))?;
        if !filter.excludes(file, false) {
            return Ok(());
        }
        Err(self.error(canary, format!("its file, {CANARY}, is excluded (write include = [\"/{CANARY}\"], or leave canary out)")))
    }

    fn name(&self, name: &At<String>) -> Result<String, ConfigError> {
        let text = &name.value;
        if text.is_empty() || text.contains(|c: char| c.is_control() || c == '/') {
            return Err(self.error(name, "is empty or holds a slash or a control character (write a short word)"));
        }
        Ok(text.clone())
    }

    /// What the operator wrote, and the state directory where it lies inside the source: it never rests, and is nobody else's business.
    fn filter(&self, patterns: &[At<String>], source: &Path) -> Result<Filter, ConfigError> {
        let mut lines: Vec<String> = patterns.iter().map(|pattern| pattern.value.clone()).collect();
        if let Ok(below) = self.state.path.strip_prefix(source)
            && !below.as_os_str().is_empty()
        {
            let Some(below) = below.to_str() else {
                return Err(ConfigError::new("--state-dir", "lies inside a source, and its name is not UTF-8 (choose another)"));
            };
            let literal = |c: char| if "\\*?[".contains(c) { format!("\\{c}") } else { c.into() };
            lines.push(format!("/{}/", below.chars().map(literal).collect::<String>()));
        }
        self.matcher("exclude", patterns, &lines)
    }

    /// All that was written for `key`, each pattern refused where it stands, and whatever else is among the lines.
    fn matcher(&self, key: &str, patterns: &[At<String>], lines: &[String]) -> Result<Filter, ConfigError> {
        for pattern in patterns {
            Filter::new(std::slice::from_ref(&pattern.value)).map_err(|error| self.error(pattern, error.to_string()))?;
        }
        Filter::new(lines).map_err(|error| match patterns.first() {
            Some(first) => self.error(first, error.to_string()),
            None => ConfigError::new(key, error.to_string()),
        })
    }

    fn settle(&self, raw: &RawSync) -> Result<Settle, ConfigError> {
        let settle = Settle {
            finished: value(&raw.settle_finished).unwrap_or(Duration::from_millis(5)),
            quiet: value(&raw.settle_quiet).unwrap_or(Duration::from_millis(20)),
            max_age: value(&raw.settle_max_age).unwrap_or(Duration::from_secs(1)),
        };
        let longer = [(&raw.settle_finished, settle.finished, "finished"), (&raw.settle_quiet, settle.quiet, "quiet")];
        for (written, duration, key) in longer {
            if let Some(at) = written.as_ref().or(raw.settle_max_age.as_ref()).filter(|_| duration > settle.max_age) {
                let (duration, age) = (humantime::format_duration(duration), humantime::format_duration(settle.max_age));
                return Err(self.error(at, format!("{key} is {duration}, longer than max_age, {age} (raise max_age)")));
            }
        }
        Ok(settle)
    }

    fn target(&self, raw: &RawTarget) -> Result<TargetConfig, ConfigError> {
        let written = &raw.to.value;
        let mut address: TargetAddress = written.parse().map_err(|error: InvalidAddress| self.error(&raw.to, error.about(written)))?;
        if let TargetAddress::Local(path) = &mut address {
            *path = self.place(&raw.to, path)?.path;
            if path.exists() && !path.is_dir() {
                return Err(self.error(&raw.to, format!("`{written}` is not a directory (name the directory to write to)")));
            }
        }
        if let Some(file) = &raw.password_file {
            if !matches!(address, TargetAddress::Daemon { .. }) {
                return Err(self.error(file, "is for rsync daemons only (for ssh write identity =)"));
            }
            self.private_file(file)?;
        }
        if let Some(file) = &raw.identity {
            if !matches!(address, TargetAddress::Ssh { .. }) {
                return Err(self.error(file, "is for targets over ssh only (for rsync daemons write password_file =)"));
            }
            self.private_file(file)?;
        }
        for option in &raw.options {
            options::check(&option.value).map_err(|message| self.error(option, message))?;
        }
        let connections = value(&raw.connections).unwrap_or(const { NonZeroU32::new(2).unwrap() });
        if let Some(warm) = raw.warm.as_ref().filter(|warm| warm.value > connections.get()) {
            return Err(self.error(warm, format!("is more than connections = {connections}, of which it is a part")));
        }
        let inplace = self.inplace(raw, &address)?;
        Ok(TargetConfig {
            name: match &raw.name {
                Some(name) if name.value.is_empty() || name.value.contains(char::is_control) => {
                    return Err(self.error(name, "is empty or holds a control character (write a short word)"));
                }
                Some(name) => name.value.clone(),
                None => written.clone(),
            },
            address,
            password_file: value(&raw.password_file),
            identity: value(&raw.identity),
            options: raw.options.iter().map(|option| option.value.clone()).collect(),
            bandwidth_limit: value(&raw.bandwidth_limit),
            connections,
            inplace,
            warm: value(&raw.warm).unwrap_or(u32::from(connections.get() > 1)),
            timeout: value(&raw.timeout).unwrap_or(Duration::from_secs(60)),
            modify_window: value(&raw.modify_window).unwrap_or(-1),
        })
    }

    fn inplace(&self, raw: &RawTarget, address: &TargetAddress) -> Result<InPlace, ConfigError> {
        let of_this_machine =
            "is for targets over the network; into a directory of this machine rsync would read both files to write one (leave it out)";
        if matches!(address, TargetAddress::Local(_)) {
            if let Some(from) = &raw.inplace_from {
                return Err(self.error(from, of_this_machine));
            }
            if let Some(pattern) = raw.inplace.first() {
                return Err(self.error(pattern, of_this_machine));
            }
        }
        let patterns: Vec<_> = raw.inplace.iter().map(|pattern| pattern.value.clone()).collect();
        Ok(InPlace { files: self.matcher("inplace", &raw.inplace, &patterns)?, from: value(&raw.inplace_from) })
    }

    /// A file with a secret: rsync and ssh refuse one that others can read, and only when it is too late.
    fn private_file(&self, file: &At<PathBuf>) -> Result<(), ConfigError> {
        let path = file.value.display();
        let metadata = fs::metadata(&file.value).map_err(|error| self.error(file, format!("`{path}` cannot be used: {error}")))?;
        if !metadata.is_file() {
            return Err(self.error(file, format!("`{path}` is not a file")));
        }
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(self.error(file, format!("`{path}` is open to others, mode {mode:03o} (chmod 600 {path})")));
        }
        if nix::unistd::geteuid().is_root() && metadata.uid() != 0 {
            return Err(
                self.error(file, format!("`{path}` is not owned by root, as it must be when trigsync runs as root (chown root {path})"))
            );
        }
        File::open(&file.value).map_err(|error| self.error(file, format!("`{path}` cannot be read: {error}")))?;
        Ok(())
    }

    pub(super) fn place(&self, at: &At<String>, path: &Path) -> Result<Place, ConfigError> {
        self.mounts.place(path).map_err(|error| self.error(at, format!("`{}` cannot be used: {error}", path.display())))
    }
}

fn audit(raw: &RawAudit) -> Option<AuditConfig> {
    let default = AuditConfig::default();
    value(&raw.on).unwrap_or(true).then(|| AuditConfig {
        every: value(&raw.every).unwrap_or(default.every),
        names: value(&raw.names).unwrap_or(default.names),
        bytes: value(&raw.bytes).unwrap_or(default.bytes),
        share: value(&raw.share).unwrap_or(default.share),
        window: value(&raw.window),
        checksum: value(&raw.checksum).unwrap_or(default.checksum),
    })
}
