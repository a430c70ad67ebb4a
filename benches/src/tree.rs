//! Trees to measure with. Directories are spread over two levels, so that none has too many names.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xtask::interrupt;

/// Directories below one top directory.
const SPREAD: u64 = 100;

/// Directory `number`, relative to the tree's root.
pub(crate) fn directory(number: u64) -> PathBuf {
    PathBuf::from(format!("top-{}/directory-{number}", number / SPREAD))
}

/// Makes `count` directories.
pub(crate) fn make_directories(root: &Path, count: u64) -> Result<()> {
    for number in 0..count {
        let path = root.join(directory(number));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    }
    Ok(())
}

/// Makes `count` empty files, `per_directory` in each directory.
pub(crate) fn make_empty_files(root: &Path, count: u64, per_directory: u64) -> Result<()> {
    make_directories(root, count.div_ceil(per_directory))?;
    for number in 0..count {
        if number % per_directory == 0 {
            interrupt::check()?;
        }
        let path = root.join(directory(number / per_directory)).join(format!("file-{number}"));
        File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_spread() {
        let root = tempfile::tempdir().unwrap();
        make_empty_files(root.path(), 1010, 10).unwrap();
        assert!(root.path().join("top-0/directory-99/file-999").exists());
        assert!(root.path().join("top-1/directory-100/file-1009").exists());
        assert!(!root.path().join("top-1/directory-101").exists());
    }
}
