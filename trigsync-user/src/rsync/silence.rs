//! Notices that the other side has fallen silent in the middle of a run.
//!
//! - rsync's own time-out does not: a sender that waits keeps the connection alive, and takes what it writes itself for a sign of life. It
//!   ends only where the other side had not begun to listen yet.
//! - So where nothing has gone through a run for that long, its target is asked by another rsync. One that answers is at work (deletes a
//!   large directory, reads a large file), and is waited for, however long that takes.
//! - A target on this machine is not asked: one that hangs, hangs in the kernel, and would not end for a signal either.

use std::{fs, future::pending, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Compare, Route, Rsync, Verdict, Work,
    arguments::{CONNECT_TIMEOUT, comparison},
    classify::Findings,
    process::{Exit, Process},
};
use crate::config::TargetAddress;

/// rsync's own time-out comes first, where it comes: it says more.
const LATER: Duration = Duration::from_secs(1);

/// Bytes that are written to keep a connection alive, at most, while it is watched once: four each time.
const KEEPING_ALIVE: u64 = 64;

impl Rsync {
    /// Whether the target answers. An `Err` is the answer of an rsync that could not ask, and [`Verdict::Retry`] where there was none in time.
    pub async fn ask(&self, route: &Route<'_>, stop: &CancellationToken) -> Result<(), Answer> {
        let arguments = comparison(self.version(), route, Work::Entries(Compare::Quick), false, "").map_err(Answer::hold)?;
        let mut findings = Findings::new(route, None);
        let longest = CONNECT_TIMEOUT + 2 * route.target.timeout;
        let too_long = async {
            sleep(longest).await;
            format!("it does not answer within {} s", longest.as_secs())
        };
        let exit = match Process::start(self.binary(), &arguments) {
            Ok(process) => process.finish(Vec::new(), stop, too_long, |line| findings.line(line)).await,
            Err(error) => Exit::NotStarted(error),
        };
        let answer = findings.answer(exit);
        match answer.verdict {
            Verdict::Done | Verdict::Vanished(_) | Verdict::Partial { .. } => Ok(()),
            _ => Err(answer),
        }
    }

    /// Runs a process to its end, or until its target has fallen silent.
    pub(super) async fn attend(
        &self,
        route: &Route<'_>,
        process: Process,
        list: Vec<u8>,
        stop: &CancellationToken,
        each: impl FnMut(&[u8]),
    ) -> Exit {
        let silence = self.silence(route, process.id());
        process.finish(list, stop, silence, each).await
    }

    /// Resolves with what is wrong where nothing goes through the process any more, and its target does not answer.
    async fn silence(&self, route: &Route<'_>, process: Option<u32>) -> String {
        let is_watched = !matches!(route.target.address, TargetAddress::Local(_)) && !route.target.timeout.is_zero();
        let Some(process) = process.filter(|_| is_watched) else { return pending().await };
        let patience = route.target.timeout + LATER;
        let mut before = Traffic::of(process);
        loop {
            sleep(patience).await;
            let silent =
                |before: Option<Traffic>| before.zip(Traffic::of(process)).is_some_and(|(before, now)| now.is_silent_since(before));
            if silent(before)
                && let Err(Answer { verdict: Verdict::Retry(reason), .. }) = self.ask(route, &CancellationToken::new()).await
                && silent(before)
            {
                return format!("the other side has been silent for {} s, and does not answer: {reason}", patience.as_secs());
            }
            before = Traffic::of(process);
        }
    }
}

/// Bytes that a process has read and written since it began, whatever from and to.
#[derive(Clone, Copy)]
struct Traffic {
    read: u64,
    written: u64,
}

impl Traffic {
    /// `None` where the kernel does not tell (without task I/O accounting), or the process has ended.
    fn of(process: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/io")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(Self { read: field("rchar:")?, written: field("wchar:")? })
    }

    fn is_silent_since(self, before: Self) -> bool {
        self.read == before.read && self.written - before.written <= KEEPING_ALIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_connection_alive_is_silence_and_whatever_is_read_is_not() {
        let traffic = |read, written| Traffic::parse(&format!("rchar: {read}\nwchar: {written}\nsyscr: 1\n")).unwrap();
        assert!(traffic(100, 112).is_silent_since(traffic(100, 100)));
        assert!(!traffic(104, 112).is_silent_since(traffic(100, 100)));
        assert!(!traffic(100, 4196).is_silent_since(traffic(100, 100)));
        assert!(Traffic::of(std::process::id()).is_some_and(|own| own.read > 0));
    }
}
