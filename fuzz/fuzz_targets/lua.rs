//! `trigsync::fuzzing::lua`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trigsync::fuzzing::lua(bytes));
