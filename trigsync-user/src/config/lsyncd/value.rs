//! What a Lua program left behind, without the Lua: values as `sync{}` and `settings{}` were given them.

use std::collections::BTreeMap;

/// A Lua value that is not nil.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    /// As Lua writes it, but `15` for `15.0`.
    Number(f64),
    Text(String),
    Table(Table),
    /// A function, and the line in which it begins; none for those that lsyncd brings along.
    Function(Option<usize>),
}

/// A table: what has a name, and what stands in a row from 1 on. Other numbers are kept as `[23]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub named: BTreeMap<String, Value>,
    pub list: Vec<Value>,
}

impl Value {
    /// In words, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Table(_) => "a table",
            Self::Function(_) => "a function",
        }
    }

    /// Everything but `false`, as Lua has it: 0, "" and "no" too.
    pub fn is_true(&self) -> bool {
        *self != Self::Bool(false)
    }
}

impl Table {
    /// Takes over what is not here yet, table by table. What stands in a row is added to the row, and tables among it are taken over
    /// themselves: that is how `default.rsync` comes into a sync.
    pub fn inherit(&mut self, from: &Self) {
        for (key, value) in &from.named {
            match (self.named.get_mut(key), value) {
                (None, Value::Table(table)) => {
                    let mut own = Self::default();
                    own.inherit(table);
                    self.named.insert(key.clone(), Value::Table(own));
                }
                (Some(Value::Table(own)), Value::Table(table)) => own.inherit(table),
                (None, value) => _ = self.named.insert(key.clone(), value.clone()),
                (Some(_), _) => {}
            }
        }
        for value in &from.list {
            match value {
                Value::Table(table) => self.inherit(table),
                value => self.list.push(value.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(named: &[(&str, Value)], list: &[Value]) -> Table {
        Table { named: named.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(), list: list.to_vec() }
    }

    #[test]
    fn what_is_there_already_stays_and_rows_grow() {
        let (one, two) = (Value::Number(1.0), Value::Number(2.0));
        let base = table(&[("a", two.clone()), ("b", two.clone()), ("t", Value::Table(table(&[("x", two.clone())], &[])))], &[]);
        let written = table(&[("a", one.clone()), ("t", Value::Table(table(&[("y", one.clone())], &[])))], &[Value::Table(base)]);
        let mut merged = Table::default();
        merged.inherit(&written);
        let inner = table(&[("x", two.clone()), ("y", one.clone())], &[]);
        assert_eq!(merged, table(&[("a", one.clone()), ("b", two.clone()), ("t", Value::Table(inner))], &[]));

        let nested = table(&[], &[one.clone(), Value::Table(table(&[], std::slice::from_ref(&two)))]);
        let mut flat = Table::default();
        flat.inherit(&nested);
        assert_eq!(flat, table(&[], &[one, two]));
    }
}
