//! The file: written in transactions, and what everybody who reads it needs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};
use rusqlite::{Connection, ErrorCode, Transaction, ffi, params};

use super::{AuditPoint, Entered, LaneKey, Reached, batch::Batch, pending::Pending};
use crate::model::{Scope, Stamp};

/// The file's name in the state directory.
pub const NAME: &str = "journal.db";

/// Stands for the path of a journal that nobody will ever read.
pub(super) const IN_MEMORY: &str = ":memory:";

/// Paths that the history keeps, of all batches together.
const PATHS_KEPT: i64 = 200_000;

/// Batches that it keeps.
const BATCHES_KEPT: i64 = 50_000;

/// Free pages above which the file is made smaller, and so many at a time: 40 MB, and 8.
const FREE_PAGES: i64 = 10_000;
const PAGES_AT_A_TIME: i64 = 2_000;

/// Why the journal is of no use.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is damaged, foreign or of a newer version.
    #[error("the journal {} is {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be opened or read now.
    #[error("the journal {} cannot be used: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// There is none.
    #[error("there is no journal in {}: no daemon has run there; name its --state-dir", path.display())]
    Missing {
        /// The state directory.
        path: PathBuf,
    },
    /// It cannot be moved out of the way.
    #[error("the journal {} cannot be set aside: {source}", path.display())]
    NotSetAside {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// Added to stamps, which begin anew with every daemon.
    pub(super) base: i64,
    /// How many paths the history holds.
    pub(super) paths: i64,
}

/// A lane's part of a transaction.
pub(super) struct LanePart<'a> {
    pub key: &'a LaneKey,
    /// Set where the lane is new to the file.
    pub enters: Option<&'a Entered>,
    /// Whether all that was searched for is marked now.
    pub searched: bool,
    /// Whether the operator holds it, where that has changed.
    pub held: Option<bool>,
    /// How far the audit is, where that has changed.
    pub audited: Option<&'a AuditPoint>,
    pub pending: &'a Pending,
    pub batches: &'a [Batch],
}

impl Store {
    /// Writes all of it or nothing. `reached` tells how far capture had been read before the changes were taken.
    pub(super) fn commit(&mut self, lanes: &[LanePart<'_>], gone: &[LaneKey], reached: Option<&Reached>) -> rusqlite::Result<()> {
        if self.path.as_os_str() == IN_MEMORY {
            // It would take as much again as the marks themselves, and end with the daemon.
            return Ok(());
        }
        let base = self.base;
        let mut paths = self.paths;
        let transaction = self.connection.transaction()?;
        for key in gone {
            let lane = "(SELECT id FROM lane WHERE sync = ?1 AND target = ?2)";
            transaction.execute(&format!("DELETE FROM mark WHERE lane = {lane}"), params![key.sync, key.target])?;
            transaction.execute("DELETE FROM lane WHERE sync = ?1 AND target = ?2", params![key.sync, key.target])?;
        }
        for part in lanes {
            paths += write_lane(&transaction, part, base)?;
        }
        if let Some(reached) = reached {
            write_reached(&transaction, reached, false)?;
        }
        if paths > PATHS_KEPT {
            paths -= forget_the_oldest(&transaction, paths - PATHS_KEPT * 9 / 10)?;
        }
        transaction.execute("DELETE FROM batch WHERE id <= (SELECT max(id) FROM batch) - ?", [BATCHES_KEPT])?;
        transaction.commit()?;
        self.paths = paths;
        self.shrink()
    }

    /// Lanes that are in the file and not among `keys`.
    pub(super) fn strangers(&self, keys: &[LaneKey]) -> rusqlite::Result<Vec<LaneKey>> {
        let mut statement = self.connection.prepare("SELECT sync, target FROM lane")?;
        let all = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
        let is_known = |(sync, target): &(String, String)| keys.iter().any(|key| key.sync == *sync && key.target == *target);
        let gone = all.into_iter().filter(|lane| !is_known(lane));
        Ok(gone.map(|(sync, target)| LaneKey { sync, target, ..LaneKey::default() }).collect())
    }

    /// The daemon ends: has everything on the disk, and says so.
    pub(super) fn finish(&mut self, reached: &Reached) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = self.connection.transaction()?;
        write_reached(&transaction, reached, true)?;
        transaction.commit()?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// After a flood has arrived.
    fn shrink(&self) -> rusqlite::Result<()> {
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free > FREE_PAGES {
            self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_AT_A_TIME})"))?;
        }
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns how many paths the history has got.
fn write_lane(transaction: &Transaction<'_>, part: &LanePart<'_>, base: i64) -> rusqlite::Result<i64> {
    let LaneKey { sync, target, source, meaning } = part.key;
    if let Some(Entered { keeps, searching_since, .. }) = part.enters {
        let enter = "INSERT INTO lane (sync, target, source, meaning, searching_since) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (sync, target) DO UPDATE SET source = ?3, meaning = ?4, searching_since = ?5";
        transaction.execute(enter, params![sync, target, source, meaning, searching_since.map(nanoseconds)])?;
        if !keeps {
            let begin = "UPDATE lane SET incomplete = 0, audit_began = NULL, audit_after = NULL WHERE sync = ?1 AND target = ?2";
            transaction.execute(begin, params![sync, target])?;
        }
    }
    if part.searched {
        transaction.execute("UPDATE lane SET searching_since = NULL WHERE sync = ?1 AND target = ?2", params![sync, target])?;
    }
    if let Some(held) = part.held {
        transaction.execute("UPDATE lane SET held = ?3 WHERE sync = ?1 AND target = ?2", params![sync, target, held])?;
    }
    if let Some(AuditPoint { began, after }) = part.audited {
        let put = "UPDATE lane SET audit_began = ?3, audit_after = ?4 WHERE sync = ?1 AND target = ?2";
        let after = after.as_ref().map(|after| after.as_bytes());
        transaction.prepare_cached(put)?.execute(params![sync, target, nanoseconds(*began), after])?;
    }
    let Pending { cleared, absorbed, rows, complete } = part.pending;
    let is_new = part.enters.is_some_and(|entered| !entered.keeps);
    if *cleared || is_new || !absorbed.is_empty() || !rows.is_empty() || complete.is_some() {
        let id = "SELECT id FROM lane WHERE sync = ?1 AND target = ?2";
        let lane: i64 = transaction.prepare_cached(id)?.query_row(params![sync, target], |row| row.get(0))?;
        if *cleared || is_new {
            transaction.prepare_cached("DELETE FROM mark WHERE lane = ?")?.execute([lane])?;
        }
        let mut below = transaction.prepare_cached("DELETE FROM mark WHERE lane = ?1 AND path >= ?2 AND path < ?3")?;
        let mut below_root = transaction.prepare_cached("DELETE FROM mark WHERE lane = ?1 AND path > x''")?;
        for path in absorbed {
            // A slash, and the byte after it.
            match path.as_bytes() {
                [] => below_root.execute([lane])?,
                path => below.execute(params![lane, [path, b"/"].concat(), [path, b"0"].concat()])?,
            };
        }
        let mut settle = transaction.prepare_cached("DELETE FROM mark WHERE lane = ?1 AND path = ?2 AND scope = ?3 AND since <= ?4")?;
        let mut mark = transaction.prepare_cached(
            "INSERT INTO mark (lane, path, scope, since) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (lane, path, scope) DO UPDATE SET since = max(since, ?4)",
        )?;
        for (path, rows) in rows {
            for (row, scope) in rows.iter().zip(0..) {
                if let Some(until) = row.settled_until {
                    settle.execute(params![lane, path.as_bytes(), scope, persistent(until, base)])?;
                }
                if let Some(since) = row.since {
                    mark.execute(params![lane, path.as_bytes(), scope, persistent(since, base)])?;
                }
            }
        }
        match complete {
            Some(complete) => transaction.execute("UPDATE lane SET incomplete = ? WHERE id = ?", params![!complete, lane])?,
            None => 0,
        };
    }
    let mut written = 0;
    for batch in part.batches {
        written += write_batch(transaction, sync, target, batch)?;
    }
    Ok(written)
}

fn write_batch(transaction: &Transaction<'_>, sync: &str, target: &str, batch: &Batch) -> rusqlite::Result<i64> {
    let put =
        "INSERT INTO batch (sync, target, started, ended, arrived, failed, bytes, processes, trouble) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (started, ended) = (nanoseconds(batch.started), nanoseconds(batch.ended));
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    transaction.prepare_cached(put)?.execute(params![
        sync,
        target,
        started,
        ended,
        count(batch.arrived),
        count(batch.failed),
        count(batch.bytes),
        count(batch.processes),
        batch.trouble
    ])?;
    let id = transaction.last_insert_rowid();
    let mut put = transaction.prepare_cached("INSERT OR IGNORE INTO sent (path, batch, scope, failure) VALUES (?, ?, ?, ?)")?;
    let mut written = 0;
    for (path, scope, failure) in &batch.paths {
        written += put.execute(params![path.as_bytes(), id, *scope as i64, failure])?;
    }
    Ok(i64::try_from(written).unwrap_or(i64::MAX))
}

/// Drops whole batches until at least so many paths are gone. Returns how many went.
fn forget_the_oldest(transaction: &Transaction<'_>, paths: i64) -> rusqlite::Result<i64> {
    let mut counts = transaction.prepare("SELECT batch, count(*) FROM sent GROUP BY batch ORDER BY batch")?;
    let mut rows = counts.query([])?;
    let (mut found, mut last) = (0, 0);
    while found < paths
        && let Some(row) = rows.next()?
    {
        last = row.get(0)?;
        found += row.get::<_, i64>(1)?;
    }
    transaction.execute("DELETE FROM sent WHERE batch <= ?", [last])?;
    transaction.execute("DELETE FROM batch WHERE id <= ?", [last])?;
    Ok(found)
}

fn write_reached(transaction: &Transaction<'_>, reached: &Reached, clean: bool) -> rusqlite::Result<()> {
    let put = "INSERT OR REPLACE INTO reached (only, boot, clean, until, uptime, ring, read, told) VALUES (0, ?, ?, ?, ?, ?, ?, ?)";
    let position = reached.position.as_ref();
    transaction.prepare_cached(put)?.execute(params![
        boot_id(),
        clean,
        reached.until.map(nanoseconds),
        i64::try_from(reached.uptime.as_nanos()).unwrap_or(i64::MAX),
        position.map(|position| position.ring),
        position.map(|position| position.read.cast_signed()),
        position.map(|position| position.told.cast_signed()),
    ])?;
    Ok(())
}

fn persistent(stamp: Stamp, base: i64) -> i64 {
    base.saturating_add(i64::try_from(stamp).unwrap_or(i64::MAX))
}

pub(super) fn scope(number: i64) -> Option<Scope> {
    [Scope::Entry, Scope::Level, Scope::Tree].into_iter().find(|scope| *scope as i64 == number)
}

pub(super) fn nanoseconds(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

pub(super) fn moment(nanoseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// How long the machine has been up, sleep included.
pub(super) fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Differs from boot to boot. Where it cannot be read, which a mounted /proc rules out, all boots are one: nothing is captured across them.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether an error says that the file is no journal, or only that it cannot be used now.
pub(super) fn understood(path: &Path, source: rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => JournalError::Unusable { path, what: "no database".into() },
        Some(ErrorCode::DatabaseCorrupt) => JournalError::Unusable { path, what: "damaged".into() },
        _ => match source {
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => {
                JournalError::Unusable { path, what: "damaged (a value of another kind)".into() }
            }
            // Our statements fit the tables of the version that it says it has.
            source @ (rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::SqliteFailure(ffi::Error { extended_code: ffi::SQLITE_ERROR, .. }, _)) => {
                JournalError::Unusable { path, what: format!("damaged ({source})") }
            }
            source => JournalError::Refused { path, source },
        },
    }
}
