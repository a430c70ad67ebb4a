//! What `<plugin>` comes to: a plugin of trigsync's own that does the same, or a warning that says why there is none.
//!
//! sersync hands each path to a shell, or to a connection of its own, with the watched directory in front. Here too each has a run of its own, but no
//! shell: words that need one are a reason to leave the plugin out.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    confxml::{Confxml, Expressions},
    settings::{PluginSettings, is_same},
    short,
    translate::Translator,
    with,
};
use crate::config::{
    ConfigError, EACH, Expression, Separator,
    plugin::{RawAction, RawPlugin, RawRequest},
    raw::At,
};

/// A program that sersync starts may take any time.
const LONG: Duration = Duration::from_secs(3600);

/// What makes more of words than words. A blank and quotes are dealt with.
const FOR_A_SHELL: &str = "|&;<>()$`*?[]{}~#!\n";

/// Expressions of one filter.
const MOST_EXPRESSIONS: usize = 100;

/// In a form stands as it is what means nothing there.
const IN_FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where the password of a CDN is looked for, beside the confxml.xml.
const CDN_PASSWORD: &str = "refreshCDN.password";

impl Translator<'_> {
    /// The plugin that is to run, if any.
    pub(super) fn plugin(&mut self) -> Result<Option<RawPlugin>, ConfigError> {
        let Confxml { plugin, settings, watch, .. } = self.xml;
        if !plugin.start.value {
            return Ok(None);
        }
        let root = settings.as_ref().and_then(PluginSettings::watch).filter(|root| !is_same(root, watch));
        if let Some(root) = root {
            let message = format!(
                "with this plugin sersync mirrors `{}`, not the `{}` of {} (make the two the same, or switch the plugin off)",
                short(&root.value),
                short(&watch.value),
                watch.mention()
            );
            return Err(self.error(root, message));
        }
        let made = match settings {
            None => Err((with(&plugin.name, ()), format!("`{}` has no <plugin> of its name", short(&plugin.name.value)))),
            Some(PluginSettings::Command { prefix, suffix, ignore_error, only }) => self.command(prefix, suffix, ignore_error, only),
            Some(PluginSettings::Socket { ip, port, .. }) => self.socket(ip, port),
            Some(PluginSettings::RefreshCdn { domain, port, user, base, matching, .. }) => {
                self.refresh_cdn([domain, port, user, base], matching.as_ref())
            }
            Some(PluginSettings::Http { url, .. }) => self.http(url),
        };
        match made {
            Ok(made) => {
                let folded = match self.xml.alone {
                    true => "what was moved here or away as a whole, or what waits beyond its memory",
                    false => "what a full pass made equal, or what waits beyond its memory",
                };
                self.differ(&plugin.start, format!("{folded}, the plugin is told as directories; the source itself never"));
                Ok(Some(made))
            }
            Err((at, reason)) if self.xml.alone => Err(self.error(&at, format!("the plugin cannot run: {reason}"))),
            Err((at, reason)) => {
                self.warn(&at, format!("the plugin is left out: {reason}"));
                Ok(None)
            }
        }
    }

    fn named(&self, action: RawAction) -> RawPlugin {
        let plugin = &self.xml.plugin;
        RawPlugin {
            absolute: Some(with(&plugin.name, true)),
            matching: Some(with(&self.xml.watch, format!("^{}/.", regex::escape(&self.source().display().to_string())))),
            ..RawPlugin::new(with(&plugin.start, ()), plugin.name.clone(), action)
        }
    }

    /// The source as it will be told, without symbolic links where it is there.
    fn source(&self) -> PathBuf {
        let source = self.base.join(self.xml.watch.value.trim_end_matches('/'));
        source.canonicalize().unwrap_or(source)
    }

    fn command(&mut self, prefix: &At<String>, suffix: &At<String>, ignore_error: &At<bool>, only: &Expressions) -> Made {
        let mut words = words(prefix)?;
        let Some(program) = words.first().map(|word| word.value.clone()) else {
            return Err((with(prefix, ()), "its prefix is empty (write a program)".to_owned()));
        };
        if program.contains('/') && !program.starts_with('/') {
            return Err((with(prefix, ()), format!("`{}` is relative to nothing (write the whole path)", short(&program))));
        }
        if is_script_without_program(Path::new(&program)) {
            words.insert(0, with(prefix, "/bin/sh".to_owned()));
        } else if words.len() == 1 && ["sh", "bash"].iter().any(|shell| Path::new(&program).ends_with(shell)) {
            self.warn(
                prefix,
                format!(
                    "runs each changed file itself as a script, as in sersync: `{program} PATH` (write the script that is meant behind it)"
                ),
            );
        }
        words.push(with(prefix, EACH.to_owned()));
        words.extend(self::words(suffix)?);
        if !ignore_error.value {
            self.differ(
                ignore_error,
                "what the program says is not shown; the last line of one that fails stands in the log and in the status",
            );
        }
        let mut plugin = self.named(RawAction::Exec { command: words, input: None });
        plugin.timeout = Some(with(prefix, LONG));
        // sersync does not look whether it failed.
        plugin.attempts = Some(with(prefix, std::num::NonZeroU32::MIN));
        if let (true, [first, ..]) = (only.start.value, &only.list[..]) {
            let matching = with(first, whole(only)?);
            plugin.matching = Some(matching);
        } else if only.start.value {
            return Err((with(&only.start, ()), "its filter lets nothing pass (write an <include>, or switch the filter off)".to_owned()));
        }
        Ok(plugin)
    }

    fn socket(&mut self, ip: &At<String>, port: &At<String>) -> Made {
        let number = super::port(&port.value).map_err(|message| (with(port, ()), message))?;
        if ip.value.is_empty() {
            return Err((with(ip, ()), "it says nobody to tell (write ip=\"…\")".to_owned()));
        }
        let to = with(ip, format!("{}:{number}", ip.value));
        Ok(self.named(RawAction::Tcp { to, separator: Some(with(ip, Separator::Connection)) }))
    }

    fn http(&mut self, url: &At<String>) -> Made {
        if url.value.is_empty() {
            return Err((with(url, ()), "it says nobody to tell (write url=\"http://…\")".to_owned()));
        }
        let full = if url.value.contains("://") { url.value.clone() } else { format!("http://{}", url.value) };
        self.warn(url, "sersync 2.5.4 cannot do this; `watchroot` and `inotifyPath` are sent as it once did, `isdir` and `mask` are not");
        let root = utf8_percent_encode(&self.source().display().to_string(), IN_FORM).to_string();
        let form = ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned());
        Ok(self.named(RawAction::Http {
            request: RawRequest {
                url: Some(with(url, full)),
                headers: vec![with(url, form)],
                body: Some(with(url, format!("watchroot={root}&inotifyPath={EACH}"))),
                ..RawRequest::default()
            },
        }))
    }

    fn refresh_cdn(&mut self, [domain, port, user, base]: [&At<String>; 4], matching: Option<&At<String>>) -> Made {
        for (at, what) in [(domain, "domainname"), (base, "base")] {
            if at.value.is_empty() {
                return Err((with(at, ()), format!("it has no {what} (write {what}=\"…\")")));
            }
        }
        let number = super::port(&port.value).map_err(|message| (with(port, ()), message))?;
        let secret = self.base.join(CDN_PASSWORD);
        if !secret.exists() {
            let message = format!(
                "no password is taken from a configuration (write it, alone, into {}, with mode 600: then `{}` is asked as sersync does it)",
                secret.display(),
                short(&domain.value)
            );
            return Err((with(user, ()), message));
        }
        self.warn(
            domain,
            "is asked by sersync's own request of one provider (HEAD /index.jsp?user=…&pswd=…&urls=…), and any answer but 2xx is a failure; directories are \
             told as `urls`, with a slash at the end, not as `dirs` (for another provider import, and write url, method and body)",
        );
        let user_name = utf8_percent_encode(&user.value, NON_ALPHANUMERIC);
        let url = format!("http://{}:{number}/index.jsp?user={user_name}&pswd={{secret}}&ok=ok&urls={{url}}", domain.value);
        let request = RawRequest {
            method: Some(with(domain, "HEAD".to_owned())),
            url: Some(with(domain, url)),
            secret_file: Some(with(user, secret)),
            ..RawRequest::default()
        };
        // sersync sends what the first group holds, and what stands behind the match.
        let replace = matching.map(|expression| with(expression, "${1}".to_owned()));
        let mut plugin = self.named(RawAction::Purge { base: base.clone(), replace, request });
        match matching {
            Some(expression) => {
                let text = format!("^.*?(?:{})", expression.value);
                Expression::new(&expression.value)
                    .and_then(|_| Expression::new(&text))
                    .map_err(|reason| (with(expression, ()), format!("`{}` cannot be used: {reason}", short(&expression.value))))?;
                plugin.matching = Some(with(expression, text));
            }
            None => {
                // Relative paths, of which the source's own is a dot.
                plugin.absolute = None;
                plugin.matching = Some(with(base, "^(?:[^.]|..)".to_owned()));
            }
        }
        Ok(plugin)
    }
}

/// A plugin; or why there is none, and where that stands.
type Made = Result<RawPlugin, (At<()>, String)>;

/// One expression for all of a filter's: each has to match the whole path.
fn whole(only: &Expressions) -> Result<String, (At<()>, String)> {
    let refused = |at: &At<String>, reason: String| (with(at, ()), format!("`{}` cannot be used: {reason}", short(&at.value)));
    if let Some(one_more) = only.list.get(MOST_EXPRESSIONS) {
        return Err(refused(one_more, format!("there are more than {MOST_EXPRESSIONS} of its kind (write fewer)")));
    }
    for expression in &only.list {
        Expression::new(&expression.value).map_err(|reason| refused(expression, reason))?;
    }
    let all: Vec<_> = only.list.iter().map(|expression| format!("(?:{})", expression.value)).collect();
    let all = format!("^(?:{})$", all.join("|"));
    match (Expression::new(&all), only.list.last()) {
        (Err(reason), Some(last)) => Err(refused(last, format!("with those before it: {reason}"))),
        _ => Ok(all),
    }
}

/// The words that a shell would make of it, where it would make nothing else.
fn words(at: &At<String>) -> Result<Vec<At<String>>, (At<()>, String)> {
    let needs = |reason: &str| {
        let text = short(&at.value);
        (with(at, ()), format!("`{text}` {reason}, and there is none here (put it into a script, and name that)"))
    };
    if let Some(sign) = at.value.chars().find(|sign| FOR_A_SHELL.contains(*sign)) {
        return Err(needs(&format!("has a `{}`, which is for a shell", sign.escape_default())));
    }
    let words = shlex::split(&at.value).ok_or_else(|| needs("has an open quote for a shell"))?;
    Ok(words.into_iter().map(|word| with(at, word)).collect())
}

/// Whether only a shell runs it: a script that does not say what runs it.
fn is_script_without_program(program: &Path) -> bool {
    if program.extension().is_none_or(|extension| extension != "sh") {
        return false;
    }
    let mut begin = [0; 2];
    // Whatever the XML names may be a pipe, which nobody writes to.
    let says = program.is_file() && File::open(program).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && &begin == b"#!";
    !says
}
