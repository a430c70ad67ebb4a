//! The suites that guests run, on this machine's kernel with the tier that works on it, for as long as it takes to see that they ask something.

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;
use trigsync_tests::{process::Outcome, skip};

/// Runs a suite to its end and returns what it said.
#[track_caller]
fn run(suite: &str, more: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_suites"));
    // On the file system that the build is on: it is no tmpfs.
    command.arg(suite).args(["--tier", "fanotify", "--json", "--dir"]).arg(Path::new(env!("CARGO_TARGET_TMPDIR"))).args(more);
    let said = Outcome::of(&mut command, Duration::from_secs(300)).expect(0);
    let rows: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect();
    assert!(!rows.is_empty(), "{said}");
    for row in &rows {
        assert_ne!(row["outcome"], "failed", "{row}");
        if row["outcome"] == "not covered" {
            println!("not covered: {}: {}", row["case"], row["why"]);
        }
    }
    rows
}

#[test]
fn the_main_job_survives_ends_and_new_beginnings() {
    if skip::without_root() || skip::without_program(&["rsync"]) {
        return;
    }
    let rows = run("main", &["--seconds", "3"]);
    assert_eq!(rows.len(), 4);
    for row in rows[..3].iter().filter(|row| row["outcome"] == "passed") {
        assert!(row["figures"]["operations"].as_f64() > Some(100.0) && row["figures"]["entries"].as_f64() > Some(10.0), "{row}");
    }
    assert!(rows[0]["figures"]["canary_delay_ms"].is_number(), "{}", rows[0]);
}

#[test]
fn races_of_renames_and_writers_end_with_equal_trees() {
    if skip::without_root() || skip::without_program(&["rsync"]) {
        return;
    }
    run("torture", &["--seconds", "4"]);
}

#[test]
fn a_flood_is_told_whole() {
    if skip::without_root() {
        return;
    }
    run("flood", &["--seconds", "2"]);
}

#[test]
fn costs_are_measured_without_limits_where_the_clock_counts_no_instructions() {
    if skip::without_root() {
        return;
    }
    let rows = run("cost", &[]);
    let cycle = &rows[0]["figures"]["cycle unwatched"];
    assert!(cycle.as_f64() > Some(100.0), "{cycle}");
    assert!(rows.iter().any(|row| row["outcome"] == "not covered"), "real processors do several instructions in a nanosecond: {rows:?}");
}
