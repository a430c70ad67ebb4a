//! Every way to change a tree arrives at a module of a real rsync daemon on loopback, in a chroot, with a password.

use trigsync_tests::{every_change_arrives, site::Kind};

every_change_arrives!(Kind::RsyncDaemon);
