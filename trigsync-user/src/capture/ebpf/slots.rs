//! The numbers by which records name directories, kept equal in the kernel's maps and here.
//!
//! - A number is not given to another directory before all others were: records that still wait cannot be taken for those of another root.
//! - A directory that a capture of before knows keeps its number, so that what it told meanwhile finds its root.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use aya::maps::MapError;
use tracing::{debug, info};
use trigsync_common::values::{Excluded, LONGEST_EXCLUDED, Root, RootKey};

use super::{
    kernel::Kernel,
    places::{Place, Wanted},
};

/// How long a capture of before waits for its roots to be asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of records that are kept for roots which are not asked for yet.
const MOST_KEPT: usize = 4 << 20;

/// A directory that the programs know.
struct Slot {
    key: RootKey,
    flags: u16,
    places: Vec<Place>,
}

/// What was told for a directory of a capture of before.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Records, in order.
    pub records: Vec<Vec<u8>>,
    /// Whether there were more, or a loss.
    pub lost: bool,
}

/// All numbers in use.
#[derive(Default)]
pub(super) struct Slots {
    /// Few, and looked up for every record: no hash is as quick.
    known: BTreeMap<u16, Slot>,
    numbers: BTreeMap<RootKey, u16>,
    next: u16,
    /// Directories of a capture of before that nobody has asked for yet.
    unclaimed: BTreeMap<RootKey, Root>,
    kept: HashMap<u16, Kept>,
    kept_bytes: usize,
    /// When the unclaimed ones are given up.
    patience: Option<Instant>,
    /// All that is in `EXCLUDED`.
    names: HashMap<u16, Vec<Excluded>>,
}

impl Slots {
    /// Of a capture of before.
    pub fn inherit(kernel: &Kernel) -> Result<Self, MapError> {
        let unclaimed: BTreeMap<RootKey, Root> = kernel.maps.roots()?.into_iter().collect();
        let mut names: HashMap<u16, Vec<Excluded>> = HashMap::new();
        for name in kernel.maps.excluded()? {
            names.entry(name.slot).or_default().push(name);
        }
        let patience = (!unclaimed.is_empty()).then(|| Instant::now() + PATIENCE);
        Ok(Self { unclaimed, names, patience, ..Self::default() })
    }

    /// Whether a capture of before watches this directory.
    pub fn is_inherited(&self, key: &RootKey) -> bool {
        self.unclaimed.get(key).is_some_and(|root| root.flags & Root::HIDDEN == 0)
    }

    /// Where a record of this number is seen; `None` where that is not known.
    pub fn places(&self, slot: u16) -> Option<&[Place]> {
        self.known.get(&slot).map(|slot| slot.places.as_slice())
    }

    /// Whether any directory is seen elsewhere than at the top of a root: a rename may then change its place.
    pub fn has_inner(&self) -> bool {
        self.known.values().any(|slot| slot.flags & Root::HIDDEN != 0 || slot.places.iter().any(|place| !place.at.is_root()))
    }

    /// Keeps a record for a root that may be asked for yet.
    pub fn keep(&mut self, slot: u16, record: &[u8]) {
        if !self.unclaimed.values().any(|root| root.slot == slot) {
            return;
        }
        let kept = self.kept.entry(slot).or_default();
        if self.kept_bytes + record.len() > MOST_KEPT {
            kept.lost = true;
            return;
        }
        self.kept_bytes += record.len();
        kept.records.push(record.to_vec());
    }

    /// Notes that something was lost for a root that may be asked for yet; for all of them where the number is not known.
    pub fn keep_loss(&mut self, slot: Option<u16>) {
        for root in self.unclaimed.values().filter(|root| slot.is_none_or(|slot| slot == root.slot)) {
            self.kept.entry(root.slot).or_default().lost = true;
        }
    }

    /// Makes the kernel know exactly what is wanted. Returns what was kept for those that a capture of before knew, by number.
    pub fn apply(&mut self, kernel: &mut Kernel, wanted: BTreeMap<RootKey, Wanted>) -> Result<Vec<(u16, Kept)>, MapError> {
        let mut found = Vec::new();
        let gone: Vec<RootKey> = self.numbers.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for (key, Wanted { flags, places, excluded }) in wanted {
            let number = match (self.numbers.get(&key), self.unclaimed.remove(&key)) {
                (Some(number), _) => *number,
                (None, Some(root)) => {
                    let kept = self.kept.remove(&root.slot).unwrap_or_default();
                    self.kept_bytes -= kept.records.iter().map(Vec::len).sum::<usize>();
                    found.push((root.slot, kept));
                    root.slot
                }
                (None, None) => self.free_number(),
            };
            // Known here before the kernel tells of it.
            self.numbers.insert(key, number);
            let before = self.known.insert(number, Slot { key, flags, places });
            self.exclude(kernel, number, &excluded)?;
            if before.is_none_or(|before| before.flags != flags) {
                kernel.put_root(key, Root { slot: number, flags })?;
            }
        }
        for key in gone {
            kernel.maps.remove_root(key)?;
            if let Some(number) = self.numbers.remove(&key) {
                self.known.remove(&number);
                self.exclude(kernel, number, &BTreeSet::new())?;
            }
        }
        self.set_masks(kernel)?;
        Ok(found)
    }

    /// Gives up what nobody has asked for, when its time has come. Whether that was more than hidden directories: mounts inside roots
    /// may have come or gone while no daemon ran.
    pub fn lose_patience(&mut self, kernel: &mut Kernel, now: Instant) -> Result<bool, MapError> {
        if self.patience.is_none_or(|until| now < until) {
            return Ok(false);
        }
        self.patience = None;
        let mut were_told = false;
        for (key, root) in std::mem::take(&mut self.unclaimed) {
            info!(?key, "a directory that was watched before is not asked for any more");
            were_told |= root.flags & Root::HIDDEN == 0;
            kernel.maps.remove_root(key)?;
            self.exclude(kernel, root.slot, &BTreeSet::new())?;
        }
        self.kept.clear();
        self.kept_bytes = 0;
        self.set_masks(kernel)?;
        Ok(were_told)
    }

    fn set_masks(&self, kernel: &mut Kernel) -> Result<(), MapError> {
        let keys = self.known.values().map(|slot| &slot.key).chain(self.unclaimed.keys());
        kernel.set_masks(keys, self.names.values().flatten())
    }

    fn free_number(&mut self) -> u16 {
        loop {
            self.next = self.next.wrapping_add(1);
            let next = self.next;
            if !self.known.contains_key(&next) && !self.unclaimed.values().any(|root| root.slot == next) {
                return next;
            }
        }
    }

    /// Makes `EXCLUDED` hold these names for a number. A full map costs events that nobody wants, and nothing else.
    fn exclude(&mut self, kernel: &mut Kernel, number: u16, names: &BTreeSet<Vec<u8>>) -> Result<(), MapError> {
        let mut now = self.names.remove(&number).unwrap_or_default();
        for name in now.extract_if(.., |name| !names.contains(&name.name[..usize::from(name.length).min(LONGEST_EXCLUDED)])) {
            kernel.maps.include(name)?;
        }
        for name in names {
            let Some(name) = excluded(number, name).filter(|name| !now.contains(name)) else { continue };
            if let Err(error) = kernel.maps.exclude(name) {
                debug!(%error, "a name is not dropped in the kernel");
                break;
            }
            now.push(name);
        }
        if !now.is_empty() {
            self.names.insert(number, now);
        }
        Ok(())
    }
}

fn excluded(slot: u16, name: &[u8]) -> Option<Excluded> {
    let length = u16::try_from(name.len()).ok()?;
    let mut filled = [0; LONGEST_EXCLUDED];
    filled.get_mut(..name.len())?.copy_from_slice(name);
    Some(Excluded { slot, length, name: filled })
}
