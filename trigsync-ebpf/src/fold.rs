//! The epoch rule: what was told in this epoch is not told again.
//!
//! The order is what makes it safe. The hook runs after the change; it reads the epoch, and is silent only when the entry says that the
//! file was told in that epoch. The entry is set after the record is in the ring, so whoever is silent may rely on the record being there.
//! The daemon takes what it was told, then raises the epoch, then looks at the files: a change that was kept silent read the old epoch, so
//! it is there to be seen.
//!
//! An entry is one word, so nobody ever sees half of one: a digest of file, name and epoch, and what was told. Files that share a place
//! throw each other out, which only makes a repeat.

use trigsync_common::{ops, values::Control};

use crate::{
    maps::FOLD,
    read::{Reader, unknown},
    settings, walk,
};

/// Places; a power of two.
pub const PLACES: u32 = 1 << 16;

/// The bits of an entry that say what was told, which are those of [`ops`]; the others are the digest.
const TOLD: u64 = 0xff;

/// A file under the name that it has now, in the epoch in which it is looked at.
#[derive(Clone, Copy)]
pub struct Identity {
    place: u32,
    digest: u64,
}

impl Identity {
    /// The epoch is read here, once: what is set later must not be newer than what was compared.
    #[inline(always)]
    pub fn of<R: Reader>(control: &Control, dentry: u64, inode: u64) -> Self {
        // SAFETY: a word of a map's value; the daemon replaces it.
        let epoch = unsafe { core::ptr::read_volatile(&raw const control.epoch) };
        // An address is used again: the inode's number and the name tell whether it is still the same file.
        let file = mix(mix(address::<R>(control, dentry)) ^ R::u64(inode + settings::inode_number()));
        Self { place: (file >> 48) as u32 & (PLACES - 1), digest: mix(mix(file ^ walk::name_hash::<R>(dentry)) ^ epoch) & !TOLD }
    }

    /// Whether `ops` were told in this epoch already, or something that stands for them.
    #[inline(always)]
    pub fn is_told(&self, ops: u16) -> bool {
        let Some(entry) = FOLD.get_ptr(self.place) else { return false };
        let enough = if ops & ops::CLOSE_WRITE != 0 {
            ops::CLOSE_WRITE
        } else if ops & ops::WRITE != 0 {
            ops::CLOSE_WRITE | ops::WRITE | ops::CREATE
        } else {
            // Attributes: any mark of the entry makes rsync look at them.
            u16::MAX
        };
        // SAFETY: a word of a map's value.
        let entry = unsafe { entry.read_volatile() };
        entry & !TOLD == self.digest && entry & TOLD & u64::from(enough) != 0
    }

    /// Notes that `ops` were told. What was told of the same file in the same epoch before still counts.
    #[inline(always)]
    pub fn set_told(&self, ops: u16) {
        let Some(entry) = FOLD.get_ptr_mut(self.place) else { return };
        // SAFETY: a word of a map's value. Another processor that sets it meanwhile wins or loses as a whole.
        unsafe {
            let before = entry.read_volatile();
            let told = if before & !TOLD == self.digest { before & TOLD } else { 0 };
            entry.write_volatile(self.digest | told | u64::from(ops) & TOLD);
        }
    }
}

/// Spreads a number over all bits; different numbers stay different.
#[inline(always)]
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (number ^ number >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// What tells addresses apart, as a number: the verifier allows no arithmetic with a pointer, except to subtract another.
#[inline(always)]
pub fn address<R: Reader>(control: &Control, dentry: u64) -> u64 {
    if R::TYPED { unknown(dentry.wrapping_sub(core::ptr::from_ref(control) as u64)) } else { dentry }
}
