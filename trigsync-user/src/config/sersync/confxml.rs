//! Every element and attribute of a confxml.xml, as it stands there, or as sersync's shipped file has it where it is missing.
//!
//! - Names are compared without regard to case, as sersync compares them. Of elements that are repeated the first counts.
//! - What sersync does not know is passed over, as sersync does, and told in a warning.

use std::path::Path;

use super::{
    Note,
    settings::{Plugin, PluginSettings},
    short,
    xml::{self, Attribute, Element, Spot},
};
use crate::config::{ConfigError, error::near_miss, raw::At};

/// More warnings of one kind help nobody.
const MOST_WARNINGS: usize = 50;

#[derive(Debug)]
pub(super) struct Confxml {
    pub host: Option<Host>,
    pub debug: At<bool>,
    pub xfs: At<bool>,
    pub filter: Expressions,
    pub inotify: Inotify,
    pub watch: At<String>,
    pub remotes: Vec<Remote>,
    pub common_params: At<String>,
    pub auth: Auth,
    pub port: Switched,
    pub timeout: Switched,
    pub ssh: At<bool>,
    pub fail_log: FailLog,
    pub crontab: Switched,
    /// rsync's patterns, not regular expressions.
    pub crontab_filter: Expressions,
    /// The plugin is all that is wanted: its own directory is watched, and there are no remotes.
    pub alone: bool,
    pub plugin: Plugin,
    /// The first of the name that `plugin` asks for.
    pub settings: Option<PluginSettings>,
}

#[derive(Debug)]
pub(super) struct Host {
    pub ip: Option<At<String>>,
    pub port: Option<At<String>>,
}

/// `start` and what stands in `expression`.
#[derive(Debug)]
pub(super) struct Expressions {
    pub start: At<bool>,
    pub list: Vec<At<String>>,
}

#[derive(Debug)]
pub(super) struct Inotify {
    pub delete: At<bool>,
    pub create_folder: At<bool>,
    pub create_file: At<bool>,
    pub close_write: At<bool>,
    pub move_from: At<bool>,
    pub move_to: At<bool>,
    pub attrib: At<bool>,
    pub modify: At<bool>,
}

#[derive(Debug)]
pub(super) struct Remote {
    pub ip: At<String>,
    pub name: At<String>,
}

#[derive(Debug)]
pub(super) struct Auth {
    pub start: At<bool>,
    pub users: Option<At<String>>,
    pub password_file: Option<At<String>>,
}

/// A number that counts only where `start` says so.
#[derive(Debug)]
pub(super) struct Switched {
    pub start: At<bool>,
    pub value: At<String>,
}

#[derive(Debug)]
pub(super) struct FailLog {
    pub path: At<String>,
    pub minutes: At<String>,
}

/// An element that sersync knows.
struct Known {
    name: &'static str,
    attributes: &'static [&'static str],
    children: &'static [Known],
}

const fn leaf(name: &'static str, attributes: &'static [&'static str]) -> Known {
    Known { name, attributes, children: &[] }
}

const START: &[&str] = &["start"];
const EXCLUDE: &[Known] = &[leaf("exclude", &["expression"])];
const HEAD: Known = Known {
    name: "head",
    attributes: &["version"],
    children: &[
        leaf("host", &["hostip", "port"]),
        leaf("debug", START),
        leaf("fileSystem", &["xfs"]),
        Known { name: "filter", attributes: START, children: EXCLUDE },
        Known {
            name: "inotify",
            attributes: &[],
            children: &[
                leaf("delete", START),
                leaf("createFolder", START),
                leaf("createFile", START),
                leaf("closeWrite", START),
                leaf("moveFrom", START),
                leaf("moveTo", START),
                leaf("attrib", START),
                leaf("modify", START),
            ],
        },
        Known {
            name: "sersync",
            attributes: &[],
            children: &[
                Known { name: "localpath", attributes: &["watch"], children: &[leaf("remote", &["ip", "name"])] },
                Known {
                    name: "rsync",
                    attributes: &[],
                    children: &[
                        leaf("commonParams", &["params"]),
                        leaf("auth", &["start", "users", "passwordfile"]),
                        leaf("userDefinedPort", &["start", "port"]),
                        leaf("timeout", &["start", "time"]),
                        leaf("ssh", START),
                    ],
                },
                leaf("failLog", &["path", "timeToExecute"]),
                Known {
                    name: "crontab",
                    attributes: &["start", "schedule"],
                    children: &[Known { name: "crontabfilter", attributes: START, children: EXCLUDE }],
                },
                leaf("plugin", &["start", "name"]),
            ],
        },
        Known {
            name: "plugin",
            attributes: &["name"],
            children: &[
                leaf("param", &["prefix", "suffix", "ignoreError"]),
                Known { name: "filter", attributes: START, children: &[leaf("include", &["expression"])] },
                Known {
                    name: "localpath",
                    attributes: &["watch"],
                    children: &[
                        leaf("deshost", &["ip", "url", "port"]),
                        leaf("cdninfo", &["domainname", "port", "username", "passwd"]),
                        leaf("sendurl", &["base"]),
                        leaf("regexurl", &["regex", "match"]),
                    ],
                },
            ],
        },
    ],
};

/// Those of which there may be several.
const REPEATED: &[&str] = &["remote", "exclude", "include", "plugin"];

/// Reads the file, for one plugin `alone` or for all that it mirrors, and notes what sersync would not have read.
pub(super) fn read(bytes: &[u8], file: &Path, alone: Option<&str>, notes: &mut Vec<Note>) -> Result<Confxml, ConfigError> {
    let (root, encoding) = xml::read(bytes, file)?;
    let mut reader = Reader { file, encoding, notes };
    if !root.name.eq_ignore_ascii_case(HEAD.name) {
        let message = format!("is no confxml.xml: its outermost element is <{}>, not <head>", short(&root.name));
        return Err(place(root.spot, (), "head").error(Some(file), message));
    }
    reader.pass_over(&root, &HEAD);
    reader.confxml(&root, alone)
}

pub(super) fn place<T>(spot: Spot, value: T, key: &str) -> At<T> {
    At { value, line: Some(spot.line), column: Some(spot.column), key: key.to_owned() }
}

fn nowhere<T>(value: T, key: &str) -> At<T> {
    At { value, line: None, column: None, key: key.to_owned() }
}

fn attribute<'a>(element: Option<&'a Element>, name: &str) -> Option<&'a Attribute> {
    element?.attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

pub(super) fn children<'a>(parent: Option<&'a Element>, name: &'static str) -> impl Iterator<Item = &'a Element> {
    parent.into_iter().flat_map(|parent| &parent.children).filter(move |child| child.name.eq_ignore_ascii_case(name))
}

pub(super) fn child<'a>(parent: Option<&'a Element>, name: &'static str) -> Option<&'a Element> {
    children(parent, name).next()
}

/// The value of `key`, `element@attribute`, where it is written.
pub(super) fn written(element: Option<&Element>, key: &str) -> Option<At<String>> {
    let (_, name) = key.split_once('@')?;
    attribute(element, name).map(|attribute| place(attribute.spot, attribute.value.clone(), key))
}

pub(super) fn plain(element: Option<&Element>, name: &str) -> String {
    attribute(element, name).map(|attribute| attribute.value.clone()).unwrap_or_default()
}

pub(super) fn with_default(element: Option<&Element>, key: &str, default: &str) -> At<String> {
    written(element, key).unwrap_or_else(|| nowhere(default.to_owned(), key))
}

pub(super) struct Reader<'a> {
    pub file: &'a Path,
    encoding: Option<&'static str>,
    notes: &'a mut Vec<Note>,
}

impl Reader<'_> {
    pub fn warn<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        match self.notes.len() {
            few if few < MOST_WARNINGS => self.notes.push(Note::warning(self.file, at, message)),
            MOST_WARNINGS => self.notes.push(Note::warning(self.file, &nowhere((), "head"), "has more that is passed over")),
            _ => {}
        }
    }

    /// Warns of what has no meaning. As deep as sersync's own elements go, no deeper.
    fn pass_over(&mut self, element: &Element, known: &Known) {
        for found in &element.attributes {
            let at = place(found.spot, (), &format!("{}@{}", known.name, short(&found.name)));
            if !known.attributes.iter().any(|name| found.name.eq_ignore_ascii_case(name)) {
                let near = near_miss(&found.name, known.attributes.iter().copied());
                self.warn(&at, format!("sersync has no such attribute, it is passed over{}", guess(near)));
            } else if let Some(encoding) = self.encoding.filter(|_| !found.value.is_ascii()) {
                let value = short(&found.value);
                self.warn(
                    &at,
                    format!("`{value}` was read as {encoding}, and means a name that is UTF-8 on the disk (save the file as UTF-8)"),
                );
            }
        }
        for (index, found) in element.children.iter().enumerate() {
            let Some(inner) = known.children.iter().find(|inner| found.name.eq_ignore_ascii_case(inner.name)) else {
                let near = near_miss(&found.name, known.children.iter().map(|inner| inner.name));
                let at = place(found.spot, (), &format!("{}/{}", known.name, short(&found.name)));
                self.warn(&at, format!("sersync has no such element here, it is passed over{}", guess(near)));
                continue;
            };
            let again = element.children[..index].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(inner.name));
            if again && !REPEATED.contains(&inner.name) {
                let what = "stands there a second time; sersync reads only the first (leave one out)";
                self.warn(&place(found.spot, (), &format!("{}/{}", known.name, inner.name)), what);
            } else {
                self.pass_over(found, inner);
            }
        }
    }

    pub fn switch(&mut self, element: Option<&Element>, key: &str, default: bool) -> At<bool> {
        let Some(written) = written(element, key) else { return nowhere(default, key) };
        if !matches!(written.value.as_str(), "true" | "false") {
            let value = short(&written.value);
            self.warn(&written, format!("`{value}` counts as false, as it does for sersync (write true or false)"));
        }
        At { value: written.value == "true", line: written.line, column: written.column, key: key.to_owned() }
    }

    pub fn expressions(&mut self, element: Option<&Element>, name: &'static str, each: &'static str) -> Expressions {
        let start = self.switch(element, &format!("{name}@start"), false);
        let mut list = Vec::new();
        for child in children(element, each) {
            match written(Some(child), &format!("{each}@expression")) {
                Some(expression) => list.push(expression),
                None => self.warn(&place(child.spot, (), each), "has no expression, and means nothing (write expression=\"…\")"),
            }
        }
        Expressions { start, list }
    }

    fn confxml(&mut self, root: &Element, alone: Option<&str>) -> Result<Confxml, ConfigError> {
        let head = Some(root);
        let sersync = child(head, "sersync");
        let rsync = child(sersync, "rsync");
        let [auth, port, timeout] = ["auth", "userDefinedPort", "timeout"].map(|name| child(rsync, name));
        let crontab = child(sersync, "crontab");
        let fail_log = child(sersync, "failLog");
        let plugin = child(sersync, "plugin");
        let (mut watch, remotes) = self.localpath(root, sersync, alone.is_some())?;
        let plugin = match alone {
            Some(name) => self.asked_for(root, name)?,
            None => Plugin { start: self.switch(plugin, "plugin@start", false), name: with_default(plugin, "plugin@name", "command") },
        };
        let settings = self.settings(head, &plugin.name.value);
        if alone.is_some() {
            self.watch_its_own(settings.as_ref(), &mut watch);
        }
        Ok(Confxml {
            host: child(head, "host").map(|host| Host { ip: written(Some(host), "host@hostip"), port: written(Some(host), "host@port") }),
            debug: self.switch(child(head, "debug"), "debug@start", false),
            xfs: self.switch(child(head, "fileSystem"), "fileSystem@xfs", false),
            filter: self.expressions(child(head, "filter"), "filter", "exclude"),
            inotify: self.inotify(child(head, "inotify")),
            watch,
            remotes,
            common_params: with_default(child(rsync, "commonParams"), "commonParams@params", "-artuz"),
            auth: Auth {
                start: self.switch(auth, "auth@start", false),
                users: written(auth, "auth@users"),
                password_file: written(auth, "auth@passwordfile"),
            },
            port: Switched {
                start: self.switch(port, "userDefinedPort@start", false),
                value: with_default(port, "userDefinedPort@port", "874"),
            },
            timeout: Switched { start: self.switch(timeout, "timeout@start", false), value: with_default(timeout, "timeout@time", "100") },
            ssh: self.switch(child(rsync, "ssh"), "ssh@start", false),
            fail_log: FailLog {
                path: with_default(fail_log, "failLog@path", "/tmp/rsync_fail_log.sh"),
                minutes: with_default(fail_log, "failLog@timeToExecute", "60"),
            },
            crontab: Switched {
                start: self.switch(crontab, "crontab@start", false),
                value: with_default(crontab, "crontab@schedule", "600"),
            },
            crontab_filter: self.expressions(child(crontab, "crontabfilter"), "crontabfilter", "exclude"),
            alone: alone.is_some(),
            settings,
            plugin,
        })
    }

    fn inotify(&mut self, element: Option<&Element>) -> Inotify {
        let mut switch = |name: &'static str, default| self.switch(child(element, name), &format!("{name}@start"), default);
        Inotify {
            delete: switch("delete", true),
            create_folder: switch("createFolder", true),
            create_file: switch("createFile", false),
            close_write: switch("closeWrite", true),
            move_from: switch("moveFrom", true),
            move_to: switch("moveTo", true),
            attrib: switch("attrib", false),
            modify: switch("modify", false),
        }
    }

    fn localpath(&mut self, root: &Element, sersync: Option<&Element>, alone: bool) -> Result<(At<String>, Vec<Remote>), ConfigError> {
        let localpath = child(sersync, "localpath");
        let outer = localpath.or(sersync).unwrap_or(root);
        let outer = place(outer.spot, (), &outer.name);
        let missing = |what: &str| outer.error(Some(self.file), what);
        if localpath.is_none() {
            return Err(missing("has no <localpath> (write <localpath watch=\"/the/directory\"> with a <remote> in <sersync>)"));
        }
        let watch = written(localpath, "localpath@watch").filter(|watch| !watch.value.is_empty());
        let watch = watch.ok_or_else(|| missing("has no watch (write watch=\"/the/directory\")"))?;
        let mut remotes = Vec::new();
        if alone {
            return Ok((watch, remotes));
        }
        for remote in children(localpath, "remote") {
            let value = |key: &str| {
                let at = place(remote.spot, (), "remote");
                let lacks = || at.error(Some(self.file), format!("has no {} (write <remote ip=\"HOST\" name=\"MODULE\"/>)", &key[7..]));
                written(Some(remote), key).filter(|at| !at.value.is_empty()).ok_or_else(lacks)
            };
            remotes.push(Remote { ip: value("remote@ip")?, name: value("remote@name")? });
        }
        if remotes.is_empty() {
            return Err(missing("has no <remote> (write <remote ip=\"HOST\" name=\"MODULE\"/>)"));
        }
        Ok((watch, remotes))
    }
}

fn guess(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}
