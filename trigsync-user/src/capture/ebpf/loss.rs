//! What the kernel could not tell. Every count that grows becomes marks: of directories where those are known, of everything else.
//!
//! - What was taken out of the map of lost directories is told after it was taken out.
//! - A capture that goes on after its daemon counts on: what was told is kept beside it.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::fs::FileExt as _,
    },
};

use aya::maps::{Array, MapData, MapError};
use tracing::{debug, info, warn};

use super::{attach::Attached, decode, deliver::Delivery, flight::Flights, kernel::Kernel, ring::Taken, tellings::Tellings};

/// Directories that one look takes out of `LOST`, which has fewer.
const MOST_DIRECTORIES: usize = 4096;

/// Counts that have been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    lost: u64,
    everything: u64,
    missed: u64,
    stood_in: u64,
}

/// Watches the counts.
pub(super) struct Losses {
    told: Told,
    /// Where they outlive this process.
    kept: Option<Array<MapData, u64>>,
    /// What the kernel says of each program, by its name.
    programs: Vec<(String, File)>,
    flights: Flights,
    second: Second,
    /// Records that the kernel told to have dropped from perf buffers.
    dropped: u64,
    /// Of these, those that the programs did not count.
    uncounted: u64,
    /// Whether a program of this kernel hears that its record found no room; before 5.1 none did.
    refusals_are_heard: Option<bool>,
}

impl Losses {
    /// Nothing was told yet; or, with `kept`, what that says.
    pub fn new(kept: Option<Array<MapData, u64>>) -> Result<Self, MapError> {
        let mut told = Told::default();
        if let Some(kept) = &kept {
            told = Told { lost: kept.get(&0, 0)?, everything: kept.get(&1, 0)?, missed: kept.get(&2, 0)?, stood_in: kept.get(&3, 0)? };
        }
        let flights = Flights::default();
        let second = Second::default();
        Ok(Self { told, kept, programs: Vec::new(), flights, second, dropped: 0, uncounted: 0, refusals_are_heard: None })
    }

    /// Counts that this map has room for.
    pub const KEPT: u32 = Tellings::AT + 1;

    /// Watches what a program misses. Its descriptor must stay open.
    pub fn watch(&mut self, name: &str, program: BorrowedFd<'_>) -> io::Result<()> {
        self.programs.push((name.to_owned(), File::open(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?));
        Ok(())
    }

    /// Watches these programs no longer.
    pub fn forget(&mut self, names: &[String]) {
        self.programs.retain(|(name, _)| !names.contains(name));
    }

    /// After each read.
    pub fn check(&mut self, kernel: &mut Kernel, taken: &Taken, delivery: &mut Delivery<'_>, tellings: &Tellings) -> io::Result<()> {
        let report = kernel.maps.report().map_err(io::Error::other)?;
        let mut told = self.told;
        if self.is_dropped(taken, report.lost) {
            delivery.lost(None);
        }
        if report.everything != told.everything {
            info!(times = report.everything.wrapping_sub(told.everything), "changes were lost, nobody knows where: everything is marked");
            delivery.lost(None);
        }
        if report.lost != told.lost {
            debug!(records = report.lost.wrapping_sub(told.lost), "records found no room: their directories are marked");
            Self::tell_directories(kernel, delivery, tellings).map_err(io::Error::other)?;
        }
        (told.lost, told.everything) = (report.lost, report.everything);
        self.keep(told);
        Ok(())
    }

    /// About once a second, and at each barrier: to ask about every program takes as long as to read hundreds of records.
    pub fn check_all(
        &mut self,
        kernel: &mut Kernel,
        attached: Option<&Attached>,
        delivery: &mut Delivery<'_>,
        tellings: &Tellings,
    ) -> io::Result<()> {
        let probes = attached.and_then(Attached::missed_by_probes).transpose()?.unwrap_or(0);
        let missed = self.missed()? + probes;
        // Read after the misses, because whoever stands in is counted after the miss.
        let stood_in = kernel.maps.report().map_err(io::Error::other)?.stood_in;
        let told = self.told;
        let misses = missed.saturating_sub(told.missed);
        let unseen = self.second.unseen(misses, stood_in.wrapping_sub(told.stood_in));
        if unseen > 0 {
            info!(calls = unseen, of = misses, "calls were missed in the kernel: everything is marked");
            delivery.lost(None);
        } else if misses > 0 {
            debug!(calls = misses, "calls were missed in the kernel, and seen by second programs");
        }
        // A directory may have been put in after its loss was seen.
        Self::tell_directories(kernel, delivery, tellings).map_err(io::Error::other)?;
        self.keep(Told { missed, stood_in, ..told });
        Ok(())
    }

    /// Calls that never came back, for tiers that keep them.
    pub fn check_flights(&mut self, kernel: &mut Kernel, delivery: &mut Delivery<'_>) {
        if self.flights.any_is_stale(kernel) {
            delivery.lost(None);
        }
    }

    fn tell_directories(kernel: &mut Kernel, delivery: &mut Delivery<'_>, tellings: &Tellings) -> Result<(), MapError> {
        for _ in 0..MOST_DIRECTORIES {
            if !kernel.maps.any_is_lost()? {
                return Ok(());
            }
            tellings.note();
            let Some(directory) = kernel.maps.take_lost()? else { return Ok(()) };
            match decode::lost(&directory) {
                Ok(path) => delivery.tree(directory.slot, &path),
                Err(malformed) => delivery.malformed(&malformed),
            }
        }
        Ok(())
    }

    /// Whether a perf buffer dropped what nobody counted.
    fn is_dropped(&mut self, taken: &Taken, counted: u64) -> bool {
        self.dropped += taken.dropped;
        let uncounted = self.dropped.saturating_sub(counted);
        let grew = uncounted > self.uncounted;
        if taken.dropped > 0 {
            self.refusals_are_heard = Some(!grew && self.refusals_are_heard != Some(false));
        }
        self.uncounted = self.uncounted.max(uncounted);
        if grew {
            info!(records = taken.dropped, "perf buffers were full: everything is marked");
        }
        // The kernel tells of what it dropped with the next record, which may never come.
        grew || taken.crowded && self.refusals_are_heard != Some(true)
    }

    fn missed(&self) -> io::Result<u64> {
        let mut text = [0; 1024];
        let mut sum = 0;
        for (_, program) in &self.programs {
            let length = program.read_at(&mut text, 0)?;
            sum += recursion_misses(&text[..length]);
        }
        Ok(sum)
    }

    fn keep(&mut self, told: Told) {
        if told == self.told {
            return;
        }
        self.told = told;
        if let Some(kept) = &mut self.kept {
            for (at, count) in (0..).zip([told.lost, told.everything, told.missed, told.stood_in]) {
                if let Err(error) = kept.set(at, count, 0) {
                    warn!(%error, "what was told will be told again after a restart");
                }
            }
        }
    }
}

/// Weighs the calls that were missed against those that a second program saw.
#[derive(Debug, Default)]
struct Second {
    /// Of those that were seen at the last look, how many of whose misses were not yet counted then: to ask every program takes a while.
    early: u64,
}

impl Second {
    /// How many of `missed` calls nobody saw.
    fn unseen(&mut self, missed: u64, seen: u64) -> u64 {
        let unseen = missed.saturating_sub(seen + self.early);
        // Not for longer than to the next look: where two programs told of one call, there is no miss to come.
        self.early = seen.saturating_sub(missed);
        unseen
    }
}

/// Of a program's `fdinfo`; kernels before 5.12 do not count.
fn recursion_misses(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_where_they_are_counted() {
        assert_eq!(recursion_misses(b"prog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t12\nverified_insns:\t5\n"), 12);
        assert_eq!(recursion_misses(b"prog_type:\t2\n"), 0);
    }

    #[test]
    fn what_a_second_program_saw_is_not_missed() {
        let mut second = Second::default();
        assert_eq!(second.unseen(5, 5), 0);
        assert_eq!(second.unseen(3, 7), 0);
        assert_eq!(second.unseen(4, 0), 0, "those that were seen before their miss was counted");
        assert_eq!(second.unseen(1, 0), 1);
        assert_eq!(second.unseen(0, 9), 0);
        assert_eq!(second.unseen(0, 0), 0);
        assert_eq!(second.unseen(2, 0), 2, "what was seen long ago makes up for nothing");
    }

    #[test]
    fn what_the_programs_counted_is_not_dropped_twice() {
        let mut losses = Losses::new(None).unwrap();
        let taken = |dropped, crowded| Taken { units: 1, dropped, crowded };
        // A full buffer, and no word of a loss yet: perhaps the kernel cannot give one.
        assert!(losses.is_dropped(&taken(0, true), 0));
        assert!(!losses.is_dropped(&taken(3, true), 3));
        assert!(!losses.is_dropped(&taken(0, true), 3));
        // One kernel or the other: nothing of this was counted.
        assert!(losses.is_dropped(&taken(2, false), 3));
        assert!(losses.is_dropped(&taken(0, true), 3));
        assert!(!losses.is_dropped(&taken(0, false), 3));
    }
}
