//! The epoch rule: what was told in this epoch is not told again.
//!
//! The order is what makes it safe. The hook runs after the change; it reads the epoch, and is silent only when the entry says that the
//! file was told in that epoch. The entry is set after the record is in the ring, so whoever is silent may rely on the record being there.
//! The daemon takes what it was told, then raises the epoch, then looks at the files: a change that was kept silent read the old epoch, so
//! it is there to be seen.

use trigsync_common::{ops, values::Control};

use crate::{maps::FOLD, read::Reader, settings, walk};

/// Value of `FOLD`, by the address of the `dentry`. An address is used again: the rest says whether it is still the same file and name.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Folded {
    epoch: u64,
    inode: u64,
    name: u64,
    ops: u64,
}

/// A file as it is now, and the epoch that it is looked at in.
#[derive(Clone, Copy)]
pub struct Identity {
    dentry: u64,
    inode: u64,
    name: u64,
    epoch: u64,
}

impl Identity {
    /// The epoch is read here, once: what is set later must not be newer than what was compared.
    #[inline(always)]
    pub fn of<R: Reader>(control: &Control, dentry: u64, inode: u64) -> Self {
        Self {
            dentry,
            inode: R::u64(inode + settings::inode_number()),
            name: walk::name_hash::<R>(dentry),
            // SAFETY: a word of a map's value; the daemon replaces it.
            epoch: unsafe { core::ptr::read_volatile(&raw const control.epoch) },
        }
    }

    /// Whether `ops` were told in this epoch already, or something that stands for them.
    #[inline(always)]
    pub fn is_told(&self, ops: u16) -> bool {
        let Some(told) = FOLD.get_ptr(&self.dentry) else { return false };
        let enough = if ops & ops::CLOSE_WRITE != 0 {
            ops::CLOSE_WRITE
        } else if ops & ops::WRITE != 0 {
            ops::CLOSE_WRITE | ops::WRITE | ops::CREATE
        } else {
            // Attributes: any mark of the entry makes rsync look at them.
            u16::MAX
        };
        // SAFETY: words of a map's value. Volatile, for their order: whoever replaces them takes the epoch away first and sets it last, so
        // an epoch that is read last belongs to what was read before it.
        unsafe {
            let inode = (&raw const (*told).inode).read_volatile();
            let name = (&raw const (*told).name).read_volatile();
            let before = (&raw const (*told).ops).read_volatile();
            let epoch = (&raw const (*told).epoch).read_volatile();
            inode == self.inode && name == self.name && before & u64::from(enough) != 0 && epoch == self.epoch
        }
    }

    /// Notes that `ops` were told. What was told of the same file in the same epoch before still counts.
    #[inline(always)]
    pub fn set_told(&self, ops: u16) {
        let ops = u64::from(ops);
        let Some(told) = FOLD.get_ptr_mut(&self.dentry) else {
            // A full map throws out the least used; a refusal only means that the file is told again.
            let _ = FOLD.insert(&self.dentry, &Folded { epoch: self.epoch, inode: self.inode, name: self.name, ops }, 0);
            return;
        };
        // SAFETY: another processor may read the entry meanwhile, or use it for another file: then identity and epoch do not fit together,
        // and that file is told again. Volatile, for their order: the epoch goes first and comes last.
        unsafe {
            let same = (*told).epoch == self.epoch && (*told).inode == self.inode && (*told).name == self.name;
            let before = if same { (*told).ops } else { 0 };
            (&raw mut (*told).epoch).write_volatile(0);
            (&raw mut (*told).inode).write_volatile(self.inode);
            (&raw mut (*told).name).write_volatile(self.name);
            (&raw mut (*told).ops).write_volatile(before | ops);
            (&raw mut (*told).epoch).write_volatile(self.epoch);
        }
    }
}
