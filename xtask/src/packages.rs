//! Tools of the system: which are missing, and the package manager that brings them.
//!
//! Nothing is installed that is there already, and what is about to be run is printed first.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    on_path::{is_program, on_path, path_of},
    privilege,
};

/// A program, or a library to link with, and the packages that hold it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name. A name like `libc.a` is an archive that the C compiler finds.
    pub program: &'static str,
    /// Debian's package.
    apt: &'static str,
    /// Fedora's and RHEL's.
    dnf: &'static str,
    /// SUSE's.
    zypper: &'static str,
    /// Alpine's.
    apk: &'static str,
    /// Arch's.
    pacman: &'static str,
}

impl Tool {
    /// A package that has the same name everywhere.
    const fn same(program: &'static str, package: &'static str) -> Self {
        Self { program, apt: package, dnf: package, zypper: package, apk: package, pacman: package }
    }
}

/// What trigsync itself needs.
pub const RSYNC: Tool = Tool::same("rsync", "rsync");

/// What the tests need.
pub const FOR_TESTS: [Tool; 8] = [
    RSYNC,
    Tool { pacman: "openssh", zypper: "openssh-server", ..Tool::same("sshd", "openssh-server") },
    SSH,
    Tool { program: "ssh-keygen", ..SSH },
    Tool::same("git", "git"),
    Tool::same("setfacl", "acl"),
    Tool::same("setfattr", "attr"),
    Tool::same("mkfs.ext4", "e2fsprogs"),
];

const SSH: Tool =
    Tool { program: "ssh", apt: "openssh-client", dnf: "openssh-clients", zypper: "openssh-clients", apk: "openssh", pacman: "openssh" };

/// What makes more tests run: not every distribution has them, and a test that finds none is skipped.
pub const WELCOME_FOR_TESTS: [Tool; 2] =
    [Tool::same("mkfs.xfs", "xfsprogs"), Tool { zypper: "btrfsprogs", ..Tool::same("mkfs.btrfs", "btrfs-progs") }];

/// What the guests of `cargo xtask vm` are started with, built with, and given.
pub const FOR_GUESTS: [Tool; 4] = [
    Tool { dnf: "qemu-kvm", zypper: "qemu-x86", apk: "qemu-system-x86_64", ..Tool::same(QEMU, "qemu-system-x86") },
    Tool { dnf: "glibc-static", zypper: "glibc-devel-static", apk: "musl-dev", pacman: "glibc", ..Tool::same("libc.a", "libc6-dev") },
    RSYNC,
    Tool::same("mkfs.ext4", "e2fsprogs"),
];

/// The emulator; RHEL keeps it under another name, outside of PATH ([`qemu`]).
const QEMU: &str = "qemu-system-x86_64";
const QEMU_OF_RHEL: &str = "/usr/libexec/qemu-kvm";

/// What unpacks modules of kernels.
pub const XZ: Tool = Tool { apt: "xz-utils", ..Tool::same("xz", "xz") };
/// The same.
pub const ZSTD: Tool = Tool::same("zstd", "zstd");
/// The same.
pub const GZIP: Tool = Tool::same("gzip", "gzip");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PackageManager {
    Apt,
    Dnf,
    Yum,
    Zypper,
    Apk,
    Pacman,
}

impl PackageManager {
    /// In the order in which they are looked for: a machine with dnf often has yum as another name for it.
    const ALL: [Self; 6] = [Self::Apt, Self::Dnf, Self::Yum, Self::Zypper, Self::Apk, Self::Pacman];

    fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Yum => "yum",
            Self::Zypper => "zypper",
            Self::Apk => "apk",
            Self::Pacman => "pacman",
        }
    }

    fn package(self, tool: &Tool) -> &'static str {
        match self {
            Self::Apt => tool.apt,
            Self::Dnf | Self::Yum => tool.dnf,
            Self::Zypper => tool.zypper,
            Self::Apk => tool.apk,
            Self::Pacman => tool.pacman,
        }
    }

    /// Brings the lists up to date, where installing does not do so itself.
    fn refresh(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Apt => Some(&["apt-get", "update", "--quiet=2"]),
            Self::Dnf | Self::Yum | Self::Zypper | Self::Apk | Self::Pacman => None,
        }
    }

    fn install(self, tools: &[Tool]) -> Vec<&'static str> {
        let mut words: Vec<_> = match self {
            // dpkg must not ask questions; sudo drops the environment, so the variable is an argument of env.
            Self::Apt => {
                vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends"]
            }
            Self::Dnf => vec!["dnf", "install", "--assumeyes", "--quiet"],
            Self::Yum => vec!["yum", "install", "--assumeyes", "--quiet"],
            Self::Zypper => vec!["zypper", "--non-interactive", "install"],
            Self::Apk => vec!["apk", "add", "--no-cache", "--quiet"],
            Self::Pacman => vec!["pacman", "--sync", "--refresh", "--noconfirm", "--needed"],
        };
        for tool in tools {
            let package = self.package(tool);
            if !words.contains(&package) {
                words.push(package);
            }
        }
        words
    }
}

/// The emulator for x86-64.
pub fn qemu() -> Option<PathBuf> {
    path_of(QEMU).or_else(|| Some(PathBuf::from(QEMU_OF_RHEL)).filter(|path| is_program(path)))
}

/// Those that are not there.
pub fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().filter(|tool| !is_here(tool.program)).copied().collect()
}

fn is_here(name: &str) -> bool {
    match name {
        QEMU => qemu().is_some(),
        archive if archive.ends_with(".a") => has_archive(archive),
        program => on_path(program),
    }
}

/// Whether the C compiler, which links for rustc too, finds an archive: it answers with a path then, else with the bare name.
fn has_archive(name: &str) -> bool {
    let answer = Command::new("cc").arg(format!("-print-file-name={name}")).stdin(Stdio::null()).stderr(Stdio::null()).output();
    answer.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute())
}

/// Installs what is missing, having said so. An error where a tool is still missing afterwards.
pub fn require(tools: &[Tool]) -> Result<()> {
    let wanted = missing(tools);
    if wanted.is_empty() {
        return Ok(());
    }
    let names = programs(&wanted);
    let Some(manager) = PackageManager::ALL.into_iter().find(|manager| on_path(manager.program())) else {
        let known = PackageManager::ALL.map(PackageManager::program).join(", ");
        bail!("{names}: not here, and no package manager that xtask knows ({known}) to install it with; install it and run this again");
    };
    println!("{names}: not here; installing with {}", manager.program());
    if let Some(refresh) = manager.refresh()
        && let Err(error) = run(refresh)
    {
        // The lists that are there may do.
        println!("{error:#}; going on with the lists of packages that are there");
    }
    run(&manager.install(&wanted))?;
    let wanted = missing(&wanted);
    if !wanted.is_empty() {
        bail!("{} installed its packages, but {} is still not there", manager.program(), programs(&wanted));
    }
    Ok(())
}

fn programs(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.program).collect::<Vec<_>>().join(", ")
}

fn run(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut command = privilege::as_root(command)?;
    println!("  {}{}", if privilege::is_root() { "" } else { "sudo " }, words.join(" "));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{program} does not start"))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_holds_two_programs_is_named_once() {
        let words = PackageManager::Pacman.install(&FOR_TESTS);
        assert_eq!(words.iter().filter(|word| **word == "openssh").count(), 1);
        let words = PackageManager::Apt.install(&FOR_TESTS);
        assert_eq!(words.iter().filter(|word| **word == "openssh-client").count(), 1);
        assert!(words.contains(&"openssh-server"));
    }

    #[test]
    fn every_manager_asks_no_questions() {
        for (manager, quiet) in
            PackageManager::ALL.into_iter().zip(["--yes", "--assumeyes", "--assumeyes", "--non-interactive", "add", "--noconfirm"])
        {
            let words = manager.install(&[RSYNC]);
            assert!(words.contains(&quiet), "{words:?}");
            assert_eq!(words.last(), Some(&"rsync"));
            assert!(words.contains(&manager.program()));
        }
    }

    #[test]
    fn what_is_there_is_not_missing() {
        assert!(missing(&[Tool::same("sh", "sh")]).is_empty());
    }
}
