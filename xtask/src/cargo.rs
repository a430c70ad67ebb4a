//! Calls to cargo: where the workspace is, and how a binary of it is built and found.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// How much cargo optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `target/debug`.
    Dev,
    /// `target/release`.
    Release,
}

/// The workspace that this xtask was built from.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace").to_owned()
}

/// Where everything built goes: cargo says it, since a variable or a configuration may have moved it.
pub fn target_directory() -> Result<PathBuf> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::inherit()).output();
    let metadata: serde_json::Value = serde_json::from_slice(&output.context("cargo does not start")?.stdout)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target directory")
}

/// A cargo command in the workspace: the cargo that runs us where there is one.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root()).stdin(Stdio::null());
    command
}

/// Builds one binary and returns where cargo says it put it, whatever the target directory is.
pub fn build_binary(package: &str, binary: &str, profile: Profile) -> Result<PathBuf> {
    build_binary_with(package, binary, profile, &[])
}

/// The same with features that are off otherwise. The binary stands where it stands without them.
pub fn build_binary_with(package: &str, binary: &str, profile: Profile, features: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--message-format=json-render-diagnostics", "--package", package, "--bin", binary]);
    command.args(features.iter().flat_map(|feature| ["--features", feature]));
    if profile == Profile::Release {
        command.arg("--release");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo does not start")?;
    let messages = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut found = None;
    for line in messages.lines() {
        found = executable(&line.context("reading what cargo says")?, binary).or(found);
    }
    if !child.wait()?.success() {
        bail!("{binary} does not build; cargo says why above");
    }
    found.with_context(|| format!("cargo built {binary} but does not say where it is"))
}

/// Builds every binary of these packages so that it needs nothing but a kernel of x86-64, and returns their names and paths.
pub fn build_for_guests(packages: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut child = for_guests(cargo(), packages).stdout(Stdio::piped()).spawn().context("cargo does not start")?;
    let messages = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut found = Vec::new();
    for line in messages.lines() {
        found.extend(any_executable(&line.context("reading what cargo says")?));
    }
    if !child.wait()?.success() {
        bail!("the programs for guests do not build; cargo says why above");
    }
    Ok(found)
}

/// Begins to build the same on whatever the processors have to spare, and says nothing: [`build_for_guests`] says what went wrong.
pub fn begin_to_build_for_guests(packages: &[&str]) -> Result<Child> {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(cargo().get_program()).current_dir(workspace_root()).stdin(Stdio::null());
    for_guests(nice, packages).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("nice does not start")
}

fn for_guests(mut command: Command, packages: &[&str]) -> Command {
    command.args(["build", "--message-format=json-render-diagnostics", "--profile", "guest", "--target", GUEST_TARGET, "--bins"]);
    command.args(packages.iter().flat_map(|package| ["--package", package])).env(GUEST_FLAGS.0, GUEST_FLAGS.1);
    command
}

const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// A variable of the target, so that build scripts and macros are left alone.
const GUEST_FLAGS: (&str, &str) = ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");

/// The path of `binary`, where one line of cargo's JSON messages tells it.
fn executable(message: &str, binary: &str) -> Option<PathBuf> {
    any_executable(message).filter(|(name, _)| name == binary).map(|(_, path)| path)
}

/// The name and path of the program that one line of cargo's JSON messages tells of.
fn any_executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    Some((message["target"]["name"].as_str()?.to_owned(), message["executable"].as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_artifact_of_the_binary_names_the_executable() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"name":"trigsync"},"executable":"/t/release/trigsync"}"#;
        assert_eq!(executable(artifact, "trigsync"), Some("/t/release/trigsync".into()));
        assert_eq!(executable(artifact, "other"), None);
        assert_eq!(executable(r#"{"reason":"compiler-artifact","target":{"name":"trigsync"},"executable":null}"#, "trigsync"), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#, "trigsync"), None);
        assert_eq!(executable("not json", "trigsync"), None);
    }
}
