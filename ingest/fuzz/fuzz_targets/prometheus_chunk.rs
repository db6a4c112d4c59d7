//! Any bytes as a Prometheus' chunk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kymo_ingest::import::prometheus::fuzz_chunk(bytes));
