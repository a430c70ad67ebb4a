//! Two ways to read the kernel's memory.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// Reads at an address; what cannot be read is 0.
///
/// Every method is safe to call with any address: the verifier turns a bad [`Typed`] load into 0 by an exception table and proves its type,
/// and the helper behind [`Probed`] checks.
pub trait Reader {
    /// Whether addresses carry a type that the verifier follows.
    const TYPED: bool;
    fn u64(address: u64) -> u64;
    fn u32(address: u64) -> u32;
    fn u16(address: u64) -> u16;
}

/// A plain load through a pointer whose type the verifier knows: one instruction. For trampolines.
pub enum Typed {}

/// Through a helper: for probes, and for whatever was computed rather than followed.
pub enum Probed {}

macro_rules! loads {
    ($($width:ident),*) => {
        impl Reader for Typed {
            const TYPED: bool = true;

            $(#[inline(always)]
            fn $width(address: u64) -> $width {
                // SAFETY: see the trait.
                unsafe { core::ptr::read_volatile(address as *const $width) }
            })*
        }

        impl Reader for Probed {
            const TYPED: bool = false;

            $(#[inline(always)]
            fn $width(address: u64) -> $width {
                let mut value: $width = 0;
                // SAFETY: the helper fills in zeros where it cannot read. Not to look at its answer spares the verifier a path at each read.
                unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<$width>() as u32, address as *const c_void) };
                value
            })*
        }
    };
}

loads!(u64, u32, u16);

/// A number that LLVM knows nothing of, so that it keeps the bounds that are put on it next: it would drop a mask that it can prove
/// needless, and the verifier could not follow.
#[inline(always)]
pub fn unknown(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}
