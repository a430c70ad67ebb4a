//! A kernel to boot: its image, what release it says it is, and where its modules are.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A bzImage and its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The bzImage.
    pub image: PathBuf,
    /// As `uname -r` says it.
    pub release: String,
    /// A directory like `/lib/modules/RELEASE`; without one the guest has what is built into the kernel.
    pub modules: Option<PathBuf>,
}

impl Kernel {
    /// Reads the image's header and looks for modules of that release: in the given directories, beside the image as in an unpacked
    /// package, and among this machine's own.
    pub fn at(image: &Path, directories: &[PathBuf]) -> Result<Self> {
        let image = image.canonicalize().with_context(|| image.display().to_string())?;
        let release = release_of(&image).with_context(|| image.display().to_string())?;
        let root = image.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        // The newest packages keep the image in the directory of its modules, which is what the empty path stands for.
        let beside = ["lib/modules", "usr/lib/modules", ""].map(|place| root.join(place));
        let places = directories.iter().cloned().chain(beside).chain(["/lib/modules".into()]);
        let modules = places.filter_map(|place| modules_in(&place, &release)).next();
        Ok(Self { image, release, modules })
    }

    /// Major and minor version; zeroes where the release does not begin with them.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers = self.release.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// `place` or the directory of the release in it, whichever holds modules of this release.
fn modules_in(place: &Path, release: &str) -> Option<PathBuf> {
    let own = place.join(release);
    let is_named_so = place.file_name().is_some_and(|name| name == release);
    let holds_modules = |directory: &Path| directory.join("kernel").is_dir();
    if holds_modules(&own) { Some(own) } else { (is_named_so && holds_modules(place)).then(|| place.to_owned()) }
}

/// What the header of a bzImage says: the word before the first space of the version string.
fn release_of(image: &Path) -> Result<String> {
    let mut file = File::open(image)?;
    let mut head = [0; 0x210];
    file.read_exact(&mut head).context("too short for a kernel")?;
    let at = version_offset(&head)?;
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(256).read_to_end(&mut text)?;
    release_in(&text).context("its header names no release")
}

/// Where the version string stands, by the boot protocol for x86 (`Documentation/arch/x86/boot.rst`).
fn version_offset(head: &[u8; 0x210]) -> Result<u64> {
    if &head[0x202..0x206] != b"HdrS" {
        bail!("not a bzImage for x86: its boot header has no magic number");
    }
    match u16::from_le_bytes([head[0x20e], head[0x20f]]) {
        0 => bail!("its header names no release"),
        offset => Ok(u64::from(offset) + 0x200),
    }
}

fn release_in(text: &[u8]) -> Option<String> {
    let end = text.iter().position(|byte| *byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?.split(' ').next()?;
    (!release.is_empty()).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn image(release: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x0080_u16.to_le_bytes());
        let text = format!("{release} (builder@host) #1 SMP\0");
        bytes[0x280..0x280 + text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    #[test]
    fn the_header_names_the_release() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinuz");
        fs::write(&path, image("4.18.0-553.el8_10.x86_64")).unwrap();
        assert_eq!(release_of(&path).unwrap(), "4.18.0-553.el8_10.x86_64");
        fs::write(&path, vec![0; 0x400]).unwrap();
        assert!(release_of(&path).unwrap_err().to_string().contains("not a bzImage"));
        fs::write(&path, "short").unwrap();
        assert!(release_of(&path).is_err());
    }

    #[test]
    fn modules_are_those_of_the_release() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let image_path = root.join("boot/vmlinuz-9.9.1-test");
        fs::create_dir_all(image_path.parent().unwrap()).unwrap();
        fs::write(&image_path, image("9.9.1-test")).unwrap();
        let kernel = Kernel::at(&image_path, &[]).unwrap();
        assert_eq!((kernel.modules.as_deref(), kernel.version()), (None, (9, 9)));
        let beside = root.join("lib/modules/9.9.1-test");
        fs::create_dir_all(beside.join("kernel")).unwrap();
        assert_eq!(Kernel::at(&image_path, &[]).unwrap().modules, Some(beside));
        for given in [root.join("given"), root.join("given/9.9.1-test")] {
            fs::create_dir_all(root.join("given/9.9.1-test/kernel")).unwrap();
            assert_eq!(Kernel::at(&image_path, &[given]).unwrap().modules, Some(root.join("given/9.9.1-test")));
        }
    }

    #[test]
    fn a_kernel_beside_its_modules_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().canonicalize().unwrap().join("9.9.1-test");
        fs::create_dir_all(own.join("kernel")).unwrap();
        fs::write(own.join("vmlinuz"), image("9.9.1-test")).unwrap();
        assert_eq!(Kernel::at(&own.join("vmlinuz"), &[]).unwrap().modules, Some(own));
    }
}
