//! The results as people read them: a table of numbers, what was measured, each failure, and each reason for what was not covered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use super::{
    plan::FILE_SYSTEMS,
    report::{Case, Count, Outcome, Ran, by_run},
};

/// Everything about the results, in the order in which they came. With nothing in them it is empty.
pub fn text(cases: &[Case]) -> String {
    if cases.is_empty() {
        return String::new();
    }
    format!("{}\n{}{}{}", table(cases), figures(cases), failures(cases), reasons(cases))
}

fn table(cases: &[Case]) -> String {
    let mut rows: Vec<([&str; 3], BTreeMap<&str, Count>)> = Vec::new();
    for Ran { name: [kernel, suite, tier, file_system], count, .. } in by_run(cases) {
        match rows.iter_mut().find(|(head, _)| *head == [kernel, suite, tier]) {
            Some((_, counts)) => drop(counts.insert(file_system, count)),
            None => rows.push(([kernel, suite, tier], BTreeMap::from([(file_system, count)]))),
        }
    }
    let used: Vec<_> = FILE_SYSTEMS.into_iter().filter(|name| rows.iter().any(|(_, counts)| counts.contains_key(name))).collect();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["kernel", "suite", "tier"].into_iter().chain(used.iter().copied()));
    let mut above = "";
    for (head, counts) in &rows {
        let [kernel, suite, tier] = *head;
        let cells = used.iter().map(|name| counts.get(name).copied().map_or(String::new(), cell));
        let shown = if kernel == above { "" } else { kernel };
        above = kernel;
        table.add_row([shown, suite, tier].map(str::to_owned).into_iter().chain(cells));
    }
    format!("cases passed, failed, not covered\n{table}")
}

fn cell(count: Count) -> String {
    let [passed, failed, not_covered] = count.0;
    format!("{passed} {}{failed} {not_covered}", if failed > 0 { "✗" } else { "" })
}

/// What was measured, one line for each case that measured something.
fn figures(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases.iter().filter(|case| !case.figures.is_empty()) {
        let figures: Vec<_> = case.figures.iter().map(|(name, figure)| format!("{name} {figure:.0}")).collect();
        let _ = writeln!(text, "{} {} {} {}: {}", case.kernel, case.suite, case.tier, case.case, figures.join(" · "));
    }
    text
}

fn failures(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases.iter().filter(|case| case.outcome == Outcome::Failed) {
        let Case { kernel, suite, tier, file_system, case, why, .. } = case;
        let _ = writeln!(text, "FAILED {kernel} {suite} {tier} {file_system} `{case}`: {why}");
    }
    text
}

fn reasons(cases: &[Case]) -> String {
    let mut reasons: Vec<(&str, Vec<&Case>)> = Vec::new();
    for case in cases.iter().filter(|case| case.outcome == Outcome::NotCovered) {
        match reasons.iter_mut().find(|(why, _)| *why == case.why) {
            Some((_, those)) => those.push(case),
            None => reasons.push((&case.why, vec![case])),
        }
    }
    let mut text = String::new();
    for (why, those) in reasons {
        let _ = writeln!(text, "not covered: {why}\n    {}", places(&those));
    }
    text
}

/// Which cases, then where, in as few words as it can be said.
fn places(cases: &[&Case]) -> String {
    let distinct = |part: fn(&Case) -> &str| cases.iter().map(|case| part(case)).collect::<BTreeSet<_>>();
    let joined = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    let names = distinct(|case| &case.case);
    let what = if names.len() > 3 { format!("{} cases", names.len()) } else { joined(names) };
    let kernels = distinct(|case| case.kernel.split('-').next().unwrap_or_default());
    format!("{what} · {} · {} · {}", joined(kernels), joined(distinct(|case| &case.tier)), joined(distinct(|case| &case.file_system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(kernel: &str, file_system: &str, name: &str, outcome: Outcome, why: &str) -> Case {
        let [suite, tier, file_system] = ["conformance", "fanotify", file_system].map(str::to_owned);
        Case { suite, tier, file_system, outcome, ..Case::failed(kernel, name, why.to_owned()) }
    }

    #[test]
    fn rows_are_tiers_of_kernels_and_columns_file_systems() {
        let cases = [
            case("5.10.0-32", "xfs", "a", Outcome::Passed, ""),
            case("5.10.0-32", "ext4", "a", Outcome::Passed, ""),
            case("5.10.0-32", "ext4", "b", Outcome::Failed, "it did not"),
            case("6.1.0-50", "tmpfs", "a", Outcome::NotCovered, "cannot"),
            case("5.10.0-32", "tmpfs", "b", Outcome::NotCovered, "cannot"),
        ];
        let text = text(&cases);
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let line = |first: &str| lines.iter().find(|line| line.get(1) == Some(&first)).unwrap().clone();
        let words = |name: &str| line(name).into_iter().filter(|word| !["│", "┆"].contains(word)).collect::<Vec<_>>();
        assert_eq!(words("kernel"), ["kernel", "suite", "tier", "ext4", "xfs", "tmpfs"]);
        assert_eq!(words("5.10.0-32")[3..], ["1", "✗1", "0", "1", "0", "0", "0", "0", "1"]);
        assert!(text.contains("FAILED 5.10.0-32 conformance fanotify ext4 `b`: it did not\n"), "{text}");
        assert!(text.ends_with("not covered: cannot\n    a, b · 5.10.0, 6.1.0 · fanotify · tmpfs\n"), "{text}");
        assert!(super::text(&[]).is_empty());
    }
}
