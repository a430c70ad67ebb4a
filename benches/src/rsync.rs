//! rsync alone: one run over a list, which is the floor that the daemon is measured against, and the comparison that decides
//! whether a figure counts.

use std::{
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// What a mirror keeps, without recursion: mode, times, owners, links, devices.
const KEEPS: &str = "-lptgoD";

/// Sends the listed paths in one run.
pub(crate) fn send(source: &Path, target: &str, paths: &[PathBuf]) -> Result<()> {
    let mut list = Vec::new();
    for path in paths {
        list.push(b'/');
        list.extend_from_slice(path.as_os_str().as_bytes());
        list.push(0);
    }
    let mut child = Command::new("rsync")
        .args([KEEPS, "--from0", "--files-from=-"])
        .arg(with_slash(source))
        .arg(target)
        .stdin(Stdio::piped())
        .spawn()
        .context("rsync does not start")?;
    child.stdin.take().expect("standard input is piped").write_all(&list).context("writing rsync's list")?;
    let status = child.wait()?;
    if !status.success() {
        bail!("rsync alone failed ({status})");
    }
    Ok(())
}

/// Sends everything, as a start.
pub(crate) fn send_all(source: &Path, target: &str) -> Result<()> {
    let status = Command::new("rsync").args([KEEPS, "-r"]).arg(with_slash(source)).arg(target).stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("rsync alone failed ({status})");
    }
    Ok(())
}

/// One full pass, as a mirror without trigsync does it.
pub(crate) fn mirror(source: &Path, target: &str) -> Result<()> {
    let status = Command::new("rsync").args(["-a", "--delete"]).arg(with_slash(source)).arg(target).stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("rsync alone failed ({status})");
    }
    Ok(())
}

/// An error where the two trees differ in anything: names, contents, modes, times, owners, links.
pub(crate) fn demand_equal(source: &Path, target: &str) -> Result<()> {
    let output = Command::new("rsync")
        .args(["-nrlptgoDc", "--delete", "--itemize-changes"])
        .arg(with_slash(source))
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .context("rsync does not start")?;
    if !output.status.success() {
        bail!("comparing failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    if !output.stdout.is_empty() {
        let drift = String::from_utf8_lossy(&output.stdout);
        bail!(
            "the figure does not count: source and target differ in {} paths, the first: {}",
            drift.lines().count(),
            drift.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}

fn with_slash(directory: &Path) -> PathBuf {
    directory.join("")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_sent_is_equal_and_what_was_not_is_told() {
        let root = tempfile::tempdir().unwrap();
        let (source, target) = (root.path().join("source"), root.path().join("target"));
        fs::create_dir_all(source.join("d")).unwrap();
        fs::create_dir(&target).unwrap();
        let address = target.to_str().unwrap();
        send_all(&source, address).unwrap();
        demand_equal(&source, address).unwrap();
        fs::write(source.join("d/#x"), "content").unwrap();
        assert!(demand_equal(&source, address).unwrap_err().to_string().contains("differ in"));
        send(&source, address, &[PathBuf::from("d/#x")]).unwrap();
        demand_equal(&source, address).unwrap();
    }
}
