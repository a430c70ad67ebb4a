//! The eBPF tiers: programs at the return of the kernel's own functions tell of every change below the watched roots.
//!
//! - A record is made after the operation, only where it succeeded, and only for what lies below a root; names of directories that nobody
//!   wants are dropped in the kernel.
//! - A file that was told is not told again before the next [`cut`](Source::cut).
//! - What found no room is counted, and its directory marked whole; what nobody can place marks everything.
//! - With pins the capture goes on while no daemon runs, and [`add_root`](Source::add_root) says so.

mod attach;
mod decode;
mod deliver;
mod flight;
mod kernel;
pub mod layout;
mod load;
mod loss;
mod maps;
mod options;
mod pins;
mod places;
mod probe;
mod ring;
mod roots;
mod slots;
mod take;
mod tellings;
mod tracefs;
mod trial;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use decode::fuzz as fuzz_records;

use std::{fmt, io, os::fd::BorrowedFd, time::Duration};

use aya::programs::FExit;
use tracing::warn;

use self::{
    attach::Attached,
    deliver::Delivery,
    kernel::Kernel,
    loss::Losses,
    ring::{Records, Taken},
    roots::{Later, Roots},
    tellings::{Tellings, Unrepeatable},
};
pub use self::{
    load::Limits,
    options::{Choice, Options},
    pins::{directory as pin_directory, uninstall},
    probe::probe,
};
use super::{CaptureError, Continuity, Event, Position, Sink, Source, Tier, WatchedRoot};
use crate::model::RootId;

/// How long a burst may gather before it is read on.
const PACE: Duration = Duration::from_millis(1);

/// Programs in the kernel, and the roots they tell of.
pub struct Ebpf {
    tier: Tier,
    lacks: Vec<String>,
    limits: Option<Limits>,
    kernel_memory: u64,
    armed_in: Duration,
    kernel: Kernel,
    records: Records,
    roots: Roots,
    losses: Losses,
    tellings: Tellings,
    /// Whether this goes on with a capture of which something was read that cannot be read again.
    gap: bool,
    /// Whether the last read found something.
    found: bool,
    /// Whether all counts of losses are to be looked at with the next read.
    thorough: bool,
    name: Vec<u8>,
    path: Vec<u8>,
    // Last: what hangs in the kernel goes after those that read it.
    hold: Hold,
}

/// What keeps the programs in the kernel.
struct Hold {
    /// Before the programs: a probe goes before what hangs at it.
    attached: Option<Attached>,
    programs: Option<aya::Ebpf>,
    taken_over: Vec<FExit>,
}

impl fmt::Debug for Ebpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ebpf").field("tier", &self.tier).field("lacks", &self.lacks).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Ebpf {
    /// What this kernel keeps from the tier, one sentence each.
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// How deep the programs look; `None` for a capture that was taken over.
    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// Bytes of the kernel's memory for maps and buffers; it does not grow.
    pub fn kernel_memory(&self) -> u64 {
        self.kernel_memory
    }

    /// How long it took until the programs were there.
    pub fn armed_in(&self) -> Duration {
        self.armed_in
    }

    /// How many programs are attached.
    pub fn programs(&self) -> usize {
        self.hold.attached.as_ref().map_or(self.hold.taken_over.len(), |attached| attached.hung.len())
    }

    /// Tells what had to wait for somebody to tell it to.
    fn tell_later(later: Vec<Later>, delivery: &mut Delivery<'_>) {
        for later in later {
            match later {
                Later::Lost(root) => delivery.sink.event(Event::Lost { root }),
                Later::Kept(slot, kept) => {
                    kept.records.iter().for_each(|record| delivery.record(record));
                    if kept.lost {
                        delivery.lost(Some(slot));
                    }
                }
            }
        }
    }
}

impl Source for Ebpf {
    fn tier(&self) -> Tier {
        self.tier
    }

    fn add_root(&mut self, id: RootId, root: &WatchedRoot) -> Result<Continuity, CaptureError> {
        match self.roots.add(&mut self.kernel, id, root)? {
            Continuity::Resumed if self.gap => Ok(Continuity::Gap),
            continuity => Ok(continuity),
        }
    }

    fn remove_root(&mut self, id: RootId) {
        if let Err(error) = self.roots.remove(&mut self.kernel, id) {
            warn!(%error, "the kernel goes on telling of a root that is not watched any more");
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }

    fn cut(&mut self) -> io::Result<()> {
        self.kernel.raise_epoch().map_err(io::Error::other)
    }

    fn barrier(&mut self) -> io::Result<u64> {
        self.cut()?;
        self.thorough = true;
        Ok(self.records.waiting())
    }

    fn read(&mut self, sink: &mut dyn Sink) -> io::Result<u64> {
        let Self { kernel, records, roots, losses, tellings, name, path, hold, .. } = self;
        let later = std::mem::take(&mut roots.later);
        let told_later = !later.is_empty();
        let (name, path) = (std::mem::take(name), std::mem::take(path));
        let mut delivery = Delivery { roots, sink, renamed: false, name, path };
        let taken = records.read(|record| delivery.record(record));
        let Delivery { name, path, mut renamed, .. } = delivery;
        let mut unrepeatable = Unrepeatable { sink, tellings };
        let mut delivery = Delivery { roots, sink: &mut unrepeatable, renamed: false, name, path };
        Self::tell_later(later, &mut delivery);
        losses.check(kernel, &taken, &mut delivery, tellings)?;
        if std::mem::take(&mut self.thorough) {
            losses.check_all(kernel, hold.attached.as_ref(), &mut delivery, tellings)?;
        }
        renamed |= delivery.renamed;
        (self.name, self.path) = (delivery.name, delivery.path);
        if renamed {
            roots.follow_renames(kernel, &mut unrepeatable);
        }
        let Taken { units, .. } = taken;
        self.found = units > 0;
        Ok(if told_later { units.max(1) } else { units })
    }

    fn position(&self) -> Option<Position> {
        self.tellings.position(self.records.consumed()?)
    }

    fn pace(&self) -> Option<Duration> {
        match self.roots.later.is_empty() {
            false => Some(Duration::ZERO),
            true => self.found.then_some(PACE),
        }
    }

    fn check_roots(&mut self, sink: &mut dyn Sink) {
        let Self { kernel, records, roots, losses, tellings, hold, .. } = self;
        let sink = &mut Unrepeatable { sink, tellings };
        roots.check(kernel, sink);
        if let Records::Buffers(buffers) = records
            && let Err(error) = buffers.follow_processors()
        {
            warn!(%error, "what happens on a processor that came online is marked by directory only");
        }
        let mut delivery = Delivery { roots, sink, renamed: false, name: Vec::new(), path: Vec::new() };
        if let Err(error) = losses.check_all(kernel, hold.attached.as_ref(), &mut delivery, tellings) {
            warn!(%error, "reading what the kernel lost");
        }
        if self.tier == Tier::EbpfKprobe {
            losses.check_flights(kernel, &mut delivery);
        }
    }
}
