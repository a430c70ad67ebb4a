//! Memory for building records: a slot for each program on each processor.
//!
//! A trampoline's program may be preempted, and another of our programs may then run on the same processor; but the kernel never runs one
//! program twice on one processor, it skips the second run ([`skipped`](crate::skipped)). So a slot of its own is all that a program needs.
//! Older kernels do not count and do not preempt, but an interrupt may nest: for that a slot says whether it is in use.

use trigsync_common::{
    record::{Header, LONGEST_PATH},
    values::{Excluded, LostDirectory, LostKey, RootKey, SLOTS},
};

use crate::maps::SCRATCH;

/// Bytes of a path that are kept; a power of two, so that a mask bounds an index for the verifier.
pub const PATH: usize = LONGEST_PATH;

/// Longest name, and room for the separator.
pub const NAME: usize = 256;

/// A number that LLVM, too, must keep in memory, and that it does not clear together with others by a call.
#[repr(transparent)]
pub struct Forgotten(u64);

impl Forgotten {
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: a reference is readable.
        unsafe { (&raw const self.0).read_volatile() }
    }

    #[inline(always)]
    pub fn set(&mut self, number: u64) {
        // SAFETY: a reference is writable.
        unsafe { (&raw mut self.0).write_volatile(number) }
    }
}

/// One program's memory.
///
/// What a loop carries along is kept here, not in registers: the verifier forgets what is written to a map, so it sees the same state at
/// every turn and follows a loop once instead of once for every number of turns.
#[repr(C)]
pub struct Scratch {
    pub busy: u64,
    pub header: Header,
    /// Names from the last to the first, directly after the header, and room for one more name.
    pub path: [u8; PATH + NAME],
    /// Bytes of path that are there.
    pub length: Forgotten,
    /// Of these, the bytes of the last name with its separator; 0 when the path is that of an ancestor.
    pub leaf: Forgotten,
    /// A value of [`Found`](crate::walk::Found).
    pub found: Forgotten,
    /// Names between the change and its root.
    pub depth: Forgotten,
    /// Address of the directory in which the last name is, and what tells it from others.
    pub directory: LostKey,
    pub key: RootKey,
    pub excluded: Excluded,
    pub lost: LostDirectory,
}

macro_rules! slots {
    ($($name:ident),* $(,)?) => {
        #[repr(u16)]
        enum Number { $($name),* }

        #[expect(non_upper_case_globals, reason = "they are the names of programs")]
        impl Slot { $(pub const $name: Self = Self(Number::$name as u16);)* }

        // The daemon makes room for as many.
        const _: () = assert!([$(Slot::$name),*].len() == SLOTS as usize);
    };
}

/// Which program a slot belongs to, and which function a call in flight is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slot(u16);

impl Slot {
    /// The slot of the program that stands in where the kernel skips this one.
    #[inline(always)]
    pub const fn second(self) -> Self {
        Self(self.0 + SLOTS as u16)
    }

    /// Whether this is the slot of one of `program`'s two.
    #[inline(always)]
    pub fn is_of(self, program: Self) -> bool {
        self == program || self == program.second()
    }

    #[inline(always)]
    pub const fn number(self) -> u16 {
        self.0
    }
}

slots!(
    Open,
    Create,
    Mkdir,
    Mknod,
    Symlink,
    Link,
    Unlink,
    Rmdir,
    Delete,
    RenameEntry,
    Rename,
    Change,
    SetXattr,
    RemoveXattr,
    Acl,
    Flags,
    Write,
    Writev,
    IterWrite,
    IocbWrite,
    KernelWrite,
    Splice,
    CopyRange,
    CloneRange,
    Allocate,
    RingWrite,
    RingComplete,
    AioComplete,
    UpdateTime,
    Close,
    AboutToCreate,
    Emptied,
);

/// Takes a slot on this processor; none when an interrupt came in the middle of its use.
#[inline(always)]
pub fn take(slot: Slot) -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(u32::from(slot.number()))?;
    // SAFETY: this program's slot of this processor, and nobody is in it: see above.
    let scratch = unsafe { &mut *scratch };
    if scratch.busy != 0 {
        return None;
    }
    scratch.busy = 1;
    Some(scratch)
}

impl Scratch {
    /// Gives the slot back.
    #[inline(always)]
    pub fn release(&mut self) {
        // SAFETY: our own memory. Volatile, because an interrupt reads it.
        unsafe { core::ptr::write_volatile(&raw mut self.busy, 0) };
    }
}
