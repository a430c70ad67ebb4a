//! Which rsync is installed here, and what it lacks.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A version of rsync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The 3 of 3.2.7.
    pub major: u16,
    /// The 2 of 3.2.7.
    pub minor: u16,
    /// The 7 of 3.2.7.
    pub patch: u16,
}

impl Version {
    /// The oldest that works: `--modify-window=-1` came with it.
    pub const OLDEST: Self = Self::new(3, 1, 3);

    /// The version `major.minor.patch`.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads the first line of `rsync --version`, such as `rsync  version 3.2.7  protocol version 31` or `rsync  version v3.5.0dev`;
    /// `None` where it is not samba.org's rsync.
    pub fn parse(text: &str) -> Option<Self> {
        let words = text.lines().next()?.strip_prefix("rsync")?;
        let number = words.trim_start().strip_prefix("version")?.trim_start();
        let number = number.strip_prefix('v').unwrap_or(number);
        let mut parts = number.splitn(3, '.').map(|part| {
            let digits = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u16>().ok()
        });
        let (major, minor) = (parts.next()??, parts.next()??);
        Some(Self { major, minor, patch: parts.next().flatten().unwrap_or(0) })
    }

    /// Reads what `binary` printed, and refuses what trigsync cannot work with.
    pub(super) fn of(binary: &Path, text: &str) -> Result<Self, RsyncError> {
        let binary = || binary.to_owned();
        if text.to_ascii_lowercase().contains("openrsync") {
            return Err(RsyncError::NotRsync { binary: binary(), what: "openrsync".into() });
        }
        match Self::parse(text) {
            None => Err(RsyncError::NotRsync { binary: binary(), what: "no rsync that says its version".into() }),
            Some(version) if version < Self::OLDEST => Err(RsyncError::TooOld { binary: binary(), version }),
            Some(version) => Ok(version),
        }
    }

    /// Whether paths have to be protected from the remote shell by `--protect-args`: since 3.2.4 rsync escapes them itself.
    pub fn secluded_args_needed(self) -> bool {
        self < Self::new(3, 2, 4)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why no rsync can be run.
#[derive(Debug, thiserror::Error)]
pub enum RsyncError {
    /// Not installed.
    #[error("{} was not found{}; install it (dnf install rsync, apt-get install rsync)", binary.display(), if binary.components().count() == 1 { " in PATH" } else { "" })]
    Missing {
        /// As configured.
        binary: PathBuf,
    },
    /// It is there and cannot be run.
    #[error("{} cannot be run; it has to be an rsync program with the execute bit set", binary.display())]
    NotExecutable {
        /// As configured.
        binary: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It runs, and it is not samba.org's rsync.
    #[error("{} is {what}, which lacks what trigsync needs; install rsync 3.1.3 or newer", binary.display())]
    NotRsync {
        /// As configured.
        binary: PathBuf,
        /// `openrsync`, or the first line that it printed.
        what: String,
    },
    /// Too old.
    #[error("{} is rsync {version}; trigsync needs 3.1.3 or newer", binary.display())]
    TooOld {
        /// As configured.
        binary: PathBuf,
        /// What it says it is.
        version: Version,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_many_years() {
        for (line, expected) in [
            ("rsync  version 3.1.3  protocol version 31\nCopyright", Version::new(3, 1, 3)),
            ("rsync  version 3.2.7  protocol version 31", Version::new(3, 2, 7)),
            ("rsync  version v3.5.0dev  protocol version 32", Version::new(3, 5, 0)),
            ("rsync  version 3.4.1-sec-patches1  protocol version 32", Version::new(3, 4, 1)),
            ("rsync version 3.3  protocol version 31", Version::new(3, 3, 0)),
        ] {
            assert_eq!(Version::parse(line), Some(expected), "{line}");
        }
        for line in ["", "openrsync: protocol version 29", "rsync  version x.y", "BusyBox v1.36"] {
            assert_eq!(Version::parse(line), None, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let refuse = |text: &str| Version::of(Path::new("rsync"), text).unwrap_err().to_string();
        assert_eq!(
            refuse("openrsync: protocol version 29\nrsync version 2.6.9 compatible"),
            "rsync is openrsync, which lacks what trigsync needs; install rsync 3.1.3 or newer"
        );
        assert_eq!(refuse("rsync  version 3.1.2  protocol version 31"), "rsync is rsync 3.1.2; trigsync needs 3.1.3 or newer");
        assert!(refuse("hello").starts_with("rsync is no rsync that says its version"));
    }

    #[test]
    fn old_versions_need_their_paths_kept_from_the_remote_shell() {
        assert!(Version::new(3, 2, 3).secluded_args_needed());
        assert!(!Version::new(3, 2, 4).secluded_args_needed());
    }
}
