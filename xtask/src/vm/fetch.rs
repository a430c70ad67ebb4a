//! Debian's cloud kernels, through the apt of this machine: lists and packages of another release, without touching its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::on_path::on_path;

/// Debian's releases, and the kernels that they have: 5.10, 6.1, 6.12, and the newest, which moves.
pub const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "forky"];

/// Where kernels are that somebody else keeps, one directory for each release; nothing is fetched then that is there.
pub const VARIABLE: &str = "TRIGSYNC_KERNELS";

/// Names under which the archive's keys are kept.
const KEYS: [&str; 2] = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The image of a release's cloud kernel, fetched and unpacked into `directory/SUITE` where it is not there yet.
pub fn image(suite: &str, directory: &Path) -> Result<PathBuf> {
    let unpacked = directory.join(suite);
    if let Some(image) = image_in(&unpacked) {
        return Ok(image);
    }
    if !on_path("apt-get") || !on_path("dpkg") {
        bail!(
            "Debian's kernels are fetched on a Debian-like system only; here, give one: cargo xtask vm --kernel /boot/vmlinuz-$(uname -r)"
        );
    }
    println!("kernel of {suite}: fetching it with apt");
    fs::create_dir_all(directory)?;
    // Unpacked beside its place and then renamed: a half of it is never taken for the whole.
    let partial = tempfile::Builder::new().prefix("partial-").tempdir_in(directory)?;
    let apt = Apt::new(suite)?;
    for package in apt.kernel_packages()? {
        apt.unpack(&package, partial.path())?;
    }
    if image_in(partial.path()).is_none() {
        bail!("the cloud kernel of {suite} has no image");
    }
    fs::rename(partial.keep(), &unpacked).with_context(|| format!("making {}", unpacked.display()))?;
    image_in(&unpacked).context("it was there before it was renamed")
}

/// `boot/vmlinuz-RELEASE`, or the image that the newest packages keep beside the modules.
fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let named = |directory: &Path, wanted: &dyn Fn(&str) -> bool| {
        let entries = fs::read_dir(directory).ok()?;
        let mut paths: Vec<_> =
            entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(wanted)).map(|entry| entry.path()).collect();
        paths.sort();
        paths.pop()
    };
    named(&unpacked.join("boot"), &|name| name.starts_with("vmlinuz-")).or_else(|| {
        let releases = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place));
        releases.iter().find_map(|place| named(place, &|_| true)).map(|release| release.join("vmlinuz")).filter(|image| image.is_file())
    })
}

/// apt with lists, cache and sources of its own.
struct Apt {
    suite: String,
    room: TempDir,
}

impl Apt {
    fn new(suite: &str) -> Result<Self> {
        let room = tempfile::Builder::new().prefix("trigsync-apt-").tempdir()?;
        for directory in ["lists/partial", "cache/archives/partial", "deb"] {
            fs::create_dir_all(room.path().join(directory))?;
        }
        let key =
            KEYS.iter().find(|key| Path::new(key).exists()).context("no keys of Debian's archive here: install debian-archive-keyring")?;
        let mirror = mirror()?;
        fs::write(room.path().join("sources.list"), format!("deb [signed-by={key}] {mirror} {suite} main\n"))?;
        let apt = Self { suite: suite.to_owned(), room };
        apt.run("apt-get", &["-qq", "update"])?;
        Ok(apt)
    }

    /// The image, and what newer releases keep in packages of their own.
    fn kernel_packages(&self) -> Result<Vec<String>> {
        let depends = self.run("apt-cache", &["depends", "linux-image-cloud-amd64"])?;
        let image = image_package(&depends).with_context(|| format!("{} has no cloud kernel", self.suite))?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        let parts = ["linux-binary", "linux-modules"].map(|kind| format!("{kind}-{release}"));
        let known = |package: &String| self.run("apt-cache", &["show", package]).is_ok_and(|shown| !shown.is_empty());
        Ok([image].into_iter().chain(parts.into_iter().filter(known)).collect())
    }

    fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        self.run("apt-get", &["-qq", "download", package])?;
        let downloads = self.room.path().join("deb");
        for entry in fs::read_dir(&downloads)? {
            let path = entry?.path();
            let status = Command::new("dpkg").arg("-x").args([&path, into]).stdin(Stdio::null()).status().context("dpkg does not start")?;
            if !status.success() {
                bail!("{package} cannot be unpacked");
            }
            fs::remove_file(&path)?;
        }
        Ok(())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let room = self.room.path();
        let mut command = Command::new(program);
        for (option, value) in [("Dir::Etc::sourcelist", "sources.list"), ("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
            command.arg("-o").arg(format!("{option}={}", room.join(value).display()));
        }
        command.args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]).args(arguments);
        let output = command.current_dir(room.join("deb")).stdin(Stdio::null()).env("LC_ALL", "C").output();
        let output = output.with_context(|| format!("{program} does not start"))?;
        if !output.status.success() {
            bail!("{program} {} for {} failed: {}", arguments.join(" "), self.suite, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The package that the metapackage stands for.
fn image_package(depends: &str) -> Option<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names
        .map(str::trim)
        .find(|name| name.starts_with("linux-image-") && name.contains(|character: char| character.is_ascii_digit()))
        .map(str::to_owned)
}

/// The archive that this machine's own apt is told to use.
fn mirror() -> Result<String> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = parts.chain(["/etc/apt/sources.list".into()]).collect();
    files.sort();
    let mirrors: Vec<_> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).flat_map(|text| mirrors_in(&text)).collect();
    // A machine has other archives too: its updates', its vendors'.
    let debian = mirrors.iter().find(|mirror| mirror.trim_end_matches('/').ends_with("/debian"));
    debian.or(mirrors.first()).cloned().context("apt's sources name no archive")
}

/// Addresses in either form: `URIs: ADDRESS`, and `deb [options] ADDRESS suite …`.
fn mirrors_in(text: &str) -> Vec<String> {
    let address = |line: &str| {
        if let Some(addresses) = line.strip_prefix("URIs:") {
            return addresses.split_whitespace().next().map(str::to_owned);
        }
        let rest = line.strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        rest.split_whitespace().next().map(str::to_owned)
    };
    text.lines().filter_map(|line| address(line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_found_in_both_forms() {
        assert_eq!(mirrors_in("Types: deb\nURIs: http://a.test/debian http://b.test\nSuites: x\n"), ["http://a.test/debian"]);
        let lines = "# deb http://no.test x main\ndeb [arch=amd64 signed-by=/k.gpg] http://c.test/debian x main\ndeb-src http://d.test x main\ndeb   http://e.test x\n";
        assert_eq!(mirrors_in(lines), ["http://c.test/debian", "http://e.test"]);
    }

    #[test]
    fn the_metapackage_names_the_kernel() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-50-cloud-amd64\n  Recommends: x\n";
        assert_eq!(image_package(depends).as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(image_package("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn an_image_is_in_boot_or_beside_its_modules() {
        let room = tempfile::tempdir().unwrap();
        assert_eq!(image_in(room.path()), None);
        let beside = room.path().join("usr/lib/modules/7.2.1-cloud");
        fs::create_dir_all(&beside).unwrap();
        fs::write(beside.join("vmlinuz"), "").unwrap();
        assert_eq!(image_in(room.path()), Some(beside.join("vmlinuz")));
        fs::create_dir(room.path().join("boot")).unwrap();
        let image = room.path().join("boot/vmlinuz-7.2.1-cloud");
        fs::write(&image, "").unwrap();
        assert_eq!(image_in(room.path()), Some(image));
    }
}
