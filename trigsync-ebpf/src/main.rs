//! The programs that see every change below the watched roots, from 4.18.0-el8 to 7.x in one object.
//!
//! - Nothing here knows a kernel: offsets and positions are [`settings`], read-only for the verifier, set by the daemon before loading.
//! - A program runs after the operation that it tells of, and only tells of what succeeded.
//! - No allocation and no lock of our own on the writer's path. What finds no room is counted, and its directory is put into `LOST`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod context;
mod elsewhere;
mod files;
mod flight;
mod fold;
mod learn;
mod maps;
mod names;
mod own;
mod probes;
mod read;
mod scratch;
mod settings;
mod skipped;
mod tell;
mod trampolines;
mod walk;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an object in which this can be reached.
    loop {}
}

/// What the kernel asks for before it lets a program use the helpers for tracing.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// What the object was built from; `cargo xtask ebpf` tells it.
#[unsafe(link_section = "sources")]
#[unsafe(no_mangle)]
static SOURCES: [u8; 64] = match env!("TRIGSYNC_SOURCES").as_bytes().first_chunk() {
    Some(digest) => *digest,
    None => panic!("no digest"),
};
