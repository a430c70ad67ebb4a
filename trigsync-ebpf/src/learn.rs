//! Tells the daemon what the kernel calls a directory that it opens, and the process that it is.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task};
use trigsync_common::values::Learned;

use crate::{
    maps::{CONTROL, REPORT},
    own,
    read::{Probed, Reader},
    settings, walk,
};

/// At the opening of a directory. The thread that asked is told of the first one that it opens: an overlay opens those of its layers within.
#[inline(always)]
pub fn learn<R: Reader>(inode: u64) {
    let thread = bpf_get_current_pid_tgid();
    let Some(control) = CONTROL.get_ptr_mut(0) else { return };
    // SAFETY: a word of a map's value. Only the thread that asked comes past this, and it asks again later than this.
    unsafe {
        let learner = &raw mut (*control).learner;
        if learner.read_volatile() != thread as u32 {
            return;
        }
        learner.write_volatile(0);
    }
    let Some(report) = REPORT.get_ptr_mut(0) else { return };
    let device = R::u32(R::u64(inode + settings::inode_sb()) + settings::sb_device());
    let directory = walk::key::<R>(inode, device);
    // SAFETY: one thread at a time asks, and it is this one.
    unsafe {
        let count = (*report).learned.count;
        // SAFETY: no arguments.
        let started = own::started::<Probed>(bpf_get_current_task());
        (*report).learned = Learned { directory, started, process: (thread >> 32) as u32, count: count.wrapping_add(1) };
    }
}
