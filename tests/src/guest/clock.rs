//! The clock of this machine: whether it counts instructions, as that of an emulator with `-icount shift=0,sleep=off` does (one is a nanosecond);
//! and how it is set.

use std::time::Instant;

use nix::{
    sys::time::{TimeSpec, TimeValLike as _},
    time::{ClockId, clock_gettime, clock_settime},
};

/// Instructions of the loop that is timed.
const INSTRUCTIONS: u64 = 2_000_000;

/// Nanoseconds for each of some known instructions. Exactly 1, interrupts aside, where the clock counts them.
pub fn nanoseconds_per_instruction() -> f64 {
    let begun = Instant::now();
    spin(INSTRUCTIONS / 2);
    begun.elapsed().as_nanos() as f64 / INSTRUCTIONS as f64
}

/// Whether it is so.
pub fn counts_instructions() -> bool {
    // Real processors do several of these in a nanosecond, and emulators without that option none in one.
    (0..5).all(|_| (0.95..1.1).contains(&nanoseconds_per_instruction()))
}

/// Sets the clock of this machine so many seconds forward, or back.
pub fn jump(seconds: i64) -> nix::Result<()> {
    let clock = ClockId::CLOCK_REALTIME;
    clock_settime(clock, clock_gettime(clock)? + TimeSpec::seconds(seconds))
}

/// Two instructions for each round.
#[cfg(target_arch = "x86_64")]
fn spin(mut rounds: u64) {
    // SAFETY: counts a register down to zero; touches no memory and no stack.
    unsafe {
        std::arch::asm!("2:", "dec {0}", "jnz 2b", inout(reg) rounds, options(nomem, nostack));
    }
    debug_assert_eq!(rounds, 0);
}

#[cfg(not(target_arch = "x86_64"))]
fn spin(rounds: u64) {
    (0..rounds).for_each(|round| drop(std::hint::black_box(round)));
}
