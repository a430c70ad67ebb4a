//! Records as the kernel hands them out: from one ring, or, where there is none, from a buffer for each processor.
//!
//! - A read takes a bounded amount.
//! - [`Records::waiting`] and [`Records::read`] count in the same unit: whoever has read what waited has read every record that was complete
//!   before it asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::{
    maps::{
        Map, MapData, MapError, PerfEventArray, RingBuf,
        perf::{PerfBufferError, PerfEvent, PerfEventArrayBuffer},
    },
    util::online_cpus,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tracing::{info, warn};
use trigsync_common::record::{Header, LONGEST_PATH};

/// Bytes after which a read ends.
const BUDGET: usize = 256 * 1024;

/// How long a record that another thread has begun to write is waited for.
const LONGEST_WRITE: Duration = Duration::from_secs(1);

/// What one read took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// In the unit of [`Records::waiting`]; 0 when nothing waited.
    pub units: u64,
    /// Records that the kernel told to have dropped.
    pub dropped: u64,
    /// Whether a buffer was so full that the kernel may have dropped a record without having told it yet.
    pub crowded: bool,
}

/// Where the records come from.
pub(super) enum Records {
    Ring(Ring),
    Buffers(Buffers),
}

impl Records {
    pub fn ring(map: Map) -> Result<Self, MapError> {
        // Where it begins to read, it finds in the pages that are shared with the kernel.
        let ring = RingBuf::try_from(map)?;
        let positions = Positions::of(ring.as_fd()).map_err(MapError::IoError)?;
        Ok(Self::Ring(Ring { ring, positions }))
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ring(ring) => ring.ring.as_fd(),
            Self::Buffers(buffers) => buffers.epoll.0.as_fd(),
        }
    }

    /// Bytes that were read since the ring was made; none where there is no ring.
    pub fn consumed(&self) -> Option<u64> {
        match self {
            Self::Ring(ring) => Some(ring.positions.consumer() as u64),
            Self::Buffers(_) => None,
        }
    }

    /// What has to be read until all that is there now was.
    pub fn waiting(&self) -> u64 {
        match self {
            Self::Ring(ring) => ring.positions.waiting() as u64,
            // A visit to each.
            Self::Buffers(buffers) => buffers.open.len() as u64,
        }
    }

    /// Hands records to `each`.
    pub fn read(&mut self, each: impl FnMut(&[u8])) -> Taken {
        match self {
            Self::Ring(ring) => ring.read(each),
            Self::Buffers(buffers) => buffers.read(each),
        }
    }
}

/// The kernel's ring buffer.
pub(super) struct Ring {
    ring: RingBuf<MapData>,
    positions: Positions,
}

impl Ring {
    fn read(&mut self, mut each: impl FnMut(&[u8])) -> Taken {
        let until = Instant::now() + LONGEST_WRITE;
        loop {
            let before = self.positions.consumer();
            let mut taken = 0;
            while let Some(record) = self.ring.next() {
                taken += record.len();
                each(&record);
                if taken >= BUDGET {
                    break;
                }
            }
            let units = self.positions.consumer().wrapping_sub(before) as u64;
            // A writer that was interrupted holds up all that came after it, and this is not the end.
            if units > 0 || self.positions.waiting() == 0 {
                return Taken { units, ..Taken::default() };
            }
            if Instant::now() >= until {
                warn!("a program in the kernel has not finished its record for a second");
                return Taken::default();
            }
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Has a ring that nobody reads begin with what was read already, from `to` on. False, and nothing is done, where the kernel may have
/// written over that.
pub(super) fn rewind(ring: BorrowedFd<'_>, size: u32, to: u64) -> io::Result<bool> {
    let positions = Positions::of(ring)?;
    let read = positions.consumer();
    let Ok(to) = usize::try_from(to) else { return Ok(false) };
    // The other half is for writers that have looked at the old position already.
    let is_there = || positions.producer().wrapping_sub(to) <= size as usize / 2;
    if to > read || !is_there() {
        return Ok(false);
    }
    positions.set_consumer(ring, to)?;
    thread::sleep(Duration::from_millis(1));
    let is_there = is_there();
    if !is_there {
        positions.set_consumer(ring, read)?;
    }
    Ok(is_there)
}

/// The ring's two positions, which the kernel shows in a page each.
struct Positions {
    consumer: NonNull<AtomicUsize>,
    page: usize,
}

// SAFETY: shared memory that is only read, with atomic loads.
unsafe impl Send for Positions {}

impl Positions {
    fn of(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let page = page_size();
        // SAFETY: a new mapping, of two pages that every ring has: the consumer's position and the producer's.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), 2 * page, libc::PROT_READ, libc::MAP_SHARED, ring.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let consumer = NonNull::new(mapped.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { consumer, page })
    }

    fn consumer(&self) -> usize {
        // SAFETY: the mapping lives as long as this; its first word is the consumer's position.
        unsafe { self.consumer.as_ref() }.load(Ordering::Acquire)
    }

    fn producer(&self) -> usize {
        // SAFETY: as above; the first word of the second page is the producer's.
        unsafe { self.consumer.byte_add(self.page).as_ref() }.load(Ordering::Acquire)
    }

    /// Only where nobody reads the ring.
    fn set_consumer(&self, ring: BorrowedFd<'_>, to: usize) -> io::Result<()> {
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, ring.as_raw_fd());
        // SAFETY: a new mapping, of the one page of a ring that may be written to.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), self.page, protection, libc::MAP_SHARED, fd, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let consumer = NonNull::new(mapped.cast::<AtomicUsize>()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        // SAFETY: the mapping was made above, is a page long and aligned to one; its first word is the consumer's position.
        unsafe { consumer.as_ref() }.store(to, Ordering::Release);
        // SAFETY: the mapping that was made above; nobody else has its address.
        unsafe { libc::munmap(mapped, self.page) };
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.producer().wrapping_sub(self.consumer())
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made above; nobody else has its address.
        unsafe { libc::munmap(self.consumer.as_ptr().cast(), 2 * self.page) };
    }
}

fn page_size() -> usize {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// A perf buffer for each processor.
pub(super) struct Buffers {
    epoll: Epoll,
    array: PerfEventArray<MapData>,
    pages: usize,
    open: BTreeMap<u32, Buffer>,
    /// The processor that is visited next.
    next: u32,
}

struct Buffer {
    events: PerfEventArrayBuffer<MapData>,
    /// Bytes that the last visit found: they made room only when it had ended.
    before: usize,
}

impl Buffers {
    /// Opens a buffer of `bytes` for each processor that is online.
    pub fn open(map: Map, bytes: usize) -> Result<Self, PerfBufferError> {
        let array = PerfEventArray::try_from(map).map_err(io::Error::other)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        let pages = (bytes / page_size()).max(1).next_power_of_two();
        let mut buffers = Self { epoll, array, pages, open: BTreeMap::new(), next: 0 };
        for cpu in online()? {
            buffers.add(cpu)?;
        }
        Ok(buffers)
    }

    fn add(&mut self, cpu: u32) -> Result<(), PerfBufferError> {
        let events = self.array.open(cpu, Some(self.pages))?;
        self.epoll.add(&events, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(cpu))).map_err(io::Error::from)?;
        self.open.insert(cpu, Buffer { events, before: 0 });
        Ok(())
    }

    /// Follows processors that came or went. Where one came, what happened on it before has found no room, which its programs counted.
    pub fn follow_processors(&mut self) -> Result<(), PerfBufferError> {
        let now: BTreeSet<u32> = online()?.into_iter().collect();
        self.open.retain(|cpu, buffer| now.contains(cpu) || buffer.events.readable());
        for cpu in now {
            if !self.open.contains_key(&cpu) {
                info!(cpu, "a processor came online");
                self.add(cpu)?;
            }
        }
        Ok(())
    }

    /// Bytes of the kernel's memory.
    pub fn memory(&self) -> u64 {
        (self.open.len() * (self.pages + 1) * page_size()) as u64
    }

    fn read(&mut self, mut each: impl FnMut(&[u8])) -> Taken {
        let mut taken = Taken::default();
        let mut visits = 0;
        let mut bytes = 0;
        let order: Vec<u32> = self.open.range(self.next..).chain(self.open.range(..self.next)).map(|(cpu, _)| *cpu).collect();
        let mut whole = Vec::new();
        for cpu in order {
            let Some(buffer) = self.open.get_mut(&cpu) else { continue };
            let mut found = 0;
            buffer.events.for_each(|event| match event {
                PerfEvent::Sample { head, tail } => {
                    found += head.len() + tail.len() + OVERHEAD;
                    if tail.is_empty() {
                        each(head);
                    } else {
                        whole.clear();
                        whole.extend_from_slice(head);
                        whole.extend_from_slice(tail);
                        each(&whole);
                    }
                }
                PerfEvent::Lost { count } => {
                    found += OVERHEAD;
                    taken.dropped += count;
                }
            });
            // A record is dropped when it does not fit. Since the last visit no more than this can have been in the buffer at once.
            taken.crowded |= found + buffer.before + LARGEST > self.pages * page_size();
            buffer.before = found;
            visits += 1;
            bytes += found;
            self.next = cpu + 1;
            if bytes >= BUDGET {
                break;
            }
        }
        taken.units = if bytes > 0 { visits } else { 0 };
        taken
    }
}

/// What the kernel puts around a sample, at most.
const OVERHEAD: usize = 24;

/// The largest sample, with all that is around it.
const LARGEST: usize = size_of::<Header>() + LONGEST_PATH + OVERHEAD;

fn online() -> io::Result<Vec<u32>> {
    online_cpus().map_err(|(path, error)| io::Error::new(error.kind(), format!("{path}: {error}")))
}
