//! Changes to names and to what a name says of itself: made, removed, renamed, attributes.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel};
use trigsync_common::ops;

use crate::{
    elsewhere::Note,
    fold::Identity,
    maps::{REMOVING, RENAMES},
    read::{Probed, Reader},
    scratch::{NAME, Slot},
    settings,
    tell::{Change, control, lose_everything, tell},
    walk::{self, First},
};

const TYPE: u16 = 0o170_000;
const DIRECTORY: u16 = 0o040_000;
/// Bits of `iattr.ia_valid`, the same in every kernel: mode, owner, group, time of modification (now or given), and what a write takes away.
const ATTRIBUTES: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 5 | 1 << 8 | 1 << 11 | 1 << 12;
const SIZE: u32 = 1 << 3;

/// Key of `RENAMES`: overlays rename while they rename, so the thread alone is not enough.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RenameKey {
    thread: u64,
    dentry: u64,
}

/// Value of `RENAMES`: what a rename takes away.
#[repr(C)]
pub struct OldName {
    directory: u64,
    /// The other name's `dentry`, and what both are: [`ops`].
    new: u64,
    new_ops: u16,
    ops: u16,
    length: u32,
    name: [u8; NAME],
}

/// A rename's parts.
#[derive(Clone, Copy)]
pub struct Rename {
    pub old: u64,
    pub new: u64,
}

/// A name was made or removed.
#[inline(always)]
pub fn named<R: Reader>(context: *mut c_void, dentry: u64, slot: Slot, ops: u16) {
    let Some(control) = control() else { return };
    let device = walk::device::<R>(dentry);
    if !walk::perhaps_watched(control, device) {
        return;
    }
    // The name of a root itself may go, and that is looked for.
    let note = if ops & ops::DIRECTORY == 0 { Some(Note::of::<R>(control, dentry)) } else { None };
    if !note.is_some_and(|note| note.is_set()) {
        tell::<R>(context, control, dentry, &Change { slot, ops, device, first: None, identity: None, note });
    }
}

/// What a change of attributes stands for; 0 where nothing of it is mirrored, such as the time of access alone.
#[inline(always)]
pub fn attribute_ops<R: Reader>(iattr: u64) -> u16 {
    let valid = R::u32(iattr + settings::iattr_valid());
    if valid & SIZE != 0 {
        ops::WRITE
    } else if valid & ATTRIBUTES != 0 {
        ops::ATTRIB
    } else {
        0
    }
}

/// Attributes were changed, or the size.
#[inline(always)]
pub fn attributes<R: Reader>(context: *mut c_void, dentry: u64, slot: Slot, ops: u16) {
    let Some(control) = control() else { return };
    let device = walk::device::<R>(dentry);
    if !walk::perhaps_watched(control, device) {
        return;
    }
    let inode = R::u64(dentry + settings::dentry_inode());
    if inode == 0 {
        return;
    }
    let identity = Identity::of::<R>(control, dentry, inode);
    if !identity.is_told(ops) {
        tell::<R>(context, control, dentry, &Change { slot, ops, device, first: None, identity: Some(identity), note: None });
    }
}

/// What a name adds to the ops of its rename.
#[inline(always)]
fn kind<R: Reader>(dentry: u64) -> u16 {
    let inode = R::u64(dentry + settings::dentry_inode());
    if inode != 0 && R::u16(inode + settings::inode_mode()) & TYPE == DIRECTORY { ops::DIRECTORY | ops::TREE } else { 0 }
}

/// The file system has removed a directory; the kernel still knows its name.
#[inline(always)]
pub fn emptied<R: Reader>(dentry: u64) {
    let Some(control) = control() else { return };
    if walk::perhaps_watched(control, walk::device::<R>(dentry)) {
        // A full map throws out the least used: threads that have long gone on.
        let _ = REMOVING.insert(&bpf_get_current_pid_tgid(), &dentry, 0);
    }
}

/// Whether this is the directory that the running thread is removing.
#[inline(always)]
pub fn is_removing(dentry: u64) -> bool {
    // SAFETY: the thread's own entry.
    unsafe { REMOVING.get(&bpf_get_current_pid_tgid()) }.is_some_and(|removing| *removing == dentry)
}

/// The name of a removed directory is gone.
#[inline(always)]
pub fn removed<R: Reader>(context: *mut c_void, dentry: u64, slot: Slot) {
    let _ = REMOVING.remove(&bpf_get_current_pid_tgid());
    named::<R>(context, dentry, slot, ops::DELETE | ops::DIRECTORY | ops::TREE);
}

/// Before a rename: afterwards nobody knows the old name.
#[inline(always)]
pub fn about_to_rename<R: Reader>(rename: Rename, slot: Slot) {
    let Some(control) = control() else { return };
    if !walk::perhaps_watched(control, walk::device::<R>(rename.old)) {
        return;
    }
    let Some(scratch) = crate::scratch::take(slot) else { return };
    let string = rename.old + settings::dentry_name();
    let length = R::u32(string + settings::qstr_length()) & (NAME as u32 - 1);
    // The path's memory serves as the value's: both begin aligned.
    let old = (&raw mut scratch.path).cast::<OldName>();
    // SAFETY: the scratch is larger than an old name, and nobody else uses it; the helper checks what it reads.
    unsafe {
        (*old).directory = R::u64(rename.old + settings::dentry_parent());
        (*old).new = rename.new;
        (*old).ops = kind::<R>(rename.old);
        (*old).new_ops = kind::<R>(rename.new);
        (*old).length = length;
        bpf_probe_read_kernel((&raw mut (*old).name).cast(), length, R::u64(string + settings::qstr_name()) as *const c_void);
        let key = RenameKey { thread: bpf_get_current_pid_tgid(), dentry: rename.old };
        // Without an entry the return finds none, and counts a loss.
        let _ = RENAMES.insert(&key, &*old, 0);
    }
    scratch.release();
}

/// After a rename: `dentry` has the new name by now.
#[inline(always)]
pub fn renamed<R: Reader>(context: *mut c_void, dentry: u64, slot: Slot, worked: bool) {
    let Some(control) = control() else { return };
    let device = walk::device::<R>(dentry);
    if !walk::perhaps_watched(control, device) {
        return;
    }
    let key = RenameKey { thread: bpf_get_current_pid_tgid(), dentry };
    if worked {
        // SAFETY: the entry is this thread's, for this rename.
        match unsafe { RENAMES.get(&key) } {
            Some(old) => {
                // The other name is found by lookups again only where the two were exchanged; else nothing is left of the old one.
                let is_exchange = Probed::u64(old.new + settings::dentry_hashed()) != 0;
                let left = if is_exchange { old.new_ops } else { old.ops };
                let first = First { name: (&raw const old.name) as u64, length: old.length };
                let change = Change { slot, ops: ops::MOVED_FROM | left, device, first: Some(first), identity: None, note: None };
                // An address from a map has no type.
                tell::<Probed>(context, control, old.directory, &change);
                let change = Change { slot, ops: ops::MOVED_TO | old.ops, device, first: None, identity: None, note: None };
                tell::<R>(context, control, dentry, &change);
            }
            // Watching began in the middle of it, or it found no room.
            None => lose_everything(),
        }
    }
    let _ = RENAMES.remove(&key);
}
