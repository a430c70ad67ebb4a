//! The daemon between two directories of a room, in a directory that a suite was given.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};

use super::{
    Arguments, NotCovered,
    operations::{Kind, Writers},
};
use crate::{
    compare,
    mirror::{self, Launch, Mirror},
    process::{self, Outcome},
    room::Room,
    skip, trigsync,
};

/// How long a target may take to be equal. Under an emulator that shares its processors with another one, a pass over ten thousand names takes
/// half a minute.
const ARRIVAL: Duration = Duration::from_secs(600);

/// Two directories that a daemon keeps equal.
pub struct Job<'a> {
    arguments: &'a Arguments,
    backend: &'static str,
    room: Room,
    source: PathBuf,
    target: PathBuf,
    outside: PathBuf,
}

impl<'a> Job<'a> {
    /// An empty source and target.
    pub fn new(arguments: &'a Arguments) -> anyhow::Result<Self> {
        let Some(backend) = arguments.tier.backend else {
            return Err(NotCovered(format!("the daemon has no --backend for {}", arguments.tier.name)).into());
        };
        if skip::find_program("rsync").is_none() {
            return Err(NotCovered("no rsync in PATH".to_owned()).into());
        }
        arguments.check()?;
        let room = Room::new_in(arguments.dir());
        let (source, target, outside) = (room.source(), room.target(), room.directory("outside"));
        // So that nothing ever empties the source, which a guard would stop.
        fs::write(source.join("anchor"), "")?;
        Ok(Self { arguments, backend, room, source, target, outside })
    }

    /// How the daemon is started, each time.
    pub fn launch(&self) -> Launch<'_> {
        let target = self.target.to_str().expect("the room's path is plain");
        self.tier(Launch::flags(&self.room, &self.source, &[target]).and(["--max-delete", "100%"]))
    }

    /// The same, with further keys of the sync.
    pub fn launch_with(&self, keys: &str) -> Launch<'_> {
        let (source, target) = (self.source.display(), self.target.display());
        self.tier(Launch::config(&self.room, &format!("[[sync]]\nsource = '{source}'\ntargets = ['{target}']\n{keys}")))
    }

    /// On the tier that was asked for, with what it is to lack.
    fn tier<'job>(&self, launch: Launch<'job>) -> Launch<'job> {
        let mut launch = launch.and(["--backend", self.backend]);
        let ring = self.arguments.wish.ring_bytes.map(|bytes| bytes.to_string());
        for (flag, value) in [("--capture-mask", &self.arguments.wish.mask), ("--capture-ring", &ring)] {
            if let Some(value) = value {
                launch = launch.and([flag, value]);
            }
        }
        launch
    }

    /// Starts the daemon, on the tier that was asked for and no other.
    pub fn start<'job>(&'job self, launch: &Launch<'job>) -> anyhow::Result<Mirror<'job>> {
        let mirror = launch.start();
        let wanted = format!("tier={}", self.arguments.tier.name);
        if mirror.ready.split_whitespace().any(|word| word == wanted) {
            Ok(mirror)
        } else {
            Err(anyhow::anyhow!("not on {}: {}", self.arguments.tier.name, mirror.ready))
        }
    }

    /// Processes that change the source.
    pub fn writers(&self, kinds: &[Kind], duration: Duration) -> anyhow::Result<Writers> {
        Writers::start(kinds, &self.source, &self.outside, duration)
    }

    /// Flushes, and compares source and target.
    pub fn arrived(&self, what: &str) -> anyhow::Result<usize> {
        let mut flush = trigsync::command(&self.room);
        flush.args(["flush", "--timeout", &format!("{}s", ARRIVAL.as_secs())]);
        let flushed = Outcome::of(&mut flush, ARRIVAL + Duration::from_secs(60));
        ensure!(flushed.code == 0, "{what}: {flushed}\n{}", self.state_of_the_daemon());
        let found = compare::differences(&self.source, &self.target);
        ensure!(found.is_empty(), "{what}: {} differences: {}", found.len(), found[..found.len().min(5)].join("; "));
        entries(&self.source)
    }

    /// Has the audit compare everything. What is lost fails; that it does not come to an end beside the writers says nothing.
    pub fn audited(&self, what: &str) -> anyhow::Result<()> {
        let mut audit = trigsync::command(&self.room);
        audit.args(["audit", "--timeout", &format!("{}s", ARRIVAL.as_secs())]);
        let audited = Outcome::of(&mut audit, ARRIVAL + Duration::from_secs(60));
        ensure!(audited.code != 1, "{what}, changes were lost: {audited}\n{}", self.state_of_the_daemon());
        Ok(())
    }

    /// For a case that failed: what the daemon says of itself, what is under way in each of its threads and children, and its last log lines.
    fn state_of_the_daemon(&self) -> String {
        let status = trigsync::trigsync(&self.room, ["status", "--json"]);
        let pid = serde_json::from_str::<serde_json::Value>(&status.stdout).ok().and_then(|status| status["pid"].as_i64());
        let threads = pid.map(process::states).unwrap_or_default();
        format!("{}\n{}\n{}", status.stdout, threads.join("\n"), mirror::last_lines(&self.room.at(mirror::LOG), 40))
    }

    /// Takes away what the kernel keeps for a daemon that ended.
    pub fn uninstall(&self) -> anyhow::Result<()> {
        if self.backend.starts_with("ebpf") {
            let outcome = trigsync::trigsync(&self.room, ["uninstall-capture"]);
            ensure!(outcome.code == 0, "{outcome}");
        }
        Ok(())
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        // A case that failed has not come to it.
        let _ = self.uninstall();
    }
}

fn entries(directory: &std::path::Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory).context("the source is there")? {
        let entry = entry?;
        count += 1;
        if entry.file_type()?.is_dir() {
            count += entries(&entry.path())?;
        }
    }
    Ok(count)
}
