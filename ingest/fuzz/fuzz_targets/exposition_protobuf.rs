//! Any bytes as delimited protobuf.
#![no_main]

use kymo_ingest::exposition::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kymo_ingest_fuzz::exposition::feed(Format::Protobuf, body));
