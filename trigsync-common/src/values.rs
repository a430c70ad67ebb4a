//! Keys and values of the maps that both sides use. The comment at each type names its map.

/// `CONTROL`, an array of one: written by the daemon, as a whole; read by the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// A file that was told in this epoch is not told again.
    pub epoch: u64,
    /// [`bit`] of the device number of every watched file system.
    pub devices: u64,
    /// [`bit`] of the inode number of every key of `ROOTS`.
    pub inodes: u64,
    /// [`bit`] of the length of every name in `EXCLUDED`; 0 when there is none.
    pub excluded: u64,
    /// When the daemon's process began, as [`Learned::started`] told it.
    pub owner_started: u64,
    /// The daemon's process id, in the first pid namespace; changes by it and its descendants are not told. 0: nobody's.
    pub owner: u32,
    /// The thread id, in the first pid namespace, whose next opening of a directory is put into [`Report::learned`]; the programs clear it then.
    /// 0: nobody's.
    pub learner: u32,
}

/// `REPORT`, an array of one: written by the programs, read by the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that found no room. Where it has grown, `LOST` has directories to tell, or [`everything`](Self::everything) has grown too.
    pub lost: u64,
    /// Losses that no directory could stand for: every root counts as changed.
    pub everything: u64,
    /// Calls that the kernel skipped a program for and the second program saw.
    pub stood_in: u64,
    /// What [`Control::learner`] opened.
    pub learned: Learned,
}

/// The kernel's names for a directory that was opened, and for the process that opened it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The directory.
    pub directory: RootKey,
    /// When the process began, in nanoseconds of the kernel's monotonic clock.
    pub started: u64,
    /// Its process id in the first pid namespace.
    pub process: u32,
    /// How often something was learned; it grows last.
    pub count: u32,
}

/// Key of `ROOTS`, a hash: a directory as the kernel knows it. On overlayfs and btrfs this is not what `stat` tells, so it is learned
/// from the programs ([`Report::learned`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootKey {
    /// `i_ino`.
    pub inode: u64,
    /// `s_dev`.
    pub device: u32,
    /// `i_generation`.
    pub generation: u32,
}

/// Value of `ROOTS`: a directory at which the walk towards the top ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// Tells records of different roots apart. Several keys may have one slot's root, each with a slot of its own.
    pub slot: u16,
    /// [`Root::HIDDEN`], [`Root::SEES_OWN`], [`Root::MARKS_OWN`].
    pub flags: u16,
}

impl Root {
    /// What is below is not told: the daemon's own state.
    pub const HIDDEN: u16 = 1;
    /// Changes by the daemon and its descendants are told too: its transfers write here, and another sync reads it.
    pub const SEES_OWN: u16 = 2;
    /// With [`SEES_OWN`](Self::SEES_OWN): another root above this one does not want them, so such changes bear [`OWN`](crate::ops::OWN).
    pub const MARKS_OWN: u16 = 4;
}

/// Programs that have memory of their own on each processor: entries of `RAN`, and of `SCRATCH`, which has twice as many where each has a
/// second program to stand in.
pub const SLOTS: u32 = 32;

/// Longest name that `EXCLUDED` can hold.
pub const LONGEST_EXCLUDED: usize = 32;

/// Key of `EXCLUDED`, a hash with values of four bytes that mean nothing: a directory of this name, anywhere below the root of this slot,
/// is not told, nor is anything in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Excluded {
    /// [`Root::slot`].
    pub slot: u16,
    /// Bytes of name.
    pub length: u16,
    /// The name, filled up with zeros.
    pub name: [u8; LONGEST_EXCLUDED],
}

/// Longest path that a [`LostDirectory`] holds.
pub const LONGEST_LOST: usize = 1016;

/// Value of `LOST`, a hash with [`LostKey`]: a directory in which something changed whose record found no room.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LostDirectory {
    /// [`Root::slot`].
    pub slot: u16,
    /// Nothing.
    pub reserved: u16,
    /// Bytes of the directory's path. More than [`LONGEST_LOST`]: only the last so many are here, and the first name of them is cut short.
    pub length: u32,
    /// The path, relative to the root, its names from the last to the first as in a record: what is cut off is what lies deepest.
    pub path: [u8; LONGEST_LOST],
}

/// Key of `LOST`: tells directories apart, names none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LostKey {
    /// Address of the directory's `dentry`.
    pub directory: u64,
    /// Address of that of its parent.
    pub parent: u64,
    /// Hash and length of its name.
    pub name: u64,
}

/// Key of `FLIGHT`, a hash: a thread, by `bpf_get_current_pid_tgid`.
pub type Thread = u64;

/// Value of `FLIGHT` (probes on entry and return only): calls that a thread has entered and not yet left.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Flight {
    /// How many of `calls` are in use, outermost first.
    pub depth: u32,
    /// Nothing.
    pub reserved: u32,
    /// The calls.
    pub calls: [Call; Self::DEEPEST],
}

impl Flight {
    /// An overlay on an overlay needs three.
    pub const DEEPEST: usize = 4;
}

/// A call that was entered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// The stack pointer at its entry: a call below it on the stack is nested, one at or above it proves that this one is over.
    pub stack: u64,
    /// Address of the `dentry` or `file` that it changes.
    pub subject: u64,
    /// `bpf_ktime_get_ns` at its entry.
    pub entered: u64,
    /// Bits of [`ops`](crate::ops) that it stands for.
    pub ops: u16,
    /// Which function, a number of the programs' own.
    pub function: u16,
    /// Nothing.
    pub reserved: u32,
}

/// The bit of a number in a mask that says "perhaps": clear in the mask, the number is not in the set.
#[inline(always)]
pub const fn bit(number: u64) -> u64 {
    1 << ((number ^ (number >> 6) ^ (number >> 20)) & 63)
}
