//! Plugins: who is told of what has arrived, and how.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use regex::bytes::{Regex, RegexBuilder};

use super::Filter;
use crate::model::Arrived;

mod parse;
mod raw;
mod resolve;
mod template;
mod write;

pub(super) use parse::{KEYS, plugin as parse};
pub(super) use raw::{RawAction, RawPlugin, RawRequest};
pub(super) use resolve::{Wrong, plugin as resolve};
pub use template::{Piece, Placeholder, Template};
pub(super) use write::plugin as write;

/// One plugin of a sync.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Unique within the sync.
    pub name: String,
    /// The target that counts; none: all of them.
    pub after: Option<String>,
    /// Of which paths it is told.
    pub paths: PluginPaths,
    /// Whether paths are told with the source in front.
    pub absolute: bool,
    /// Paths in one run, at the most. 1 where a run is for one path.
    pub batch: usize,
    /// Runs a second, at the most.
    pub rate: Option<NonZeroU32>,
    /// How long one run may take. 30 s.
    pub timeout: Duration,
    /// How often a run is tried before its paths are given up. 5.
    pub attempts: NonZeroU32,
    /// Bytes that the paths may take that wait; beyond it directories take their place. 4 MiB.
    pub memory: usize,
    /// What a run does.
    pub action: PluginAction,
}

/// What a run of a plugin does.
#[derive(Clone, Debug, PartialEq)]
pub enum PluginAction {
    /// Starts a program.
    Exec {
        /// Its name, absolute or to be found in PATH, and its arguments. Where `{path}` stands in one of these, each path has a run of its own.
        command: Vec<String>,
        /// What stands on its standard input.
        input: ExecInput,
    },
    /// Connects and writes.
    Tcp {
        /// `HOST:PORT`.
        to: String,
        /// What ends a path.
        separator: Separator,
    },
    /// Sends a request.
    Http(HttpRequest),
    /// Has a cache forget.
    Purge {
        /// How a path becomes a URL.
        urls: UrlRule,
        /// The request; each URL's own where it has no `url`.
        request: HttpRequest,
    },
}

/// What stands on a program's standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecInput {
    /// The paths, each ended by a NUL byte; nothing where a run is for one path.
    #[default]
    Paths,
    /// The same JSON as HTTP's body.
    Json,
}

/// What ends a path on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Separator {
    /// A NUL byte.
    #[default]
    Nul,
    /// A newline. A name that holds one is told as the directory that it is in.
    Newline,
    /// The end of the connection: each path has one of its own.
    Connection,
}

/// A request over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    /// `POST`, `PURGE`, …
    pub method: String,
    /// Where it goes; for purges none: to the URL that is purged.
    pub url: Option<Template>,
    /// Names and values.
    pub headers: Vec<(String, Template)>,
    /// None: no body.
    pub body: Option<Template>,
    /// The file that `{secret}` stands for, without the newline at its end. Readable by its owner only, and read at each run.
    pub secret_file: Option<PathBuf>,
}

/// From a path to a URL.
#[derive(Clone, Debug, PartialEq)]
pub struct UrlRule {
    /// What stands in front, without a slash at its end.
    pub base: String,
    /// What is replaced in the path first, and by what.
    pub replace: Option<(Expression, String)>,
}

/// A regular expression for paths: on bytes, where a newline is one like any other.
#[derive(Clone, Debug)]
pub struct Expression(Regex);

impl Expression {
    /// Compiles it; the error is the reason, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text).unicode(false).dot_matches_new_line(true).size_limit(1 << 20).build();
        built.map(Self).map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
    }

    /// Whether it matches anywhere.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.is_match(path)
    }

    /// Replaces the first match; `$1` in `with` stands for what the first group holds.
    pub fn replace(&self, path: &[u8], with: &str) -> Vec<u8> {
        self.0.replacen(path, 1, with.as_bytes()).into_owned()
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Which paths a plugin is told of.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginPaths {
    /// What matches these, and what is in directories that match; none: everything.
    pub only: Option<Arc<Filter>>,
    /// Never what matches these.
    pub exclude: Arc<Filter>,
    /// What does not match this, as it would be told, is not told.
    pub matching: Option<Expression>,
    /// Whether it is told of directories that stand for all that is below them.
    pub whole: bool,
}

impl PluginPaths {
    /// Whether the plugin is told of this, as `told`. A directory that stands for what is below it is not held back by `only`: nobody knows which
    /// paths below it have changed.
    pub fn holds(&self, arrived: &Arrived, told: &[u8]) -> bool {
        let Arrived { path, directory, below, .. } = arrived;
        if self.exclude.excludes(path, *directory) || (*below && !self.whole) {
            return false;
        }
        if self.matching.as_ref().is_some_and(|matching| !matching.matches(told)) {
            return false;
        }
        *below || self.only.as_ref().is_none_or(|only| only.excludes(path, *directory))
    }
}

impl PluginAction {
    /// What it is called in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Tcp { .. } => "tcp",
            Self::Http(_) => "http",
            Self::Purge { .. } => "purge",
        }
    }

    /// Who is told, for people; without secrets.
    pub fn address(&self) -> String {
        match self {
            Self::Exec { command, .. } => command.first().cloned().unwrap_or_default(),
            Self::Tcp { to, .. } => to.clone(),
            Self::Http(request) | Self::Purge { request: request @ HttpRequest { url: Some(_), .. }, .. } => {
                request.url.as_ref().map(ToString::to_string).unwrap_or_default()
            }
            Self::Purge { urls, .. } => urls.base.clone(),
        }
    }

    /// Whether each path has a run of its own.
    pub fn is_for_one(&self) -> bool {
        match self {
            Self::Exec { command, .. } => command.iter().any(|word| word.contains(EACH)),
            Self::Tcp { separator, .. } => *separator == Separator::Connection,
            Self::Http(request) => request.asks_for(Placeholder::Path),
            Self::Purge { request, .. } => {
                request.url.is_none() || request.asks_for(Placeholder::Url) || request.asks_for(Placeholder::Path)
            }
        }
    }
}

/// What stands for the path in the words of a command.
pub const EACH: &str = "{path}";

impl HttpRequest {
    /// Whether the placeholder stands anywhere in it.
    pub fn asks_for(&self, placeholder: Placeholder) -> bool {
        let headers = self.headers.iter().map(|(_, value)| value);
        headers.chain(&self.url).chain(&self.body).any(|template| template.asks_for(placeholder))
    }
}
