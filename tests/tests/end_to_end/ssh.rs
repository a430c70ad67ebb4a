//! Every way to change a tree arrives at a directory behind a real sshd on loopback.

use trigsync_tests::{every_change_arrives, site::Kind};

every_change_arrives!(Kind::Ssh);
