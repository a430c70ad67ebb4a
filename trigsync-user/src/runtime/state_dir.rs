//! The state directory: made where it is missing, private, and used by one daemon at a time.
//!
//! A group that may ask at the control socket may pass through it, and neither list nor read what is in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// A lock may outlive its daemon for so long: a child that was just made, and is not rsync yet, has its descriptors.
const OUTLIVES: Duration = Duration::from_secs(2);

/// What a group gets that may pass: entering, not listing.
const PASS: u32 = 0o010;

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
    /// Makes the directory where it is missing, for its owner only.
    pub fn make(path: &Path) -> Result<(), StateDirError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StateDirError::Unusable { path: path.to_owned(), source })
    }

    /// Makes the directory where it is missing, and locks it.
    pub fn take(path: &Path) -> Result<Self, StateDirError> {
        Self::make(path)?;
        let path = fs::canonicalize(path).map_err(|source| StateDirError::Unusable { path: path.to_owned(), source })?;
        // Nobody else's to open: whoever can read it can lock it.
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"))?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        };
        let mut file = open().map_err(|source| StateDirError::Unusable { path: path.clone(), source })?;
        let until = Instant::now() + OUTLIVES;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { path, _lock: lock }),
                Err((file, Errno::EWOULDBLOCK)) if Instant::now() < until => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(StateDirError::Taken { path }),
                Err((_, errno)) => return Err(StateDirError::Unusable { path, source: errno.into() }),
            };
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets the members of `group` pass through it, to the control socket, and nobody but its owner where there is none. A directory that was
    /// open to others before is left as it is: it may be more than ours.
    pub fn let_pass(&self, group: Option<u32>) -> Result<(), StateDirError> {
        let set = || -> io::Result<()> {
            let mode = fs::metadata(&self.path)?.mode() & 0o7777;
            match group {
                Some(_) if [0, PASS].contains(&(mode & 0o077)) => {
                    chown(&self.path, None, group)?;
                    fs::set_permissions(&self.path, Permissions::from_mode(0o700 | PASS))
                }
                Some(_) if mode & 0o001 == 0 => {
                    let path = self.path.display();
                    tracing::warn!(
                        "{path} has mode {mode:03o}: `control_group` cannot be given the way to the socket (chmod 700 {path}, and restart)"
                    );
                    Ok(())
                }
                None if mode == 0o700 | PASS => fs::set_permissions(&self.path, Permissions::from_mode(0o700)),
                _ => Ok(()),
            }
        };
        set().map_err(|source| StateDirError::Unusable { path: self.path.clone(), source })
    }

    /// Absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
