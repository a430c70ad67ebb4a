//! What the operator wrote, value by value, each with its place. Checked as far as one value can be checked alone.
//!
//! A `RawConfig` goes to another process as JSON and resolves to the same there: relative paths are made absolute when it is
//! read, and it names files that hold secrets, never secrets.

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Backend, ConfigError, CronExpression, Window, import_plugin, parse, plugin::RawPlugin, sersync};

/// Bytes of a configuration.
const LARGEST: u64 = 16 << 20;

/// A configuration as written, from a file or from flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawConfig {
    pub(super) file: Option<PathBuf>,
    /// What is written and has no effect, or not the effect that one might expect. One line each.
    #[serde(default)]
    pub(super) warnings: Vec<String>,
    pub(super) backend: Option<At<Backend>>,
    pub(super) btf: Option<At<PathBuf>>,
    pub(super) unlimited_queue: Option<At<bool>>,
    pub(super) on_state_change: Vec<At<String>>,
    pub(super) fail_log: Option<At<PathBuf>>,
    pub(super) metrics: Option<At<SocketAddr>>,
    pub(super) memory: Option<At<u64>>,
    pub(super) rsync: Option<At<PathBuf>>,
    pub(super) stop_timeout: Option<At<Duration>>,
    pub(super) control_group: Option<At<String>>,
    pub(super) syncs: Vec<RawSync>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct At<T> {
    pub(super) value: T,
    /// From 1; none for flags.
    pub(super) line: Option<usize>,
    /// From 1, in characters; none for TOML and flags.
    pub(super) column: Option<usize>,
    /// `sync.source`, or `--source`.
    pub(super) key: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RawSync {
    /// The section itself.
    pub(super) section: At<()>,
    pub(super) name: Option<At<String>>,
    pub(super) source: Option<At<PathBuf>>,
    /// gitignore lines in their order, the includes as `!…`.
    pub(super) patterns: Vec<At<String>>,
    pub(super) cross_mounts: Option<At<bool>>,
    pub(super) delete: Option<At<bool>>,
    pub(super) settle_finished: Option<At<Duration>>,
    pub(super) settle_quiet: Option<At<Duration>>,
    pub(super) settle_max_age: Option<At<Duration>>,
    pub(super) batch_paths: Option<At<u64>>,
    pub(super) batch_bytes: Option<At<u64>>,
    /// 0.0 to 1.0.
    pub(super) max_delete: Option<At<f64>>,
    pub(super) max_delete_floor: Option<At<u64>>,
    pub(super) retry_max: Option<At<Duration>>,
    pub(super) audit: RawAudit,
    pub(super) full_pass: Option<RawSchedule>,
    pub(super) canary: Option<At<Duration>>,
    pub(super) targets: Vec<RawTarget>,
    #[serde(default)]
    pub(super) plugins: Vec<RawPlugin>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RawAudit {
    /// `audit = false`.
    pub(super) on: Option<At<bool>>,
    pub(super) every: Option<At<Duration>>,
    pub(super) names: Option<At<u64>>,
    pub(super) bytes: Option<At<u64>>,
    /// 0.0 to 1.0.
    pub(super) share: Option<At<f64>>,
    pub(super) window: Option<At<Window>>,
    pub(super) checksum: Option<At<bool>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RawSchedule {
    /// The table itself.
    pub(super) section: At<()>,
    pub(super) cron: Option<At<CronExpression>>,
    pub(super) every: Option<At<Duration>>,
    pub(super) jitter: Option<At<Duration>>,
    pub(super) window: Option<At<Window>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RawTarget {
    pub(super) to: At<String>,
    pub(super) name: Option<At<String>>,
    pub(super) password_file: Option<At<PathBuf>>,
    pub(super) identity: Option<At<PathBuf>>,
    pub(super) options: Vec<At<String>>,
    pub(super) bandwidth_limit: Option<At<String>>,
    pub(super) connections: Option<At<NonZeroU32>>,
    pub(super) warm: Option<At<u32>>,
    pub(super) inplace: Vec<At<String>>,
    pub(super) inplace_from: Option<At<u64>>,
    pub(super) timeout: Option<At<Duration>>,
    pub(super) modify_window: Option<At<i32>>,
}

/// What the command line sets on top of a configuration: for every sync and every target that it can be meant for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// How to capture.
    pub backend: Option<Backend>,
    /// Kernel type information for the eBPF tiers.
    pub btf: Option<PathBuf>,
    /// gitignore patterns, after those of the configuration.
    pub exclude: Vec<String>,
    /// gitignore patterns to include again, after all the excludes.
    pub include: Vec<String>,
    /// `50%` or `50`.
    pub max_delete: Option<String>,
    /// For the targets that are rsync daemons.
    pub password_file: Option<PathBuf>,
    /// For the targets over ssh.
    pub identity: Option<PathBuf>,
    /// After those of the configuration.
    pub rsync_options: Vec<String>,
    /// As rsync's `--bwlimit` takes it.
    pub bandwidth_limit: Option<String>,
    /// At least 1.
    pub connections: Option<u32>,
}

impl<T> At<T> {
    pub(super) fn flag(key: &str, value: T) -> Self {
        Self { value, line: None, column: None, key: key.to_owned() }
    }

    /// An error about this value.
    pub(super) fn error(&self, file: Option<&Path>, message: impl Into<String>) -> ConfigError {
        match (file, self.line) {
            (Some(file), Some(line)) => ConfigError::in_file(file, Some(line), Some(self.key.clone()), message).at_column(self.column),
            _ => ConfigError::new(&self.key, message),
        }
    }

    /// For another error to point at: `sync.source (line 3)`.
    pub(super) fn mention(&self) -> String {
        match self.line {
            Some(line) => format!("{} (line {line})", self.key),
            None => self.key.clone(),
        }
    }
}

impl RawTarget {
    pub(super) fn short(to: At<String>) -> Self {
        Self {
            to,
            name: None,
            password_file: None,
            identity: None,
            options: Vec::new(),
            bandwidth_limit: None,
            connections: None,
            warm: None,
            inplace: Vec::new(),
            inplace_from: None,
            timeout: None,
            modify_window: None,
        }
    }
}

impl RawSync {
    /// Nothing but a section.
    pub(super) fn new(section: At<()>) -> Self {
        Self {
            section,
            name: None,
            source: None,
            patterns: Vec::new(),
            cross_mounts: None,
            delete: None,
            settle_finished: None,
            settle_quiet: None,
            settle_max_age: None,
            batch_paths: None,
            batch_bytes: None,
            max_delete: None,
            max_delete_floor: None,
            retry_max: None,
            audit: RawAudit::default(),
            full_pass: None,
            canary: None,
            targets: Vec::new(),
            plugins: Vec::new(),
        }
    }
}

impl RawConfig {
    /// Nothing is written.
    pub(super) fn empty() -> Self {
        Self {
            file: None,
            warnings: Vec::new(),
            backend: None,
            btf: None,
            unlimited_queue: None,
            on_state_change: Vec::new(),
            fail_log: None,
            metrics: None,
            memory: None,
            rsync: None,
            stop_timeout: None,
            control_group: None,
            syncs: Vec::new(),
        }
    }

    /// Parses TOML. `file` is named in errors, and its directory is what relative paths in it are relative to.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        parse::document(text, file)
    }

    /// Parses TOML, or a confxml.xml of sersync's: whatever begins with `<`, whatever the file is called.
    pub fn parse_bytes(bytes: &[u8], file: &Path) -> Result<Self, ConfigError> {
        if sersync::is_xml(bytes) {
            return Ok(sersync::parse(bytes, file)?.raw);
        }
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            ConfigError::in_file(file, Some(line), None, "is not TOML: it holds bytes that are not UTF-8")
        })?;
        Self::parse(text, file).map_err(|error| match file.extension() {
            Some(extension) if extension == "lua" => {
                ConfigError::in_file(file, None, None, "is not TOML; if it is lsyncd's, import it (trigsync import FILE > trigsync.toml)")
            }
            _ => error,
        })
    }

    /// Reads and parses a file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        Self::parse_bytes(&read_bytes(file)?, file)
    }

    /// Reads a confxml.xml of sersync's for one of its plugins alone, as sersync's option `-m` has it: a sync without targets.
    pub fn read_plugin(file: &Path, plugin: &str) -> Result<Self, ConfigError> {
        Ok(import_plugin(file, plugin)?.raw)
    }

    /// What is written and has no effect, or not the effect that one might expect. One line each, with its place.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Targets of all syncs together.
    pub fn target_count(&self) -> usize {
        self.syncs.iter().map(|sync| sync.targets.len()).sum()
    }

    /// One sync, as `--source` and `--target` give it; relative paths are relative to the current directory.
    pub fn from_flags(source: &Path, targets: &[String]) -> Result<Self, ConfigError> {
        let sync = RawSync {
            source: Some(At::flag("--source", absolute(source, "--source")?)),
            targets: targets.iter().map(|target| RawTarget::short(At::flag("--target", target.clone()))).collect(),
            ..RawSync::new(At::flag("--source", ()))
        };
        let mut config = Self { syncs: vec![sync], ..Self::empty() };
        config.make_targets_absolute(Path::new(""))?;
        Ok(config)
    }

    /// Local targets are made absolute here, so that resolving does not depend on the current directory.
    pub(super) fn make_targets_absolute(&mut self, base: &Path) -> Result<(), ConfigError> {
        let file = self.file.as_deref();
        for target in self.syncs.iter_mut().flat_map(|sync| &mut sync.targets) {
            let address = target.to.value.parse::<super::TargetAddress>();
            match address.map_err(|error| target.to.error(file, error.about(&target.to.value)))? {
                super::TargetAddress::Local(path) if path.is_relative() => {
                    let path = absolute(&base.join(path), &target.to.key)?;
                    target.to.value = path.to_str().map(str::to_owned).ok_or_else(|| {
                        target.to.error(file, "is relative to a directory whose name is not UTF-8 (write the whole path)")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The configuration with the command line's values in it. They are checked here as far as one value can be checked alone.
    pub fn with_overrides(mut self, overrides: &Overrides) -> Result<Self, ConfigError> {
        let Overrides { backend, btf, exclude, include, max_delete, password_file, identity, rsync_options, bandwidth_limit, connections } =
            overrides;
        if let Some(backend) = backend {
            self.backend = Some(At::flag("--backend", *backend));
        }
        if let Some(btf) = btf {
            self.btf = Some(At::flag("--btf", absolute(btf, "--btf")?));
        }
        let wrong = |key: &str| {
            let key = key.to_owned();
            move |message: String| ConfigError::new(key, message)
        };
        let excludes = exclude.iter().map(|pattern| Ok(At::flag("--exclude", pattern.clone())));
        let includes = include.iter().map(|pattern| Ok(At::flag("--include", parse::include(pattern).map_err(wrong("--include"))?)));
        let patterns = excludes.chain(includes).collect::<Result<Vec<_>, ConfigError>>()?;
        let max_delete = max_delete.as_deref().map(parse::percentage).transpose().map_err(wrong("--max-delete"))?;
        if max_delete.is_some() && self.target_count() == 0 {
            return Err(ConfigError::new("--max-delete", "no sync has a target, so nothing is deleted (leave it out)"));
        }
        for sync in &mut self.syncs {
            sync.patterns.extend(patterns.iter().cloned());
            if let Some(share) = max_delete.filter(|_| !sync.targets.is_empty()) {
                sync.max_delete = Some(At::flag("--max-delete", share));
            }
        }
        let password_file = password_file.as_deref().map(|path| absolute(path, "--password-file")).transpose()?;
        let identity = identity.as_deref().map(|path| absolute(path, "--identity")).transpose()?;
        let bandwidth_limit = bandwidth_limit.as_deref().map(parse::bandwidth).transpose().map_err(wrong("--bandwidth-limit"))?;
        let connections = connections
            .map(|n| NonZeroU32::new(n).ok_or_else(|| ConfigError::new("--connections", "is 0 (write at least 1)")))
            .transpose()?;
        let (mut daemons, mut shells) = (0, 0);
        for target in self.syncs.iter_mut().flat_map(|sync| &mut sync.targets) {
            match target.to.value.parse() {
                Ok(super::TargetAddress::Daemon { .. }) => {
                    daemons += 1;
                    if let Some(path) = &password_file {
                        target.password_file = Some(At::flag("--password-file", path.clone()));
                    }
                }
                Ok(super::TargetAddress::Ssh { .. }) => {
                    shells += 1;
                    if let Some(path) = &identity {
                        target.identity = Some(At::flag("--identity", path.clone()));
                    }
                }
                _ => {}
            }
            target.options.extend(rsync_options.iter().map(|option| At::flag("--rsync-option", option.clone())));
            if let Some(limit) = &bandwidth_limit {
                target.bandwidth_limit = Some(At::flag("--bandwidth-limit", limit.clone()));
            }
            if let Some(connections) = connections {
                target.connections = Some(At::flag("--connections", connections));
            }
        }
        if password_file.is_some() && daemons == 0 {
            return Err(ConfigError::new("--password-file", "no target is an rsync daemon (for ssh use --identity)"));
        }
        if identity.is_some() && shells == 0 {
            return Err(ConfigError::new("--identity", "no target is reached over ssh (for rsync daemons use --password-file)"));
        }
        Ok(self)
    }
}

/// A whole file, unless it is one that never ends.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > LARGEST => Err(ConfigError::in_file(
            file,
            None,
            None,
            format!("is larger than {LARGEST} bytes, as no configuration is (name the right file)"),
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(ConfigError::in_file(file, None, None, format!("cannot be read: {error} (name a readable file with --config)"))),
    }
}

pub(super) fn absolute(path: &Path, key: &str) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| ConfigError::new(key, format!("`{}` cannot be made absolute: {error}", path.display())))
}
