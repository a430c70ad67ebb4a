//! Counts what is told and stands in no ring: whoever goes on after a crash can read a ring again, but not this.
//!
//! The count is kept beside the pinned capture, and raised *before* anything is told, or taken out of where it would be found again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::{Array, MapData, MapError};
use tracing::warn;

use crate::capture::{Event, Position, Sink};

/// How often something was told that cannot be told again.
#[derive(Default)]
pub(super) struct Tellings {
    counted: Mutex<Counted>,
    /// The kernel's number of the ring, where that outlives this process.
    ring: Option<u32>,
}

#[derive(Default)]
struct Counted {
    count: u64,
    /// Where it outlives this process.
    kept: Option<Array<MapData, u64>>,
}

impl Tellings {
    /// Where in the map of counts it stands.
    pub const AT: u32 = 4;

    /// Of a capture that does not end with the process: the map of counts, and the ring's number.
    pub fn pinned(kept: Array<MapData, u64>, ring: u32) -> Result<Self, MapError> {
        let counted = Counted { count: kept.get(&Self::AT, 0)?, kept: Some(kept) };
        Ok(Self { counted: Mutex::new(counted), ring: Some(ring) })
    }

    /// Something is told now.
    pub fn note(&self) {
        let mut counted = self.counted();
        counted.count += 1;
        let Counted { count, kept } = &mut *counted;
        if let Some(kept) = kept
            && let Err(error) = kept.set(Self::AT, *count, 0)
        {
            warn!(%error, "after a crash now, a loss may be forgotten");
        }
    }

    /// Where a capture is whose ring was read up to here; `None` where it ends with the process.
    pub fn position(&self, read: u64) -> Option<Position> {
        self.ring.map(|ring| Position { ring, read, told: self.counted().count })
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sink for what cannot be told again.
pub(super) struct Unrepeatable<'a> {
    pub sink: &'a mut dyn Sink,
    pub tellings: &'a Tellings,
}

impl Sink for Unrepeatable<'_> {
    fn event(&mut self, event: Event<'_>) {
        self.tellings.note();
        self.sink.event(event);
    }

    fn delivered(&mut self) {
        self.sink.delivered();
    }
}
