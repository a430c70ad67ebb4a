//! Which programs of the system are there, and where.

use std::path::{Path, PathBuf};

/// Whether a program of this name can be started.
pub fn on_path(program: &str) -> bool {
    path_of(program).is_some()
}

/// Where a program is.
pub fn path_of(program: &str) -> Option<PathBuf> {
    places().map(|directory| directory.join(program)).find(|path| is_program(path))
}

/// Whether this file can be run by us.
pub fn is_program(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file()
}

fn places() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A user's PATH often lacks the directories that sshd and mkfs are in.
    let further = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter().chain(further)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_missed() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-anywhere"));
    }
}
