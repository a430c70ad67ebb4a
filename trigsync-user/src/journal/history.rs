//! What was sent, when and where to, as far as it is kept: "when did this file go to that mirror?"

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rusqlite::{Row, params_from_iter, types::Value};

use super::store::{JournalError, Store, moment, scope, understood};
use crate::model::{RelPath, RelPathBuf, Scope};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Only what had to do with this path: itself, what stands below it, or a subtree that it is in. Absolute, or relative to a source.
    pub path: Option<PathBuf>,
    /// Only this target.
    pub target: Option<String>,
    /// Only what failed.
    pub failed: bool,
    /// At most so many batches, the latest.
    pub limit: usize,
}

/// The answer, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Batches.
    pub entries: Vec<Entry>,
    /// When the oldest batch that is kept ended, whatever was asked.
    pub kept_since: Option<SystemTime>,
    /// Whether there are batches of which not every path is kept: a path that is not found may have been in one of them.
    pub paths_missing: bool,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    /// When rsync was started.
    pub started: SystemTime,
    /// When it had ended.
    pub ended: SystemTime,
    /// Marks that arrived.
    pub arrived: u64,
    /// Marks that failed alone.
    pub failed: u64,
    /// Bytes that rsync wrote to the other side.
    pub bytes: u64,
    /// rsync processes it took.
    pub processes: u64,
    /// Why it ended early.
    pub trouble: Option<String>,
    /// The paths of the batch that have to do with the one that was asked for, and the failed ones where failures were asked for.
    pub arrivals: Vec<Arrival>,
}

/// One path of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Relative to the source.
    pub path: RelPathBuf,
    /// How much of it was meant.
    pub scope: Scope,
    /// Why it did not arrive.
    pub failure: Option<String>,
}

/// Paths that are told of one batch.
const TOLD: i64 = 20;

impl Store {
    /// Answers a question about the history.
    pub fn history(&self, question: &Question) -> Result<History, JournalError> {
        self.ask(question).map_err(|source| understood(self.path(), source))
    }

    fn ask(&self, question: &Question) -> rusqlite::Result<History> {
        let places = self.places(question.path.as_deref())?;
        let mut conditions = Conditions::default();
        if let Some(target) = &question.target {
            conditions.add("batch.target = ?", [target.clone().into()]);
        }
        if question.failed {
            conditions.add("(batch.failed > 0 OR batch.trouble IS NOT NULL)", []);
        }
        if question.path.is_some() {
            let (text, values) = related(&places);
            conditions.add(&format!("batch.id IN (SELECT sent.batch FROM sent WHERE {text})"), values);
        }
        let select = format!(
            "SELECT id, sync, target, started, ended, arrived, failed, bytes, processes, trouble FROM batch WHERE {} ORDER BY id DESC LIMIT {}",
            conditions.text(),
            i64::try_from(question.limit).unwrap_or(i64::MAX)
        );
        let mut statement = self.connection.prepare(&select)?;
        let mut rows = statement.query(params_from_iter(&conditions.values))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let mut entry = entry(row)?;
            entry.arrivals = self.arrivals(row.get(0)?, question, &places)?;
            entries.push(entry);
        }
        let oldest: Option<i64> = self.connection.query_row("SELECT min(ended) FROM batch", [], |row| row.get(0))?;
        let missing = "SELECT EXISTS (SELECT 1 FROM batch WHERE arrived + failed > (SELECT count(*) FROM sent WHERE batch = batch.id))";
        let paths_missing = self.connection.query_row(missing, [], |row| row.get(0))?;
        Ok(History { entries, kept_since: oldest.map(moment), paths_missing })
    }

    fn arrivals(&self, batch: i64, question: &Question, places: &[RelPathBuf]) -> rusqlite::Result<Vec<Arrival>> {
        let mut conditions = Conditions::default();
        conditions.add("sent.batch = ?", [batch.into()]);
        if question.path.is_some() {
            let (text, values) = related(places);
            conditions.add(&text, values);
        } else if question.failed {
            conditions.add("sent.failure IS NOT NULL", []);
        } else {
            return Ok(Vec::new());
        }
        let select = format!("SELECT path, scope, failure FROM sent WHERE {} ORDER BY path LIMIT {TOLD}", conditions.text());
        let mut statement = self.connection.prepare(&select)?;
        let rows = statement
            .query_map(params_from_iter(&conditions.values), |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))?;
        let mut arrivals = Vec::new();
        for row in rows {
            let (path, number, failure) = row?;
            if let (Ok(path), Some(scope)) = (RelPathBuf::new(path), scope(number)) {
                arrivals.push(Arrival { path, scope, failure });
            }
        }
        Ok(arrivals)
    }

    /// What a path is relative to the sources, where it is absolute.
    fn places(&self, path: Option<&Path>) -> rusqlite::Result<Vec<RelPathBuf>> {
        let Some(path) = path else { return Ok(Vec::new()) };
        let relative = |path: &Path| RelPathBuf::new(path.components().as_path().as_os_str().as_bytes().to_vec()).ok();
        if path.is_relative() {
            return Ok(relative(path.strip_prefix(".").unwrap_or(path)).into_iter().collect());
        }
        let mut statement = self.connection.prepare("SELECT DISTINCT source FROM lane")?;
        let sources = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(sources.iter().filter_map(|source| path.strip_prefix(OsStr::from_bytes(source)).ok().and_then(relative)).collect())
    }
}

#[derive(Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        self.texts.push(text.to_owned());
        self.values.extend(values);
    }

    fn text(&self) -> String {
        if self.texts.is_empty() { "1".to_owned() } else { self.texts.join(" AND ") }
    }
}

/// Rows of `sent` that have to do with one of these paths.
fn related(places: &[RelPathBuf]) -> (String, Vec<Value>) {
    let (mut texts, mut values): (Vec<&str>, Vec<Value>) = (Vec::new(), Vec::new());
    for place in places {
        let bytes = |path: &RelPath| Value::from(path.as_bytes().to_vec());
        texts.push("sent.path = ?");
        values.push(bytes(place));
        if place.is_root() {
            texts.push("sent.path > x''");
        } else {
            texts.push("(sent.path >= ? AND sent.path < ?)");
            values.extend([b"/", b"0"].map(|end| Value::from([place.as_bytes(), end].concat())));
        }
        let mut ancestor = place.parent();
        let mut scopes = "(sent.path = ? AND sent.scope >= 1)";
        while let Some(path) = ancestor {
            texts.push(scopes);
            values.push(bytes(path));
            (ancestor, scopes) = (path.parent(), "(sent.path = ? AND sent.scope = 2)");
        }
    }
    // Nothing is related to no path.
    (if texts.is_empty() { "0".to_owned() } else { format!("({})", texts.join(" OR ")) }, values)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let count = |at: usize| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
    Ok(Entry {
        sync: row.get(1)?,
        target: row.get(2)?,
        started: moment(row.get(3)?),
        ended: moment(row.get(4)?),
        arrived: count(5)?,
        failed: count(6)?,
        bytes: count(7)?,
        processes: count(8)?,
        trouble: row.get(9)?,
        arrivals: Vec::new(),
    })
}
