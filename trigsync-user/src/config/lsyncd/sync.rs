//! One call of `sync{}`: what it says, as a source with one target, or why it cannot be imported.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    evaluate::{Call, LAYER},
    keys::{Keys, Notes, error, number},
    patterns,
    rsync::Options,
    ssh::Shell,
    target,
    value::{Table, Value},
};
use crate::config::{
    ConfigError, TargetAddress,
    foreign::{short, with},
    raw::{At, RawSchedule, RawTarget},
};

const COMMON: &[&str] = &[
    "source",
    "delay",
    "delete",
    "exclude",
    "excludeFrom",
    "filter",
    "filterFrom",
    "maxProcesses",
    "maxDelays",
    "batchSizeLimit",
    "crontab",
    "tunnel",
    "exitcodes",
    "rsyncExitCodes",
    "sshExitCodes",
    "rsync",
    "rsyncOps",
    "rsyncOpts",
    "checkgauge",
    "init",
    "onMove",
];
const RSYNC: &[&str] = &["target"];
const RSYNC_SSH: &[&str] = &["host", "targetdir", "ssh", "xargs"];

/// Whatever an operator may put in place of what lsyncd does itself.
const ACTIONS: &[&str] =
    &["action", "prepare", "collect", "full", "onAttrib", "onCreate", "onModify", "onDelete", "onStartup", "onMove", "onFull", "init"];

/// A source with one target, and what it comes to.
pub(super) struct Sync {
    pub section: At<()>,
    pub source: At<PathBuf>,
    pub patterns: Vec<At<String>>,
    pub cross_mounts: At<bool>,
    pub delete: Option<At<bool>>,
    pub delay: Option<At<Duration>>,
    pub full_pass: Option<RawSchedule>,
    pub target: RawTarget,
    /// The rsync to run.
    pub binary: Option<At<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Rsync,
    RsyncSsh,
    Direct,
}

/// Reads a call. `base` is the directory of lsyncd's configuration, absolute.
pub(super) fn read(call: &Call, base: &Path, notes: &mut Notes<'_>) -> Result<Sync, ConfigError> {
    let keys = Keys { file: notes.file, line: call.line, name: "sync", table: &call.table };
    let layer = layer(&keys)?;
    keys.check(&[COMMON, ACTIONS, if layer == Layer::RsyncSsh { RSYNC_SSH } else { RSYNC }])?;
    if keys.is_true("tunnel") {
        return Err(keys.error("tunnel", "is not opened by trigsync (run it as a service of its own, and leave tunnel = out)"));
    }
    let delete = deletions(&keys, notes)?;
    let source = keys.text("source")?.ok_or_else(|| keys.error("source", "is missing (write the directory to mirror)"))?;
    let source = with(&source, patterns::path(&keys, &source, base, notes));

    let (none, copies) = (Table::default(), layer == Layer::Direct);
    let rsync = keys.inner("rsync", &none)?;
    let old = ["rsyncOps", "rsyncOpts"].into_iter().find(|key| keys.get(key).is_some());
    let options = match old {
        Some(key) if *rsync.table != none => {
            return Err(keys.error(key, "stands beside rsync = { … }, which takes its place (leave one out)"));
        }
        Some(key) => Options::words(&keys, key, notes)?,
        None => Options::read(&rsync, copies, notes)?,
    };
    let patterns = patterns::read(&keys, &options.excludes, base, notes)?;
    let delay = delay(&keys, call, notes)?;
    let connections = connections(&keys, call, notes)?;
    ineffective(&keys, call, layer, notes);
    let full_pass = full_pass(&keys, notes)?;
    let cross_mounts = options.one_file_system.as_ref().map_or_else(|| with(&rsync.itself(), true), |only| with(only, false));
    let binary = options.binary.clone();
    let target = Target { keys: &keys, layer, base, options }.read(connections, notes)?;
    Ok(Sync { section: keys.itself(), source, patterns, cross_mounts, delete, delay, full_pass, target, binary })
}

/// Which of lsyncd's own layers it rests on. Actions of the operator's own cannot be carried over, whatever they rest on.
fn layer(keys: &Keys<'_>) -> Result<Layer, ConfigError> {
    for key in ACTIONS {
        let what = match keys.get(key) {
            Some(Value::Function(Some(line))) => format!("is a function of your own, in line {line}"),
            Some(Value::Text(_)) => "is a command of your own".to_owned(),
            Some(other @ (Value::Table(_) | Value::Number(_))) => format!("is {}", other.kind()),
            _ => continue,
        };
        return Err(keys.error(key, format!("{what}, and trigsync runs nothing but rsync (take it out, or leave this sync to lsyncd)")));
    }
    match keys.get(LAYER) {
        Some(Value::Text(layer)) if layer == "rsync" => Ok(Layer::Rsync),
        Some(Value::Text(layer)) if layer == "rsyncssh" => Ok(Layer::RsyncSsh),
        Some(Value::Text(layer)) if layer == "direct" => Ok(Layer::Direct),
        _ => {
            let message = "rests on none of default.rsync, default.rsyncssh and default.direct (leave this sync to lsyncd)";
            Err(error(keys.file, &keys.itself(), message))
        }
    }
}

/// Whether the target is to be rid of what is gone here; as usual where nothing is returned.
fn deletions(keys: &Keys<'_>, notes: &mut Notes<'_>) -> Result<Option<At<bool>>, ConfigError> {
    match keys.get("delete") {
        None | Some(Value::Bool(true)) => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(keys.at("delete", false))),
        Some(Value::Text(when)) if when == "startup" => {
            let message = "has no effect: what is deleted here is deleted at the target at once, not only at the next start";
            notes.warn(&keys.at("delete", ()), message);
            Ok(None)
        }
        Some(Value::Text(when)) if when == "running" => {
            let message = "keeps at the target only what it has beside the source when lsyncd starts, which trigsync cannot (write true, or \
                           false to keep everything)";
            Err(keys.error("delete", message))
        }
        Some(_) => Err(keys.error("delete", "is none of true, false, \"startup\" and \"running\"")),
    }
}

/// A key of the sync, or the setting that takes its place.
fn number_or_setting(keys: &Keys<'_>, call: &Call, key: &str) -> Result<Option<At<f64>>, ConfigError> {
    match call.settings.get(key).filter(|at| at.value.is_true()) {
        Some(at) => number(keys.file, &with(at, &at.value)),
        None => keys.number(key),
    }
}

fn delay(keys: &Keys<'_>, call: &Call, notes: &mut Notes<'_>) -> Result<Option<At<Duration>>, ConfigError> {
    let Some(written) = number_or_setting(keys, call, "delay")? else {
        let message = "where it is not written, a change is on its way within milliseconds (lsyncd: after 15 s, default.direct 1 s; to wait, \
                       write delay = or settle =)";
        notes.differ(&anywhere("sync.delay"), message);
        return Ok(None);
    };
    let delay = Duration::try_from_secs_f64(written.value).ok().filter(|delay| delay.as_secs() < 1 << 31);
    let wrong = || error(keys.file, &written, format!("{} is no number of seconds", written.value));
    let delay = with(&written, delay.ok_or_else(wrong)?);
    notes.differ(&delay, "holds as settle =; without it a change is on its way within milliseconds, and many are folded all the same");
    Ok(Some(delay))
}

fn connections(keys: &Keys<'_>, call: &Call, notes: &mut Notes<'_>) -> Result<Option<At<NonZeroU32>>, ConfigError> {
    let Some(written) = number_or_setting(keys, call, "maxProcesses")? else {
        let message = "where it is not written, up to two rsync processes run for a target at once (lsyncd: 1; connections)";
        notes.differ(&anywhere("sync.maxProcesses"), message);
        return Ok(None);
    };
    let whole = (written.value.fract() == 0.0 && (1.0..=1e6).contains(&written.value)).then(|| written.value.to_string());
    let number = whole.and_then(|number| number.parse().ok());
    let wrong = || error(keys.file, &written, format!("{} is no number of processes (write at least 1)", written.value));
    Ok(Some(with(&written, number.ok_or_else(wrong)?)))
}

/// The first of several times: here there is one expression.
fn full_pass(keys: &Keys<'_>, notes: &mut Notes<'_>) -> Result<Option<RawSchedule>, ConfigError> {
    let written = keys.list("crontab")?;
    for other in written.iter().skip(1) {
        notes.warn(other, format!("`{}` is left out: a full pass has one cron expression (write all times as one)", short(&other.value)));
    }
    let Some(first) = written.first() else { return Ok(None) };
    let cron = first.value.parse().map_err(|message: String| error(keys.file, first, message))?;
    Ok(Some(RawSchedule { section: with(first, ()), cron: Some(with(first, cron)), every: None, jitter: None, window: None }))
}

/// What is written, and has no effect here.
fn ineffective(keys: &Keys<'_>, call: &Call, layer: Layer, notes: &mut Notes<'_>) {
    if keys.get("init") == Some(&Value::Bool(false)) {
        notes.warn(&keys.at("init", ()), "is no key of trigsync's: start it with --initial-sync never, if the target is known to be equal");
    }
    let exit_codes = ["exitcodes", "rsyncExitCodes", "sshExitCodes"];
    let changed = |key: &&str| matches!(keys.get(key), Some(Value::Table(table)) if *table != Table::default());
    for key in exit_codes.into_iter().filter(changed) {
        notes.warn(&keys.at(key, ()), "has no effect: trigsync reads rsync's exit code and text, and tries again what can succeed later");
    }
    if keys.is_true("maxDelays") && !call.settings.contains_key("maxDelays") {
        notes.differ(&keys.at("maxDelays", ()), "is not needed: changes are folded, however many wait");
    }
    if keys.is_true("batchSizeLimit") {
        let message = "is not needed: large files go beside the batches, and one of more than 1 GiB alone (batch = { bytes = … })";
        notes.differ(&keys.at("batchSizeLimit", ()), message);
    }
    if matches!(keys.get("checkgauge"), Some(Value::Table(table)) if *table != Table::default()) {
        notes.differ(&keys.at("checkgauge", ()), "has no effect: which keys there are is known");
    }
    if keys.is_true("xargs") {
        notes.differ(&keys.at("xargs", ()), "is not needed: deletions go through rsync");
    }
    let switched_off = |key: &&&str| matches!(keys.get(key), Some(Value::Bool(_))) && **key != "init";
    for key in ACTIONS.iter().filter(switched_off) {
        notes.differ(&keys.at(key, ()), "has no effect: rsync carries changes of every kind");
    }
    match layer {
        Layer::Rsync => {}
        Layer::RsyncSsh => notes.differ(
            &anywhere("default.rsyncssh"),
            "what is moved is sent again under its new name, and deleted under the old one (lsyncd: `mv` at the target)",
        ),
        Layer::Direct => notes.differ(
            &anywhere("default.direct"),
            "changes go through rsync as full passes do, with owners and modes; symbolic links stay links (lsyncd: `cp -p`, which follows them)",
        ),
    }
}

/// What holds wherever nothing is written.
fn anywhere(key: &str) -> At<()> {
    At { value: (), line: None, column: None, key: key.to_owned() }
}

struct Target<'a> {
    keys: &'a Keys<'a>,
    layer: Layer,
    base: &'a Path,
    options: Options,
}

impl Target<'_> {
    fn read(self, connections: Option<At<NonZeroU32>>, notes: &mut Notes<'_>) -> Result<RawTarget, ConfigError> {
        let Self { keys, layer, base, ref options } = self;
        let missing = |key: &str, what: &str| keys.error(key, format!("is missing (write {what})"));
        let to = if layer == Layer::RsyncSsh {
            let host = keys.text("host")?.ok_or_else(|| missing("host", "the host to write to"))?;
            let directory = keys.text("targetdir")?.ok_or_else(|| missing("targetdir", "the directory to write to"))?;
            target::of_host(&host, &directory)
        } else {
            keys.text("target")?.ok_or_else(|| missing("target", "the place to write to"))?
        };
        let shell = self.shell(notes)?;
        let mut address = target::address(keys, &to, &shell, options)?;
        if let TargetAddress::Local(directory) = &mut address {
            *directory = patterns::path(keys, &to, base, notes);
        }
        match (&address, layer) {
            (TargetAddress::Local(_), Layer::RsyncSsh) => return Err(error(keys.file, &to, "is on this machine (write a host)")),
            (TargetAddress::Ssh { .. } | TargetAddress::Daemon { .. }, Layer::Direct) => {
                return Err(error(keys.file, &to, "is on another machine, where default.direct cannot write (use default.rsync)"));
            }
            _ => {}
        }
        let (over_ssh, daemon) = (matches!(address, TargetAddress::Ssh { .. }), matches!(address, TargetAddress::Daemon { .. }));
        if let Some(file) = options.password_file.as_ref().filter(|_| !daemon) {
            notes.warn(file, "is for rsync daemons, and not used here (for ssh use a key)");
        }
        if let Some(port) = options.port.as_ref().filter(|_| !daemon) {
            notes.warn(port, "`--port` is for rsync daemons, and not used here");
        }
        if let Some(rsh) = options.rsh.as_ref().filter(|_| !over_ssh) {
            notes.differ(rsh, "is for other machines, and not used here");
        }
        match &options.timeout {
            None => notes.differ(
                &anywhere("rsync.timeout"),
                "where it is not written, a transfer that stands still for 60 s is given up and tried again (lsyncd: never)",
            ),
            Some(none) if none.value == 0 => {
                notes.warn(none, "is 0, no limit at all: trigsync's 60 s are taken, so that a dead target is noticed");
            }
            Some(_) => {}
        }
        let identity = shell.identity.filter(|_| over_ssh);
        Ok(RawTarget {
            password_file: self.secret(options.password_file.clone().filter(|_| daemon), notes)?,
            identity: self.secret(identity, notes)?,
            options: options.options.clone(),
            bandwidth_limit: options.bandwidth_limit.clone(),
            connections,
            timeout: options.timeout.as_ref().filter(|at| at.value > 0).map(|at| with(at, Duration::from_secs(at.value))),
            modify_window: options.modify_window.clone(),
            ..RawTarget::short(with(&to, address.to_string()))
        })
    }

    /// What ssh is told: by `ssh{}`, or else by rsync's remote shell.
    fn shell(&self, notes: &mut Notes<'_>) -> Result<Shell, ConfigError> {
        let none = Table::default();
        let own = self.keys.inner("ssh", &none)?;
        let mut shell = Shell::table(&own, notes)?;
        if let Some(rsh) = &self.options.rsh {
            let Shell { user, port, identity } = Shell::command(rsh, self.keys, notes)?;
            shell.user = shell.user.or(user);
            shell.port = shell.port.or(port);
            shell.identity = shell.identity.or(identity);
        }
        Ok(shell)
    }

    fn secret(&self, at: Option<At<String>>, notes: &mut Notes<'_>) -> Result<Option<At<PathBuf>>, ConfigError> {
        let Some(at) = at else { return Ok(None) };
        if at.value.starts_with('~') {
            return Err(error(self.keys.file, &at, format!("`{}` begins with `~` (write the whole path)", at.value)));
        }
        Ok(Some(with(&at, patterns::path(self.keys, &at, self.base, notes))))
    }
}
