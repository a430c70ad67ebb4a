//! A source and a target of some kind, for one contender.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;
use xtask::rsyncd::Rsyncd;

use crate::{rsync, tree};

/// Where the files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A directory of this machine.
    Local,
    /// An rsync daemon on the loopback interface.
    Daemon,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "a local directory",
            Self::Daemon => "an rsync daemon",
        })
    }
}

/// A source, and the place that it is sent to.
pub(crate) struct Side {
    pub(crate) source: PathBuf,
    /// The directory that is served, whatever the way to it.
    pub(crate) served: PathBuf,
    /// How rsync reaches it, with a slash at the end.
    pub(crate) target: String,
    _rsyncd: Option<Rsyncd>,
}

impl Side {
    /// A source with so many directories in `place`, and a target that is equal.
    pub(crate) fn make(place: &Path, kind: Kind, directories: u64) -> Result<Self> {
        let (source, served) = (place.join("source"), place.join("target"));
        fs::create_dir_all(&served).with_context(|| format!("creating {}", served.display()))?;
        tree::make_directories(&source, directories)?;
        let rsyncd = if kind == Kind::Daemon { Some(Rsyncd::start(place, &served)?) } else { None };
        let target = rsyncd.as_ref().map_or_else(|| served.to_string_lossy().into_owned(), Rsyncd::address);
        rsync::send_all(&source, &format!("{target}/"))?;
        Ok(Self { source, served, target: format!("{target}/"), _rsyncd: rsyncd })
    }
}
