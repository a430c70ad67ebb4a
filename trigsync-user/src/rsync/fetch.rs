//! Fetches one small file that stands right in a target's root, to see what the target has.
//!
//! - Whatever stands there, nothing but a regular file of no more than [`LARGEST`] bytes is taken, and nothing is changed at the target.
//! - Of the operator's options only those that say how the other side is reached are used: the others are about the other direction.

use std::{fs, io, path::Path};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Answer, Route, Rsync, Verdict,
    arguments::{fetching, for_people},
    classify::Findings,
};

/// Bytes of the largest file that is taken.
pub const LARGEST: u64 = 4096;

impl Rsync {
    /// The content of `name` at the target, `None` where it is not there. `into` is a directory of the caller's own, for nothing else. An `Err`
    /// is the answer of an rsync that could not ask.
    pub async fn fetch(&self, route: &Route<'_>, name: &str, into: &Path, stop: &CancellationToken) -> Result<Option<Vec<u8>>, Answer> {
        let arguments = fetching(self.version(), route, name, LARGEST, into).map_err(Answer::hold)?;
        let here = into.join(name);
        remove(&here).map_err(|error| own(into, &error))?;
        debug!(target: "trigsync::rsync", command = %for_people(self.binary(), &arguments), "starting");
        let mut findings = Findings::new(route, None);
        let mut missing = false;
        let exit = self
            .execute(route, &arguments, Vec::new(), stop, |line| {
                missing |= find(line, b"link_stat") && find(line, b"No such file or directory (2)");
                findings.line(line);
            })
            .await;
        match findings.answer(exit).verdict {
            Verdict::Done => {}
            Verdict::Partial { .. } if missing => return Ok(None),
            verdict => return Err(Answer { verdict, ..Answer::hold(String::new()) }),
        }
        match fs::read(&here) {
            Ok(content) => remove(&here).map(|()| Some(content)).map_err(|error| own(into, &error)),
            // Something else stands there, a directory or a link.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(own(into, &error)),
        }
    }
}

fn find(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len()).any(|window| window == text)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn own(into: &Path, error: &io::Error) -> Answer {
    Answer::hold(format!("{} cannot be used: {error}; make room there", into.display()))
}
