//! Tells the daemon what the kernel calls a directory that it opens, and the process that it is.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task};
use trigsync_common::values::{Control, Learned};

use crate::{
    maps::REPORT,
    own,
    read::{Probed, Reader},
    settings, walk,
};

/// At the opening of a file by the thread that asked for it.
#[inline(always)]
pub fn learn<R: Reader>(control: &Control, inode: u64) {
    let thread = bpf_get_current_pid_tgid();
    if control.learner == 0 || control.learner != thread as u32 {
        return;
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
