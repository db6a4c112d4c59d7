//! Any bytes as an OTLP request in protobuf, plain and as compressed bodies.
#![no_main]

use kymo_ingest::otlp::{Coding, Encoding};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
        kymo_ingest_fuzz::otlp::feed(Encoding::Protobuf, coding, body);
    }
});
