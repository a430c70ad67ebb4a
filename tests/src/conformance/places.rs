//! The same operations from elsewhere: other mounts, namespaces, roots and users.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::chroot,
};

use super::{
    Bench, E, Fault, Row, T,
    bench::{errno, in_child},
};

pub const CASES: &[Row] = &[
    ("from another mount namespace", mount_namespace),
    ("from another user namespace", user_namespace),
    ("from a container: bind mount of the root, seen under another name", container),
    ("from a chroot", chrooted),
    ("through a bind mount of the root", bind_of_root),
    ("through a bind mount of the root's parent", bind_of_parent),
    ("the root is itself a bind mount of a subdirectory", root_is_bind),
    ("the root is a bind mount inside another mount of its parent", root_is_nested_bind),
    ("the root is the machine's own", root_of_all),
    ("a bind mount from the same file system inside the root", bind_inside),
    ("what a mount inside the root covers is not told, and is when uncovered", covered),
    ("by the kernel's NFS server", nfs),
    ("a root given through a symbolic link, with a slash, as `.`", other_spellings),
    ("a directory that was written to before it was watched", written_before),
];

fn written_before(b: &mut Bench<'_>) -> Result<(), Fault> {
    let inner = b.outside.join("d/inner");
    fs::create_dir_all(&inner)?;
    for name in ["f", "g"] {
        fs::write(inner.join(name), "1")?;
    }
    b.expect_nothing()?;
    b.arm(&b.outside.clone())?;
    fs::write(inner.join("f"), "2")?;
    fs::remove_file(inner.join("g"))?;
    fs::write(inner.join("h"), "")?;
    b.expect(&[E("d/inner/f"), E("d/inner/g"), E("d/inner/h")])
}

/// A mount that is taken away with its guard.
pub struct Mounted(PathBuf);

impl Mounted {
    /// What somebody has mounted.
    pub fn at(point: &Path) -> Self {
        Self(point.to_owned())
    }

    pub fn bind(from: &Path, to: &Path) -> Result<Self, Fault> {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Self(to.to_owned()))
    }

    pub fn tmpfs(to: &Path, options: &str) -> Result<Self, Fault> {
        mount(Some("none"), to, Some("tmpfs"), MsFlags::empty(), Some(options))?;
        Ok(Self(to.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The case may have unmounted it already.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// The operations that each of these cases does, below `dir`.
fn operate(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir.join("d"))?;
    fs::write(dir.join("d/f"), "x")?;
    fs::rename(dir.join("d"), dir.join("e"))?;
    fs::write(dir.join("e/g"), "x")?;
    fs::remove_file(dir.join("e/f"))
}

/// What they must leave. A path may be told by the directory's old or new name, depending on when it was looked at.
fn expect_operated(b: &mut Bench<'_>, below: &str) -> Result<(), Fault> {
    let at = |name: &str| if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
    let also = [at("d/f"), at("e/f"), at("d/g")];
    b.expect_with(&[E(at("d")), T(at("e")), E(at("e/g")), E(at("e/f"))], |path| also.iter().any(|also| also.as_bytes() == path))
}

fn private_mounts() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

fn mount_namespace(b: &mut Bench<'_>) -> Result<(), Fault> {
    in_child(|| {
        private_mounts()?;
        operate(&b.root).map_err(errno)
    })?;
    expect_operated(b, "")
}

fn user_namespace(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::set_permissions(&b.root, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    b.forget()?;
    let result = in_child(|| {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        fs::write("/proc/self/uid_map", "0 0 1").map_err(errno)?;
        operate(&b.root).map_err(errno)
    });
    match result {
        Err(errno @ (Errno::EPERM | Errno::EINVAL | Errno::ENOSYS)) => Err(Fault::NotCovered(format!("no user namespaces here ({errno})"))),
        result => {
            result?;
            expect_operated(b, "")
        }
    }
}

fn container(b: &mut Bench<'_>) -> Result<(), Fault> {
    let inside = b.outside.join("container");
    fs::create_dir_all(inside.join("data"))?;
    in_child(|| {
        private_mounts()?;
        mount(Some(&b.root), &inside.join("data"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        chroot(&inside)?;
        std::env::set_current_dir("/").map_err(errno)?;
        operate(Path::new("/data")).map_err(errno)
    })?;
    expect_operated(b, "")
}

fn chrooted(b: &mut Bench<'_>) -> Result<(), Fault> {
    in_child(|| {
        chroot(&b.root)?;
        std::env::set_current_dir("/").map_err(errno)?;
        operate(Path::new("/")).map_err(errno)
    })?;
    expect_operated(b, "")
}

fn bind_of_root(b: &mut Bench<'_>) -> Result<(), Fault> {
    let _mounted = Mounted::bind(&b.root.clone(), &b.outside)?;
    operate(&b.outside)?;
    expect_operated(b, "")
}

fn bind_of_parent(b: &mut Bench<'_>) -> Result<(), Fault> {
    let parent = b.root.parent().expect("the root has a parent").to_owned();
    let _mounted = Mounted::bind(&parent, &b.outside)?;
    operate(&b.outside.join("root"))?;
    expect_operated(b, "")?;
    // Beside the root, through the same mount.
    fs::write(b.outside.join("beside"), "")?;
    b.expect_nothing()
}

fn root_is_bind(b: &mut Bench<'_>) -> Result<(), Fault> {
    let below = b.root.join("below");
    fs::create_dir(&below)?;
    let _mounted = Mounted::bind(&below, &b.outside)?;
    b.arm(&b.outside.clone())?;
    operate(&b.outside)?;
    expect_operated(b, "")?;
    fs::remove_dir_all(b.outside.join("e"))?;
    b.forget()?;
    // Through the original directory, which no path below the root names.
    operate(&below)?;
    expect_operated(b, "")?;
    fs::write(b.root.join("beside"), "")?;
    fs::create_dir_all(b.root.join("outside/deep"))?;
    fs::write(b.root.join("outside/deep/f"), "")?;
    b.expect_nothing()
}

fn root_is_nested_bind(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.root.join("sub/real"))?;
    let parent = b.root.parent().expect("the root has a parent").to_owned();
    let _outer = Mounted::bind(&parent, &b.outside)?;
    let root = b.outside.join("root/sub");
    b.arm(&root)?;
    operate(&b.root.join("sub/real"))?;
    expect_operated(b, "real")
}

fn root_of_all(b: &mut Bench<'_>) -> Result<(), Fault> {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    if device(Path::new("/"))? != device(&b.root)? {
        return Err(Fault::NotCovered("this directory is on another file system than `/`".to_owned()));
    }
    b.arm(Path::new("/"))?;
    let file = b.at("f");
    fs::write(&file, "")?;
    // The machine has a life of its own.
    b.expect_with(&[E(&file.as_os_str().as_bytes()[1..])], |_| true)
}

fn bind_inside(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("point"))?;
    b.forget()?;
    let mounted = Mounted::bind(&b.outside.clone(), &b.at("point"))?;
    let mut seen = super::bench::Recorder::default();
    b.source.check_roots(&mut seen);
    super::bench::check(&seen, &[T("point")], |_| false)?;
    // rsync's -x follows it: it is the same device.
    operate(&b.outside.clone())?;
    expect_operated(b, "point")?;
    drop(mounted);
    let mut seen = super::bench::Recorder::default();
    b.source.check_roots(&mut seen);
    super::bench::check(&seen, &[T("point")], |_| false)?;
    fs::write(b.outside.join("late"), "")?;
    b.expect_nothing()
}

fn covered(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.at("point/inner"))?;
    let parent = b.root.parent().expect("the root has a parent").to_owned();
    let _elsewhere = Mounted::bind(&parent, &b.outside)?;
    b.forget()?;
    let cover = Mounted::tmpfs(&b.at("point"), "size=1m")?;
    let mut seen = super::bench::Recorder::default();
    b.source.check_roots(&mut seen);
    super::bench::check(&seen, &[], |_| false)?;
    fs::write(b.outside.join("root/point/inner/f"), "")?;
    b.expect_nothing()?;
    fs::write(b.outside.join("root/plain"), "")?;
    b.expect(&[E("plain")])?;
    drop(cover);
    let mut seen = super::bench::Recorder::default();
    b.source.check_roots(&mut seen);
    super::bench::check(&seen, &[T("point")], |_| false)?;
    fs::write(b.at("point/inner/g"), "")?;
    b.expect(&[E("point/inner/g")])
}

fn nfs(_: &mut Bench<'_>) -> Result<(), Fault> {
    Err(Fault::NotCovered("no NFS server is set up here; it works through the same functions of the kernel as a plain call".to_owned()))
}

fn other_spellings(b: &mut Bench<'_>) -> Result<(), Fault> {
    let link = b.outside.join("link");
    symlink(&b.root, &link)?;
    let mut slash = b.root.clone().into_os_string();
    slash.push("/");
    for (number, spelling) in [link, PathBuf::from(slash), b.root.join(".")].iter().enumerate() {
        b.arm(&spelling.canonicalize()?)?;
        let name = format!("f{number}");
        fs::write(b.at(&name), "")?;
        b.expect(&[E(name)])?;
    }
    Ok(())
}
