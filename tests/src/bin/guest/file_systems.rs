//! A new file system of each kind, on loop devices over files in memory.
//!
//! Which options of `mkfs` a kernel can mount is found by trying, from the tool's own defaults down to what RHEL 8 knows: kernels carry
//! backports, so their version says little.

use std::{
    fs::{self, File, OpenOptions},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

use crate::machine;

/// A directory on a file system, or why there is none.
pub struct Place {
    /// As in `--fs`.
    pub file_system: String,
    /// Where it is mounted.
    pub directory: Result<PathBuf, String>,
}

/// How `mkfs` is tried, in this order.
const EXT4: &[&[&str]] = &[&["-q", "-F"], &["-q", "-F", "-O", "^orphan_file,^metadata_csum_seed"]];
const XFS: &[&[&str]] = &[
    &["-q", "-f"],
    &["-q", "-f", "-m", "bigtime=0,inobtcount=0"],
    &["-q", "-f", "-m", "bigtime=0,inobtcount=0", "-i", "nrext64=0"],
    &["-q", "-f", "-m", "bigtime=0,inobtcount=0", "-i", "nrext64=0,exchange=0", "-n", "parent=0"],
];
const BTRFS: &[&[&str]] =
    &[&["-q", "-f"], &["-q", "-f", "-O", "^block-group-tree"], &["-q", "-f", "-O", "^block-group-tree,^free-space-tree,^no-holes"]];

/// Room on each; only what is written takes memory. mkfs.xfs refuses less than 300 MiB.
const SIZE: u64 = 512 << 20;

/// Makes and mounts each file system at `/fs/NAME`.
pub fn make(names: &[String]) -> Vec<Place> {
    let made = |name: &String| {
        let directory = Path::new("/fs").join(name);
        let result = fs::create_dir_all(&directory).map_err(anyhow::Error::from).and_then(|()| match name.as_str() {
            "tmpfs" => mount_plain("tmpfs", &directory, "size=50%"),
            "ext4" => on_loop("ext4", EXT4, &directory),
            "xfs" => on_loop("xfs", XFS, &directory),
            "btrfs" => on_loop("btrfs", BTRFS, &directory),
            "overlay" => overlay(&directory),
            _ => bail!("the guest cannot make {name}"),
        });
        let directory = result.map(|()| directory).map_err(|error| format!("{error:#}"));
        Place { file_system: name.clone(), directory }
    };
    names.iter().map(made).collect()
}

fn mount_plain(kind: &str, at: &Path, options: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options)).map_err(|errno| explained(kind, errno))
}

fn explained(kind: &str, errno: Errno) -> anyhow::Error {
    match errno {
        Errno::ENODEV => anyhow!("this kernel has no {kind}, and no module of it was given"),
        errno => anyhow!("{kind} is not mounted: {errno}"),
    }
}

/// Layers on an ext4 of their own, as under a container; on tmpfs where the kernel has no ext4.
fn overlay(at: &Path) -> Result<()> {
    let layers = Path::new("/fs/layers");
    fs::create_dir_all(layers)?;
    if on_loop("ext4", EXT4, layers).is_err() {
        mount_plain("tmpfs", layers, "size=50%")?;
    }
    for layer in ["lower", "upper", "work"] {
        fs::create_dir(layers.join(layer))?;
    }
    mount_plain("overlay", at, "lowerdir=/fs/layers/lower,upperdir=/fs/layers/upper,workdir=/fs/layers/work")
}

fn on_loop(kind: &str, attempts: &[&[&str]], at: &Path) -> Result<()> {
    let mkfs = format!("/bin/mkfs.{kind}");
    if !machine::has(&mkfs) {
        bail!("the host had no mkfs.{kind} to put into the guest");
    }
    let known = fs::read_to_string("/proc/filesystems").context("/proc/filesystems")?;
    if !known.lines().any(|line| line.trim_start_matches("nodev").trim() == kind) {
        return Err(explained(kind, Errno::ENODEV));
    }
    let image = Path::new("/tmp").join(format!("{}.image", at.file_name().expect("a name").display()));
    let mut refused = anyhow!("nothing was tried");
    for attempt in attempts {
        let file = File::create(&image)?;
        file.set_len(SIZE)?;
        let made = Command::new(&mkfs).args(*attempt).arg(&image).stdin(Stdio::null()).output().context("mkfs does not start")?;
        if !made.status.success() {
            // An option that this mkfs does not know: it does not have what the option would switch off either.
            refused = anyhow!("mkfs.{kind}: {}", String::from_utf8_lossy(&made.stderr).lines().next().unwrap_or("failed without a word"));
            continue;
        }
        let device = attach(&image).context("no loop device")?;
        match mount(Some(&device), at, Some(kind), MsFlags::MS_NOATIME, None::<&str>) {
            Ok(()) => return Ok(()),
            Err(errno) => refused = explained(kind, errno),
        }
    }
    Err(refused)
}

/// Gives a free loop device the image.
fn attach(image: &Path) -> Result<PathBuf> {
    let control = File::open("/dev/loop-control").context("/dev/loop-control: the kernel has no loop devices")?;
    // SAFETY: takes no argument and returns a number.
    let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let both = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let (device, image) = (both(&path)?, both(image)?);
    // SAFETY: takes the descriptor of a regular file, of which the kernel keeps a reference.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, image.as_raw_fd()) })?;
    Ok(path)
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_SET_FD: libc::Ioctl = 0x4c00;
