#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kymo_storage::fuzz::queue(bytes));
