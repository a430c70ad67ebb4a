//! Directories that were found to be outside every root in this epoch: whoever changes something in them is spared the walk.
//!
//! This is the epoch rule once more (see [`fold`](crate::fold)). Such a directory can come below a root only by a rename, its own or one above it,
//! and a rename of a directory is told as a tree. A change that was kept silent because of an older note read the epoch before it was raised for that
//! tree, so the look at the tree sees it. Where roots change, the daemon raises the epoch after that.
//!
//! A note is one word: a digest of the directory and the epoch. A directory that is made anew may have the address and the number of one that is
//! gone, but not its generation as well; where a file system has none, nothing is noted.

use trigsync_common::values::Control;

use crate::{
    fold::{address, mix},
    maps::ELSEWHERE,
    read::Reader,
    settings,
};

/// Places; a power of two.
pub const PLACES: u32 = 1 << 13;

/// A directory in the epoch in which it is looked at.
#[derive(Clone, Copy)]
pub struct Note {
    place: u32,
    /// 0 where there is none.
    generation: u32,
    digest: u64,
}

impl Note {
    /// Of the directory that `dentry` is in. `dentry` is no directory.
    #[inline(always)]
    pub fn of<R: Reader>(control: &Control, dentry: u64) -> Self {
        let directory = R::u64(dentry + settings::dentry_parent());
        let inode = R::u64(directory + settings::dentry_inode());
        let number = R::u64(inode + settings::inode_number());
        let generation = R::u32(inode + settings::inode_generation());
        // SAFETY: a word of a map's value; the daemon replaces it. Read before the walk.
        let epoch = unsafe { core::ptr::read_volatile(&raw const control.epoch) };
        let place = mix(address::<R>(control, directory) ^ number << 32);
        Self { place: (place >> 48) as u32 & (PLACES - 1), generation, digest: place ^ u64::from(generation) ^ epoch << 32 }
    }

    /// Whether the directory was found to be outside every root.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        let Some(note) = ELSEWHERE.get_ptr(self.place) else { return false };
        // SAFETY: a word of a map's value.
        unsafe { note.read_volatile() == self.digest }
    }

    /// It is.
    #[inline(always)]
    pub fn set(&self) {
        if self.generation != 0
            && let Some(note) = ELSEWHERE.get_ptr_mut(self.place)
        {
            // SAFETY: a word of a map's value. Whoever sets it meanwhile wins or loses as a whole.
            unsafe { note.write_volatile(self.digest) };
        }
    }
}
