//! What the tests at the boundary share: the real binary, real servers on loopback, trees to mirror, two ways to compare them, and the
//! conformance suite that every tier of capture has to pass.
//!
//! - The end-to-end tests do not look inside the daemon: they use the command line, the status as JSON and the trees themselves. Only
//!   [`conformance`] uses the library, at the seam of capture, and the tests of the catch-up scan do.
//! - Whatever is started or mounted ends with the value that stands for it, by process id, also when a test fails.
//! - A test that cannot run here says so by a named cause ([`skip`]); it never passes silently.

pub mod changes;
pub mod compare;
pub mod conformance;
pub mod fixtures;
pub mod guest;
pub mod listener;
pub mod mirror;
pub mod mount;
pub mod process;
pub mod report;
pub mod room;
pub mod rsyncd;
pub mod site;
pub mod site_tests;
pub mod skip;
pub mod sshd;
pub mod tree;
pub mod trigsync;
