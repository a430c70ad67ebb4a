//! What every guest is given: our own programs, linked statically, and a few of this machine's with the libraries that they load.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::initramfs::Archive;
use crate::{cargo, on_path::path_of};

/// Programs of this machine, where they are here: without one of them the guest says what it cannot do.
const TOOLS: [&str; 4] = ["rsync", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"];

/// The program that becomes `/init`.
const INIT: &str = "guest";

/// Where our programs are.
const PACKAGES: [&str; 2] = ["trigsync-user", "trigsync-tests"];

/// Begins to build our programs beside something else.
pub fn begin() -> Result<Child> {
    cargo::begin_to_build_for_guests(&PACKAGES)
}

/// Builds our programs and writes the archive that all guests share.
pub fn pack(archive: &Path) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("guests are x86-64, with programs of this machine in them: run this on an x86-64 machine");
    }
    let built = cargo::build_for_guests(&PACKAGES)?;
    let mut archive = Archive::create(archive, None)?;
    archive.console()?;
    for (name, path) in &built {
        let place = if name == INIT { PathBuf::from("/init") } else { Path::new("/bin").join(name) };
        archive.program(&place, path)?;
    }
    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let Some(path) = path_of(tool) else { continue };
        archive.program(&Path::new("/bin").join(tool), &path)?;
        libraries.extend(libraries_of(&path)?);
    }
    for library in &libraries {
        archive.program(library, library)?;
    }
    for (name, content) in FILES {
        archive.file(Path::new(name), content.as_bytes())?;
    }
    archive.finish()
}

/// What libraries ask for: names of users and of this machine.
const FILES: [(&str, &str); 3] = [
    ("/etc/passwd", "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n"),
];

/// The libraries that the loader would map for a program, the loader included, by the names under which it looks for them.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").stdin(Stdio::null()).output().context("ldd does not start")?;
    // It fails for a static program, which needs none.
    libraries_in(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("ldd {}", program.display()))
}

fn libraries_in(output: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in output.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [name, "=>", "not", "found"] => bail!("{name} is not found"),
            [_, "=>", path, ..] | [path, _] if path.starts_with('/') => found.push(path.into()),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_libraries_are_found_in_the_words_of_ldd() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibacl.so.1 => /lib/x86_64-linux-gnu/libacl.so.1 (0x00007f1)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        assert_eq!(
            libraries_in(output).unwrap(),
            [PathBuf::from("/lib/x86_64-linux-gnu/libacl.so.1"), "/lib64/ld-linux-x86-64.so.2".into()]
        );
        assert!(libraries_in("\tnot a dynamic executable\n").unwrap().is_empty());
        assert!(libraries_in("\tlibx.so => not found\n").is_err());
    }
}
