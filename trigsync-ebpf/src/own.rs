//! Changes by the daemon itself and by what it started.

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_get_current_task_btf};
use trigsync_common::values::Control;

use crate::{
    read::{Probed, Reader, Typed},
    settings,
};

/// The daemon's rsync, its server at a local target, and the process that one forks.
const GENERATIONS: u32 = 4;

/// Whether the running thread is the daemon's, or of a process that descends from it.
#[inline(always)]
pub fn is_own(control: &Control) -> bool {
    if control.owner == 0 {
        return false;
    }
    if settings::typed_task() == 1 {
        // SAFETY: no arguments.
        descends::<Typed>(control, unsafe { bpf_get_current_task_btf() } as u64)
    } else {
        // SAFETY: no arguments.
        descends::<Probed>(control, unsafe { bpf_get_current_task() })
    }
}

#[inline(always)]
fn descends<R: Reader>(control: &Control, mut task: u64) -> bool {
    for _ in 0..GENERATIONS {
        if R::u32(task + settings::task_process()) == control.owner {
            return started::<R>(task) == control.owner_started;
        }
        task = R::u64(task + settings::task_parent());
        if task == 0 {
            return false;
        }
    }
    false
}

/// When the process of a thread began.
#[inline(always)]
pub fn started<R: Reader>(task: u64) -> u64 {
    R::u64(R::u64(task + settings::task_leader()) + settings::task_started())
}
