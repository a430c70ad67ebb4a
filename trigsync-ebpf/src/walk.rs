//! From a `dentry` up to a watched root, without the kernel's lock: a walk that races a rename may give a path that never was, which is
//! harmless, because the rename is told after it and covers what the path missed.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use trigsync_common::{
    ops,
    values::{Control, LONGEST_EXCLUDED, LostKey, Root, RootKey, bit},
};

use crate::{
    maps::{EXCLUDED, ROOTS},
    read::{Probed, Reader, unknown},
    scratch::{NAME, PATH, Scratch},
    settings,
};

/// The turns of a loop, up to a setting. Each number comes out of nowhere for LLVM: else it counts in ways in which the verifier, which must
/// see the end, does not follow.
struct Turns {
    turn: u64,
    limit: u64,
}

impl Turns {
    #[inline(always)]
    fn up_to(limit: u64) -> Self {
        Self { turn: 0, limit }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        let turn = self.turn;
        if turn >= self.limit {
            return None;
        }
        self.turn = unknown(turn + 1);
        Some(turn)
    }
}

const MARKED: u16 = Root::SEES_OWN | Root::MARKS_OWN;

/// Where a walk came to; [`Scratch::found`].
pub enum Found {}

impl Found {
    /// The walk was given up.
    pub const TOO_DEEP: u64 = 0;
    /// Not below a root, or in a hidden place.
    pub const ELSEWHERE: u64 = 1;
    /// Below the root of [`Scratch::header`]'s slot, by as many names as [`Scratch::depth`] says; its changes by the daemon do not count.
    pub const BELOW: u64 = 2;
    /// The same, and they do.
    pub const BELOW_OWN: u64 = 3;
    /// The same, but they are to be told apart.
    pub const BELOW_MARKED: u64 = 4;
}

/// Device number of a `dentry`'s file system.
#[inline(always)]
pub fn device<R: Reader>(dentry: u64) -> u32 {
    R::u32(R::u64(dentry + settings::dentry_sb()) + settings::sb_device())
}

/// Whether anything on the file system of this number may be watched.
#[inline(always)]
pub fn perhaps_watched(control: &Control, device: u32) -> bool {
    control.devices & bit(u64::from(device)) != 0
}

/// What the kernel calls a directory.
#[inline(always)]
pub fn key<R: Reader>(inode: u64, device: u32) -> RootKey {
    RootKey { inode: R::u64(inode + settings::inode_number()), device, generation: R::u32(inode + settings::inode_generation()) }
}

/// Looks for the nearest root at or above `dentry`. What it finds goes into the scratch, see there.
#[inline(always)]
pub fn climb<R: Reader>(scratch: &mut Scratch, control: &Control, device: u32, mut dentry: u64) {
    let mut below = 0;
    if R::u64(dentry + settings::dentry_inode()) == 0 {
        // A name that was removed. Only the last one can be.
        dentry = R::u64(dentry + settings::dentry_parent());
        below = 1;
    }
    scratch.found.set(Found::TOO_DEEP);
    let mut turns = Turns::up_to(settings::deepest_walk());
    while let Some(step) = turns.next() {
        let inode = R::u64(dentry + settings::dentry_inode());
        if control.inodes & bit(R::u64(inode + settings::inode_number())) != 0 {
            // Not on the stack: a slot that is written on one way only is a difference that the verifier follows to the end.
            scratch.key = key::<R>(inode, device);
            // SAFETY: the daemon may replace the value meanwhile, and either is right.
            if let Some(root) = unsafe { ROOTS.get(&scratch.key) } {
                scratch.depth.set(step + below);
                scratch.header.slot = root.slot;
                scratch.found.set(match root.flags {
                    0 => Found::BELOW,
                    Root::SEES_OWN => Found::BELOW_OWN,
                    MARKED => Found::BELOW_MARKED,
                    _ => Found::ELSEWHERE,
                });
                break;
            }
        }
        let parent = R::u64(dentry + settings::dentry_parent());
        if parent == dentry {
            scratch.found.set(Found::ELSEWHERE);
            break;
        }
        dentry = parent;
    }
}

/// The first name of a path where the `dentry` no longer has it.
#[derive(Clone, Copy)]
pub struct First {
    pub name: u64,
    pub length: u32,
}

/// Writes the names from `dentry` up to the root into the scratch, as many as [`Scratch::depth`] says; before them `first`, if there is
/// one, which is not a `dentry`'s own. False when one of them is excluded.
#[inline(always)]
pub fn spell<R: Reader>(scratch: &mut Scratch, control: &Control, mut dentry: u64, first: Option<First>, ops: u16) -> bool {
    scratch.header.ops = ops;
    scratch.length.set(0);
    scratch.leaf.set(0);
    if let Some(First { name, length }) = first {
        if ops & ops::DIRECTORY != 0 && is_excluded(scratch, control, name, length) {
            return false;
        }
        append(scratch, name, length);
    } else if scratch.depth.get() > 0 {
        let (name, length) = name::<R>(dentry);
        if ops & ops::DIRECTORY != 0 && is_excluded(scratch, control, name, length) {
            return false;
        }
        append(scratch, name, length);
        dentry = R::u64(dentry + settings::dentry_parent());
        scratch.depth.set(scratch.depth.get() - 1);
    }
    scratch.leaf.set(scratch.length.get());
    let parent = R::u64(dentry + settings::dentry_parent());
    scratch.directory = LostKey { directory: dentry, parent, name: name_hash::<R>(dentry) };
    let most = settings::most_names();
    if scratch.depth.get() > most {
        // What changed lies deeper than there is room to tell: the ancestor from which the names fit.
        let mut turns = Turns::up_to(settings::deepest_walk());
        while turns.next().is_some() && scratch.depth.get() > most {
            dentry = R::u64(dentry + settings::dentry_parent());
            scratch.depth.set(scratch.depth.get() - 1);
        }
        forget_descendants(scratch);
    }
    let mut turns = Turns::up_to(most);
    while turns.next().is_some() && scratch.depth.get() != 0 {
        scratch.depth.set(scratch.depth.get() - 1);
        let (name, length) = name::<R>(dentry);
        if is_excluded(scratch, control, name, length) {
            return false;
        }
        if scratch.length.get() + u64::from(length) + 1 > (PATH - 1) as u64 {
            forget_descendants(scratch);
        }
        append(scratch, name, length);
        dentry = R::u64(dentry + settings::dentry_parent());
    }
    scratch.header.length = scratch.length.get() as u32;
    true
}

/// Goes on with the path of an ancestor.
#[inline(always)]
fn forget_descendants(scratch: &mut Scratch) {
    scratch.length.set(0);
    scratch.leaf.set(0);
    scratch.header.ops |= ops::TREE | ops::ANCESTOR;
}

/// Address and length of a `dentry`'s name.
#[inline(always)]
fn name<R: Reader>(dentry: u64) -> (u64, u32) {
    let string = dentry + settings::dentry_name();
    (R::u64(string + settings::qstr_name()), R::u32(string + settings::qstr_length()))
}

/// Adds a name and a separator to the path. A name that cannot be read becomes zeros, which no name has, so the daemon knows.
#[inline(always)]
fn append(scratch: &mut Scratch, name: u64, length: u32) {
    let at = unknown(scratch.length.get()) & (PATH as u64 - 1);
    let length = unknown(u64::from(length)) & (NAME as u64 - 1);
    let path = scratch.path.as_mut_ptr();
    // SAFETY: the masks keep both inside the scratch, which has room for a name after the last place at which one may begin.
    unsafe {
        bpf_probe_read_kernel(path.add(at as usize).cast(), length as u32, name as *const c_void);
        *path.add((at + length) as usize) = b'/';
    }
    scratch.length.set(at + length + 1);
}

/// Few branches, here and below: each doubles what the verifier has to follow at every turn of the loop over names.
#[inline(always)]
fn is_excluded(scratch: &mut Scratch, control: &Control, name: u64, length: u32) -> bool {
    if control.excluded & bit(u64::from(length)) == 0 {
        return false;
    }
    let slot = scratch.header.slot;
    let key = &raw mut scratch.excluded;
    // SAFETY: all inside the scratch: the mask lets the verifier see at most twice as many bytes as the field has, and a name that is longer
    // than the field has a length that no key has.
    unsafe {
        (*key).slot = slot;
        (*key).length = length as u16;
        let field = (&raw mut (*key).name).cast::<u32>();
        for word in 0..LONGEST_EXCLUDED / 4 {
            field.add(word).write_volatile(0);
        }
        let size = unknown(u64::from(length)) & (LONGEST_EXCLUDED as u64 * 2 - 1);
        bpf_probe_read_kernel(field.cast(), size as u32, name as *const c_void);
        // The value is not looked at.
        EXCLUDED.get(&*key).is_some()
    }
}

/// Hash and length of a `dentry`'s name.
#[inline(always)]
pub fn name_hash<R: Reader>(dentry: u64) -> u64 {
    let string = dentry + settings::dentry_name();
    u64::from(R::u32(string + settings::qstr_hash())) | u64::from(R::u32(string + settings::qstr_length())) << 32
}

/// Any name under which an inode is known, for files whose own is gone; 0 when there is none.
#[inline(always)]
pub fn alias(inode: u64) -> u64 {
    let first = Probed::u64(inode + settings::inode_aliases());
    if first == 0 { 0 } else { first - settings::dentry_alias() }
}
