//! The state directory: made where it is missing, private, and used by one daemon at a time.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// A state directory that is ours as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or written.
    #[error("cannot use the state directory {}: {source}; name another with --state-dir", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("another trigsync runs with the state directory {}; stop it (`trigsync stop`), or give this one its own with --state-dir", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
}

impl StateDir {
    /// Makes the directory where it is missing, and locks it.
    pub fn take(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |source: io::Error| StateDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let path = fs::canonicalize(path).map_err(unusable)?;
        let file = File::create(path.join("lock")).map_err(|source| StateDirError::Unusable { path: path.clone(), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StateDirError::Taken { path }),
            Err((_, errno)) => Err(StateDirError::Unusable { path, source: errno.into() }),
        }
    }

    /// Absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
