//! What the programs in the kernel and the daemon agree on: records, the values of the maps, and the read-only settings.
//!
//! Every type is `repr(C)` without padding that is not named, so that both sides see the same bytes. Who changes any of them, or what they
//! mean, raises [`ABI`]: a daemon does not take over a capture of another number.
#![no_std]

pub mod ops;
pub mod record;
pub mod settings;
pub mod values;

/// Number of this agreement.
pub const ABI: u32 = 2;
