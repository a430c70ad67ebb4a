//! The maps. Keys and values are the contract's; sizes are the largest that are of use, the daemon may choose smaller ones.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use trigsync_common::values::{Control, Excluded, Flight, LostDirectory, LostKey, Report, Root, RootKey, SLOTS, Thread};

use crate::{
    elsewhere,
    files::Creating,
    fold::PLACES,
    names::{OldName, RenameKey},
    scratch::Scratch,
};

/// Records. Where the kernel has no ring buffer, the daemon turns this definition into a perf event array before loading.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

#[map]
pub static REPORT: Array<Report> = Array::with_max_entries(1, 0);

#[map]
pub static ROOTS: HashMap<RootKey, Root> = HashMap::with_max_entries(4096, 0);

#[map]
pub static EXCLUDED: HashMap<Excluded, u32> = HashMap::with_max_entries(1024, 0);

/// Directories outside every root, see [`elsewhere`](crate::elsewhere).
#[map]
pub static ELSEWHERE: Array<u64> = Array::with_max_entries(elsewhere::PLACES, 0);

/// What was told in which epoch, see [`fold`](crate::fold).
#[map]
pub static FOLD: Array<u64> = Array::with_max_entries(PLACES, 0);

#[map]
pub static LOST: HashMap<LostKey, LostDirectory> = HashMap::with_max_entries(1024, 0);

#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2 * SLOTS, 0);

/// For which thread each program ran last, see [`skipped`](crate::skipped).
#[map]
pub static RAN: PerCpuArray<u64> = PerCpuArray::with_max_entries(SLOTS, 0);

/// Old names of renames that are under way.
#[map]
pub static RENAMES: HashMap<RenameKey, OldName> = HashMap::with_max_entries(4096, 0);

/// Calls under way, where they are seen by probes.
#[map]
pub static FLIGHT: HashMap<Thread, Flight> = HashMap::with_max_entries(32768, 0);

/// Names that a thread was about to make, where an opened file does not say whether the open made it.
#[map]
pub static CREATING: LruHashMap<Thread, Creating> = LruHashMap::with_max_entries(16384, 0);

/// Directories that threads are removing, by address, where `vfs_rmdir` is not called as a function.
#[map]
pub static REMOVING: LruHashMap<Thread, u64> = LruHashMap::with_max_entries(4096, 0);
