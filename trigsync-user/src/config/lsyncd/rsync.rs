//! `rsync{}`: the options that lsyncd makes of it, key by key, in the order in which lsyncd has them.

use super::keys::{Keys, Notes};
use crate::config::{
    ConfigError,
    foreign::params::{Params, Reader},
    raw::At,
};

/// Switches, by the option that each stands for.
const SWITCHES: &[(&str, &str)] = &[
    ("acls", "-A"),
    ("append", "--append"),
    ("append_verify", "--append-verify"),
    ("backup", "-b"),
    ("checksum", "-c"),
    ("compress", "-z"),
    ("copy_dirlinks", "-k"),
    ("copy_links", "-L"),
    ("copy_unsafe_links", "--copy-unsafe-links"),
    ("cvs_exclude", "-C"),
    ("delete_excluded", "--delete-excluded"),
    ("dry_run", "-n"),
    ("executability", "-E"),
    ("existing", "--existing"),
    ("hard_links", "-H"),
    ("ignore_times", "-I"),
    ("inplace", "--inplace"),
    ("ipv4", "-4"),
    ("ipv6", "-6"),
    ("keep_dirlinks", "-K"),
    ("omit_dir_times", "-O"),
    ("omit_link_times", "-J"),
    ("one_file_system", "-x"),
    ("prune_empty_dirs", "-m"),
    ("sparse", "-S"),
    ("update", "-u"),
    ("whole_file", "-W"),
    ("xattrs", "-X"),
];

/// What `archive` stands for, with the key that sets one of them apart; devices and special files have none.
const KEPT: &[(&str, &str)] = &[("links", "-l"), ("perms", "-p"), ("group", "-g"), ("owner", "-o"), ("devices", "-D")];

/// Keys with a value, by the option that each stands for.
const VALUES: &[(&str, &str)] = &[
    ("backup_dir", "backup-dir"),
    ("bwlimit", "bwlimit"),
    ("chmod", "chmod"),
    ("chown", "chown"),
    ("groupmap", "groupmap"),
    ("password_file", "password-file"),
    ("rsync_path", "rsync-path"),
    ("suffix", "suffix"),
    ("temp_dir", "temp-dir"),
    ("timeout", "timeout"),
    ("usermap", "usermap"),
];

const OTHERS: &[&str] =
    &["archive", "binary", "links", "perms", "group", "owner", "times", "protect_args", "quiet", "verbose", "rsh", "_extra"];

/// What `rsync{}` comes to, each with the key that it comes from.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub options: Vec<At<String>>,
    /// gitignore patterns.
    pub excludes: Vec<At<String>>,
    pub bandwidth_limit: Option<At<String>>,
    pub modify_window: Option<At<i32>>,
    /// Seconds.
    pub timeout: Option<At<u64>>,
    pub port: Option<At<u16>>,
    pub password_file: Option<At<String>>,
    pub one_file_system: Option<At<bool>>,
    pub binary: Option<At<String>>,
    /// The remote shell with its arguments.
    pub rsh: Option<At<String>>,
}

impl Options {
    /// `copies` where changes are copied with `cp -p`, which keeps owners and modes whatever stands here.
    pub fn read(keys: &Keys<'_>, copies: bool, notes: &mut Notes<'_>) -> Result<Self, ConfigError> {
        let switches: Vec<&str> = SWITCHES.iter().chain(VALUES).map(|(key, _)| *key).collect();
        keys.check(&[&switches, OTHERS])?;
        let mut reading = Reading { keys, reader: Reader::default(), options: Self::default(), notes };
        for (key, word) in KEPT {
            let usual = keys.is_true("archive") || *key == "links" || (copies && *key != "devices");
            if keys.get(key).map_or(usual, |value| value.is_true()) {
                reading.add(key, vec![(*word).to_owned()])?;
            }
        }
        for (key, word) in SWITCHES.iter().filter(|(key, _)| keys.is_true(key)) {
            reading.add(key, vec![(*word).to_owned()])?;
        }
        let extra: Vec<String> = keys.list("_extra")?.into_iter().map(|at| at.value).collect();
        reading.add("_extra", extra)?;
        for (key, option) in VALUES {
            // No limit is what there is without one.
            if let Some(text) = keys.text(key)?.filter(|text| *key != "bwlimit" || text.value != "0") {
                reading.add(key, vec![format!("--{option}={}", text.value)])?;
            }
        }
        let Self { binary, rsh, .. } = &mut reading.options;
        (*binary, *rsh) = (keys.text("binary")?, keys.text("rsh")?.or_else(|| rsh.take()));
        if let Some(binary) = binary.as_ref().filter(|binary| binary.value.is_empty() || binary.value.starts_with('~')) {
            return Err(keys.error("binary", format!("`{}` is no program (write the whole path)", binary.value)));
        }
        if keys.get("times").is_some_and(|times| !times.is_true()) {
            reading.notes.warn(&keys.at("times", ()), "has no effect: without times every file would be sent again each time");
        }
        if keys.get("protect_args").is_some_and(|protect| !protect.is_true()) {
            reading.notes.differ(&keys.at("protect_args", ()), "has no effect: names never pass through a remote shell");
        }
        for key in ["quiet", "verbose"].into_iter().filter(|key| keys.is_true(key)) {
            reading.notes.differ(&keys.at(key, ()), "has no effect: trigsync reads what rsync prints");
        }
        Ok(reading.finish())
    }

    /// `rsyncOps`, as lsyncd had it before 2.1: words in place of all defaults.
    pub fn words(keys: &Keys<'_>, key: &str, notes: &mut Notes<'_>) -> Result<Self, ConfigError> {
        let words = keys.list(key)?.iter().flat_map(|at| at.value.split_whitespace()).map(str::to_owned).collect();
        let mut reading = Reading { keys, reader: Reader::default(), options: Self::default(), notes };
        reading.add(key, words)?;
        Ok(reading.finish())
    }
}

struct Reading<'a, 'b> {
    keys: &'a Keys<'a>,
    reader: Reader,
    options: Options,
    notes: &'a mut Notes<'b>,
}

impl Reading<'_, '_> {
    /// What a key's words come to. The remote shell among them is ours to read.
    fn add(&mut self, key: &str, mut words: Vec<String>) -> Result<(), ConfigError> {
        let keys = self.keys;
        while let Some(at) = words.iter().position(|word| word.starts_with("--rsh=") || word == "-e" || word == "--rsh") {
            let word = words.remove(at);
            let rsh = match word.split_once('=') {
                Some((_, shell)) => shell.to_owned(),
                None if at < words.len() => words.remove(at),
                None => return Err(keys.error(key, format!("`{word}` lacks its value"))),
            };
            self.options.rsh = Some(keys.at(key, rsh));
        }
        let found = self.reader.read(words).map_err(|message| keys.error(key, message))?;
        let Params { options, excludes, bandwidth_limit, modify_window, timeout, port, password_file, one_file_system, left_out } = found;
        let into = &mut self.options;
        into.options.extend(options.into_iter().map(|option| keys.at(key, option)));
        into.excludes.extend(excludes.into_iter().map(|pattern| keys.at(key, pattern)));
        set(&mut into.bandwidth_limit, keys, key, bandwidth_limit);
        set(&mut into.modify_window, keys, key, modify_window);
        set(&mut into.timeout, keys, key, timeout);
        set(&mut into.port, keys, key, port);
        set(&mut into.password_file, keys, key, password_file);
        set(&mut into.one_file_system, keys, key, one_file_system.then_some(true));
        left_out.into_iter().for_each(|text| self.notes.warn(&keys.at(key, ()), text));
        Ok(())
    }

    /// With what switches off what lsyncd does not ask for.
    fn finish(mut self) -> Options {
        let at = self.keys.itself();
        let off = self.reader.off().map(|option| At { value: option.to_owned(), line: at.line, column: None, key: at.key.clone() });
        self.options.options.extend(off);
        self.options
    }
}

fn set<T>(into: &mut Option<At<T>>, keys: &Keys<'_>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        *into = Some(keys.at(key, value));
    }
}
