//! Any bytes as an OTLP request in JSON.
#![no_main]

use kymo_ingest::otlp::{Coding, Encoding};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kymo_ingest_fuzz::otlp::feed(Encoding::Json, Coding::Identity, body));
