//! Options as another program gave them to rsync, word by word: what is passed on, what has a key of its own, what is taken out with its
//! reason, and what cannot be left out without harm.
//!
//! - What a batch does anyway (`-a`, `-r`, `-R`, `-t`, `--delete`) is not worth a word.
//! - An option whose loss would delete, overwrite or send what sersync did not is an error.

use super::rsync_pattern;
use crate::config::{
    options::{check, long_of, reason_for_long},
    parse,
};

/// What the options come to.
#[derive(Debug, Default, PartialEq)]
pub(in crate::config) struct Params {
    pub options: Vec<String>,
    /// gitignore patterns.
    pub excludes: Vec<String>,
    pub bandwidth_limit: Option<String>,
    pub modify_window: Option<i32>,
    /// Seconds.
    pub timeout: Option<u64>,
    pub port: Option<u16>,
    pub password_file: Option<String>,
    pub one_file_system: bool,
    /// One text each: what is left out, and why.
    pub left_out: Vec<String>,
}

/// Long options whose value may stand in the next word.
const WITH_VALUE: &[&str] = &[
    "address",
    "backup-dir",
    "block-size",
    "bwlimit",
    "checksum-choice",
    "checksum-seed",
    "chmod",
    "chown",
    "compare-dest",
    "compress-choice",
    "compress-level",
    "contimeout",
    "copy-as",
    "copy-dest",
    "debug",
    "early-input",
    "exclude",
    "exclude-from",
    "files-from",
    "filter",
    "groupmap",
    "iconv",
    "include",
    "include-from",
    "info",
    "link-dest",
    "log-file",
    "log-file-format",
    "max-alloc",
    "max-delete",
    "max-size",
    "min-size",
    "modify-window",
    "only-write-batch",
    "out-format",
    "outbuf",
    "partial-dir",
    "password-file",
    "port",
    "protocol",
    "read-batch",
    "remote-option",
    "rsh",
    "rsync-path",
    "skip-compress",
    "sockopts",
    "stderr",
    "stop-after",
    "stop-at",
    "suffix",
    "temp-dir",
    "timeout",
    "usermap",
    "write-batch",
];

/// One-letter options with a value, and their long names.
const LETTERS_WITH_VALUE: &[(char, &str)] =
    &[('B', "block-size"), ('T', "temp-dir"), ('M', "remote-option"), ('e', "rsh"), ('f', "filter"), ('@', "modify-window")];

/// What a batch does anyway.
const DONE_ANYWAY: &[&str] = &[
    "archive",
    "recursive",
    "relative",
    "implied-dirs",
    "times",
    "del",
    "delete",
    "delete-before",
    "delete-during",
    "delete-delay",
    "delete-after",
    "force",
];

/// Without these, more would be deleted, overwritten or sent than the other program did.
const NEEDED: &[&str] = &[
    "dry-run",
    "list-only",
    "write-batch",
    "only-write-batch",
    "read-batch",
    "files-from",
    "exclude-from",
    "include",
    "include-from",
    "filter",
    "cvs-exclude",
    "backup",
    "backup-dir",
    "remove-source-files",
    "remove-sent-files",
    "copy-links",
    "copy-dirlinks",
    "copy-unsafe-links",
    "keep-dirlinks",
    "existing",
    "ignore-non-existing",
    "ignore-existing",
    "iconv",
];

/// What `-a` asks for, and how it is switched off where the other program did not ask for it.
const KEPT: &[(char, &str, &str)] = &[
    ('l', "links", "--no-links"),
    ('p', "perms", "--no-perms"),
    ('g', "group", "--no-group"),
    ('o', "owner", "--no-owner"),
    ('D', "devices", "--no-devices"),
    ('D', "specials", "--no-specials"),
];

/// Reads options as they were written for a shell. The error is about all of them.
pub(in crate::config) fn read(written: &str) -> Result<Params, String> {
    let words = shlex::split(written).ok_or("has a quote without its end")?;
    let shell = |word: &&String| word.contains(['$', '`']);
    if let Some(word) = words.iter().find(shell) {
        let sign = if word.contains('$') { '$' } else { '`' };
        return Err(format!("`{word}` holds `{sign}` for a shell, and none reads it here (write out what it stands for)"));
    }
    let mut reader = Reader::default();
    let mut params = reader.read(words)?;
    params.options.extend(reader.off().map(str::to_owned));
    Ok(params)
}

/// Reads options word by word, and knows which of those that `-a` stands for were among them.
#[derive(Default)]
pub(in crate::config) struct Reader {
    params: Params,
    /// In the order of [`KEPT`].
    kept: [bool; KEPT.len()],
}

impl Reader {
    /// What these words come to, beside those that were read before. The error is about all of them.
    pub fn read(&mut self, words: Vec<String>) -> Result<Params, String> {
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = |name: &str| words.next().ok_or_else(|| format!("`{name}` lacks its value"));
            if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
                match long.split_once('=') {
                    Some((name, value)) => self.long(name, Some(value.to_owned()))?,
                    None if WITH_VALUE.contains(&long) => {
                        let value = value(&word)?;
                        self.long(long, Some(value))?;
                    }
                    None => self.long(long, None)?,
                }
                continue;
            }
            let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty() && *cluster != "-") else {
                return Err(format!("`{word}` is no option of rsync's, and no shell reads it here (leave it out)"));
            };
            for (index, letter) in cluster.char_indices() {
                match LETTERS_WITH_VALUE.iter().find(|(known, _)| *known == letter) {
                    Some((_, long)) => {
                        let rest = &cluster[index + letter.len_utf8()..];
                        let rest = rest.strip_prefix('=').unwrap_or(rest);
                        let value = if rest.is_empty() { value(&format!("-{letter}"))? } else { rest.to_owned() };
                        self.long(long, Some(value))?;
                        break;
                    }
                    None => self.letter(letter)?,
                }
            }
        }
        Ok(std::mem::take(&mut self.params))
    }

    /// What switches off what nobody asked for: owners and modes for one, which the `-a` of every batch would send.
    pub fn off(&self) -> impl Iterator<Item = &'static str> {
        KEPT.iter().zip(self.kept).filter(|(_, kept)| !kept).map(|((.., off), _)| *off)
    }

    fn leave_out(&mut self, option: &str, reason: &str) {
        self.params.left_out.push(format!("`{option}` is left out: {reason}"));
    }

    fn keep(&mut self, fits: impl Fn(&(char, &str, &str)) -> bool, kept: bool) -> bool {
        let mut any = false;
        for (at, _) in KEPT.iter().enumerate().filter(|(_, known)| fits(known)) {
            self.kept[at] = kept;
            any = true;
        }
        any
    }

    fn letter(&mut self, letter: char) -> Result<(), String> {
        match letter {
            'a' => _ = self.keep(|_| true, true),
            't' | 'r' | 'R' => {}
            'x' => self.params.one_file_system = true,
            'P' => self.params.options.push("--partial".into()),
            'v' | 'q' | 'h' | 'i' | '8' => {}
            _ if self.keep(|(known, ..)| *known == letter, true) => {}
            letter => {
                if letter == 'A' {
                    self.keep(|(known, ..)| *known == 'p', true);
                }
                match long_of(letter).map(|long| (long, reason_for_long(long))) {
                    Some((long, Some(reason))) => self.refused(&format!("-{letter}"), long, reason)?,
                    _ => self.params.options.push(format!("-{letter}")),
                }
            }
        }
        Ok(())
    }

    fn refused(&mut self, option: &str, long: &str, reason: &str) -> Result<(), String> {
        if DONE_ANYWAY.contains(&long) {
            return Ok(());
        }
        if NEEDED.contains(&long) {
            return Err(format!("`{option}` cannot be used ({reason}), nor left out without harm to the target (take it out yourself)"));
        }
        self.leave_out(option, reason);
        Ok(())
    }

    fn long(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        if let Some(bare) = name.strip_prefix("no-") {
            let of_letter = |known: &(char, &str, &str)| known.1 == bare || bare.chars().eq([known.0]);
            if self.keep(of_letter, false) {
                return Ok(());
            }
        }
        match name {
            "archive" => _ = self.keep(|_| true, true),
            _ if self.keep(|(_, known, _)| *known == name, true) => return Ok(()),
            _ => {}
        }
        if DONE_ANYWAY.contains(&name) {
            return Ok(());
        }
        let params = &mut self.params;
        match (name, &value) {
            ("one-file-system", None) => params.one_file_system = true,
            ("exclude", Some(pattern)) => params.excludes.push(rsync_pattern::gitignore(pattern)?),
            ("bwlimit", Some(limit)) => params.bandwidth_limit = Some(parse::bandwidth(limit)?),
            ("timeout", Some(seconds)) => params.timeout = Some(super::seconds(seconds)?),
            ("port", Some(port)) => params.port = Some(super::port(port)?),
            ("password-file", Some(file)) => params.password_file = Some(file.clone()),
            ("modify-window", Some(window)) => {
                let number = window.parse().ok().filter(|window| *window >= -1);
                params.modify_window = Some(number.ok_or_else(|| format!("--modify-window={window} is no number of seconds"))?);
            }
            (name, value) => {
                let option = value.as_ref().map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}"));
                match reason_for_long(name) {
                    // Said of an option that is a matter of taste here.
                    _ if matches!(name, "verbose" | "quiet" | "progress" | "stats" | "human-readable" | "itemize-changes") => {}
                    Some(reason) => self.refused(&option, name, reason)?,
                    None => match check(&option) {
                        Ok(()) => params.options.push(option),
                        Err(reason) => self.leave_out(&option, &reason),
                    },
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(written: &str) -> (Vec<String>, Vec<String>) {
        let params = read(written).unwrap_or_else(|error| panic!("{written}: {error}"));
        (params.options, params.left_out)
    }

    #[test]
    fn what_is_passed_on_and_what_is_left_out() {
        for (written, expected, left_out) in [
            ("-artuz", &["-z"][..], &["`-u` is left out: a file that is newer at the target would silently stay different"][..]),
            ("-avzP", &["-z", "--partial"], &[]),
            ("-avz --delete --progress", &["-z"], &[]),
            ("-aHAX --numeric-ids", &["-H", "-A", "-X", "--numeric-ids"], &[]),
            ("-a --chmod D755,F644 --chown=www:www", &["--chmod=D755,F644", "--chown=www:www"], &[]),
            ("-rltz", &["-z", "--no-perms", "--no-group", "--no-owner", "--no-devices", "--no-specials"], &[]),
            ("-a --no-o --no-group", &["--no-group", "--no-owner"], &[]),
            ("-a -e 'ssh -p 22'", &[], &["`--rsh=ssh -p 22` is left out: write identity =, and the port as ssh://HOST:PORT/PATH"]),
            ("-a --max-size=1g", &[], &["`--max-size=1g` is left out: files would silently be left out; write exclude ="]),
            ("-aB 1024", &["--block-size=1024"], &[]),
        ] {
            let expected =
                (expected.iter().map(|text| (*text).to_owned()).collect(), left_out.iter().map(|text| (*text).to_owned()).collect());
            assert_eq!(options(written), expected, "{written}");
        }
        let params =
            read("-ax --exclude=a/b --exclude '*.php' --bwlimit=1m --timeout 9 --port=874 --modify-window=1 --password-file=/p").unwrap();
        let expected = Params {
            excludes: vec!["**/a/b".into(), "*.php".into()],
            bandwidth_limit: Some("1m".into()),
            modify_window: Some(1),
            timeout: Some(9),
            port: Some(874),
            password_file: Some("/p".into()),
            one_file_system: true,
            ..Params::default()
        };
        assert_eq!(params, expected);
    }

    #[test]
    fn what_cannot_be_left_out_is_an_error() {
        for (written, expected) in [
            ("-an", "`-n` cannot be used (nothing would reach the target), nor left out"),
            ("-aL", "`-L` cannot be used (changes behind a symbolic link are not seen), nor left out"),
            ("-a --ignore-existing", "`--ignore-existing` cannot be used"),
            ("-a --exclude-from=/x", "`--exclude-from=/x` cannot be used"),
            ("-a --exclude='a/**/b'", "the pattern `a/**/b` has a `**`"),
            ("-a -f '- x'", "`--filter=- x` cannot be used"),
            ("-a > /dev/null", "`>` is no option of rsync's, and no shell reads it here"),
            ("-a $(date)", "`$(date)` holds `$` for a shell"),
            ("-a 'x", "has a quote without its end"),
            ("-a --bwlimit", "`--bwlimit` lacks its value"),
            ("-a --timeout=soon", "`soon` is no number of seconds"),
        ] {
            let error = read(written).expect_err(written);
            assert!(error.contains(expected), "{written}: {error}");
        }
    }
}
