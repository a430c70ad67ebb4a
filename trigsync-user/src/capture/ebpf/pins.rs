//! A capture that outlives its daemon: maps, programs and links have names in a bpffs, and the next daemon goes on with them.
//!
//! - What stands under its final name is complete: it is put together under another one, which is then changed.
//! - The name says of which object and settings a capture is; any other is taken away before a new one is made.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError},
    programs::FExit,
};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use tracing::{debug, info};
use trigsync_common::ABI;

use super::{attach::Attached, loss::Losses, maps::EVENTS};

/// Where the kernel offers a place for its file system.
const BPFFS: &str = "/sys/fs/bpf";

const MAPS: &str = "maps";
const PROGRAMS: &str = "programs";
const LINKS: &str = "links";

/// Counts of losses that were told: not a map of the programs.
const TOLD: &str = "TOLD";

/// The directory for the pins of the daemon whose state is in `state`.
pub fn directory(state: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    // A bpffs takes no dots in names.
    let escape = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(*byte).to_string(),
        byte => format!("_{byte:02x}"),
    };
    let name: String = state.as_os_str().as_bytes().iter().map(escape).collect();
    Path::new(BPFFS).join("trigsync").join(name)
}

/// Takes away every pin in `directory`, and the directory. What was pinned ends with it, unless a daemon holds it. Returns what was removed.
pub fn uninstall(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    remove(directory, &mut removed)?;
    // Its parent stays where others are in it.
    let _ = directory.parent().map(fs::remove_dir);
    Ok(removed)
}

fn remove(path: &Path, removed: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path(), removed)?;
        } else {
            fs::remove_file(entry.path())?;
            removed.push(entry.path());
        }
    }
    fs::remove_dir(path)
}

/// The pins of one capture.
#[derive(Debug)]
pub(super) struct Pins {
    base: PathBuf,
    place: PathBuf,
}

impl Pins {
    /// For a capture with this digest, in `base`. Mounts a bpffs where the kernel offers a place for it and there is none.
    pub fn new(base: &Path, digest: u64) -> io::Result<Self> {
        let is_bpffs = |path: &Path| statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
        if base.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            let mounted = mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=700"));
            mounted.map_err(|errno| io::Error::other(format!("{BPFFS} is no bpffs, and mounting one failed: {}", errno.desc())))?;
        }
        fs::create_dir_all(base)?;
        if !is_bpffs(base) {
            return Err(io::Error::other(format!("{} is not on a bpffs", base.display())));
        }
        Ok(Self { base: base.to_owned(), place: base.join(format!("v{ABI}-{digest:016x}")) })
    }

    /// Whether there is a capture to go on with.
    pub fn is_there(&self) -> bool {
        self.place.is_dir()
    }

    /// A map of the capture that is there.
    pub fn map(&self, name: &str) -> Result<Map, MapError> {
        Map::from_map_data(MapData::from_pin(self.place.join(MAPS).join(name))?)
    }

    /// The counts of losses that were told.
    pub fn told(&self) -> Result<Array<MapData, u64>, MapError> {
        Array::try_from(self.map(TOLD)?)
    }

    /// The ring of the capture that is there.
    pub fn ring(&self) -> Result<MapData, MapError> {
        MapData::from_pin(self.place.join(MAPS).join(EVENTS))
    }

    /// All maps of the capture that is there, for what they weigh.
    pub fn maps(&self) -> io::Result<Vec<MapData>> {
        let names = fs::read_dir(self.place.join(MAPS))?;
        names.map(|name| MapData::from_pin(name?.path()).map_err(io::Error::other)).collect()
    }

    /// The programs that are attached, by name.
    pub fn programs(&self) -> io::Result<Vec<(String, FExit)>> {
        let mut programs = Vec::new();
        for entry in fs::read_dir(self.place.join(PROGRAMS))? {
            let entry = entry?;
            // The kernel has one kind for programs at either end of a function.
            let program = FExit::from_pin(entry.path()).map_err(io::Error::other)?;
            programs.push((entry.file_name().to_string_lossy().into_owned(), program));
        }
        Ok(programs)
    }

    /// Takes away every capture in the base.
    pub fn clear(&self) -> io::Result<()> {
        let removed = uninstall(&self.base)?;
        if !removed.is_empty() {
            info!(pins = removed.len(), "a capture of before does not fit and was taken away");
        }
        fs::create_dir_all(&self.base)
    }

    /// Takes single programs out of the capture that is there.
    pub fn forget(&self, programs: &[String]) -> io::Result<()> {
        for program in programs {
            for part in [LINKS, PROGRAMS] {
                fs::remove_file(self.place.join(part).join(program))?;
            }
        }
        Ok(())
    }

    /// Pins a capture that was just attached.
    pub fn install(&self, ebpf: &mut Ebpf, attached: &mut Attached) -> io::Result<()> {
        let building = self.base.join("building");
        for part in [MAPS, PROGRAMS, LINKS] {
            fs::create_dir_all(building.join(part))?;
        }
        for (name, map) in ebpf.maps() {
            // Read-only data has a name with a dot, and nobody needs it again.
            if !name.contains('.') {
                map.pin(building.join(MAPS).join(name)).map_err(io::Error::other)?;
            }
        }
        let told = Array::<MapData, u64>::create(Losses::KEPT, 0).map_err(io::Error::other)?;
        told.pin(building.join(MAPS).join(TOLD)).map_err(io::Error::other)?;
        for hung in &mut attached.hung {
            let program = ebpf.program_mut(&hung.program).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            program.pin(building.join(PROGRAMS).join(&hung.program)).map_err(io::Error::other)?;
            if let Some(link) = hung.link.take() {
                let pinned = link.pin(building.join(LINKS).join(&hung.program)).map_err(io::Error::other)?;
                hung.link = Some(pinned.into());
            }
        }
        fs::rename(&building, &self.place)?;
        debug!(place = %self.place.display(), "pinned");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_bpffs_has_no_dots_and_no_two_states_share_one() {
        assert_eq!(directory(Path::new("/var/lib/trigsync")), Path::new("/sys/fs/bpf/trigsync/_2fvar_2flib_2ftrigsync"));
        assert_eq!(directory(Path::new("/a.b_c")), Path::new("/sys/fs/bpf/trigsync/_2fa_2eb_5fc"));
    }

    #[test]
    fn uninstalling_what_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(uninstall(&dir.path().join("none")).unwrap().is_empty());
        fs::create_dir_all(dir.path().join("base/v1-0/maps")).unwrap();
        fs::write(dir.path().join("base/v1-0/maps/ROOTS"), "").unwrap();
        assert_eq!(uninstall(&dir.path().join("base")).unwrap(), [dir.path().join("base/v1-0/maps/ROOTS")]);
        assert!(!dir.path().join("base").exists());
    }
}
