//! `exclude`, `excludeFrom`, `filter` and `filterFrom`: one list of gitignore patterns of the same meaning.
//!
//! rsync takes the first rule that matches and gitignore the last, so the rules come in the opposite order.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::keys::{Keys, Notes, error};
use crate::config::{
    ConfigError,
    foreign::{rsync_pattern::gitignore, short, with},
    raw::{At, read_bytes},
};

/// Each is an argument of every rsync.
const MOST_PATTERNS: usize = 1000;

/// The patterns of a sync, those of rsync's own `--exclude` among them. `base` is where relative files lie.
pub(super) fn read(keys: &Keys<'_>, also: &[At<String>], base: &Path, notes: &mut Notes<'_>) -> Result<Vec<At<String>>, ConfigError> {
    let mut excludes = also.to_vec();
    for at in keys.list("exclude")? {
        excludes.push(translated(keys, &at)?);
    }
    for line in lines(keys, "excludeFrom", base, notes)? {
        if line.value.starts_with('+') {
            notes.warn(&line, format!("`{}` is passed over, as lsyncd does: it has no includes there", short(&line.value)));
            continue;
        }
        let pattern = line.value.strip_prefix('-').map_or(line.value.as_str(), str::trim_start);
        excludes.push(translated(keys, &with(&line, pattern.to_owned()))?);
    }
    let mut known = BTreeSet::new();
    excludes.retain(|pattern| known.insert(pattern.value.clone()));
    let mut rules = keys.list("filter")?;
    rules.extend(lines(keys, "filterFrom", base, notes)?);
    let mut patterns = excludes;
    for rule in rules.iter().rev() {
        patterns.extend(filter_rule(keys, rule)?);
    }
    match patterns.get(MOST_PATTERNS) {
        Some(pattern) => {
            Err(error(keys.file, pattern, format!("and what stands before come to more than {MOST_PATTERNS} patterns (write fewer)")))
        }
        None => Ok(patterns),
    }
}

fn translated(keys: &Keys<'_>, at: &At<String>) -> Result<At<String>, ConfigError> {
    gitignore(&at.value).map(|pattern| with(at, pattern)).map_err(|message| error(keys.file, at, message))
}

/// `- PATTERN` or `+ PATTERN`.
fn filter_rule(keys: &Keys<'_>, rule: &At<String>) -> Result<Vec<At<String>>, ConfigError> {
    let written = rule.value.trim_start();
    if let Some(pattern) = written.strip_prefix('-') {
        return Ok(vec![translated(keys, &with(rule, pattern.trim_start().to_owned()))?]);
    }
    let Some(pattern) = written.strip_prefix('+').map(str::trim_start) else {
        let message = format!("`{}` is no rule that can be imported (write `- PATTERN` or `+ PATTERN`)", short(written));
        return Err(error(keys.file, rule, message));
    };
    // A directory that is taken in brings nothing with it, unless the rule says so.
    let parts = match pattern.strip_suffix("/***") {
        Some(directory) => vec![format!("{directory}/"), format!("{directory}/**")],
        None => vec![pattern.to_owned()],
    };
    let include = |part: &String| Ok(with(rule, format!("!{}", translated(keys, &with(rule, part.clone()))?.value)));
    parts.iter().map(include).collect()
}

/// The lines of a file, without comments and empty ones, each with its place in it.
fn lines(keys: &Keys<'_>, key: &str, base: &Path, notes: &mut Notes<'_>) -> Result<Vec<At<String>>, ConfigError> {
    let Some(written) = keys.text(key)? else { return Ok(Vec::new()) };
    let file = path(keys, &written, base, notes);
    // A pipe would be waited for.
    if !file.is_file() {
        let message = format!("`{}` is no file that can be read (name one, or write its patterns with exclude =)", file.display());
        return Err(error(keys.file, &written, message));
    }
    let bytes = read_bytes(&file)?;
    let text = String::from_utf8(bytes).map_err(|_| error(keys.file, &written, format!("`{}` is not UTF-8", file.display())))?;
    notes.differ(&written, "was read now: what changes in that file has no effect until it is imported again");
    let name = file.file_name().unwrap_or_default().display().to_string();
    let line = |(index, line): (usize, &str)| {
        let line = line.trim_start();
        let counts = !line.is_empty() && !line.starts_with(['#', ';']);
        counts.then(|| At { key: format!("{} {name}:{}", written.key, index + 1), ..with(&written, line.to_owned()) })
    };
    Ok(text.lines().enumerate().filter_map(line).collect())
}

/// A path of lsyncd's: relative ones were relative to wherever it was started.
pub(super) fn path(keys: &Keys<'_>, at: &At<String>, base: &Path, notes: &mut Notes<'_>) -> PathBuf {
    let path = base.join(&at.value);
    if Path::new(&at.value).is_relative() {
        let shown = path.display();
        notes.warn(at, format!("is relative: taken from the directory of {}, `{shown}` (write the whole path)", name(keys.file)));
    }
    path
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).display().to_string()
}
