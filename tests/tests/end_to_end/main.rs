//! The real binary between real trees, real rsync daemons and a real sshd.
//!
//! One program for all of them: most of their time they wait for something to arrive, and then others run; and linking takes as long as testing.
//! What changes the table of mounts, or wants the machine for itself, is a program of its own.

// What arrives, and how.
mod filters;
mod inplace;
mod keep;
mod local;
mod many_targets;
mod model;
mod real_trees;
mod rsync_daemon;
mod ssh;
mod warm;

// What must not be lost, whatever breaks.
mod bad_files;
mod faults;
mod faults_at_target;
mod flood;
mod guards;
mod lingering;
mod misbehaving_targets;
mod refused_deletions;
mod restart;
mod returns;

// What looks after it by itself.
mod alive;
mod audit;
mod canary;
mod full_pass;
mod schedule;

// What operators ask and tell.
mod command_line;
mod commands;
mod control_group;
mod plugins;
mod plugins_alone;
mod reload;

// What people come from.
mod background;
mod lsyncd;
mod sersync;
