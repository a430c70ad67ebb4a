//! From Lua's values to ours, within bounds: tables that hold themselves, or one text a million times, come to an end here.

use std::ffi::c_void;

use super::value::{Table, Value};

const DEEPEST: usize = 16;
const MOST_VALUES: usize = 100_000;
const MOST_BYTES: usize = 8 << 20;

/// Counts what was kept of one program.
pub(super) struct Keep {
    /// Where the function is that stands for all of lsyncd's own.
    own: *const c_void,
    values: usize,
    bytes: usize,
}

impl Keep {
    pub fn new(own: *const c_void) -> Self {
        Self { own, values: 0, bytes: 0 }
    }

    /// A table with all that is in it. No function of the program is called for it. The error is about the table as a whole.
    pub fn table(&mut self, table: &mlua::Table) -> Result<Table, String> {
        self.nested(table, 0)
    }

    fn nested(&mut self, table: &mlua::Table, depth: usize) -> Result<Table, String> {
        if depth == DEEPEST {
            return Err(format!("holds tables deeper than {DEEPEST} levels (write plain tables)"));
        }
        let mut kept = Table::default();
        for at in 1..=table.raw_len() {
            let value: mlua::Value = table.raw_get(at).map_err(|error| error.to_string())?;
            match self.value(&value, depth)? {
                Some(value) => kept.list.push(value),
                None => break,
            }
        }
        let row = kept.list.len();
        for pair in table.pairs::<mlua::Value, mlua::Value>() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let key = match key {
                mlua::Value::Integer(at) if usize::try_from(at).is_ok_and(|at| (1..=row).contains(&at)) => continue,
                mlua::Value::String(key) => key.to_str().map_err(|_| "has a key that is not UTF-8 (write another)")?.to_owned(),
                mlua::Value::Integer(at) => format!("[{at}]"),
                other => format!("[{}]", other.type_name()),
            };
            self.bytes += key.len();
            if let Some(value) = self.value(&value, depth)? {
                kept.named.insert(key, value);
            }
        }
        Ok(kept)
    }

    fn value(&mut self, value: &mlua::Value, depth: usize) -> Result<Option<Value>, String> {
        self.values += 1;
        if let mlua::Value::String(text) = value {
            self.bytes += text.as_bytes().len();
        }
        if self.values > MOST_VALUES || self.bytes > MOST_BYTES {
            return Err(format!(
                "and what came before hold more than {MOST_VALUES} values or {} MiB of text (write fewer)",
                MOST_BYTES >> 20
            ));
        }
        Ok(Some(match value {
            mlua::Value::Nil => return Ok(None),
            mlua::Value::Boolean(on) => Value::Bool(*on),
            #[expect(clippy::cast_precision_loss, reason = "as exact as Lua's own arithmetic")]
            mlua::Value::Integer(number) => Value::Number(*number as f64),
            mlua::Value::Number(number) => Value::Number(*number),
            mlua::Value::String(text) => {
                Value::Text(text.to_str().map_err(|_| "has a text that is not UTF-8 (write it in UTF-8)")?.to_owned())
            }
            mlua::Value::Table(table) => Value::Table(self.nested(table, depth + 1)?),
            mlua::Value::Function(function) if function.to_pointer() == self.own => Value::Function(None),
            mlua::Value::Function(function) => Value::Function(Some(function.info().line_defined.unwrap_or_default())),
            other => return Err(format!("holds a {}, which says nothing (leave it out)", other.type_name())),
        }))
    }
}
