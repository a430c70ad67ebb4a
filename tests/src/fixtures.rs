//! Trees that nobody here wrote, fetched once by the ordinary package clients and kept in `target/fixtures`.
//!
//! What cannot be fetched is an unavoidable cause to skip: a machine without a network is no fault of its operator.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    process::{Outcome, must},
    skip::{Cause, find_program},
    trigsync::target_directory,
};

/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(300);

fn directory() -> PathBuf {
    let path = target_directory().join("fixtures");
    fs::create_dir_all(&path).expect("a directory in target");
    path
}

fn need(programs: &[&str]) -> Result<(), Cause> {
    let missing = programs.iter().find(|program| find_program(program).is_none());
    missing.map_or(Ok(()), |program| Err(Cause::Missing(format!("no {program} in PATH"))))
}

/// Runs a command that needs the network.
fn fetch(command: &mut Command, what: &str) -> Result<Outcome, Cause> {
    let outcome = Outcome::of(command, DOWNLOAD);
    let last = outcome.stderr.lines().last().unwrap_or_default().to_owned();
    if outcome.code == 0 { Ok(outcome) } else { Err(Cause::Unavoidable(format!("{what} cannot be fetched: {last}"))) }
}

/// The tarball of a Linux kernel's source, out of the distribution's package.
pub fn kernel_source() -> Result<PathBuf, Cause> {
    let kept = directory().join("linux-source.tar");
    if kept.is_file() {
        return Ok(kept);
    }
    need(&["apt-get", "apt-cache", "dpkg-deb"])?;
    let what = "the package linux-source";
    // `linux-source` itself is empty and depends on the one of the distribution's kernel.
    let depends = fetch(Command::new("apt-cache").args(["depends", "--important", "linux-source"]), what)?.stdout;
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-source-")));
    let Some(name) = name else { return Err(Cause::Unavoidable("apt knows no package linux-source; run `apt-get update`".to_owned())) };
    let room = tempfile::tempdir_in(directory()).expect("a directory in target");
    fetch(Command::new("apt-get").args(["download", name]).current_dir(room.path()), what)?;
    let package = only_file(room.path(), ".deb");
    must(Command::new("dpkg-deb").arg("-x").arg(package).arg(room.path().join("unpacked")));
    let tarball = only_file(&room.path().join("unpacked/usr/src"), ".tar.xz");
    // The parts that the test unpacks, without the slow compression.
    let parts =
        ["arch/x86", "drivers/net", "fs", "kernel", "mm", "include", "Documentation", "tools/testing"].map(|part| format!("*/{part}/*"));
    let subset = room.path().join("subset");
    fs::create_dir(&subset).expect("a directory in target");
    must(
        Command::new("tar")
            .args(["-xJf"])
            .arg(tarball)
            .args(["--wildcards", "--no-wildcards-match-slash"])
            .args(&parts)
            .current_dir(&subset),
    );
    let half = room.path().join("half.tar");
    must(Command::new("tar").arg("-cf").arg(&half).arg("-C").arg(&subset).arg("."));
    fs::rename(half, &kept).expect("one file system");
    Ok(kept)
}

fn only_file(directory: &Path, suffix: &str) -> PathBuf {
    let mut entries = fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path());
    entries.find(|path| path.to_string_lossy().ends_with(suffix)).unwrap_or_else(|| panic!("no {suffix} in {}", directory.display()))
}

/// The tags of [`history`], oldest first.
pub const TAGS: [&str; 4] = ["2.6.12", "3.0.0", "3.20.0", "3.37.1"];

/// A git repository: published versions of a package with some thousand files, one commit and one tag for each.
pub fn history() -> Result<PathBuf, Cause> {
    let kept = directory().join("history");
    if kept.is_dir() {
        return Ok(kept);
    }
    need(&["git", "npm", "tar"])?;
    let room = tempfile::tempdir_in(directory()).expect("a directory in target");
    let repository = room.path().join("repository");
    fs::create_dir(&repository).expect("a directory in target");
    must(git(&repository).args(["init", "-q"]));
    for version in TAGS {
        let name = format!("core-js@{version}");
        fetch(Command::new("npm").args(["pack", "--silent", &name]).current_dir(room.path()), &name)?;
        let tarball = room.path().join(format!("core-js-{version}.tgz"));
        must(git(&repository).args(["rm", "-rqf", "--ignore-unmatch", "."]));
        must(Command::new("tar").arg("-xzf").arg(tarball).args(["--strip-components=1", "-C"]).arg(&repository));
        must(git(&repository).args(["add", "-A", "-f"]));
        must(git(&repository).args(["commit", "-q", "-m", version]));
        must(git(&repository).args(["tag", version]));
    }
    fs::rename(repository, &kept).expect("one file system");
    Ok(kept)
}

/// git in `directory`, untouched by the configuration of whoever runs the tests.
pub fn git(directory: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "trigsync tests").env(format!("GIT_{role}_EMAIL"), "tests@invalid");
    }
    git.args(["-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "safe.directory=*"]);
    git
}

/// `npm install` of two packages with some hundred dependencies, in `directory`.
pub fn npm_install(directory: &Path) -> Result<(), Cause> {
    need(&["npm"])?;
    fs::create_dir_all(directory).expect("a directory");
    fs::write(directory.join("package.json"), "{\"private\": true}\n").expect("a file");
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "express", "webpack"]).current_dir(directory);
    fetch(&mut npm, "express and webpack").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_switches_between_its_tags() {
        let repository = match history() {
            Ok(repository) => repository,
            Err(cause) => return crate::skip::skip(&cause),
        };
        let files = |tag: &str| must(git(&repository).args(["ls-tree", "-r", "--name-only", tag])).lines().count();
        assert!(TAGS.iter().all(|tag| files(tag) > 500), "a package of some thousand files");
    }
}
