//! What a program is handed: arguments and the return value.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::bindings::pt_regs;

/// A context access must have a constant offset, and LLVM must not compute one: each arm of [`argument`] is text that it cannot merge
/// with another; the verifier drops all arms but one.
macro_rules! slot {
    ($context:expr, $offset:literal) => {{
        let value: u64;
        // SAFETY: reads the context, which the verifier checks.
        unsafe { asm!(concat!("{value} = *(u64 *)({context} + ", $offset, ")"), value = out(reg) value, context = in(reg) $context) };
        value
    }};
}

/// The `index`th argument at a trampoline; the slot after the last is the return value of an fexit program.
#[inline(always)]
pub fn argument(context: *mut c_void, index: u64) -> u64 {
    if index == 0 {
        slot!(context, "0")
    } else if index == 1 {
        slot!(context, "8")
    } else if index == 2 {
        slot!(context, "16")
    } else if index == 3 {
        slot!(context, "24")
    } else if index == 4 {
        slot!(context, "32")
    } else if index == 5 {
        slot!(context, "40")
    } else if index == 6 {
        slot!(context, "48")
    } else {
        0
    }
}

/// The `index`th argument at a probe on entry.
#[inline(always)]
pub fn register(regs: *mut pt_regs, index: u64) -> u64 {
    // SAFETY: the context of a probe is the registers, all of which may be read. Volatile, so that they are loaded before one is chosen.
    let registers = unsafe {
        [
            core::ptr::read_volatile(&raw const (*regs).rdi),
            core::ptr::read_volatile(&raw const (*regs).rsi),
            core::ptr::read_volatile(&raw const (*regs).rdx),
            core::ptr::read_volatile(&raw const (*regs).rcx),
            core::ptr::read_volatile(&raw const (*regs).r8),
            core::ptr::read_volatile(&raw const (*regs).r9),
        ]
    };
    if index == 0 {
        registers[0]
    } else if index == 1 {
        registers[1]
    } else if index == 2 {
        registers[2]
    } else if index == 3 {
        registers[3]
    } else if index == 4 {
        registers[4]
    } else {
        registers[5]
    }
}

/// The stack pointer at a probe.
#[inline(always)]
pub fn stack(regs: *mut pt_regs) -> u64 {
    // SAFETY: as in `register`.
    unsafe { core::ptr::read_volatile(&raw const (*regs).rsp) }
}

/// The return value at a probe on return.
#[inline(always)]
pub fn returned(regs: *mut pt_regs) -> u64 {
    // SAFETY: as in `register`.
    unsafe { core::ptr::read_volatile(&raw const (*regs).rax) }
}

/// Whether a returned `int` says that it worked.
#[inline(always)]
pub fn is_zero(returned: u64) -> bool {
    returned as u32 == 0
}

/// Whether a returned length says that something was written.
#[inline(always)]
pub fn is_length(returned: u64) -> bool {
    (returned as i64) > 0
}

/// Whether a returned length, of which 0 means all, is no error.
#[inline(always)]
pub fn is_no_error(returned: u64) -> bool {
    (returned as i64) >= 0
}
