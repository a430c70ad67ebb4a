//! The maps that both sides use, with the types of the contract.

use std::{fs, io, os::fd::AsRawFd as _};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use trigsync_common::values::{Control, Excluded, Flight, LostDirectory, LostKey, Report, Root, RootKey, Thread};

/// A type of the contract, as its bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub T);

macro_rules! plain {
    ($($name:ident),*) => {
        // SAFETY: each is `repr(C)` of integers, without padding that is not named: any bytes are a value, and every byte is one's own.
        $(unsafe impl Pod for Plain<$name> {})*
    };
}

plain!(Control, Excluded, Flight, LostDirectory, LostKey, Report, Root, RootKey);

/// Names of the maps in the object, and for pins.
pub(super) const EVENTS: &str = "EVENTS";
pub(super) const CONTROL: &str = "CONTROL";
pub(super) const REPORT: &str = "REPORT";
pub(super) const ROOTS: &str = "ROOTS";
pub(super) const EXCLUDED: &str = "EXCLUDED";
pub(super) const LOST: &str = "LOST";
pub(super) const FLIGHT: &str = "FLIGHT";

/// What the daemon reads and writes besides the records.
pub(super) struct Maps {
    control: Array<MapData, Plain<Control>>,
    report: Array<MapData, Plain<Report>>,
    roots: HashMap<MapData, Plain<RootKey>, Plain<Root>>,
    excluded: HashMap<MapData, Plain<Excluded>, u32>,
    lost: HashMap<MapData, Plain<LostKey>, Plain<LostDirectory>>,
    flight: HashMap<MapData, Thread, Plain<Flight>>,
}

impl Maps {
    /// `take` hands out a map by its name.
    pub fn new(mut take: impl FnMut(&'static str) -> Result<Map, MapError>) -> Result<Self, MapError> {
        Ok(Self {
            control: Array::try_from(take(CONTROL)?)?,
            report: Array::try_from(take(REPORT)?)?,
            roots: HashMap::try_from(take(ROOTS)?)?,
            excluded: HashMap::try_from(take(EXCLUDED)?)?,
            lost: HashMap::try_from(take(LOST)?)?,
            flight: HashMap::try_from(take(FLIGHT)?)?,
        })
    }

    pub fn control(&self) -> Result<Control, MapError> {
        self.control.get(&0, 0).map(|plain| plain.0)
    }

    pub fn set_control(&mut self, control: &Control) -> Result<(), MapError> {
        self.control.set(0, Plain(*control), 0)
    }

    pub fn report(&self) -> Result<Report, MapError> {
        self.report.get(&0, 0).map(|plain| plain.0)
    }

    pub fn roots(&self) -> Result<Vec<(RootKey, Root)>, MapError> {
        self.roots.iter().map(|entry| entry.map(|(key, root)| (key.0, root.0))).collect()
    }

    pub fn set_root(&mut self, key: RootKey, root: Root) -> Result<(), MapError> {
        self.roots.insert(Plain(key), Plain(root), 0)
    }

    pub fn remove_root(&mut self, key: RootKey) -> Result<(), MapError> {
        gone_is_fine(self.roots.remove(&Plain(key)))
    }

    pub fn excluded(&self) -> Result<Vec<Excluded>, MapError> {
        self.excluded.keys().map(|key| key.map(|plain| plain.0)).collect()
    }

    pub fn exclude(&mut self, name: Excluded) -> Result<(), MapError> {
        self.excluded.insert(Plain(name), 0, 0)
    }

    pub fn include(&mut self, name: Excluded) -> Result<(), MapError> {
        gone_is_fine(self.excluded.remove(&Plain(name)))
    }

    /// Whether there is a directory in `LOST`.
    pub fn any_is_lost(&self) -> Result<bool, MapError> {
        Ok(self.lost.keys().next().transpose()?.is_some())
    }

    /// Takes a directory out of `LOST`; `None` when there is none. It is out before the caller tells of it: what changes in it from then on
    /// is put in again.
    pub fn take_lost(&mut self) -> Result<Option<LostDirectory>, MapError> {
        // An entry that somebody else puts in or takes out meanwhile may hide the first; it is found the next time.
        let Some(key) = self.lost.keys().next().transpose()? else { return Ok(None) };
        let value = match self.lost.get(&key, 0) {
            Ok(value) => value.0,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        gone_is_fine(self.lost.remove(&key))?;
        Ok(Some(value))
    }

    /// The calls that are under way, as far as they do not come and go while this looks.
    pub fn flights(&self) -> impl Iterator<Item = (Thread, Flight)> {
        self.flight.iter().filter_map(|entry| entry.ok().map(|(thread, flight)| (thread, flight.0)))
    }

    pub fn forget_flight(&mut self, thread: Thread) -> Result<(), MapError> {
        gone_is_fine(self.flight.remove(&thread))
    }
}

fn gone_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Bytes of the kernel's memory that a map takes.
pub(super) fn kernel_memory(map: &MapData) -> u64 {
    use std::os::fd::AsFd as _;
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let told = fs::read_to_string(path).unwrap_or_default();
    told.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok()).unwrap_or(0)
}
