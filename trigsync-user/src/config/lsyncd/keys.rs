//! The keys of one table that a program handed over: read as what they have to be, with errors that name the call's line.

use std::path::Path;

use super::{
    evaluate::LAYER,
    value::{Table, Value},
};
use crate::config::{
    ConfigError,
    error::near_miss,
    foreign::{Note, short, with},
    raw::At,
};

/// A table, and where it was handed over.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub file: &'a Path,
    /// Of the call, from 1.
    pub line: Option<usize>,
    /// What the table is called: `sync`, `rsync`, `ssh`.
    pub name: &'static str,
    pub table: &'a Table,
}

impl<'a> Keys<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.named.get(key)
    }

    pub fn at<T>(&self, key: &str, value: T) -> At<T> {
        At { value, line: self.line, column: None, key: format!("{}.{key}", self.name) }
    }

    /// The table itself.
    pub fn itself(&self) -> At<()> {
        At { value: (), line: self.line, column: None, key: self.name.to_owned() }
    }

    pub fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        error(self.file, &self.at(key, ()), message)
    }

    /// Every key must be known, and every value have one, as lsyncd itself demands.
    pub fn check(&self, known: &[&[&str]]) -> Result<(), ConfigError> {
        self.nothing_without_a_key()?;
        let known = || known.iter().flat_map(|known| known.iter().copied());
        let Some(unknown) = self.table.named.keys().find(|key| *key != LAYER && known().all(|known| known != *key)) else { return Ok(()) };
        let near = near_miss(unknown, known()).map_or("take it out".to_owned(), |near| format!("did you mean `{near}`?"));
        Err(self.error(&short(unknown), format!("is no key of lsyncd's ({near})")))
    }

    pub fn nothing_without_a_key(&self) -> Result<(), ConfigError> {
        let Some(value) = self.table.list.first() else { return Ok(()) };
        let shown = text(value).map_or_else(|_| value.kind().to_owned(), |text| format!("`{}`", short(&text)));
        Err(error(self.file, &self.itself(), format!("holds {shown} without a key (write KEY = VALUE)")))
    }

    /// As lsyncd asks: present, and neither nil nor false.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(Value::is_true)
    }

    /// A text, or a number as text; none for `false`.
    pub fn text(&self, key: &str) -> Result<Option<At<String>>, ConfigError> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(None),
            Some(value) => text(value).map(|text| Some(self.at(key, text))).map_err(|message| self.error(key, message)),
        }
    }

    /// A number; none for `false`.
    pub fn number(&self, key: &str) -> Result<Option<At<f64>>, ConfigError> {
        self.get(key).map_or(Ok(None), |value| number(self.file, &self.at(key, value)))
    }

    /// One text, or a table of them.
    pub fn list(&self, key: &str) -> Result<Vec<At<String>>, ConfigError> {
        let wrong = |message| self.error(key, message);
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(Vec::new()),
            Some(Value::Table(table)) => {
                if let Some(named) = table.named.keys().next() {
                    return Err(wrong(format!("has a key `{}`, where only texts in a row count (write them without keys)", short(named))));
                }
                table.list.iter().map(|value| text(value).map(|text| self.at(key, text)).map_err(wrong)).collect()
            }
            Some(value) => text(value).map(|text| vec![self.at(key, text)]).map_err(wrong),
        }
    }

    /// A table within it; nothing where there is none.
    pub fn inner(&self, key: &'static str, nothing: &'a Table) -> Result<Keys<'a>, ConfigError> {
        let table = match self.get(key) {
            None => nothing,
            Some(Value::Table(table)) => table,
            Some(other) => return Err(self.error(key, format!("is {}, not a table", other.kind()))),
        };
        Ok(Keys { name: key, table, ..*self })
    }
}

/// An error about something at a place that may have no line.
pub(super) fn error<T>(file: &Path, at: &At<T>, message: impl Into<String>) -> ConfigError {
    ConfigError::in_file(file, at.line, Some(at.key.clone()), message)
}

/// A number of a key or a setting; none for `false`.
pub(super) fn number(file: &Path, at: &At<&Value>) -> Result<Option<At<f64>>, ConfigError> {
    match at.value {
        Value::Bool(false) => Ok(None),
        Value::Number(number) => Ok(Some(with(at, *number))),
        other => Err(error(file, at, format!("is {}, not a number", other.kind()))),
    }
}

/// The text of a value, as Lua's `..` would add it.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) if text.contains(['\0', '\n']) => Err("holds a NUL byte or a newline (write it without)".to_owned()),
        Value::Text(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("is {}, not text", other.kind())),
    }
}

/// What somebody who reads the file should know, in the order in which it was found.
pub(super) struct Notes<'a> {
    pub file: &'a Path,
    pub list: Vec<Note>,
}

impl Notes<'_> {
    pub fn warn<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.add(Note::warning(self.file, at, message));
    }

    pub fn differ<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.add(Note::difference(self.file, at, message));
    }

    /// A loop calls `sync{}` from one line many times; what holds for each is said once.
    fn add(&mut self, note: Note) {
        if !self.list.contains(&note) {
            self.list.push(note);
        }
    }
}
