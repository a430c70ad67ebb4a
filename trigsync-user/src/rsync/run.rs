//! One run of rsync, from its arguments to its answer.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Answer, Route, RsyncError, Run, Version,
    arguments::{Unspeakable, arguments, for_people},
    classify::Findings,
    process::{Exit, Process},
};

/// The rsync of this machine.
#[derive(Clone, Debug)]
pub struct Rsync {
    binary: PathBuf,
    version: Version,
}

impl Rsync {
    /// Asks `binary` for its version. Blocks for the few milliseconds that takes.
    pub fn probe(binary: &Path) -> Result<Self, RsyncError> {
        let output = Command::new(binary).arg("--version").env("LC_ALL", "C").stdin(Stdio::null()).output();
        let output = output.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => RsyncError::Missing { binary: binary.to_owned() },
            _ => RsyncError::NotExecutable { binary: binary.to_owned(), source },
        })?;
        let version = Version::of(binary, &String::from_utf8_lossy(&output.stdout))?;
        Ok(Self { binary: binary.to_owned(), version })
    }

    /// The program that is run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Runs rsync once and says what its answer means. Never fails otherwise: what keeps rsync from running is an answer too.
    ///
    /// `stop` ends it early with [`super::Verdict::Stopped`]: SIGTERM, and SIGKILL after [`super::TERMINATE_GRACE`]. Dropping the future ends
    /// it too.
    pub async fn run(&self, route: &Route<'_>, run: Run<'_>, stop: &CancellationToken) -> Answer {
        let arguments = match self.arguments(route, &run) {
            Ok(arguments) => arguments,
            Err(reason) => return Answer::hold(reason),
        };
        let mut findings = Findings::new(route, run.progress);
        let exit = self.execute(route, &arguments, run.list, stop, |line| findings.line(line)).await;
        let answer = findings.answer(exit);
        debug!(target: "trigsync::rsync", to = %route.target.name, ?answer, "ended");
        answer
    }

    /// One process, from its start to its end.
    pub(super) async fn execute(
        &self,
        route: &Route<'_>,
        arguments: &[OsString],
        input: Vec<u8>,
        stop: &CancellationToken,
        each: impl FnMut(&[u8]),
    ) -> Exit {
        if stop.is_cancelled() {
            return Exit::Stopped;
        }
        match Process::start(&self.binary, arguments) {
            Ok(process) => self.attend(route, process, input, stop, each).await,
            Err(error) => Exit::NotStarted(error),
        }
    }

    /// What a process is told for a run.
    pub(super) fn arguments(&self, route: &Route<'_>, run: &Run<'_>) -> Result<Vec<OsString>, Unspeakable> {
        let arguments = arguments(self.version, route, run)?;
        debug!(target: "trigsync::rsync", command = %for_people(&self.binary, &arguments), list_bytes = run.list.len(), "starting");
        Ok(arguments)
    }
}
