//! Any bytes as Prometheus text 0.0.4.
#![no_main]

use kymo_ingest::exposition::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kymo_ingest_fuzz::exposition::feed(Format::Text, body));
