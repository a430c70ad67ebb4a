//! Where a run takes place: a source, three targets, a state directory, all of it gone at the end.
//!
//! - The source has a file system of its own, so that nothing but the workload fills the daemon's queue of events.
//! - Two targets are real rsync daemons, one of which takes fewer connections than the daemon would like; the third is a local directory
//!   on a small disk. The state directory is on another small disk.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    daemon::{Daemon, Launch},
    disk::{Disk, own_mounts},
    operation::FILTERED,
};
use crate::{rsyncd::Rsyncd, scratch};

/// A chroot, because without one rsync rewrites absolute symbolic links.
const MODULE: &str = "use chroot = yes\n";
/// Fewer than the daemon may open.
const CROWDED: &str = "use chroot = yes\nmax connections = 2\n";

/// All the time, beside everything else: what it finds is lost.
const AUDIT: &str = "audit = { every = \"0s\", names = 1000, share = \"10%\" }\n";

/// A running site. Fields that are dropped first stand first.
#[derive(Debug)]
pub struct Site {
    /// None while it is down.
    pub daemon: Option<Daemon>,
    /// How it is started.
    pub launch: Launch,
    /// The first two targets.
    pub rsyncds: Vec<Rsyncd>,
    /// The disks of source, local target and state; none where this machine mounts no loop devices, with the reason.
    pub disks: Result<Disks, String>,
    /// The tree that is mirrored.
    pub source: PathBuf,
    /// The targets, in the order of the configuration.
    pub targets: Vec<Target>,
    place: TempDir,
}

/// Disks that can be filled, and that of the source.
#[derive(Debug)]
pub struct Disks {
    /// With the local target.
    pub target: Disk,
    /// With the state directory.
    pub state: Disk,
    _source: Disk,
}

/// A target.
#[derive(Debug)]
pub struct Target {
    /// Its name in the configuration.
    pub name: &'static str,
    /// What it was given.
    pub directory: PathBuf,
    address: String,
}

/// What a reload changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Leaves some names out.
    pub filter: bool,
    /// Settles later.
    pub slow: bool,
    /// The index of a target that is not configured.
    pub without: Option<usize>,
}

impl Site {
    /// Makes everything but the daemon, which is given as `binary`.
    pub fn make(binary: &Path, backend: Option<String>, sabotage: Option<String>) -> Result<Self> {
        let place = scratch::directory()?;
        let at = |name: &str| place.path().join(name);
        let disk = |name: &str, megabytes| Disk::mount(&at(&format!("{name}.img")), megabytes, &at(name));
        let disks = own_mounts()
            .and_then(|()| Ok(Disks { _source: disk("source", 1024)?, target: disk("local", 128)?, state: disk("state", 64)? }));
        let [source, state, local] = ["source/tree", "state/trigsync", "local/copy"].map(at);
        let [first, second] = ["first", "second"].map(|name| (at(name), at(name).join("copy")));
        for directory in [&source, &local, &first.1, &second.1] {
            fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        }
        fs::create_dir_all(state.parent().expect("it has one")).context("creating the parent of the state directory")?;
        // An empty source would be a reason for the daemon to stop.
        fs::write(source.join("anchor"), "here\n").context("a file in the source")?;
        let program = at("trigsync");
        fs::copy(binary, &program).with_context(|| format!("copying {}", binary.display()))?;
        let rsyncds = vec![Rsyncd::start_with(&first.0, &first.1, MODULE)?, Rsyncd::start_with(&second.0, &second.1, CROWDED)?];
        let address = local.display().to_string();
        let targets = vec![
            Target { name: "first", directory: first.1, address: rsyncds[0].address() },
            Target { name: "second", directory: second.1, address: rsyncds[1].address() },
            Target { name: "local", directory: local, address },
        ];
        let launch = Launch { binary: program, state, config: at("trigsync.toml"), log: at("trigsync.log"), backend, sabotage };
        let site = Self { daemon: None, launch, rsyncds, disks: disks.map_err(|error| format!("{error:#}")), source, targets, place };
        site.configure(Settings::default())?;
        Ok(site)
    }

    /// Writes the configuration.
    pub fn configure(&self, settings: Settings) -> Result<()> {
        fs::write(&self.launch.config, self.text(settings)).context("writing the configuration")
    }

    /// A file in the scratch directory.
    pub fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Keeps the scratch directory, and says where it is.
    pub fn keep(&mut self) -> &Path {
        self.place.disable_cleanup(true);
        self.place.path()
    }

    fn text(&self, settings: Settings) -> String {
        let mut text = format!(
            "unlimited_queue = false\nstop_timeout = \"3s\"\n\n[[sync]]\nname = \"chaos\"\nsource = {:?}\nmax_delete = \"100%\"\n{AUDIT}",
            self.source
        );
        if settings.slow {
            text.push_str("settle = { finished = \"80ms\", quiet = \"200ms\", max_age = \"2s\" }\n");
        }
        if settings.filter {
            writeln!(text, "exclude = [{FILTERED:?}]").expect("writing to a string");
        }
        for (_, target) in self.targets.iter().enumerate().filter(|(index, _)| settings.without != Some(*index)) {
            let Target { name, address, .. } = target;
            write!(text, "\n[[sync.target]]\nname = {name:?}\nto = {address:?}\nconnections = 3\n").expect("writing to a string");
        }
        text
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.daemon = None;
        self.launch.uninstall_capture();
    }
}
