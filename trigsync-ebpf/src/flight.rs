//! Calls that a thread has entered and not left, for kernels without trampolines: a probe on return does not see the arguments.
//!
//! Calls nest (an overlay's rename renames below it), and a return may be missed when all instances of its probe are in use. The stack
//! tells: a call whose frame is not above the stack pointer is over. What was missed that way is a loss, and the daemon looks through the
//! map for calls of threads that never come back.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use trigsync_common::values::{Call, Flight};

use crate::{maps::FLIGHT, scratch::Slot, tell::lose_everything};

const DEEPEST: usize = Flight::DEEPEST;

/// A function was entered that will change `subject`.
#[inline(always)]
pub fn enter(stack: u64, slot: Slot, subject: u64, ops: u16) {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: no arguments.
    let call = Call { stack, subject, entered: unsafe { bpf_ktime_get_ns() }, ops, function: slot.number(), reserved: 0 };
    let Some(flight) = FLIGHT.get_ptr_mut(&thread) else {
        let mut flight = Flight::default();
        flight.depth = 1;
        flight.calls[0] = call;
        if FLIGHT.insert(&thread, &flight, 0).is_err() {
            lose_everything();
        }
        return;
    };
    // SAFETY: a thread's entry is its own.
    let flight = unsafe { &mut *flight };
    // The outermost call that is over, and all within it: their returns were missed.
    let mut depth = 0;
    for at in 0..DEEPEST {
        if at as u32 >= flight.depth || flight.calls[at].stack <= stack {
            break;
        }
        depth = at + 1;
    }
    if (depth as u32) < flight.depth {
        lose_everything();
    }
    if depth >= DEEPEST {
        return lose_everything();
    }
    flight.calls[depth & (DEEPEST - 1)] = call;
    flight.depth = depth as u32 + 1;
}

/// A function returned: its call, if its entry was seen.
#[inline(always)]
pub fn leave(stack: u64, slot: Slot) -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    let flight = FLIGHT.get_ptr_mut(&thread)?;
    // SAFETY: a thread's entry is its own.
    let flight = unsafe { &mut *flight };
    let mut found = None;
    for at in 0..DEEPEST {
        if at as u32 >= flight.depth {
            break;
        }
        let call = flight.calls[at];
        // Kernels differ by a word in what they say the stack pointer is at a return.
        if call.function == slot.number() && call.stack <= stack && stack - call.stack <= 16 {
            found = Some((at, call));
            break;
        }
    }
    let (at, call) = found?;
    if at as u32 + 1 < flight.depth {
        lose_everything();
    }
    if at == 0 {
        let _ = FLIGHT.remove(&thread);
    } else {
        flight.depth = at as u32;
    }
    Some(call)
}
