//! The temporary directory of one test: source, target, state, configuration and logs, removed at the end, with what a capture
//! left in the kernel.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use trigsync::capture::ebpf;

/// A directory of its own for one test.
pub struct Room {
    directory: TempDir,
}

impl Room {
    /// An empty room. It may be entered by every user, since servers drop to other ones.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// [`new`](Self::new), in a directory on the file system in question.
    pub fn new_in(dir: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("trigsync-test-").tempdir_in(dir).expect("a temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod of our own directory");
        Self { directory }
    }

    /// The room's directory, without symbolic links.
    pub fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().expect("the room is there")
    }

    /// `name` in the room; nothing is made.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// `name` in the room, a directory, made where it is missing.
    pub fn directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(&path).expect("a directory in the room");
        path
    }

    /// The directory `source`.
    pub fn source(&self) -> PathBuf {
        self.directory("source")
    }

    /// The directory `target`.
    pub fn target(&self) -> PathBuf {
        self.directory("target")
    }

    /// Where the daemon keeps its state.
    pub fn state(&self) -> PathBuf {
        self.at("state")
    }

    /// Writes a file in the room with mode 0600.
    pub fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, content).expect("a file in the room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod of our own file");
        path
    }

    /// Writes a shell script that can be run, into a directory of its own: [`programs`](Self::programs).
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.programs().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program in the room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod of our own file");
        path
    }

    /// Where programs of the room's own are, to be put in front of the real ones.
    pub fn programs(&self) -> PathBuf {
        self.directory("programs")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A capture that outlives its daemon would outlive the room too.
        if let Ok(state) = self.directory.path().join("state").canonicalize() {
            let _ = ebpf::uninstall(&ebpf::pin_directory(&state));
        }
    }
}
