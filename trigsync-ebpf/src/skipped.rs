//! Calls that the kernel skips a program for, and the second program that stands in.
//!
//! A program at a trampoline is not run where it is already running on the same processor. On a kernel that preempts (lazily, fully, real-time)
//! that happens: the thread that runs it gives way to another, which calls the same function. So on such kernels every function has a
//! second program, after the first: it finds out whether the first ran for this thread, and does the same where it did not.
//!
//! The first notes its thread as soon as it runs, and the second takes the note away. Where the first was skipped, another thread is in the
//! middle of it on this processor, and any note is that thread's. The daemon compares how often the kernel skipped with how often somebody stood in, so a call that neither saw is
//! marked like any other loss.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::{
    maps::RAN,
    scratch::Slot,
    settings,
    tell::{Count, count},
};

/// In the first program, before all else.
#[inline(always)]
pub fn runs(slot: Slot) {
    if settings::second() == 1
        && let Some(ran) = RAN.get_ptr_mut(u32::from(slot.number()))
    {
        // SAFETY: this program's word of this processor. Volatile, because what interrupts us reads it.
        unsafe { ran.write_volatile(bpf_get_current_pid_tgid()) };
    }
}

/// In the second program: whether it has to stand in.
#[inline(always)]
pub fn was_skipped(slot: Slot) -> bool {
    let Some(ran) = RAN.get_ptr_mut(u32::from(slot.number())) else { return false };
    // SAFETY: as above.
    unsafe {
        if ran.read_volatile() == bpf_get_current_pid_tgid() {
            ran.write_volatile(0);
            return false;
        }
    }
    count(Count::StoodIn);
    true
}
