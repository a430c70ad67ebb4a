//! What the daemon tells the programs, and learns from them: the epoch, the roots, who it is itself.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::MapError;
use nix::{errno::Errno, sys::stat::fstat, unistd::gettid};
use trigsync_common::values::{Control, Excluded, Root, RootKey, bit};

use super::maps::Maps;
use crate::capture::{
    CaptureError,
    directory::{is_shortage, open_directory, path_of},
};

/// The number of the first pid namespace, the same in every kernel (`PROC_PID_INIT_INO`).
const FIRST_NAMESPACE: u64 = 0xeffffffc;

/// Attempts to have a directory told: a probe may miss one.
const ATTEMPTS: usize = 3;

/// The maps, and what was put into `CONTROL`.
pub(super) struct Kernel {
    pub maps: Maps,
    control: Control,
}

/// A directory as both sides know it.
#[derive(Debug)]
pub(super) struct Found {
    pub key: RootKey,
    /// `st_dev`, which is not always the kernel's own device number.
    pub dev: u64,
    /// Number of the mount that it was opened through.
    pub mount: i32,
    /// As the kernel calls it.
    pub path: PathBuf,
}

/// Why a directory is not known.
#[derive(Debug)]
pub(super) enum Unknown {
    /// It cannot be opened.
    Absent(Errno),
    /// The machine is short of something; it may work the next time.
    Short(Errno),
    /// The programs did not tell of it.
    Untold,
    /// A map could not be read or written.
    Map(MapError),
}

impl Unknown {
    pub fn at(self, path: &Path) -> CaptureError {
        match self {
            Self::Absent(errno) | Self::Short(errno) => CaptureError::io("opening", path, errno.into()),
            Self::Untold => CaptureError::Untold { path: path.to_owned() },
            Self::Map(error) => map_failed(error),
        }
    }
}

/// A map's failure, as far as it has no better name.
pub(super) fn map_failed(error: MapError) -> CaptureError {
    CaptureError::io("using", Path::new("the maps in the kernel"), io::Error::other(error))
}

/// Whether thread numbers are what the kernel itself calls threads.
pub(super) fn check_namespace() -> Result<(), CaptureError> {
    use std::os::unix::fs::MetadataExt as _;
    let path = Path::new("/proc/self/ns/pid");
    let found = fs::metadata(path).map_err(|source| CaptureError::io("looking at", path, source))?;
    if found.ino() == FIRST_NAMESPACE { Ok(()) } else { Err(CaptureError::PidNamespace) }
}

impl Kernel {
    /// Takes over what is in `CONTROL`, in an epoch of its own, with nobody as its owner.
    pub fn new(mut maps: Maps) -> Result<Self, MapError> {
        let before = maps.control()?;
        // 0 is what a free entry of the fold's map says.
        let control = Control { epoch: before.epoch.max(1) + 1, learner: 0, owner: 0, owner_started: 0, ..before };
        maps.set_control(&control)?;
        Ok(Self { maps, control })
    }

    pub fn raise_epoch(&mut self) -> Result<(), MapError> {
        self.control.epoch += 1;
        self.maps.set_control(&self.control)
    }

    /// Opens a directory, and has the programs tell what it is.
    pub fn learn(&mut self, path: &Path) -> Result<Found, Unknown> {
        let before = self.maps.report().map_err(Unknown::Map)?.learned.count;
        self.control.learner = gettid().as_raw().unsigned_abs();
        self.maps.set_control(&self.control).map_err(Unknown::Map)?;
        let told = self.open(path, before);
        self.control.learner = 0;
        self.maps.set_control(&self.control).map_err(Unknown::Map)?;
        let (fd, learned) = told?;
        (self.control.owner, self.control.owner_started) = (learned.process, learned.started);
        self.maps.set_control(&self.control).map_err(Unknown::Map)?;
        let failed = |errno| if is_shortage(errno) { Unknown::Short(errno) } else { Unknown::Absent(errno) };
        let dev = fstat(&fd).map_err(failed)?.st_dev;
        let path = path_of(fd.as_fd()).map_err(failed)?;
        let mount = mount_of(&fd).map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
        Ok(Found { key: learned.directory, dev, mount, path })
    }

    fn open(&self, path: &Path, before: u32) -> Result<(OwnedFd, trigsync_common::values::Learned), Unknown> {
        for _ in 0..ATTEMPTS {
            let fd =
                open_directory(path).map_err(|errno| if is_shortage(errno) { Unknown::Short(errno) } else { Unknown::Absent(errno) })?;
            let learned = self.maps.report().map_err(Unknown::Map)?.learned;
            if learned.count != before {
                return Ok((fd, learned));
            }
        }
        Err(Unknown::Untold)
    }

    /// Puts a directory in at which the walk ends. Seen once [`set_masks`](Self::set_masks) has been called.
    pub fn put_root(&mut self, key: RootKey, root: Root) -> Result<(), MapError> {
        self.maps.set_root(key, root)
    }

    /// Lets the programs look for these directories and names, and no others.
    pub fn set_masks<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a RootKey>,
        names: impl Iterator<Item = &'a Excluded>,
    ) -> Result<(), MapError> {
        (self.control.devices, self.control.inodes) = (0, 0);
        for key in keys {
            self.control.devices |= bit(u64::from(key.device));
            self.control.inodes |= bit(key.inode);
        }
        self.control.excluded = names.fold(0, |mask, name| mask | bit(u64::from(name.length)));
        self.maps.set_control(&self.control)
    }
}

fn mount_of(fd: &OwnedFd) -> io::Result<i32> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let number = told.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self/fdinfo tells no mount"))
}
