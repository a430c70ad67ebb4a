//! A small ext4 in a file, mounted for as long as the value lives, that can be filled to the last byte.
//!
//! Mounts are made in a mount namespace of our own: whatever ends this process, none of them is left.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
}

/// From now on this process, and what it starts, has mounts of its own.
pub fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace of our own")?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("making the mounts private")
}

impl Disk {
    /// Makes `image` and mounts it at `place`, which is made too.
    pub fn mount(image: &Path, megabytes: u64, place: &Path) -> Result<Self> {
        fs::create_dir_all(place).with_context(|| format!("creating {}", place.display()))?;
        File::create(image)?.set_len(megabytes << 20).with_context(|| format!("making {}", image.display()))?;
        // Nothing is kept back for root, who is the one that has to find it full.
        finished(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))?;
        finished(Command::new("mount").args(["-o", "loop"]).arg(image).arg(place))?;
        Ok(Self { place: place.to_owned() })
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> Result<()> {
        let file = File::create(self.filler()).context("a file to fill a disk with")?;
        let (mut length, mut chunk) = (0, 64 << 20);
        while chunk >= 1024 {
            match fallocate(&file, FallocateFlags::empty(), length, chunk) {
                Ok(()) => length += chunk,
                Err(Errno::ENOSPC) => chunk /= 2,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("filling a disk"),
            }
        }
        Ok(())
    }

    /// Gives back what [`fill`](Self::fill) took.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("freeing a disk")
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also where somebody still has a file open; where it fails, it goes with the namespace.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

fn finished(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} does not start"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
