//! Proves that a target can be written and deleted from, for `doctor`, by doing both with one name that nobody else uses.

use std::{
    collections::hash_map::RandomState,
    ffi::OsStr,
    fs,
    hash::{BuildHasher, Hasher},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use tokio_util::sync::CancellationToken;

use super::{
    Answer, Compare, Comparison, Deletions, Extent, Listing, Missing, Route, Rsync, Run, Verdict, Work, arguments::destination, list,
};
use crate::{
    config::{Filter, TargetAddress},
    model::{RelPath, RelPathBuf},
};

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What: `reachable`, `may write`, `keeps owners`, `may delete`.
    pub name: &'static str,
    /// How it went: what was found, or what is wrong and what mends it.
    pub result: Result<String, String>,
}

impl Rsync {
    /// Writes a probe file to the target and deletes it again. Ends at the first failure that leaves nothing to try.
    pub async fn check_target(&self, route: &Route<'_>) -> Vec<Check> {
        let mut checks = Vec::new();
        match Probe::new() {
            Ok(probe) => probe.check(self, route, &mut checks).await,
            Err(error) => {
                let what = format!("no temporary directory could be made in {}: {error}; set TMPDIR", std::env::temp_dir().display());
                checks.push(Check { name: "reachable", result: Err(what) });
            }
        }
        checks
    }
}

/// A source of its own with one file in it.
struct Probe {
    directory: tempfile::TempDir,
    name: RelPathBuf,
}

impl Probe {
    fn new() -> io::Result<Self> {
        let random = RandomState::new().build_hasher().finish();
        let name = format!(".trigsync-probe-{random:016x}");
        let directory = tempfile::Builder::new().prefix("trigsync-probe-").tempdir()?;
        let name = RelPathBuf::new(name.into_bytes()).map_err(io::Error::other)?;
        Ok(Self { directory, name })
    }

    fn write(&self) -> io::Result<()> {
        let file = self.directory.path().join(OsStr::from_bytes(self.name.as_bytes()));
        fs::write(&file, "trigsync writes this file to see whether it may, and deletes it again.\n")?;
        if nix::unistd::geteuid().is_root() {
            // Not root's, so that a receiver that cannot give files away shows itself.
            std::os::unix::fs::chown(&file, Some(1), Some(1))?;
        }
        Ok(())
    }

    async fn check(&self, rsync: &Rsync, route: &Route<'_>, checks: &mut Vec<Check>) {
        let filter = Filter::none();
        // The probe goes again, whatever else is kept.
        let route = Route { source: self.directory.path(), filter: &filter, keep: false, ..*route };
        let place = match destination(route.target) {
            Ok(place) => place.to_string_lossy().into_owned(),
            Err(reason) => return checks.push(Check { name: "reachable", result: Err(reason) }),
        };
        if let TargetAddress::Local(path) = &route.target.address
            && let Err(reason) = local_directory(path)
        {
            return checks.push(Check { name: "reachable", result: Err(reason) });
        }
        let mut add = |name, result| checks.push(Check { name, result });
        // Asked while there is nothing to delete: a target that refuses only deletions would keep the probe for ever.
        let asked = self.run(rsync, &route, Deletions::Allowed).await;
        if asked.verdict != Verdict::Done && matches!(self.run(rsync, &route, Deletions::Never).await.verdict, Verdict::Partial { .. }) {
            add("reachable", Ok(place));
            add("may write", Ok("not tried, since what is written could not be deleted again".into()));
            return add("may delete", Err(reason_of(asked.verdict)));
        }
        if let Err(error) = self.write() {
            return add(
                "reachable",
                Err(format!("the probe could not be written to {}: {error}; set TMPDIR", self.directory.path().display())),
            );
        }
        let written = self.run(rsync, &route, Deletions::Never).await;
        match written.verdict {
            Verdict::Done => {
                add("reachable", Ok(place));
                add("may write", Ok("a probe file was written".into()));
            }
            Verdict::Partial { reason, .. } => {
                add("reachable", Ok(place));
                return add("may write", Err(format!("{reason}: {}", write_remedy(&route.target.address))));
            }
            Verdict::NoSpace(reason) => {
                add("reachable", Ok(place));
                return add("may write", Err(reason));
            }
            verdict => return add("reachable", Err(reason_of(verdict))),
        }
        add("keeps owners", self.owners(rsync, &route).await);
        add("may delete", self.delete(rsync, &route).await);
    }

    async fn run(&self, rsync: &Rsync, route: &Route<'_>, deletions: Deletions) -> Answer {
        let list = list([&*self.name], Listing::Plain);
        let run = Run { work: Work::Entries(Compare::Changed), deletions, missing: Missing::Delete, list, progress: None };
        rsync.run(route, run, &CancellationToken::new()).await
    }

    /// Whether the probe arrived with its owner and times.
    async fn owners(&self, rsync: &Rsync, route: &Route<'_>) -> Result<String, String> {
        let name = String::from_utf8_lossy(self.name.as_bytes()).into_owned();
        let drift = match rsync.look_back(route, &name, &CancellationToken::new()).await {
            Ok(drift) => drift,
            // A module may be write only, and that is fine.
            Err(answer) => return Ok(format!("not known, the target cannot be read: {}", reason_of(answer.verdict))),
        };
        match drift.iter().find(|drift| drift.path == self.name) {
            Some(drift) if drift.item.get(6..8).is_some_and(|owner| owner.contains(['o', 'g'])) => {
                let remedy = match &route.target.address {
                    TargetAddress::Daemon { module, .. } => {
                        format!("set `uid = root` and `gid = root` for [{module}] in rsyncd.conf (its default is nobody)")
                    }
                    _ => "let rsync run as root at the target".into(),
                };
                let give_up = "or add `--no-owner` and `--no-group` to `options` if owners do not matter";
                Err(format!("files arrive with another owner ({}): {remedy}, {give_up}", drift.item))
            }
            Some(drift) => {
                Err(format!("the probe arrived different ({}): does the target's file system keep times and modes?", drift.item))
            }
            None if nix::unistd::geteuid().is_root() => Ok("owner, mode and time arrived".into()),
            None => Ok("trigsync does not run as root, so files arrive as the target's user".into()),
        }
    }

    async fn delete(&self, rsync: &Rsync, route: &Route<'_>) -> Result<String, String> {
        fs::remove_file(self.directory.path().join(OsStr::from_bytes(self.name.as_bytes())))
            .map_err(|error| format!("the probe's own source could not be removed: {error}"))?;
        let left = || format!("delete {} at the target by hand", self.name);
        match self.run(rsync, route, Deletions::Allowed).await.verdict {
            Verdict::Done => {}
            Verdict::Partial { reason, .. } => {
                return Err(format!("{reason}: {}; {}", write_remedy(&route.target.address), left()));
            }
            verdict => return Err(format!("{}; {}", reason_of(verdict), left())),
        }
        let paths: [&RelPath; 1] = [&self.name];
        match rsync.compare(route, false, Extent::Names(&paths), &CancellationToken::new()).await {
            Ok(Comparison { drift, incomplete: None }) if drift.is_empty() => Ok("the probe file was deleted".into()),
            Ok(Comparison { incomplete: Some(answer), .. }) => Err(reason_of(answer.verdict)),
            Ok(_) => Err(format!("the target says nothing and keeps what should be deleted; {}", left())),
            Err(answer) => Err(reason_of(answer.verdict)),
        }
    }
}

fn local_directory(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(metadata) => Err(format!("{} is no directory (mode {:o}); choose another target", path.display(), metadata.mode())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) => Ok(()),
        Err(error) => Err(format!("{}: {error}; create the directory, or mount what holds it", path.display())),
    }
}

fn write_remedy(address: &TargetAddress) -> String {
    match address {
        TargetAddress::Daemon { module, .. } => {
            format!("let the `uid` of [{module}] in rsyncd.conf (nobody, if none is set) write to the module's path, or set `uid = root`")
        }
        TargetAddress::Ssh { .. } => "let the remote user write to the directory".into(),
        TargetAddress::Local(_) => "let trigsync's user write to the directory".into(),
    }
}

/// The text of a verdict, for people.
fn reason_of(verdict: Verdict) -> String {
    match verdict {
        Verdict::Partial { reason, .. }
        | Verdict::MissingArgsRefused(reason)
        | Verdict::Full { reason, .. }
        | Verdict::Retry(reason)
        | Verdict::NoSpace(reason)
        | Verdict::Hold(reason) => reason,
        Verdict::Done => "done".into(),
        Verdict::Vanished(_) => "the probe vanished from the temporary directory".into(),
        Verdict::Withheld(due) => format!("{due} deletions are due"),
        Verdict::Stopped => "stopped".into(),
    }
}
