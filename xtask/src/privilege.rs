//! Root: whether we are, and how we get there (sudo), never silently.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Error, Result, bail};

use crate::on_path::on_path;

/// Whether this process may do everything that trigsync needs.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The command, under sudo where we are not root.
pub fn as_root(command: Command) -> Result<Command> {
    if is_root() {
        return Ok(command);
    }
    if !on_path("sudo") {
        bail!("{} needs root and there is no sudo here: run this as root", command.get_program().display());
    }
    let mut sudo = Command::new("sudo");
    sudo.arg("--").arg(command.get_program()).args(command.get_args());
    Ok(sudo)
}

/// Replaces this process with the command, as root. Its exit code is ours. Returns only where that failed, and then with the reason.
pub fn become_as_root(command: Command) -> Result<Error> {
    let mut command = as_root(command)?;
    let reason = command.exec();
    Ok(Error::new(reason).context(format!("{} does not start", command.get_program().display())))
}

/// The variable that makes cargo run test binaries as root: building stays with the user, so that no file of root's is left in
/// the target directory. `None` where we are root.
pub fn cargo_runner() -> Result<Option<(String, String)>> {
    if is_root() {
        return Ok(None);
    }
    if !on_path("sudo") {
        bail!("the tests need root (fanotify, owners, a real sshd) and there is no sudo here: run this as root");
    }
    let output = Command::new("rustc").arg("-vV").output().context("rustc does not start")?;
    let host = host_triple(&String::from_utf8_lossy(&output.stdout)).context("rustc -vV names no host")?;
    let variable = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_"));
    Ok(Some((variable, "sudo --preserve-env --".to_owned())))
}

fn host_triple(version: &str) -> Option<String> {
    version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_read_from_rustc() {
        assert_eq!(host_triple("rustc 1.95.0\nhost: aarch64-unknown-linux-gnu\n").as_deref(), Some("aarch64-unknown-linux-gnu"));
        assert_eq!(host_triple("rustc 1.95.0\n"), None);
    }
}
