//! Tests that cannot run here.
//!
//! - Each prints one line, `SKIPPED test: cause`, past the test runner's capture of output, so that `cargo xtask test` can list them.
//! - Where `CI` is set, only an unavoidable cause may skip: everything else is a machine that was not prepared, and fails.

use std::{
    env,
    io::{Write, stderr},
    thread,
};

/// Why a test cannot run here.
#[derive(Clone, Debug)]
pub enum Cause {
    /// Something that can be installed or configured is missing.
    Missing(String),
    /// This kind of machine cannot do it: a kernel without the feature, no network to fetch a fixture.
    Unavoidable(String),
}

/// Says that the running test is skipped. The caller returns.
pub fn skip(cause: &Cause) {
    let (Cause::Missing(text) | Cause::Unavoidable(text)) = cause;
    let binary = env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_str()?.rsplit_once('-')?.0.to_owned()));
    let name = format!("{}::{}", binary.unwrap_or_default(), thread::current().name().unwrap_or("?"));
    // Not eprintln!: the test runner would keep it for itself.
    let _ = writeln!(stderr(), "SKIPPED {name}: {text}");
    if matches!(cause, Cause::Missing(_)) && env::var_os("CI").is_some() {
        panic!("{name} was skipped where CI is set: {text}");
    }
}

/// True, after saying so, where the tests do not run as root: the daemon needs CAP_SYS_ADMIN for fanotify.
pub fn without_root() -> bool {
    let missing = !nix::unistd::geteuid().is_root();
    if missing {
        skip(&Cause::Missing("not root; run `cargo xtask test`".to_owned()));
    }
    missing
}

/// True, after saying so, where one of `programs` is not in PATH.
pub fn without_program(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find_program(program).is_none());
    if let Some(program) = missing {
        skip(&Cause::Missing(format!("no {program} in PATH")));
    }
    missing.is_some()
}

/// The program's path; the system directories are looked into after PATH.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|directory| directory.join(name)).find(|path| path.is_file())
}
