//! The layers of `trigsync-user`: a stage imports the vocabulary and earlier stages only.

use std::path::{Component, Path};

/// From the vocabulary to the command line; each may import what stands before it.
const ORDER: [&str; 12] =
    ["model", "config", "capture", "coalesce", "journal", "rsync", "plan", "dispatch", "plugin", "audit", "runtime", "cli"];

/// At the side of the order: what each may import, and who may import it.
const AT_THE_SIDE: [Side; 6] = [
    Side {
        name: "observe",
        imports: &["model", "config", "lock"],
        imported_by: &["dispatch", "plugin", "audit", "runtime", "cli", "control"],
    },
    Side { name: "lock", imports: &[], imported_by: &["journal", "dispatch", "plugin", "audit", "runtime", "observe"] },
    Side { name: "sabotage", imports: &[], imported_by: &["journal", "dispatch", "runtime"] },
    Side { name: "scan", imports: &["model", "config"], imported_by: &["dispatch", "audit", "runtime", "cli"] },
    Side { name: "fuzzing", imports: &["model", "config", "capture", "journal", "rsync", "control"], imported_by: &[] },
    Side { name: "control", imports: &["model", "config", "observe"], imported_by: &["runtime", "cli", "fuzzing"] },
];

struct Side {
    name: &'static str,
    imports: &'static [&'static str],
    imported_by: &'static [&'static str],
}

/// Lines of `file` that import a later stage, with what is wrong. Files outside `trigsync-user/src`, and those that declare the
/// modules, may import anything.
pub(super) fn check(file: &Path, content: &str) -> Vec<(usize, String)> {
    let Some(stage) = stage_of(file) else { return Vec::new() };
    if !is_known(stage) {
        return vec![(0, format!("`{stage}` has no place among the layers: give it one in xtask/src/tidy/layers.rs"))];
    }
    imports(content)
        .into_iter()
        .filter(|(_, imported)| !may_import(stage, imported))
        .map(|(line, imported)| {
            (line, format!("`{stage}` must not import `{imported}`: a stage imports earlier stages only ({})", ORDER.join(" < ")))
        })
        .collect()
}

/// The top module that a file belongs to.
fn stage_of(file: &Path) -> Option<&str> {
    let below = file.strip_prefix("trigsync-user/src").ok()?;
    let Component::Normal(first) = below.components().next()? else { return None };
    let first = first.to_str()?;
    match first.strip_suffix(".rs") {
        Some("lib" | "main") => None,
        Some(module) => Some(module),
        None => Some(first),
    }
}

fn is_known(module: &str) -> bool {
    ORDER.contains(&module) || AT_THE_SIDE.iter().any(|side| side.name == module)
}

fn may_import(stage: &str, imported: &str) -> bool {
    if stage == imported {
        return true;
    }
    if let Some(side) = AT_THE_SIDE.iter().find(|side| side.name == imported) {
        return side.imported_by.contains(&stage);
    }
    if let Some(side) = AT_THE_SIDE.iter().find(|side| side.name == stage) {
        return side.imports.contains(&imported);
    }
    let place = |name| ORDER.iter().position(|module| *module == name);
    place(imported) < place(stage)
}

/// The top modules that are named after `crate::`, with their lines. Names that are no module (`crate::Type`) are left out.
fn imports(content: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (start, _) in content.match_indices("crate::") {
        let line_start = content[..start].rfind('\n').map_or(0, |end| end + 1);
        if content[line_start..start].contains("//") {
            continue;
        }
        let rest = &content[start + "crate::".len()..];
        let names = if rest.starts_with('{') { names_in_group(rest) } else { vec![(0, leading_name(rest))] };
        let line = content[..start].matches('\n').count() + 1;
        for (offset, name) in names {
            if is_known(name) {
                found.push((line + rest[..offset].matches('\n').count(), name));
            }
        }
    }
    found
}

/// The first names of the paths in `{a::{b, c}, d}`, with their offsets: `a` and `d`.
fn names_in_group(group: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expects_name = false;
    for (offset, character) in group.char_indices() {
        match character {
            '{' => {
                depth += 1;
                expects_name = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => expects_name = true,
            _ if expects_name && !character.is_whitespace() => {
                names.push((offset, leading_name(&group[offset..])));
                expects_name = false;
            }
            _ => {}
        }
    }
    names
}

fn leading_name(text: &str) -> &str {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, content: &str) -> Vec<usize> {
        check(Path::new(file), content).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_stage_may_import_earlier_ones() {
        let content = "use crate::{\n    config::{Filter, TargetConfig},\n    model::RelPath,\n};\nuse crate::rsync::Work;\n";
        assert!(lines("trigsync-user/src/plan/mod.rs", content).is_empty());
    }

    #[test]
    fn a_stage_must_not_import_later_ones() {
        assert_eq!(lines("trigsync-user/src/model/path.rs", "//! Paths.\nuse crate::config::Config;\n"), [2]);
        assert_eq!(lines("trigsync-user/src/capture.rs", "fn f() { crate::runtime::stop() }"), [1]);
        assert_eq!(lines("trigsync-user/src/plan/mod.rs", "use crate::{\n    model::{Mark, RelPath},\n    dispatch::{Lane},\n};\n"), [3]);
        assert_eq!(lines("trigsync-user/src/journal/mod.rs", "use crate::{model::Mark, rsync};"), [1]);
        assert_eq!(lines("trigsync-user/src/runtime/mod.rs", "use crate::cli::Arguments;"), [1]);
    }

    #[test]
    fn what_stands_at_the_side_has_rules_of_its_own() {
        assert!(lines("trigsync-user/src/observe/status.rs", "use crate::{config::Config, model::Mark};").is_empty());
        assert_eq!(lines("trigsync-user/src/observe/status.rs", "use crate::capture::Tier;"), [1]);
        assert!(lines("trigsync-user/src/dispatch/lane.rs", "use crate::observe::Counters;").is_empty());
        assert_eq!(lines("trigsync-user/src/rsync/run.rs", "use crate::observe::Counters;"), [1]);
        assert!(lines("trigsync-user/src/scan/mod.rs", "use crate::{config::Filter, model::Mark};").is_empty());
        assert_eq!(lines("trigsync-user/src/scan/mod.rs", "use crate::plan::open_root;"), [1]);
        assert_eq!(lines("trigsync-user/src/plan/mod.rs", "use crate::scan::Scan;"), [1]);
        assert!(lines("trigsync-user/src/control/mod.rs", "use crate::{model::Mark, config::Config, observe::Status};").is_empty());
        assert_eq!(lines("trigsync-user/src/control/mod.rs", "use crate::dispatch::Lane;"), [1]);
        assert_eq!(lines("trigsync-user/src/dispatch/mod.rs", "use crate::control::Request;"), [1]);
        assert!(lines("trigsync-user/src/cli/mod.rs", "use crate::{control, observe, runtime};").is_empty());
    }

    #[test]
    fn comments_types_and_other_crates_are_left_alone() {
        assert!(lines("trigsync-user/src/model/mark.rs", "//! See [`crate::dispatch`].\nuse crate::Thing;\n").is_empty());
        assert!(lines("trigsync-user/src/lib.rs", "use crate::runtime;").is_empty());
        assert!(lines("xtask/src/model.rs", "use crate::runtime;").is_empty());
    }

    #[test]
    fn a_module_without_a_place_is_told() {
        assert_eq!(lines("trigsync-user/src/helpers/mod.rs", "//! Help.\n"), [0]);
        assert_eq!(lines("trigsync-user/src/helpers.rs", "//! Help.\n"), [0]);
    }
}
