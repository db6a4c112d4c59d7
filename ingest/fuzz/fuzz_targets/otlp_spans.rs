//! Any bytes as a request of spans, in protobuf and in JSON.
#![no_main]

use kymo_ingest::otlp::Encoding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        kymo_ingest_fuzz::otlp::feed_spans(encoding, body);
    }
});
