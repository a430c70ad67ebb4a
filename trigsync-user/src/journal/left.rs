//! What the last daemon left in the journal, read once at a start.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rusqlite::OptionalExtension as _;

use super::store::{JournalError, Store, boot_id, moment, nanoseconds, scope, understood, uptime};
use crate::{
    capture::Position,
    model::{Mark, Ops, RelPathBuf, Scope},
};

/// What is known of the time before this start.
#[derive(Debug, Default)]
pub struct Left {
    pub(super) passed: Option<Passed>,
    pub(super) lanes: Vec<LaneLeft>,
    /// Why there is nothing, where there was something.
    pub(super) set_aside: Option<String>,
}

/// How the last daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The machine was not booted since.
    pub same_boot: bool,
    /// It had stopped, and what it wrote was on the disk.
    pub clean: bool,
    /// Everything that happened before this was captured, by the clock as it goes now; none where that is not known.
    pub until: Option<SystemTime>,
    /// Where it had read the kernel's ring to.
    pub position: Option<Position>,
}

/// One lane.
#[derive(Debug)]
pub struct LaneLeft {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    /// How it was configured.
    pub meaning: String,
    /// Whether there were more marks than the journal could keep.
    pub is_incomplete: bool,
    /// Where the last daemon had not found all that changed since then, by the clock as it goes now.
    pub searching_since: Option<SystemTime>,
    /// Whether the operator wants nothing to be sent.
    pub is_held: bool,
    pub(super) marks: Vec<(RelPathBuf, Scope)>,
}

impl Left {
    /// How the last daemon ended; none where nothing is known of one.
    pub fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// Why nothing is known, where the journal was of no use.
    pub fn set_aside(&self) -> Option<&str> {
        self.set_aside.as_deref()
    }

    /// One lane of a sync, without marks.
    #[cfg(test)]
    pub(crate) fn for_tests(sync: &str, target: &str, meaning: &str, is_incomplete: bool, passed: Option<Passed>) -> Self {
        let [sync, target, meaning] = [sync, target, meaning].map(str::to_owned);
        Self {
            passed,
            lanes: vec![LaneLeft { sync, target, meaning, is_incomplete, searching_since: None, is_held: false, marks: Vec::new() }],
            set_aside: None,
        }
    }

    /// What one target had not got.
    pub fn of(&self, sync: &str, target: &str) -> Option<&LaneLeft> {
        self.lanes.iter().find(|lane| lane.sync == sync && lane.target == target)
    }
}

impl LaneLeft {
    /// The marks. What was seen at each path is not kept: files are compared by content, except in a full pass, which would read everything.
    pub fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().map(|(path, scope)| {
            let ops = if path.is_root() { Ops::RESCAN } else { Ops::WRITE | Ops::RESCAN };
            Mark { path: path.clone(), scope: *scope, ops }
        })
    }

    /// How many marks there are.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

impl Store {
    /// What the last daemon left. Also finds out what this one begins with.
    pub(super) fn left(&mut self, path: &Path) -> Result<Left, JournalError> {
        let failed = |source| understood(path, source);
        let (passed, set_back) = self.passed().map_err(failed)?.unzip();
        if passed.as_ref().is_some_and(|passed| !passed.same_boot && !passed.clean) {
            // The machine went down with it: what was not on the disk yet is missing somewhere.
            let told: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
            if told != "ok" {
                return Err(JournalError::Unusable { path: path.to_owned(), what: format!("damaged ({told})") });
            }
        }
        let lanes = self.lanes(path, set_back.unwrap_or_default()).map_err(failed)??;
        let newest: Option<i64> = self.connection.query_row("SELECT max(since) FROM mark", [], |row| row.get(0)).map_err(failed)?;
        self.base = newest.unwrap_or(0).max(nanoseconds(SystemTime::now()) / 1000) + 1;
        self.paths = self.connection.query_row("SELECT count(*) FROM sent", [], |row| row.get(0)).map_err(failed)?;
        Ok(Left { passed, lanes, set_aside: None })
    }

    /// With how far the clock was set back since.
    fn passed(&self) -> rusqlite::Result<Option<(Passed, Duration)>> {
        let read = "SELECT boot, clean, until, uptime, ring, read, told FROM reached";
        let row = self.connection.query_row(read, [], |row| {
            let position = match (row.get::<_, Option<u32>>(4)?, row.get::<_, Option<i64>>(5)?, row.get::<_, Option<i64>>(6)?) {
                (Some(ring), Some(read), Some(told)) => Some(Position { ring, read: read.cast_unsigned(), told: told.cast_unsigned() }),
                _ => None,
            };
            let until = row.get::<_, Option<i64>>(2)?.map(moment);
            Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, until, row.get::<_, i64>(3)?, position))
        });
        let Some((boot, clean, until, then, position)) = row.optional()? else { return Ok(None) };
        let same_boot = boot == boot_id();
        let now = SystemTime::now();
        let (until, set_back) = match (until, same_boot) {
            (Some(until), true) => {
                let set_back = set_back(until, Duration::from_nanos(then.unsigned_abs()), now, uptime());
                (until.checked_sub(set_back), set_back)
            }
            // Where the clock goes wrong from boot to boot nobody knows what came after what.
            (until, _) => (until.filter(|until| *until <= now), Duration::ZERO),
        };
        Ok(Some((Passed { same_boot, clean, until, position: position.filter(|_| same_boot) }, set_back)))
    }

    fn lanes(&self, path: &Path, set_back: Duration) -> rusqlite::Result<Result<Vec<LaneLeft>, JournalError>> {
        let mut lanes = Vec::new();
        let mut statement = self.connection.prepare("SELECT id, sync, target, meaning, incomplete, searching_since, held FROM lane")?;
        let mut marks = self.connection.prepare("SELECT path, scope FROM mark WHERE lane = ?")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let since = row.get::<_, Option<i64>>(5)?.map(moment);
            let mut left = LaneLeft {
                sync: row.get(1)?,
                target: row.get(2)?,
                meaning: row.get(3)?,
                is_incomplete: row.get(4)?,
                searching_since: since.map(|since| since.checked_sub(set_back).unwrap_or(SystemTime::UNIX_EPOCH)),
                is_held: row.get(6)?,
                marks: Vec::new(),
            };
            let mut found = marks.query([row.get::<_, i64>(0)?])?;
            while let Some(mark) = found.next()? {
                match (RelPathBuf::new(mark.get(0)?), scope(mark.get(1)?)) {
                    (Ok(path), Some(scope)) => left.marks.push((path, scope)),
                    _ => return Ok(Err(JournalError::Unusable { path: path.to_owned(), what: "damaged (a mark that is none)".into() })),
                }
            }
            lanes.push(left);
        }
        Ok(Ok(lanes))
    }
}

/// How far the clock was set back since it showed `then`, given how long the machine had been up then and is now. By so much earlier are the
/// times of what was changed after it.
fn set_back(then: SystemTime, uptime_then: Duration, now: SystemTime, uptime: Duration) -> Duration {
    let passed = uptime.saturating_sub(uptime_then);
    (then + passed).duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_hides_nothing() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let since = |now| set_back(at(1000), seconds(50), at(now), seconds(60));
        assert_eq!(since(1010), seconds(0));
        assert_eq!(since(510), seconds(500));
        assert_eq!(since(5010), seconds(0), "set forward: too much is looked at");
        assert_eq!(since(3), seconds(1007));
    }
}
