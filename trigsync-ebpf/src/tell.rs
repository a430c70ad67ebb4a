//! From a change at a `dentry` to a record, or to a loss that is counted.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::{bpf_perf_event_output, bpf_probe_read_kernel, bpf_ringbuf_output};
use trigsync_common::{
    ops,
    record::Header,
    values::{Control, LONGEST_LOST},
};

use crate::{
    elsewhere::Note,
    fold::Identity,
    maps::{CONTROL, EVENTS, LOST, REPORT},
    own,
    read::{Probed, Reader, Typed, unknown},
    scratch::{self, PATH, Scratch, Slot},
    settings,
    walk::{self, First, Found},
};

const CURRENT_PROCESSOR: u64 = 0xffff_ffff;

/// The daemon's wishes; none before it has said any.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let control = CONTROL.get(0)?;
    (control.devices != 0).then_some(control)
}

/// What happened, and in which program.
#[derive(Clone, Copy)]
pub struct Change {
    pub slot: Slot,
    pub ops: u16,
    pub device: u32,
    /// The name at which it happened, where the `dentry` is that of the directory.
    pub first: Option<First>,
    /// To be silent when it was told before.
    pub identity: Option<Identity>,
    /// To be silent when it is outside every root once more.
    pub note: Option<Note>,
}

/// Tells a change at `dentry`, if that is below a root.
#[inline(always)]
pub fn tell<R: Reader>(context: *mut c_void, control: &Control, dentry: u64, change: &Change) {
    // One copy of each for all programs, which the daemon's loader links to every one. Their names are plain, so that the object does
    // not depend on where it was built.
    if R::TYPED { tell_typed(context, control, dentry, change) } else { tell_probed(context, control, dentry, change) }
}

#[inline(never)]
#[unsafe(no_mangle)]
fn tell_typed(context: *mut c_void, control: &Control, dentry: u64, change: &Change) {
    tell_here::<Typed>(context, control, dentry, change);
}

#[inline(never)]
#[unsafe(no_mangle)]
fn tell_probed(context: *mut c_void, control: &Control, dentry: u64, change: &Change) {
    tell_here::<Probed>(context, control, dentry, change);
}

#[inline(always)]
fn tell_here<R: Reader>(context: *mut c_void, control: &Control, dentry: u64, change: &Change) {
    let Some(scratch) = scratch::take(change.slot) else { return lose_everything() };
    walk::climb::<R>(scratch, control, change.device, dentry);
    let found = scratch.found.get();
    if found == Found::TOO_DEEP {
        lose_everything();
    } else if found == Found::ELSEWHERE {
        if let Some(note) = change.note {
            note.set();
        }
    } else if let Some(ops) = wanted_ops(control, found, change.ops)
        && walk::spell::<R>(scratch, control, dentry, change.first, ops)
    {
        if !send(context, scratch) {
            lose(scratch);
        } else if let Some(identity) = change.identity
            && ops & ops::OWN == 0
        {
            // A root that does not want what the daemon did must hear of what others do to the same file.
            identity.set_told(change.ops);
        }
    }
    scratch.release();
}

/// What is told of a change, if the root wants to know of it.
#[inline(always)]
fn wanted_ops(control: &Control, found: u64, ops: u16) -> Option<u16> {
    if found == Found::BELOW_OWN || !own::is_own(control) {
        Some(ops)
    } else if found == Found::BELOW_MARKED {
        Some(ops | ops::OWN)
    } else {
        None
    }
}

#[inline(always)]
fn send(context: *mut c_void, scratch: &mut Scratch) -> bool {
    let size = size_of::<Header>() as u64 + (unknown(scratch.length.get()) & (PATH as u64 - 1));
    let data = (&raw mut scratch.header).cast::<c_void>();
    let events = (&raw const EVENTS).cast_mut().cast::<c_void>();
    // SAFETY: header and path are one piece, `size` bytes of which are there.
    let failed = unsafe {
        if settings::ring() == 1 {
            bpf_ringbuf_output(events, data, size, 0)
        } else {
            bpf_perf_event_output(context, events, CURRENT_PROCESSOR, data, size)
        }
    };
    failed == 0
}

/// Puts the directory of what found no room into `LOST`.
#[inline(always)]
fn lose(scratch: &mut Scratch) {
    let length = scratch.length.get() - scratch.leaf.get();
    // The last bytes: of a path that is too long, what lies deepest is cut off.
    let kept = if length > LONGEST_LOST as u64 { LONGEST_LOST as u64 } else { length };
    let from = scratch.length.get() - kept;
    scratch.lost.slot = scratch.header.slot;
    scratch.lost.reserved = 0;
    scratch.lost.length = length as u32;
    // SAFETY: at most as many bytes as the field has, read from our own memory by the helper that checks.
    unsafe {
        let from = scratch.path.as_ptr().add((unknown(from) & (PATH as u64 - 1)) as usize);
        bpf_probe_read_kernel(scratch.lost.path.as_mut_ptr().cast(), (unknown(kept) & 1023) as u32, from.cast());
    }
    if LOST.insert(&scratch.directory, &scratch.lost, 0).is_err() {
        return lose_everything();
    }
    count(Count::Lost);
}

/// Says that something changed, and nothing can be said of where.
#[inline(always)]
pub fn lose_everything() {
    count(Count::Everything);
}

/// A count of the report.
#[derive(Clone, Copy, PartialEq)]
pub enum Count {
    Lost,
    Everything,
    StoodIn,
}

#[inline(always)]
pub fn count(what: Count) {
    let Some(report) = REPORT.get_ptr_mut(0) else { return };
    // SAFETY: words of a map's value, aligned. Other processors add to them too, and LLVM knows of no atomics for this machine.
    unsafe {
        let word = match what {
            Count::Lost => &raw mut (*report).lost,
            Count::Everything => &raw mut (*report).everything,
            Count::StoodIn => &raw mut (*report).stood_in,
        };
        asm!("lock *(u64 *)({word} + 0) += {one}", word = in(reg) word, one = in(reg) 1_u64);
    }
}
