//! The one door to everything that is more than `cargo build`: `cargo xtask run`, `test`, `chaos`, `vm`, `tidy` and `bench`.
//!
//! - Drives the `trigsync` binary from outside and reads `trigsync status --json`; it does not link the daemon, so that it compiles
//!   quickly on a fresh machine.
//! - Says what it is about to install or to do as root before it does it.
//! - Leaves no process and no directory behind, on failure and on Ctrl-C too.

pub mod cargo;
pub mod chaos;
pub mod demonstration;
pub mod ebpf;
pub mod fuzz;
pub mod interrupt;
pub mod mirror;
pub mod on_path;
pub mod packages;
pub mod privilege;
pub mod process;
pub mod rsyncd;
pub mod scratch;
pub mod testing;
pub mod tidy;
pub mod vm;
