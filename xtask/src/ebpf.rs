//! The programs in the kernel: built with a toolchain of their own, kept in the repository as an object that says what it was built from.
//!
//! Nobody who builds or uses trigsync needs that toolchain: the object is embedded as it is. What keeps it honest: it carries a digest of
//! its sources, which a test compares without any toolchain, and `cargo xtask ebpf --check` builds it anew and compares every byte.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use ignore::WalkBuilder;
use object::{Object as _, ObjectSection as _};
use sha2::{Digest as _, Sha256};

use crate::cargo;

/// What the object is made from, below the workspace.
const SOURCES: [&str; 5] =
    ["trigsync-ebpf/Cargo.toml", "trigsync-ebpf/Cargo.lock", "trigsync-ebpf/src", "trigsync-common/Cargo.toml", "trigsync-common/src"];

/// Where it is kept.
const OBJECT: &str = "trigsync-ebpf/trigsync.bpf.o";

/// The section that holds the digest, as hexadecimal text.
const SECTION: &str = "sources";

/// Builds the object and keeps it; with `check` compares it with the one that is kept instead.
pub fn build(check: bool) -> Result<()> {
    let root = cargo::workspace_root();
    let kept = root.join(OBJECT);
    require_toolchain()?;
    let built = compile(&root)?;
    if !check {
        fs::write(&kept, &built).with_context(|| format!("writing {}", kept.display()))?;
        println!("{OBJECT}: {} bytes, built from sources {}", built.len(), &digest(&root)?[..16]);
        return Ok(());
    }
    if fs::read(&kept).with_context(|| format!("reading {}", kept.display()))? != built {
        bail!("{OBJECT} is not what its sources give; build it with `cargo xtask ebpf` and commit it");
    }
    println!("{OBJECT} is what its sources give, byte for byte");
    Ok(())
}

/// Whether the kept object says that it was built from the sources as they are.
pub fn compare_digests(root: &Path) -> Result<()> {
    let kept = fs::read(root.join(OBJECT)).with_context(|| format!("reading {OBJECT}"))?;
    let (told, is) = (told_digest(&kept)?, digest(root)?);
    if told != is {
        bail!(
            "{OBJECT} was built from sources {}, and they are {}; build it with `cargo xtask ebpf` and commit it",
            &told[..16.min(told.len())],
            &is[..16]
        );
    }
    Ok(())
}

/// The digest that an object carries.
fn told_digest(object: &[u8]) -> Result<String> {
    let file = object::File::parse(object).with_context(|| format!("{OBJECT} is no object"))?;
    let section = file.section_by_name(SECTION).with_context(|| format!("{OBJECT} does not say what it was built from"))?;
    Ok(String::from_utf8_lossy(section.data()?).into_owned())
}

/// SHA-256 over names and contents of the sources, in hexadecimal.
fn digest(root: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = SOURCES
        .iter()
        .flat_map(|source| WalkBuilder::new(root.join(source)).build())
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(|entry| entry.into_path())
        .collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let contents = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        hash.update(format!("{name}\0{}\0", contents.len()));
        hash.update(&contents);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn compile(root: &Path) -> Result<Vec<u8>> {
    let mut command = cargo::cargo();
    command
        .current_dir(root.join("trigsync-ebpf"))
        .args(["build", "--release", "--locked", "--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        // `build-std` is no part of the stable toolchain; this is how that is told to allow it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("TRIGSYNC_SOURCES", digest(root)?)
        // The caller's flags are for the caller's machine.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    if !command.status().context("cargo does not start")?.success() {
        bail!("the programs do not build; cargo says why above");
    }
    let object = root.join("trigsync-ebpf/target/bpfel-unknown-none/release/trigsync");
    fs::read(&object).with_context(|| format!("reading {}", object.display()))
}

/// Says what to install where the toolchain is not there.
fn require_toolchain() -> Result<()> {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !runs("bpf-linker") {
        bail!("bpf-linker is not installed: cargo install bpf-linker --locked (it wants the LLVM of your rustc)");
    }
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc does not start")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        bail!("the source of Rust's core library is not installed: rustup component add rust-src");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_object_was_built_from_the_sources_as_they_are() {
        compare_digests(&cargo::workspace_root()).unwrap();
    }

    #[test]
    fn another_name_or_another_content_is_another_digest() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        };
        file("trigsync-ebpf/src/main.rs", "a");
        let first = digest(root.path()).unwrap();
        file("trigsync-ebpf/src/main.rs", "b");
        let second = digest(root.path()).unwrap();
        fs::rename(root.path().join("trigsync-ebpf/src/main.rs"), root.path().join("trigsync-ebpf/src/other.rs")).unwrap();
        let third = digest(root.path()).unwrap();
        file("trigsync-common/src/lib.rs", "");
        let fourth = digest(root.path()).unwrap();
        assert!([&second, &third, &fourth].iter().all(|digest| **digest != first) && second != third && third != fourth);
    }
}
