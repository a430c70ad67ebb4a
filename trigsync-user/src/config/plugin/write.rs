//! A plugin as TOML.

use toml_edit::{InlineTable, Item, Table, Value};

use super::{
    ExecInput, Separator,
    raw::{RawAction, RawPlugin, RawRequest},
};
use crate::config::{
    ConfigError,
    write::{duration, set, set_list, set_path, whole as number},
};

pub(in crate::config) fn plugin(raw: &RawPlugin) -> Result<Table, ConfigError> {
    let RawPlugin { section: _, name, after, only, exclude, matching, whole, absolute, batch, rate, timeout, attempts, memory, action } =
        raw;
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    let text = |text: &String| Value::from(text.as_str());
    set(&mut table, "name", &Some(name.clone()), text);
    let kind = match action {
        RawAction::Exec { .. } => "exec",
        RawAction::Tcp { .. } => "tcp",
        RawAction::Http { .. } => "http",
        RawAction::Purge { .. } => "purge",
    };
    table.insert("kind", Item::Value(kind.into()));
    set(&mut table, "after", after, text);
    match action {
        RawAction::Exec { command, input } => {
            set_list(&mut table, "command", command);
            set(&mut table, "input", input, |input| match input {
                ExecInput::Paths => "paths".into(),
                ExecInput::Json => "json".into(),
            });
        }
        RawAction::Tcp { to, separator } => {
            set(&mut table, "to", &Some(to.clone()), text);
            set(&mut table, "separator", separator, |separator| match separator {
                Separator::Nul => "nul".into(),
                Separator::Newline => "newline".into(),
                Separator::Connection => "connection".into(),
            });
        }
        RawAction::Http { request: raw } => request(&mut table, raw)?,
        RawAction::Purge { base, replace, request: raw } => {
            set(&mut table, "base", &Some(base.clone()), text);
            set(&mut table, "replace", replace, text);
            request(&mut table, raw)?;
        }
    }
    set_list(&mut table, "only", only);
    set_list(&mut table, "exclude", exclude);
    set(&mut table, "match", matching, text);
    set(&mut table, "whole", whole, |on| (*on).into());
    set(&mut table, "absolute", absolute, |on| (*on).into());
    set(&mut table, "batch", batch, |count| number(*count));
    set(&mut table, "rate", rate, |rate| i64::from(rate.get()).into());
    set(&mut table, "timeout", timeout, duration);
    set(&mut table, "attempts", attempts, |attempts| i64::from(attempts.get()).into());
    set(&mut table, "memory", memory, |bytes| number(*bytes));
    Ok(table)
}

fn request(table: &mut Table, raw: &RawRequest) -> Result<(), ConfigError> {
    let RawRequest { method, url, headers, body, secret_file } = raw;
    set(table, "method", method, |method| method.as_str().into());
    set(table, "url", url, |url| url.as_str().into());
    if !headers.is_empty() {
        let inline: InlineTable = headers.iter().map(|at| (at.value.0.as_str(), Value::from(at.value.1.as_str()))).collect();
        table.insert("headers", Item::Value(inline.into()));
    }
    set(table, "body", body, |body| body.as_str().into());
    set_path(table, "secret_file", secret_file)
}
