//! `trigsync::fuzzing::rsync_output`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trigsync::fuzzing::rsync_output(bytes));
