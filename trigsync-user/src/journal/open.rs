//! Opening the file: checked, brought to the present version or set aside, and what the last daemon left in it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use rusqlite_migration::{Error as StepError, MigrationDefinitionError};

use super::{
    lane::AuditPoint,
    left::{LaneLeft, Left, Passed},
    schema::{APPLICATION, MIGRATIONS},
    store::{IN_MEMORY, JournalError, NAME, Store, boot_id, moment, nanoseconds, scope, understood, uptime},
};
use crate::{capture::Position, model::RelPathBuf};

/// How long another process may hold the file before a transaction is put off.
const PATIENCE: Duration = Duration::from_secs(1);

impl Store {
    /// Opens or makes the journal of a state directory, and reads what the last daemon left. What cannot be understood is set aside.
    pub fn open(state_dir: &Path) -> Result<(Self, Left), JournalError> {
        let path = state_dir.join(NAME);
        match Self::open_as_it_is(&path) {
            Err(error @ JournalError::Unusable { .. }) => {
                let aside = set_aside(&path).map_err(|source| JournalError::NotSetAside { path: path.clone(), source })?;
                let (store, left) = Self::open_as_it_is(&path)?;
                Ok((store, Left { set_aside: Some(format!("{error}, and was set aside as {}", aside.display())), ..left }))
            }
            opened => opened,
        }
    }

    /// A journal that is forgotten with the process.
    pub(super) fn in_memory() -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        MIGRATIONS.to_latest(&mut connection).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(Self { connection, path: PathBuf::from(IN_MEMORY), base: 0, paths: 0 })
    }

    /// For asking only, beside a daemon or without one.
    pub fn read_only(state_dir: &Path) -> Result<Self, JournalError> {
        let path = state_dir.join(NAME);
        if !path.exists() {
            return Err(JournalError::Missing { path: state_dir.to_owned() });
        }
        let failed = |source| understood(&path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        check_application(&path, &connection).and_then(|()| match MIGRATIONS.pending_migrations(&connection) {
            Ok(0) => Ok(()),
            _ => Err(JournalError::Unusable { path: path.clone(), what: "of another version of trigsync".into() }),
        })?;
        Ok(Self { connection, path, base: 0, paths: 0 })
    }

    fn open_as_it_is(path: &Path) -> Result<(Self, Left), JournalError> {
        let failed = |source| understood(path, source);
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(error.into())))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        let is_new = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).map_err(failed)? == 0;
        if connection.is_readonly("main").map_err(failed)? {
            // It was opened for writing: of what SQLite does not know it lets itself only read.
            return Err(JournalError::Unusable { path: path.to_owned(), what: "of a later format of SQLite's".into() });
        }
        if is_new {
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
            connection.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        }
        check_application(path, &connection)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "OFF").map_err(failed)?;
        MIGRATIONS.to_latest(&mut connection).map_err(|error| of_step(path, error))?;
        let mut store = Self { connection, path: path.to_owned(), base: 0, paths: 0 };
        let left = store.left(path)?;
        Ok((store, left))
    }

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
        if newest.is_some_and(|newest| newest > i64::MAX / 2) {
            // Nothing could be told apart from what came after it.
            return Err(JournalError::Unusable { path: path.to_owned(), what: "damaged (a change of no possible time)".into() });
        }
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
        let mut statement = self
            .connection
            .prepare("SELECT id, sync, target, meaning, incomplete, searching_since, held, audit_began, audit_after FROM lane")?;
        let mut marks = self.connection.prepare("SELECT path, scope FROM mark WHERE lane = ?")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let since = row.get::<_, Option<i64>>(5)?.map(moment);
            let began = row.get::<_, Option<i64>>(7)?.map(moment);
            // One that cannot be read is begun anew.
            let after = row.get::<_, Option<Vec<u8>>>(8)?.and_then(|path| RelPathBuf::new(path).ok());
            let mut left = LaneLeft {
                sync: row.get(1)?,
                target: row.get(2)?,
                meaning: row.get(3)?,
                is_incomplete: row.get(4)?,
                searching_since: since.map(|since| since.checked_sub(set_back).unwrap_or(SystemTime::UNIX_EPOCH)),
                is_held: row.get(6)?,
                audit: began.map(|began| AuditPoint { began, after }),
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

fn check_application(path: &Path, connection: &Connection) -> Result<(), JournalError> {
    let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(|source| understood(path, source))?;
    match id {
        APPLICATION => Ok(()),
        _ => Err(JournalError::Unusable { path: path.to_owned(), what: "another program's file".into() }),
    }
}

fn of_step(path: &Path, error: StepError) -> JournalError {
    match error {
        StepError::RusqliteError { err, .. } => understood(path, err),
        StepError::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            JournalError::Unusable { path: path.to_owned(), what: "of a newer version of trigsync".into() }
        }
        error => JournalError::Unusable { path: path.to_owned(), what: format!("of no known version ({error})") },
    }
}

/// Moves the file out of the way; the one that was set aside before goes.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    for part in ["-wal", "-shm"] {
        match fs::rename(with(part), with(&format!(".unusable{part}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let aside = with(".unusable");
    fs::rename(path, &aside)?;
    Ok(aside)
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

    #[test]
    fn a_journal_whose_tables_or_values_are_not_ours_is_set_aside() {
        for damage in [
            "ALTER TABLE mark RENAME COLUMN since TO until",
            "DROP TABLE reached",
            "INSERT INTO lane (sync, target, source, meaning) VALUES ('s', 't', x'2f', 'm');
             INSERT INTO mark (lane, path, scope, since) VALUES (1, x'61', 0, 9223372036854775807)",
            "PRAGMA user_version = 1000",
        ] {
            let place = tempfile::tempdir().expect("a place");
            let (store, left) = Store::open(place.path()).expect("a new one");
            assert_eq!(left.set_aside(), None);
            store.connection.execute_batch(damage).expect(damage);
            drop(store);
            let (_, left) = Store::open(place.path()).expect("one that is set aside is made anew");
            assert!(left.set_aside().is_some_and(|text| text.contains("was set aside as")), "{damage}: {:?}", left.set_aside());
            assert!(place.path().join("journal.db.unusable").exists(), "{damage}");
            let (_, left) = Store::open(place.path()).expect("the new one is sound");
            assert_eq!(left.set_aside(), None, "{damage}");
        }
    }

    #[test]
    fn a_journal_of_a_later_format_is_set_aside() {
        use std::os::unix::fs::FileExt as _;

        let place = tempfile::tempdir().expect("a place");
        drop(Store::open(place.path()).expect("a new one"));
        let file = OpenOptions::new().write(true).open(place.path().join(NAME)).expect("it is there");
        // SQLite's version for writing: 1 or 2.
        file.write_all_at(&[200], 18).expect("it is ours");
        let (_, left) = Store::open(place.path()).expect("one that is set aside is made anew");
        assert!(left.set_aside().is_some_and(|text| text.contains("was set aside as")), "{:?}", left.set_aside());
    }
}
