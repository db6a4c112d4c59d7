//! Any bytes as OpenMetrics 1.0.
#![no_main]

use kymo_ingest::exposition::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kymo_ingest_fuzz::exposition::feed(Format::OpenMetrics, body));
