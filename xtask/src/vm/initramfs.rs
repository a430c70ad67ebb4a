//! Archives that the kernel unpacks into the guest's first file system: several one after another, so that what all guests share is
//! written once.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cpio::newc;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that is being written.
pub struct Archive {
    to: BufWriter<File>,
    directories: BTreeSet<PathBuf>,
}

impl Archive {
    /// Begins an archive at `path`, behind what `before` has where there is one.
    pub fn create(path: &Path, before: Option<&Path>) -> Result<Self> {
        let told = || format!("writing {}", path.display());
        let mut file = File::create(path).with_context(told)?;
        if let Some(before) = before {
            std::io::copy(&mut File::open(before).with_context(|| before.display().to_string())?, &mut file).with_context(told)?;
        }
        Ok(Self { to: BufWriter::new(file), directories: BTreeSet::new() })
    }

    /// A copy of a file of this machine, with the right to be run.
    pub fn program(&mut self, name: &Path, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        self.entry(name, PROGRAM, (0, 0), &content)
    }

    /// A plain file.
    pub fn file(&mut self, name: &Path, content: &[u8]) -> Result<()> {
        self.entry(name, PLAIN, (0, 0), content)
    }

    /// The kernel opens `/dev/console` for the first process before anything is mounted.
    pub fn console(&mut self) -> Result<()> {
        self.entry(Path::new("/dev/console"), CHARACTER_DEVICE, (5, 1), b"")
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<()> {
        newc::trailer(self.to)?.flush()?;
        Ok(())
    }

    fn parents(&mut self, name: &Path) -> Result<()> {
        let mut parents: Vec<_> = name.ancestors().skip(1).filter(|parent| parent.parent().is_some()).map(Path::to_owned).collect();
        parents.reverse();
        for parent in parents {
            if self.directories.insert(parent.clone()) {
                self.write(&parent, DIRECTORY, (0, 0), b"")?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &Path, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.parents(name)?;
        self.write(name, mode, device, content)
    }

    fn write(&mut self, name: &Path, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).with_context(|| format!("{} is too large for an initramfs", name.display()))?;
        let name = name.strip_prefix("/").unwrap_or(name).to_str().context("a name in the initramfs is not UTF-8")?;
        let header = newc::Builder::new(name).mode(mode).nlink(1).rdev_major(device.0).rdev_minor(device.1);
        let mut entry = header.write(&mut self.to, size);
        entry.write_all(content)?;
        entry.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_comes_once_before_what_is_in_it() {
        let room = tempfile::tempdir().unwrap();
        let (first, second) = (room.path().join("first"), room.path().join("second"));
        let mut archive = Archive::create(&first, None).unwrap();
        archive.console().unwrap();
        archive.file(Path::new("/a/b/one"), b"1").unwrap();
        archive.file(Path::new("/a/b/two"), b"22").unwrap();
        archive.finish().unwrap();
        let before = fs::metadata(&first).unwrap().len();
        assert_eq!(before % 4, 0, "another archive may follow");
        let mut names = Vec::new();
        let mut reader = newc::Reader::new(File::open(&first).unwrap()).unwrap();
        while !reader.entry().is_trailer() {
            names.push((reader.entry().name().to_owned(), reader.entry().file_size()));
            reader = newc::Reader::new(reader.finish().unwrap()).unwrap();
        }
        let expected = [("dev", 0), ("dev/console", 0), ("a", 0), ("a/b", 0), ("a/b/one", 1), ("a/b/two", 2)];
        assert_eq!(names, expected.map(|(name, size)| (name.to_owned(), size)));
        let mut archive = Archive::create(&second, Some(&first)).unwrap();
        archive.file(Path::new("/plan"), b"").unwrap();
        archive.finish().unwrap();
        assert!(fs::read(&second).unwrap().starts_with(&fs::read(&first).unwrap()));
    }
}
