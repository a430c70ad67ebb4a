//! `trigsync uninstall-capture`: nothing of a state directory's eBPF capture stays in the kernel.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use crate::{
    capture::ebpf::{pin_directory, uninstall as remove},
    runtime::StateDir,
};

pub fn uninstall(state_dir: &Path) -> anyhow::Result<ExitCode> {
    // A daemon that runs would go on without its pins and leave a gap at its next start. Where there is no directory, none runs.
    let (_taken, state_dir) = if state_dir.exists() {
        let taken = StateDir::take(state_dir)?;
        let path = taken.path().to_owned();
        (Some(taken), path)
    } else {
        (None, std::path::absolute(state_dir).with_context(|| format!("{}", state_dir.display()))?)
    };
    let pins = pin_directory(&state_dir);
    let removed = remove(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
    if removed.is_empty() {
        println!("nothing was left in the kernel: there is no {}", pins.display());
    }
    for (directory, names) in by_directory(&removed) {
        println!("removed {}: {}", directory.display(), names.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The names in each directory: a capture is some dozens of maps, programs and links.
fn by_directory(removed: &[PathBuf]) -> BTreeMap<&Path, Vec<String>> {
    let mut directories: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    for path in removed {
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
            directories.entry(directory).or_default().push(name.to_string_lossy().into_owned());
        }
    }
    directories.values_mut().for_each(|names| names.sort());
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_told_directory_by_directory() {
        let removed = ["/p/links/b", "/p/links/a", "/p/maps/EVENTS"].map(PathBuf::from);
        let told = by_directory(&removed);
        assert_eq!(told[Path::new("/p/links")], ["a", "b"]);
        assert_eq!(told[Path::new("/p/maps")], ["EVENTS"]);
        assert_eq!(told.len(), 2);
    }
}
