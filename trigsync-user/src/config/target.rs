//! From the table of a target to [`RawTarget`].

use std::num::NonZeroU32;

use toml::de::DeValue;

use super::{
    ConfigError,
    parse::{Table, bandwidth, duration, integer, path, size, string},
    raw::RawTarget,
};

/// What may stand in it.
pub(super) const KEYS: &[&str] = &[
    "to",
    "name",
    "identity",
    "password_file",
    "options",
    "bandwidth_limit",
    "connections",
    "warm",
    "inplace",
    "inplace_from",
    "timeout",
    "modify_window",
];

/// Reads it.
pub(super) fn parse(table: &Table<'_, '_>) -> Result<RawTarget, ConfigError> {
    let Some(to) = table.get("to", string)? else {
        return Err(table.missing("to", "is missing (write where this target is)"));
    };
    Ok(RawTarget {
        to,
        name: table.get("name", string)?,
        password_file: table.get("password_file", path)?,
        identity: table.get("identity", path)?,
        options: table.list("options", string)?,
        bandwidth_limit: table.get("bandwidth_limit", |value| match value {
            DeValue::Integer(_) => bandwidth(&integer(value)?.to_string()),
            _ => bandwidth(&string(value)?),
        })?,
        connections: table.get("connections", |value| {
            let number = integer(value)?;
            u32::try_from(number).ok().and_then(NonZeroU32::new).ok_or(format!("is {number} (write at least 1)"))
        })?,
        inplace: table.list("inplace", string)?,
        inplace_from: table.get("inplace_from", size)?,
        warm: table.get("warm", |value| {
            let number = integer(value)?;
            u32::try_from(number).map_err(|_| format!("is {number} (write 0, or how many rsync processes may wait for changes)"))
        })?,
        timeout: table.get("timeout", |value| {
            let timeout = duration(value)?;
            let whole = timeout.subsec_nanos() == 0 && timeout.as_secs() > 0;
            if whole { Ok(timeout) } else { Err("is not a number of whole seconds, 1s or more, which is all that rsync takes".into()) }
        })?,
        modify_window: table.get("modify_window", |value| {
            let number = integer(value)?;
            i32::try_from(number)
                .ok()
                .filter(|&window| window >= -1)
                .ok_or(format!("is {number} (write -1 to compare nanoseconds, or a number of seconds)"))
        })?,
    })
}
