//! How lsyncd has ssh called, by `ssh{}` or by rsync's `rsh`: what the address and `identity` can say, and what ssh's own configuration
//! has to.

use super::{
    keys::{Keys, Notes, error},
    value::{Table, Value},
};
use crate::config::{
    ConfigError,
    foreign::{self, short, with},
    raw::At,
};

const KNOWN: &[&str] = &["binary", "identityFile", "options", "port", "_extra"];

/// ssh's one-letter options with a value.
const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

const LEFT_OUT: &str = "trigsync gives ssh no options of this kind (write it into ssh's own configuration, for this host)";

/// What ssh is to be told.
#[derive(Debug, Default)]
pub(super) struct Shell {
    pub user: Option<At<String>>,
    pub port: Option<At<u16>>,
    /// A file, as written.
    pub identity: Option<At<String>>,
}

impl Shell {
    /// `ssh{}` of `default.rsyncssh`.
    pub fn table(keys: &Keys<'_>, notes: &mut Notes<'_>) -> Result<Self, ConfigError> {
        keys.check(&[KNOWN])?;
        let mut shell = Self { identity: keys.text("identityFile")?, ..Self::default() };
        if let Some(text) = keys.text("port")? {
            let port = foreign::port(&text.value).map_err(|message| keys.error("port", message))?;
            shell.port = Some(with(&text, port));
        }
        if let Some(binary) = keys.text("binary")?.filter(|binary| !is_ssh(&binary.value) || binary.value.contains('/')) {
            let message = format!("`{}` is not used: trigsync runs the `ssh` that is found in PATH", short(&binary.value));
            if is_ssh(&binary.value) { notes.differ(&binary, message) } else { notes.warn(&binary, message) }
        }
        let nothing = Table::default();
        let options = keys.inner("options", &nothing)?;
        options.nothing_without_a_key()?;
        for (name, value) in &options.table.named {
            let at = options.at(name, ());
            let text = match value {
                Value::Bool(false) => continue,
                value => super::keys::text(value).map_err(|message| error(keys.file, &at, message))?,
            };
            shell.option(&at, keys, notes, name, &text)?;
        }
        let extra = keys.list("_extra")?.into_iter().map(|at| at.value).collect();
        shell.arguments(&keys.at("_extra", ()), keys, notes, extra)?;
        Ok(shell)
    }

    /// The command of rsync's `rsh`.
    pub fn command(rsh: &At<String>, keys: &Keys<'_>, notes: &mut Notes<'_>) -> Result<Self, ConfigError> {
        let words = shlex::split(&rsh.value).ok_or_else(|| error(keys.file, rsh, "has a quote without its end"))?;
        let mut words = words.into_iter();
        let program = words.next().unwrap_or_default();
        if !is_ssh(&program) {
            // What follows it may be a password.
            let message =
                format!("runs `{}`, and trigsync reaches hosts by ssh alone (write ssh, with a key: identity =)", short(&program));
            return Err(error(keys.file, rsh, message));
        }
        let mut shell = Self::default();
        shell.arguments(&with(rsh, ()), keys, notes, words.collect())?;
        Ok(shell)
    }

    fn arguments(&mut self, at: &At<()>, keys: &Keys<'_>, notes: &mut Notes<'_>, words: Vec<String>) -> Result<(), ConfigError> {
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) else {
                return Err(error(keys.file, at, format!("`{}` is no option of ssh's (take it out)", short(&word))));
            };
            for (index, letter) in cluster.char_indices() {
                if !WITH_VALUE.contains(letter) {
                    notes.warn(at, format!("`-{letter}` is left out: {LEFT_OUT}"));
                    continue;
                }
                let rest = cluster[index + letter.len_utf8()..].to_owned();
                let value = if rest.is_empty() { words.next() } else { Some(rest) };
                let value = value.ok_or_else(|| error(keys.file, at, format!("`-{letter}` lacks its value")))?;
                match letter {
                    'p' => self.option(at, keys, notes, "Port", &value)?,
                    'i' => self.option(at, keys, notes, "IdentityFile", &value)?,
                    'l' => self.option(at, keys, notes, "User", &value)?,
                    'o' => {
                        let (name, value) = value.split_once(['=', ' ']).unwrap_or((&value, ""));
                        self.option(at, keys, notes, name.trim(), value.trim())?;
                    }
                    letter => notes.warn(at, format!("`-{letter} {}` is left out: {LEFT_OUT}", short(&value))),
                }
                break;
            }
        }
        Ok(())
    }

    /// An option of ssh's configuration. Of one that is given twice the first counts, as for ssh.
    fn option(&mut self, at: &At<()>, keys: &Keys<'_>, notes: &mut Notes<'_>, name: &str, value: &str) -> Result<(), ConfigError> {
        match name.to_ascii_lowercase().as_str() {
            "port" => {
                let port = foreign::port(value).map_err(|message| error(keys.file, at, message))?;
                self.port.get_or_insert(with(at, port));
            }
            "identityfile" => _ = self.identity.get_or_insert(with(at, value.to_owned())),
            "user" => _ = self.user.get_or_insert(with(at, value.to_owned())),
            "batchmode" => notes.differ(at, "BatchMode has no effect: nobody is ever asked for a password"),
            _ => notes.warn(at, format!("`-o {}={}` is left out: {LEFT_OUT}", short(name), short(value))),
        }
        Ok(())
    }
}

fn is_ssh(program: &str) -> bool {
    program.rsplit('/').next() == Some("ssh")
}
