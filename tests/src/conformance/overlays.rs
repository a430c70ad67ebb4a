//! Overlays: the merged directory, the upper and the lower one, each as the root; and other shapes of one file system.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use super::{Bench, E, Fault, Row, T, places::Mounted};

pub const CASES: &[Row] = &[
    ("an overlay as the root", merged),
    ("an overlay's upper directory as the root", upper),
    ("an overlay's lower directory as the root", lower),
    ("a btrfs subvolume as the root", subvolume),
    ("through a second mount of the same file system", second_mount),
];

/// An overlay beside the root, with a file and a directory from below.
struct Overlay {
    merged: PathBuf,
    upper: PathBuf,
    lower: PathBuf,
    _mounted: Mounted,
}

impl Overlay {
    fn new(b: &Bench<'_>) -> Result<Self, Fault> {
        let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| b.outside.join(name));
        for layer in [&lower, &upper, &work, &merged] {
            fs::create_dir(layer)?;
        }
        fs::create_dir_all(lower.join("below/d"))?;
        for file in ["below/f", "below/d/g", "below/h"] {
            fs::write(lower.join(file), "from below")?;
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("none"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|errno| Fault::NotCovered(format!("no overlay on this file system ({errno})")))?;
        Ok(Self { _mounted: Mounted::at(&merged), merged, upper, lower })
    }
}

/// What is done below a merged directory: an operation, and the names that have to be told as entries.
type Step = (fn(&Path) -> io::Result<()>, &'static [&'static str]);

const STEPS: &[Step] = &[
    (|at| fs::create_dir(at.join("new")), &["new"]),
    (|at| fs::write(at.join("new/f"), "x"), &["new/f"]),
    (|at| OpenOptions::new().append(true).open(at.join("new/f"))?.write_all(b"more"), &["new/f"]),
    (|at| File::options().write(true).open(at.join("new/f"))?.set_len(2), &["new/f"]),
    (|at| fs::set_permissions(at.join("new/f"), Permissions::from_mode(0o640)), &["new/f"]),
    (|at| symlink("f", at.join("new/l")), &["new/l"]),
    (|at| fs::hard_link(at.join("new/f"), at.join("new/k")), &["new/k"]),
    (|at| fs::rename(at.join("new/k"), at.join("new/m")), &["new/k", "new/m"]),
    // Copied up.
    (|at| OpenOptions::new().append(true).open(at.join("below/f"))?.write_all(b"more"), &["below/f"]),
    (|at| fs::set_permissions(at.join("below/d/g"), Permissions::from_mode(0o600)), &["below/d/g"]),
    (|at| fs::rename(at.join("below/d/g"), at.join("below/d/i")), &["below/d/g", "below/d/i"]),
    // A whiteout.
    (|at| fs::remove_file(at.join("below/h")), &["below/h"]),
    (|at| fs::remove_file(at.join("new/l")), &["new/l"]),
];

fn merged(b: &mut Bench<'_>) -> Result<(), Fault> {
    let overlay = Overlay::new(b)?;
    b.arm(&overlay.merged)?;
    for (act, names) in STEPS {
        act(&overlay.merged)?;
        let wanted: Vec<_> = names.iter().map(E).collect();
        // The other name of a file with two.
        b.expect_with(&wanted, |path| path == b"new/f")?;
    }
    fs::rename(overlay.merged.join("new"), overlay.merged.join("newer"))?;
    b.expect(&[E("new"), T("newer")])?;
    fs::write(overlay.merged.join("newer/f"), "x")?;
    b.expect(&[E("newer/f")])?;
    fs::read_to_string(overlay.merged.join("below/f"))?;
    fs::read_dir(overlay.merged.join("below/d"))?.count();
    b.expect_nothing()
}

fn upper(b: &mut Bench<'_>) -> Result<(), Fault> {
    let overlay = Overlay::new(b)?;
    b.arm(&overlay.upper)?;
    for (act, names) in STEPS {
        act(&overlay.merged)?;
        // Whatever was copied up or hidden has its name here, in directories that may be new here; on the way it has other names.
        let seen = b.read_all()?;
        for name in *names {
            let told = |path: &[u8]| path == name.as_bytes();
            if !seen.marks.iter().any(|mark| told(mark.1.as_bytes())) {
                return Err(Fault::Failed(format!("not marked: {name}; marked: {:?}", seen.marks)));
            }
        }
    }
    fs::rename(overlay.merged.join("new"), overlay.merged.join("newer"))?;
    b.expect_with(&[T("newer")], |path| path == b"new")?;
    fs::read_to_string(overlay.merged.join("below/d/i"))?;
    b.expect_nothing()
}

fn lower(b: &mut Bench<'_>) -> Result<(), Fault> {
    let overlay = Overlay::new(b)?;
    b.arm(&overlay.lower)?;
    for (act, _) in STEPS {
        act(&overlay.merged)?;
    }
    b.expect_nothing()?;
    fs::write(overlay.lower.join("below/d/new"), "")?;
    b.expect(&[E("below/d/new")])
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Subvolume {
    descriptor: i64,
    name: [u8; 4088],
}

nix::ioctl_write_ptr!(create_subvolume, 0x94, 14, Subvolume);

fn subvolume(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut wanted = Subvolume { descriptor: 0, name: [0; 4088] };
    wanted.name[..4].copy_from_slice(b"sub\0");
    let above = File::open(&b.outside)?;
    // SAFETY: the structure that this request takes, with a name that ends with NUL.
    if let Err(errno) = unsafe { create_subvolume(above.as_raw_fd(), &raw const wanted) } {
        return Err(Fault::NotCovered(format!("this file system has no subvolumes ({errno})")));
    }
    let root = b.outside.join("sub");
    b.arm(&root)?;
    fs::create_dir(root.join("d"))?;
    fs::write(root.join("d/f"), "x")?;
    fs::rename(root.join("d"), root.join("e"))?;
    b.expect_with(&[E("d"), T("e")], |path| [&b"d/f"[..], b"e/f"].contains(&path))?;
    fs::write(root.join("e/f"), "y")?;
    b.expect(&[E("e/f")])?;
    fs::write(b.outside.join("beside"), "")?;
    b.expect_nothing()
}

fn second_mount(b: &mut Bench<'_>) -> Result<(), Fault> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // Fields: id, parent, device, root of the mount, mount point, …, "-", kind, source, options.
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (left, right): (Vec<_>, Vec<_>) = (left.split(' ').collect(), right.split(' ').collect());
        Some((PathBuf::from(left.get(4)?), *left.get(3)?, *right.first()?, *right.get(1)?))
    });
    let holding = mounts.filter(|(point, ..)| b.root.starts_with(point)).max_by_key(|(point, ..)| point.as_os_str().len());
    let Some((point, "/", kind @ ("ext4" | "xfs" | "btrfs"), device)) = holding else {
        return Err(Fault::NotCovered("this file system is not on a device of its own".to_owned()));
    };
    let below = b.root.strip_prefix(&point).expect("found by this prefix").to_owned();
    let again = b.outside.join("again");
    fs::create_dir(&again)?;
    if let Err(errno) = mount(Some(device), &again, Some(kind), MsFlags::empty(), None::<&str>) {
        return Err(Fault::NotCovered(format!("{device} cannot be mounted a second time ({errno})")));
    }
    let mounted = Mounted::at(&again);
    b.forget()?;
    let elsewhere = again.join(below);
    fs::create_dir(elsewhere.join("d"))?;
    fs::write(elsewhere.join("d/f"), "x")?;
    b.expect(&[E("d"), E("d/f")])?;
    drop(mounted);
    Ok(())
}
