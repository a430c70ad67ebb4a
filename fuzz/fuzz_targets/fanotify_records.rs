//! `trigsync::fuzzing::fanotify_records`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trigsync::fuzzing::fanotify_records(bytes));
