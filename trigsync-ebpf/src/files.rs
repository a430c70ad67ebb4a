//! Changes to what is in a file: made by an open, written, closed.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use trigsync_common::{ops, values::Control};

use crate::{
    elsewhere::Note,
    fold::Identity,
    learn,
    maps::CREATING,
    names,
    read::{Probed, Reader},
    scratch::Slot,
    settings,
    tell::{Change, control, tell},
    walk,
};

const TYPE: u16 = 0o170_000;
const REGULAR: u16 = 0o100_000;
const DIRECTORY: u16 = 0o040_000;
const MODE_WRITE: u32 = 2;

/// Value of `CREATING`: the last names that a thread was about to make, innermost overlay last.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Creating {
    next: u64,
    dentries: [u64; 4],
}

/// Before a name may be made: remembers it until the file is opened.
#[inline(always)]
pub fn about_to_create<R: Reader>(dentry: u64) {
    let Some(control) = control() else { return };
    if !walk::perhaps_watched(control, walk::device::<R>(dentry)) {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    match CREATING.get_ptr_mut(&thread) {
        // SAFETY: the thread's own entry.
        Some(creating) => unsafe {
            let at = (*creating).next & 3;
            (*creating).dentries[at as usize] = dentry;
            (*creating).next = at + 1;
        },
        None => {
            let _ = CREATING.insert(&thread, &Creating { next: 1, dentries: [dentry, 0, 0, 0] }, 0);
        }
    }
}

/// Whether the running thread was about to make this name.
#[inline(always)]
fn was_about_to_create(dentry: u64) -> bool {
    let thread = bpf_get_current_pid_tgid();
    let Some(creating) = CREATING.get_ptr_mut(&thread) else { return false };
    for at in 0..4 {
        // SAFETY: the thread's own entry.
        unsafe {
            if (*creating).dentries[at] == dentry {
                (*creating).dentries[at] = 0;
                return true;
            }
        }
    }
    false
}

/// A file is being opened; if that made it, it is there by now.
#[inline(always)]
pub fn opened<R: Reader>(context: *mut c_void, file: u64, slot: Slot) {
    // Not `control()`: roots are learned before any is watched.
    let Some(control) = crate::maps::CONTROL.get(0) else { return };
    let inode = R::u64(file + settings::file_inode());
    let mode = R::u16(inode + settings::inode_mode()) & TYPE;
    if mode == DIRECTORY && control.learner != 0 {
        return learn::learn::<R>(inode);
    }
    if mode != REGULAR {
        return;
    }
    let created = settings::mode_created();
    if created != 0 && u64::from(R::u32(file + settings::file_mode())) & created == 0 {
        return;
    }
    let device = R::u32(R::u64(inode + settings::inode_sb()) + settings::sb_device());
    if !walk::perhaps_watched(control, device) {
        return;
    }
    let dentry = R::u64(file + settings::file_dentry());
    if created == 0 && !was_about_to_create(dentry) {
        return;
    }
    changed::<R>(context, control, file, inode, device, slot, ops::CREATE);
}

/// Whether a file is open for writing.
#[inline(always)]
pub fn is_writable<R: Reader>(file: u64) -> bool {
    R::u32(file + settings::file_mode()) & MODE_WRITE != 0
}

/// Whether an inode is a regular file's.
#[inline(always)]
pub fn is_regular<R: Reader>(inode: u64) -> bool {
    R::u16(inode + settings::inode_mode()) & TYPE == REGULAR
}

/// A regular file's contents were changed through an open file.
#[inline(always)]
pub fn written<R: Reader>(context: *mut c_void, file: u64, slot: Slot) {
    let Some(control) = control() else { return };
    let inode = R::u64(file + settings::file_inode());
    if !is_regular::<R>(inode) {
        return;
    }
    let device = R::u32(R::u64(inode + settings::inode_sb()) + settings::sb_device());
    if walk::perhaps_watched(control, device) {
        return changed::<R>(context, control, file, inode, device, slot, ops::WRITE);
    }
    if slot.is_of(Slot::Splice) {
        // An overlay hands on its own open of the file below, which shows the overlay's name.
        names::attributes::<R>(context, R::u64(file + settings::file_dentry()), slot, ops::WRITE);
    }
}

/// A file's time is updated, which is how a store to a clean page of a shared mapping shows. Ordinary writes are told after they are done.
#[inline(always)]
pub fn updated_time<R: Reader>(context: *mut c_void, file: u64, slot: Slot) {
    let mapping = R::u64(file + settings::file_mapping());
    if R::u32(mapping + settings::mapping_writable()) as i32 > 0 {
        written::<R>(context, file, slot);
    }
}

/// The last reference to an open file goes.
#[inline(always)]
pub fn closed<R: Reader>(context: *mut c_void, file: u64, slot: Slot) {
    if !is_writable::<R>(file) {
        return;
    }
    let Some(control) = control() else { return };
    let inode = R::u64(file + settings::file_inode());
    if !is_regular::<R>(inode) {
        return;
    }
    let device = R::u32(R::u64(inode + settings::inode_sb()) + settings::sb_device());
    if walk::perhaps_watched(control, device) {
        changed::<R>(context, control, file, inode, device, slot, ops::CLOSE_WRITE);
    }
}

/// Whether a completed request of the kernel's own queues was a write: the bit moved in 5.10, and neither place means anything else that
/// a read could have.
#[inline(always)]
pub fn is_write<R: Reader>(kiocb: u64) -> bool {
    R::u32(kiocb + settings::kiocb_flags()) & (1 << 6 | 1 << 18) != 0
}

#[inline(always)]
fn changed<R: Reader>(context: *mut c_void, control: &Control, file: u64, inode: u64, device: u32, slot: Slot, ops: u16) {
    let dentry = R::u64(file + settings::file_dentry());
    let is_named = R::u64(dentry + settings::dentry_inode()) == inode && R::u64(dentry + settings::dentry_hashed()) != 0;
    if is_named {
        let note = Note::of::<R>(control, dentry);
        if note.is_set() {
            return;
        }
        let identity = Identity::of::<R>(control, dentry, inode);
        if ops & ops::CREATE == 0 && identity.is_told(ops) {
            return;
        }
        return tell::<R>(context, control, dentry, &Change { slot, ops, device, first: None, identity: Some(identity), note: Some(note) });
    }
    // An overlay's own open of a file below it, which shows the overlay's name; a file without a name that was given one since; a name
    // that was removed.
    let dentry = walk::alias(inode);
    if dentry != 0 && Probed::u64(dentry + settings::dentry_hashed()) != 0 {
        let identity = Identity::of::<Probed>(control, dentry, inode);
        if !identity.is_told(ops) {
            tell::<Probed>(context, control, dentry, &Change { slot, ops, device, first: None, identity: Some(identity), note: None });
        }
    }
}
