//! Every way to change a tree arrives at a path of this machine.

use trigsync_tests::{every_change_arrives, site::Kind};

every_change_arrives!(Kind::Local);
