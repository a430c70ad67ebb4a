//! `[[sync.plugin]]`, from TOML.

use std::num::NonZeroU32;

use toml::de::DeValue;

use super::{
    ExecInput, Separator,
    raw::{RawAction, RawPlugin, RawRequest},
};
use crate::config::{
    ConfigError,
    error::near_miss,
    parse::{Table, boolean, duration, integer, path, positive, size, string},
    raw::At,
};

/// Those of every kind, then those of some.
pub(in crate::config) const KEYS: &[&str] = &[
    "name",
    "kind",
    "after",
    "only",
    "exclude",
    "match",
    "whole",
    "absolute",
    "batch",
    "rate",
    "timeout",
    "attempts",
    "memory",
    "command",
    "input",
    "to",
    "separator",
    "method",
    "url",
    "headers",
    "body",
    "secret_file",
    "base",
    "replace",
];

const OF_REQUESTS: [&str; 5] = ["method", "url", "headers", "body", "secret_file"];

pub(in crate::config) fn plugin(table: &Table<'_, '_>) -> Result<RawPlugin, ConfigError> {
    let Some(name) = table.get("name", string)? else {
        return Err(table.missing("name", "is missing (write a short word, by which `status` and the log call it)"));
    };
    let Some(kind) = table.get("kind", kind)? else {
        return Err(table.missing("kind", "is missing (write exec, tcp, http or purge)"));
    };
    let own: Vec<&str> = match kind.value {
        Kind::Exec => vec!["command", "input"],
        Kind::Tcp => vec!["to", "separator"],
        Kind::Http => OF_REQUESTS.to_vec(),
        Kind::Purge => [&OF_REQUESTS[..], &["base", "replace"]].concat(),
    };
    for key in KEYS.iter().skip_while(|key| **key != "command").filter(|key| !own.contains(key)) {
        table.must_lack(key, format!("means nothing for this kind (it takes {})", own.join(", ")))?;
    }
    let needed = |key: &str, what: &str| table.get(key, string)?.ok_or_else(|| table.missing(key, format!("is missing (write {what})")));
    let action = match kind.value {
        Kind::Exec => {
            let command = table.list("command", string)?;
            if command.is_empty() {
                return Err(table.missing("command", "is missing (write a list, the program and its arguments)"));
            }
            RawAction::Exec { command, input: table.get("input", input)? }
        }
        Kind::Tcp => RawAction::Tcp { to: needed("to", "\"HOST:PORT\"")?, separator: table.get("separator", separator)? },
        Kind::Http => {
            needed("url", "where requests go")?;
            RawAction::Http { request: request(table)? }
        }
        Kind::Purge => RawAction::Purge {
            base: needed("base", "what stands in front of a path in its URL")?,
            replace: table.get("replace", string)?,
            request: request(table)?,
        },
    };
    Ok(RawPlugin {
        after: table.get("after", string)?,
        only: table.list("only", string)?,
        exclude: table.list("exclude", string)?,
        matching: table.get("match", string)?,
        whole: table.get("whole", boolean)?,
        absolute: table.get("absolute", boolean)?,
        batch: table.get("batch", positive)?,
        rate: table.get("rate", number)?,
        timeout: table.get("timeout", |value| match duration(value)? {
            timeout if timeout.is_zero() => Err("is no time at all (write \"30s\", for one)".into()),
            timeout => Ok(timeout),
        })?,
        attempts: table.get("attempts", number)?,
        memory: table.get("memory", size)?,
        ..RawPlugin::new(table.section("sync.plugin"), name, action)
    })
}

fn request(table: &Table<'_, '_>) -> Result<RawRequest, ConfigError> {
    let mut headers = Vec::new();
    for (name, value) in table.entries_of("headers")? {
        headers.push(At { value: (name, value.value), line: value.line, column: value.column, key: value.key });
    }
    Ok(RawRequest {
        method: table.get("method", string)?,
        url: table.get("url", string)?,
        headers,
        body: table.get("body", string)?,
        secret_file: table.get("secret_file", path)?,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Exec,
    Tcp,
    Http,
    Purge,
}

/// One of a few words.
fn word<T: Copy>(value: &DeValue<'_>, known: &[(&str, T)]) -> Result<T, String> {
    let text = string(value)?;
    let words = || known.iter().map(|(word, _)| *word);
    known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| match near_miss(&text, words()) {
        Some(near) => format!("`{text}` is not known (did you mean `{near}`?)"),
        None => format!("`{text}` is not known (write {})", words().collect::<Vec<_>>().join(" or ")),
    })
}

fn kind(value: &DeValue<'_>) -> Result<Kind, String> {
    word(value, &[("exec", Kind::Exec), ("tcp", Kind::Tcp), ("http", Kind::Http), ("purge", Kind::Purge)])
}

fn input(value: &DeValue<'_>) -> Result<ExecInput, String> {
    word(value, &[("paths", ExecInput::Paths), ("json", ExecInput::Json)])
}

fn separator(value: &DeValue<'_>) -> Result<Separator, String> {
    word(value, &[("nul", Separator::Nul), ("newline", Separator::Newline), ("connection", Separator::Connection)])
}

fn number(value: &DeValue<'_>) -> Result<NonZeroU32, String> {
    let number = integer(value)?;
    u32::try_from(number).ok().and_then(NonZeroU32::new).ok_or(format!("is {number} (write at least 1)"))
}
