//! From what stands in a confxml.xml to a [`RawConfig`], and what has to be said about it.

use std::{
    collections::BTreeSet,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Note,
    confxml::{Confxml, FailLog, Remote},
    expression,
    params::{self, Params},
    rsync_pattern, short, with,
};
use crate::config::{
    ConfigError, RawConfig, TargetAddress,
    raw::{At, RawSchedule, RawSync, RawTarget, absolute},
};

/// Where sersync and trigsync differ whatever the file says.
const ALWAYS: &[&str] = &[
    "a start makes every target equal by itself, deletions included (sersync: only with -r, and not where a filter is on); later starts look only for what changed since",
    "a change is sent in a batch with others, within milliseconds; nothing passes through a shell, whatever a file is called",
    "names like `.x`, `x~` and `4913` are mirrored too",
    "what failed, or what the kernel lost, is sent again until it has arrived; `trigsync status` says how far behind each target is",
    "a batch that would delete more than half of a target stops the sync, until you say `trigsync release` (max_delete)",
    "what the filter leaves alone is left alone by full passes too, and never deleted at the target; a directory, with all that is in it",
];

/// Each is an argument of every rsync.
const MOST_PATTERNS: usize = 1000;

pub(super) fn translate(xml: &Confxml, file: &Path, notes: &mut Vec<Note>) -> Result<RawConfig, ConfigError> {
    let base = absolute(file, "--config")?;
    let base = base.parent().unwrap_or(Path::new("/")).to_owned();
    let mut translator = Translator { xml, file, base, notes };
    if translator.xml.alone {
        let sync = translator.alone()?;
        return Ok(RawConfig { file: Some(file.to_owned()), syncs: vec![sync], ..RawConfig::empty() });
    }
    let params = params::read(&xml.common_params.value).map_err(|message| translator.error(&xml.common_params, message))?;
    for left_out in &params.left_out {
        translator.warn(&xml.common_params, left_out);
    }
    let patterns = translator.patterns(&params.excludes)?;
    let full_pass = translator.crontab(&patterns)?;
    let (fail_log, retry_max) = translator.fail_log()?;
    let delete = translator.deletions();
    let mut sync = RawSync { delete, full_pass, retry_max: Some(retry_max), ..translator.sync(&params, patterns)? };
    sync.plugins.extend(translator.plugin()?);
    translator.switches();
    translator.the_rest();
    Ok(RawConfig { file: Some(file.to_owned()), fail_log, syncs: vec![sync], ..RawConfig::empty() })
}

pub(super) struct Translator<'a> {
    pub xml: &'a Confxml,
    file: &'a Path,
    /// The file's directory.
    pub base: PathBuf,
    notes: &'a mut Vec<Note>,
}

impl Translator<'_> {
    pub(super) fn error<T>(&self, at: &At<T>, message: impl Into<String>) -> ConfigError {
        at.error(Some(self.file), message)
    }

    pub(super) fn warn<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.notes.push(Note::warning(self.file, at, message));
    }

    pub(super) fn differ<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.notes.push(Note::difference(self.file, at, message));
    }

    /// One switch here for what is deleted and for what is moved away: where either is off, nothing is deleted.
    fn deletions(&mut self) -> Option<At<bool>> {
        let Confxml { inotify, crontab, .. } = self.xml;
        let off = [&inotify.delete, &inotify.move_from].into_iter().find(|switch| !switch.value)?;
        for (switch, what) in [(&inotify.delete, "deleted"), (&inotify.move_from, "renamed or moved away")] {
            if switch.value {
                self.warn(switch, format!("has no effect beside {} = false: the targets keep what is {what} here too", off.key));
            }
        }
        let full = if crontab.start.value { "-r and its crontab delete" } else { "-r deletes" };
        self.differ(off, format!("holds for full passes too, where sersync's {full} it all the same"));
        Some(with(off, false))
    }

    /// What is left alone: what rsync's options exclude, and what the filter does.
    pub(super) fn patterns(&mut self, of_params: &[String]) -> Result<Vec<At<String>>, ConfigError> {
        let xml = self.xml;
        let params_at = &xml.common_params;
        let mut patterns: Vec<_> = of_params.iter().map(|pattern| with(params_at, pattern.clone())).collect();
        let mut known: BTreeSet<String> = of_params.iter().cloned().collect();
        for exclude in xml.filter.list.iter().filter(|_| xml.filter.start.value) {
            let found = expression::patterns(&exclude.value).map_err(|message| self.error(exclude, message))?;
            if found.is_empty() {
                let shown = short(&exclude.value);
                let message =
                    format!("`{shown}` matches nothing in sersync, whose paths have no slash in front at the top (write it without)");
                self.warn(exclude, message);
            }
            let key = format!("{} `{}`", exclude.key, short(&exclude.value));
            for value in found {
                if patterns.len() >= MOST_PATTERNS {
                    return Err(
                        self.error(exclude, format!("and what stands before come to more than {MOST_PATTERNS} patterns (write fewer)"))
                    );
                }
                if known.insert(value.clone()) {
                    patterns.push(At { value, line: exclude.line, column: exclude.column, key: key.clone() });
                }
            }
        }
        if patterns.iter().any(|pattern| pattern.value == "/*" || pattern.value == "*") {
            let nothing = if xml.alone { "nothing will be told" } else { "nothing will be mirrored" };
            self.warn(&xml.filter.start, format!("leaves everything alone: {nothing}"));
        }
        Ok(patterns)
    }

    /// Full syncs of their own, with a filter of their own. What such a filter spares, a full pass of trigsync must not delete.
    fn crontab(&mut self, patterns: &[At<String>]) -> Result<Option<RawSchedule>, ConfigError> {
        let Confxml { crontab, crontab_filter, filter, .. } = self.xml;
        if !crontab.start.value {
            return Ok(None);
        }
        let covered = |pattern: &str| {
            let inside = pattern.strip_prefix("**/").and_then(|rest| rest.strip_suffix("/*"));
            let spellings = [Some(pattern), pattern.strip_suffix('/'), inside];
            patterns.iter().any(|known| {
                let bare = known.value.strip_suffix('/').filter(|_| inside.is_some()).unwrap_or(&known.value);
                spellings.iter().flatten().any(|spelling| *spelling == bare || *spelling == known.value)
            })
        };
        for exclude in crontab_filter.list.iter().filter(|_| crontab_filter.start.value) {
            let pattern = rsync_pattern::gitignore(&exclude.value).map_err(|message| self.error(exclude, message))?;
            if !covered(&pattern) {
                let message = format!(
                    "`{}` is spared by full syncs only, and trigsync has one filter for everything: it would delete at the targets what \
                     matches and is not here (exclude the same in <filter>, or take it out)",
                    short(&exclude.value)
                );
                return Err(self.error(exclude, message));
            }
        }
        let spares = crontab_filter.start.value && !crontab_filter.list.is_empty();
        if filter.start.value && !spares {
            self.differ(&crontab.start, "takes effect; sersync itself switches it off beside a filter that has no crontabfilter");
        }
        Ok(Some(RawSchedule {
            section: with(&crontab.value, ()),
            cron: None,
            every: Some(self.minutes(&crontab.value)?),
            jitter: None,
            window: None,
        }))
    }

    fn minutes(&self, at: &At<String>) -> Result<At<Duration>, ConfigError> {
        let minutes = at.value.trim().parse().ok().filter(|minutes: &u32| *minutes > 0);
        let minutes =
            minutes.ok_or_else(|| self.error(at, format!("`{}` is no number of minutes (write at least 1)", short(&at.value))))?;
        Ok(with(at, Duration::from_secs(u64::from(minutes) * 60)))
    }

    /// Where failures are written, which nobody runs here, and the longest time between two attempts, which sersync leaves to that file.
    fn fail_log(&mut self) -> Result<(Option<At<PathBuf>>, At<Duration>), ConfigError> {
        let FailLog { path, minutes } = &self.xml.fail_log;
        let retry_max = self.minutes(minutes)?;
        if path.value.is_empty() {
            self.differ(path, "is empty: no failures are written; those of late stand in `trigsync history --failed`");
            return Ok((None, retry_max));
        }
        let file = self.base.join(&path.value);
        if Path::new(&path.value).is_relative() {
            let message = format!("is relative: taken from this file's directory, `{}` (write the whole path)", file.display());
            self.warn(path, message);
        }
        self.differ(path, "is a record for people, mode 0600, and never run: what failed is tried again by itself");
        self.differ(minutes, "bounds the time between two attempts, which grows from a second to ten minutes at most");
        Ok((Some(with(path, file)), retry_max))
    }

    /// The watched directory, by its whole path.
    pub(super) fn root(&mut self) -> PathBuf {
        let watch = &self.xml.watch;
        let source = self.base.join(&watch.value);
        if Path::new(&watch.value).is_relative() {
            let message = format!("is relative: taken from this file's directory, `{}` (write the whole path)", source.display());
            self.warn(watch, message);
        }
        source
    }

    fn sync(&mut self, params: &Params, patterns: Vec<At<String>>) -> Result<RawSync, ConfigError> {
        let watch = &self.xml.watch;
        let source = self.root();
        let mut targets: Vec<RawTarget> = Vec::new();
        for remote in &self.xml.remotes {
            let target = self.target(remote, params, &source)?;
            if targets.iter().any(|other| other.to.value == target.to.value) {
                self.warn(&remote.ip, "is the same place as another <remote> (leave one out)");
            } else {
                targets.push(target);
            }
        }
        let cross_mounts = with(&self.xml.common_params, !params.one_file_system);
        Ok(RawSync {
            source: Some(with(watch, source)),
            patterns,
            cross_mounts: Some(cross_mounts),
            targets,
            ..RawSync::new(with(watch, ()))
        })
    }

    fn target(&mut self, remote: &Remote, params: &Params, source: &Path) -> Result<RawTarget, ConfigError> {
        let Confxml { auth, ssh, port, timeout, common_params, .. } = self.xml;
        let user = auth.users.as_ref().filter(|users| auth.start.value && !users.value.is_empty());
        let user = user.map(|users| format!("{}@", users.value)).unwrap_or_default();
        let host = if remote.ip.value.parse::<Ipv6Addr>().is_ok() { format!("[{}]", remote.ip.value) } else { remote.ip.value.clone() };
        let module = &remote.name.value;
        let number = if port.start.value {
            Some(super::port(&port.value.value).map_err(|message| self.error(&port.value, message))?)
        } else {
            params.port
        };
        let to = if ssh.value {
            format!("{user}{host}:{module}")
        } else if module.starts_with('/') {
            let shown = short(module);
            return Err(self.error(
                &remote.name,
                format!("`{shown}` is a path, not a module of an rsync daemon (write its name, or <ssh start=\"true\"/>)"),
            ));
        } else {
            format!("rsync://{user}{host}{}/{module}", number.map(|port| format!(":{port}")).unwrap_or_default())
        };
        let to = with(&remote.ip, to);
        let parsed = to.value.parse::<TargetAddress>().map_err(|error| self.error(&to, error.about(&to.value)))?;
        let over_ssh = matches!(parsed, TargetAddress::Ssh { .. });
        if over_ssh != ssh.value {
            return Err(self.error(&remote.ip, format!("`{}` is no host", short(&remote.ip.value))));
        }
        let first = remote.ip.line == self.xml.remotes[0].ip.line && remote.ip.column == self.xml.remotes[0].ip.column;
        if over_ssh && first && number.is_some() {
            let at = if port.start.value { port.start.clone() } else { with(common_params, true) };
            self.warn(
                &at,
                "means nothing over ssh, for sersync neither (write a Port into ~/.ssh/config, or import and use ssh://HOST:PORT/PATH)",
            );
        }
        let password = auth.password_file.clone().filter(|file| auth.start.value && !file.value.is_empty());
        let password = password.or_else(|| params.password_file.clone().map(|file| with(common_params, file)));
        if let Some(file) = password.as_ref().filter(|_| over_ssh && first) {
            self.warn(file, "is for rsync daemons, and not used over ssh (rsync refuses it there; use a key)");
        }
        let timeout = if timeout.start.value {
            let seconds = super::seconds(&timeout.value.value).map_err(|message| self.error(&timeout.value, message))?;
            Some(with(&timeout.value, seconds))
        } else {
            params.timeout.map(|seconds| with(common_params, seconds))
        };
        if let Some(none) = timeout.as_ref().filter(|seconds| seconds.value == 0 && first) {
            self.warn(none, "is 0, no limit at all: trigsync's 60 s are taken, so that a dead target is noticed");
        }
        Ok(RawTarget {
            // sersync is in the watched directory when it starts rsync.
            password_file: password.filter(|_| !over_ssh).map(|file| with(&file, source.join(&file.value))),
            options: params.options.iter().map(|option| with(common_params, option.clone())).collect(),
            bandwidth_limit: params.bandwidth_limit.clone().map(|limit| with(common_params, limit)),
            timeout: timeout.filter(|seconds| seconds.value > 0).map(|seconds| with(&seconds, Duration::from_secs(seconds.value))),
            modify_window: params.modify_window.map(|window| with(common_params, window)),
            ..RawTarget::short(to)
        })
    }

    /// Which changes sersync listens to. trigsync looks at what is there, whatever told of it.
    fn switches(&mut self) {
        let inotify = &self.xml.inotify;
        if !inotify.create_folder.value {
            self.warn(&inotify.create_folder, "has no effect: new directories are mirrored all the same");
        }
        if !inotify.close_write.value && !inotify.modify.value {
            self.warn(&inotify.close_write, "has no effect: what is written is mirrored all the same");
        }
        if !inotify.move_to.value {
            self.warn(&inotify.move_to, "has no effect: what is moved here is mirrored all the same");
        }
        for (switch, what) in [(&inotify.attrib, "new modes, owners and times"), (&inotify.create_file, "new files that are still empty")] {
            if !switch.value {
                self.differ(switch, format!("{what} are mirrored too"));
            }
        }
    }

    pub(super) fn debug(&mut self) {
        let debug = &self.xml.debug;
        if debug.value {
            self.warn(debug, "has no effect: start trigsync with --log-level debug");
        }
    }

    fn the_rest(&mut self) {
        let Confxml { host, xfs, timeout, crontab, crontab_filter, .. } = self.xml;
        self.debug();
        if crontab_filter.start.value && !crontab.start.value {
            self.differ(&crontab_filter.start, "has no effect, as in sersync: the crontab is off");
        }
        if xfs.value {
            self.differ(xfs, "is not needed: every file system that can be watched is watched the same way");
        }
        if !timeout.start.value {
            self.differ(&timeout.start, "a transfer that stands still for 60 s is given up and tried again (timeout)");
        }
        for at in host.iter().flat_map(|host| host.ip.iter().chain(&host.port)) {
            self.differ(at, "is not used; sersync only prints it");
        }
        let anywhere = At { value: (), line: None, column: None, key: "sersync".to_owned() };
        for text in ALWAYS {
            self.differ(&anywhere, *text);
        }
    }
}
