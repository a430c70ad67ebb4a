//! From what a program said to a [`RawConfig`], and what has to be said about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    evaluate::Program,
    keys::{Notes, error},
    sync::{self, Sync},
    value::Value,
};
use crate::config::{
    ConfigError, RawConfig,
    error::near_miss,
    foreign::{short, with},
    places::last_name,
    raw::{At, RawSchedule, RawSync, absolute},
};

/// Where lsyncd and trigsync differ whatever the file says.
const ALWAYS: &[&str] = &[
    "the first start makes every target equal; later ones look only for what changed since, where that can be told (lsyncd: a full rsync at every start)",
    "what failed, or what the kernel lost, is sent again until it has arrived (lsyncd takes rsync's exit codes 23 and 24 for success); `trigsync status` says how far behind each target is",
    "a batch that would delete more than half of a target stops the sync, until you say `trigsync release` (max_delete)",
    "nothing is deleted where the source cannot be read (lsyncd: --ignore-errors)",
    "what is excluded is left alone by changes, full passes and deletions alike; a directory, with all that is in it",
];

/// Settings without an effect here, with what takes their place; those that an operator may miss are warnings.
const SETTINGS: &[(&str, bool, &str)] = &[
    (
        "logfile",
        true,
        "is not written: trigsync logs to standard error, which systemd keeps; with --detach to trigsync.log in its state directory",
    ),
    ("statusFile", true, "is not written: ask `trigsync status`, or the metrics (metrics =)"),
    ("statusInterval", false, "is not needed: `trigsync status` answers at any moment"),
    ("pidfile", true, "is not written: systemd knows the process; with --detach its number is in trigsync.pid in its state directory"),
    ("logfacility", true, "has no effect: trigsync logs to standard error, not to syslog itself"),
    ("logident", true, "has no effect: trigsync logs to standard error, not to syslog itself"),
    ("nodaemon", false, "is always so, unless it is started with --detach"),
    ("insist", false, "is always so: a target that cannot be reached is tried again"),
    ("onepass", true, "has no effect: for one full pass run `trigsync sync`"),
    ("inotifyMode", false, "is not needed: a file is sent when it is closed, and one that stays open when it falls quiet (settle)"),
    ("maxDelays", false, "is not needed: changes are folded, however many wait"),
    ("monitor", false, "is not needed: `trigsync doctor` tells which way of capture is taken"),
];

/// Settings that hold for the syncs after them, which take care of them.
const FOR_SYNCS: &[&str] = &["delay", "maxProcesses"];

pub(super) fn translate(program: &Program, notes: &mut Notes<'_>) -> Result<RawConfig, ConfigError> {
    let file = notes.file;
    let base = absolute(file, "FILE")?;
    let base = base.parent().unwrap_or(Path::new("/"));
    settings(&program.settings, notes)?;
    if program.syncs.is_empty() {
        let message = "has no sync{} (name lsyncd's configuration, or sersync's confxml.xml)";
        return Err(ConfigError::in_file(file, None, None, message));
    }
    let mut raw = RawConfig { file: Some(file.to_owned()), ..RawConfig::empty() };
    let mut binaries = Vec::new();
    for call in &program.syncs {
        let sync = sync::read(call, base, notes)?;
        binaries.push(with(&sync.section, sync.binary.clone()));
        add(&mut raw.syncs, sync, notes);
    }
    raw.rsync = binary(&binaries, base, notes);
    name(&mut raw.syncs);
    let anywhere = At { value: (), line: None, column: None, key: "lsyncd".to_owned() };
    ALWAYS.iter().for_each(|text| notes.differ(&anywhere, *text));
    Ok(raw)
}

fn settings(settings: &BTreeMap<String, At<Value>>, notes: &mut Notes<'_>) -> Result<(), ConfigError> {
    let known = || SETTINGS.iter().map(|(key, ..)| *key).chain(FOR_SYNCS.iter().copied());
    for (key, at) in settings {
        if let Some((_, warning, message)) = SETTINGS.iter().find(|(known, ..)| known == key) {
            match at.value.is_true() {
                true if *warning => notes.warn(at, *message),
                true => notes.differ(at, *message),
                false => {}
            }
        } else if !FOR_SYNCS.contains(&key.as_str()) {
            let near = near_miss(key, known()).map_or("take it out".to_owned(), |near| format!("did you mean `{near}`?"));
            let at = At { key: format!("settings.{}", short(key)), ..with(at, ()) };
            return Err(error(notes.file, &at, format!("is no setting of lsyncd's ({near})")));
        } else if key == "maxProcesses" && at.value.is_true() {
            notes.differ(at, "holds for each target (connections), not for all together");
        }
    }
    Ok(())
}

/// Syncs that differ in their target alone are one sync with several targets: what changes is captured once.
fn add(syncs: &mut Vec<RawSync>, sync: Sync, notes: &mut Notes<'_>) {
    let Sync { section, source, patterns, cross_mounts, delete, delay, full_pass, target, binary: _ } = sync;
    let values = |patterns: &[At<String>]| patterns.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
    let delays = |delay: &Option<At<_>>| delay.as_ref().map(|at| at.value);
    let cron = |schedule: &Option<RawSchedule>| schedule.as_ref().and_then(|schedule| schedule.cron.as_ref()).map(|at| at.value.clone());
    let same = |other: &&mut RawSync| {
        other.source.as_ref().is_some_and(|at| at.value.components().eq(source.value.components()))
            && values(&other.patterns) == values(&patterns)
            && other.cross_mounts.as_ref().map(|at| at.value) == Some(cross_mounts.value)
            && delays(&other.settle_finished) == delays(&delay)
            && other.delete.as_ref().map(|at| at.value) == delete.as_ref().map(|at| at.value)
            && cron(&other.full_pass) == cron(&full_pass)
    };
    if let Some(other) = syncs.iter_mut().find(same) {
        match other.targets.iter().find(|known| known.to.value == target.to.value) {
            Some(known) => {
                notes.warn(&target.to, format!("`{}` is the same place as that of {} (leave one out)", target.to.value, known.to.mention()))
            }
            None => other.targets.push(target),
        }
        return;
    }
    // A delay of nothing is one for what is finished; what is still being written is not.
    let still_open = delay.clone().filter(|delay| !delay.value.is_zero());
    syncs.push(RawSync {
        source: Some(source),
        patterns,
        cross_mounts: Some(cross_mounts),
        delete,
        settle_finished: delay,
        settle_quiet: still_open.clone(),
        settle_max_age: still_open,
        full_pass,
        targets: vec![target],
        ..RawSync::new(section)
    });
}

/// There is one rsync for all.
fn binary(binaries: &[At<Option<At<String>>>], base: &Path, notes: &mut Notes<'_>) -> Option<At<std::path::PathBuf>> {
    let written: Vec<&At<String>> = binaries.iter().filter_map(|at| at.value.as_ref()).collect();
    let first = *written.first()?;
    for other in written.iter().filter(|other| other.value != first.value) {
        notes.warn(
            other,
            format!("has no effect: there is one rsync for all syncs, `{}` of line {}", first.value, first.line.unwrap_or_default()),
        );
    }
    if written.len() < binaries.len() {
        notes.differ(first, "holds for every sync, also for those that do not name it");
    }
    if first.value.rsplit('/').next() != Some("rsync") {
        let message = "is called with other arguments than lsyncd's, `--version` among them, and what it prints is read: it must pass everything on to rsync";
        notes.warn(first, message);
    }
    // A name alone is found in PATH.
    let path = if first.value.contains('/') { base.join(&first.value) } else { first.value.clone().into() };
    Some(with(first, path))
}

/// A sync is called after its source; of several with the same name, the later ones get a number.
fn name(syncs: &mut [RawSync]) {
    let mut taken = BTreeSet::new();
    let usual = |sync: &RawSync| sync.source.as_ref().map(|at| last_name(&at.value)).unwrap_or_default();
    let all: BTreeSet<String> = syncs.iter().map(usual).collect();
    for sync in syncs {
        let usual = usual(sync);
        if taken.insert(usual.clone()) {
            continue;
        }
        let free = (2_u32..).map(|number| format!("{usual}-{number}")).find(|name| !all.contains(name) && !taken.contains(name));
        if let Some(name) = free {
            taken.insert(name.clone());
            sync.name = Some(At { key: "sync".to_owned(), ..with(&sync.section, name) });
        }
    }
}
