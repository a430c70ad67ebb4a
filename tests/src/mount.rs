//! A tmpfs that a test mounts, unmounted at the end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted tmpfs.
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts a tmpfs of `megabytes` over `path`, which is made where it is missing.
    pub fn mount(path: &Path, megabytes: u32) -> Self {
        fs::create_dir_all(path).expect("a directory to mount over");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(format!("size={megabytes}m,mode=755").as_str()))
            .unwrap_or_else(|error| panic!("cannot mount a tmpfs at {}: {error}", path.display()));
        Self { path: path.to_owned() }
    }

    /// Gives it another size.
    pub fn resize(&self, megabytes: u32) {
        mount(Some("tmpfs"), &self.path, Some("tmpfs"), MsFlags::MS_REMOUNT, Some(format!("size={megabytes}m").as_str()))
            .expect("remount with another size");
    }

    /// Takes it out of the tree at once, also where somebody still holds a file of it.
    pub fn unmount(self) {
        umount2(&self.path, MntFlags::MNT_DETACH).expect("it is mounted");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Fails harmlessly after `unmount`.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
