//! From the object to maps in the kernel and programs that are ready to be loaded.
//!
//! - The settings are written into the object's read-only data before the verifier sees it.
//! - A map that this tier or kernel does not need takes no memory to speak of.

use std::{io, mem::offset_of};

use aya::{Ebpf, EbpfError, EbpfLoader, maps::MapData};
use aya_obj::maps::bpf_map_def;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use trigsync_common::{settings::Settings, values::SLOTS};

use super::{
    layout::{Capabilities, Survey},
    maps::EVENTS,
};
use crate::capture::{CaptureError, Tier};

/// The programs and maps, as the compiler made them.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../trigsync-ebpf/trigsync.bpf.o");

const PERF_EVENT_ARRAY: u32 = 4;

/// How deep the programs look. The verifier walks every loop to its end, and older ones give up sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Directories between a change and its root.
    pub deepest_walk: u64,
    /// Names in a path that is told in full.
    pub most_names: u64,
}

impl Limits {
    /// From the best on.
    ///
    /// The first is deeper than the trees in use are; a verifier that follows twice as much takes three times as long, at every start.
    pub(super) const LADDER: [Self; 4] = [
        Self { deepest_walk: 256, most_names: 64 },
        Self { deepest_walk: 128, most_names: 48 },
        Self { deepest_walk: 96, most_names: 32 },
        Self { deepest_walk: 64, most_names: 24 },
    ];
}

/// A number that tells objects and what was set in them apart; it is the same for the same in every build.
pub(super) fn digest(settings: &Settings, tier: Tier, ring_bytes: u32) -> u64 {
    let numbers = settings.globals().map(|(_, value)| *value).chain([u64::from(ring_bytes), u64::from(tier == Tier::EbpfKprobe)]);
    let numbers: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    // FNV-1a: nobody has an interest in a collision.
    OBJECT.iter().chain(&numbers).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Makes the maps, and prepares the programs. None of them is loaded yet.
pub(super) fn load(settings: &Settings, limits: Limits, tier: Tier, ring_bytes: u32) -> Result<Ebpf, EbpfError> {
    let is_kprobe = tier == Tier::EbpfKprobe;
    let settings = Settings {
        deepest_walk: limits.deepest_walk,
        most_names: limits.most_names,
        typed_task: if is_kprobe { 0 } else { settings.typed_task },
        second: if is_kprobe { 0 } else { settings.second },
        ..*settings
    };
    let patched;
    let mut object = OBJECT;
    // Without relocations by type the loader needs none of the kernel's type information.
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    for (name, value) in settings.globals() {
        loader.override_global(name, value, true);
    }
    if settings.ring == 1 {
        loader.map_max_entries(EVENTS, ring_bytes);
    } else {
        patched = without_ring(OBJECT).map_err(|error| EbpfError::FileError { path: "trigsync.bpf.o".into(), error })?;
        object = &patched;
    }
    loader.map_max_entries("SCRATCH", if settings.second == 1 { 2 * SLOTS } else { SLOTS });
    if settings.second == 0 {
        loader.map_max_entries("RAN", 1);
    }
    if !is_kprobe {
        loader.map_max_entries("FLIGHT", 1);
    }
    if settings.mode_created != 0 {
        loader.map_max_entries("CREATING", 1);
    }
    loader.load(object)
}

/// The reason, where it may be that the kernel counts maps and programs against a limit which this process may not raise.
pub(super) fn short_of_memory(survey: &Survey) -> Option<CaptureError> {
    let is_counted = !survey.capabilities.contains(Capabilities::MEMCG_ACCOUNTING);
    let is_limited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft != RLIM_INFINITY);
    (is_counted && is_limited).then_some(CaptureError::Privilege {
        action: "raising the limit of locked memory, which this kernel counts maps and programs against (LimitMEMLOCK=infinity does as well),",
        capability: "CAP_SYS_RESOURCE",
    })
}

/// The object, with its ring buffer turned into a perf event array.
fn without_ring(object: &[u8]) -> io::Result<Vec<u8>> {
    let unfit = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the object {what}"));
    let file = object::File::parse(object).map_err(|error| unfit(&format!("cannot be read: {error}")))?;
    let section = file.section_by_name("maps").ok_or_else(|| unfit("has no section `maps`"))?;
    let (start, size) = section.file_range().ok_or_else(|| unfit("has no maps in it"))?;
    let symbol = file.symbols().find(|symbol| symbol.section_index() == Some(section.index()) && symbol.name() == Ok(EVENTS));
    let within = symbol.ok_or_else(|| unfit("has no map `EVENTS`"))?.address();
    let whole = size_of::<bpf_map_def>() as u64;
    if within + whole > size {
        return Err(unfit("has a map `EVENTS` that is too small"));
    }
    let mut patched = object.to_vec();
    let at = usize::try_from(start + within).map_err(io::Error::other)?;
    // An array's key and value are a processor and a descriptor; as many entries as there are processors is what 0 stands for.
    for (offset, value) in [
        (offset_of!(bpf_map_def, map_type), PERF_EVENT_ARRAY),
        (offset_of!(bpf_map_def, key_size), 4),
        (offset_of!(bpf_map_def, value_size), 4),
        (offset_of!(bpf_map_def, max_entries), 0),
        (offset_of!(bpf_map_def, map_flags), 0),
    ] {
        let field = patched.get_mut(at + offset..at + offset + 4).ok_or_else(|| unfit("ends within its maps"))?;
        field.copy_from_slice(&value.to_ne_bytes());
    }
    Ok(patched)
}

/// Bytes of the kernel's memory that the maps of an object take.
pub(super) fn kernel_memory(ebpf: &Ebpf) -> u64 {
    use aya::maps::Map;
    let data = |map: &Map| -> u64 {
        let data: Option<&MapData> = match map {
            Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::RingBuf(data)
            | Map::PerfEventArray(data) => Some(data),
            _ => None,
        };
        data.map_or(0, super::maps::kernel_memory)
    };
    ebpf.maps().map(|(_, map)| data(map)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ring_is_turned_into_an_array() {
        let patched = without_ring(OBJECT).unwrap();
        let changed = OBJECT.iter().zip(&patched).filter(|(before, after)| before != after).count();
        assert_eq!(patched.len(), OBJECT.len());
        assert!((1..=size_of::<bpf_map_def>()).contains(&changed), "{changed}");
        let object = aya_obj::Object::parse(&patched).unwrap();
        let events = &object.maps[EVENTS];
        assert_eq!((events.map_type(), events.key_size(), events.value_size(), events.max_entries()), (PERF_EVENT_ARRAY, 4, 4, 0));
        assert!(object.maps.iter().filter(|(name, _)| *name != EVENTS).all(|(_, map)| map.map_type() != PERF_EVENT_ARRAY));
        assert!(without_ring(b"no object").is_err());
    }

    #[test]
    fn every_setting_is_a_global_of_the_object() {
        let mut object = aya_obj::Object::parse(OBJECT).unwrap();
        let value = 1_u64.to_ne_bytes();
        let globals = Settings::UNKNOWN.globals().map(|(name, _)| (name, (value.as_slice(), true))).collect();
        object.patch_map_data(globals).unwrap();
    }

    #[test]
    fn a_capture_with_other_settings_has_another_digest() {
        let settings = Settings { ring: 1, ..Settings::UNKNOWN };
        let digests = [
            digest(&settings, Tier::EbpfFexit, 4096),
            digest(&settings, Tier::EbpfFexit, 8192),
            digest(&settings, Tier::EbpfKprobe, 4096),
            digest(&Settings { ring: 0, ..settings }, Tier::EbpfFexit, 4096),
        ];
        assert_eq!(std::collections::BTreeSet::from(digests).len(), digests.len());
    }
}
