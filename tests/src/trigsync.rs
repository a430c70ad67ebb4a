//! The binary under test, and what each of its commands answers.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{process::Outcome, room::Room};

/// The workspace's target directory, which also keeps the fixtures.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().expect("target/PROFILE").to_owned()
}

/// `target/PROFILE`: a test is `target/PROFILE/deps/NAME-HASH`, a program beside the binary itself.
fn profile_directory() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let beside = test.parent().expect("a program is in a directory");
    if beside.ends_with("deps") { beside.parent().expect("target/PROFILE/deps").to_owned() } else { beside.to_owned() }
}

/// The binary: `TRIGSYNC_BIN`, or the one beside the tests. A missing one fails the test.
pub fn binary() -> PathBuf {
    let path = env::var_os("TRIGSYNC_BIN").map_or_else(|| profile_directory().join("trigsync"), PathBuf::from);
    assert!(path.is_file(), "{} is missing; build it first: cargo build -p trigsync-user", path.display());
    path
}

/// `trigsync` with the room's state directory, in a working directory where nothing is.
pub fn command(room: &Room) -> Command {
    let mut command = Command::new(binary());
    command.arg("--state-dir").arg(room.state()).current_dir(room.directory("cwd")).env_remove("RSYNC_PASSWORD");
    command
}

/// Runs `trigsync ARGUMENTS` to its end, within a minute and a half.
pub fn trigsync<A: AsRef<OsStr>>(room: &Room, arguments: impl IntoIterator<Item = A>) -> Outcome {
    Outcome::of(command(room).args(arguments), Duration::from_secs(90))
}

/// The flags `--source` and `--target` (once for each) as arguments.
pub fn source_and_targets(source: &Path, targets: &[&str]) -> Vec<OsString> {
    let mut flags = vec![OsString::from("--source"), source.into()];
    for target in targets {
        flags.extend(["--target".into(), OsString::from(target)]);
    }
    flags
}

/// Fails the test unless the command refused with `code` and one line that begins with `trigsync: ` and holds every word.
#[track_caller]
pub fn assert_refused(outcome: &Outcome, code: i32, words: &[&str]) {
    if let Some(fault) = refusal_fault(outcome, code, words) {
        panic!("{fault}: {outcome}");
    }
}

/// What is wrong with a refusal; see [`assert_refused`].
pub fn refusal_fault(outcome: &Outcome, code: i32, words: &[&str]) -> Option<String> {
    if outcome.code != code {
        return Some(format!("exit code {} instead of {code}", outcome.code));
    }
    let lines: Vec<_> = outcome.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let [line] = lines[..] else { return Some(format!("{} lines on standard error instead of one", lines.len())) };
    if !line.starts_with("trigsync: ") {
        return Some("the line does not begin with `trigsync: `".to_owned());
    }
    if outcome.stdout.contains("ready") {
        return Some("it began its work".to_owned());
    }
    words.iter().find(|word| !line.contains(**word)).map(|word| format!("the line does not say {word:?}"))
}
