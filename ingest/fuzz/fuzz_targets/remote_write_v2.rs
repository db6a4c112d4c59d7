//! Any bytes as a remote write 2.0 message and as a body.
#![no_main]

use kymo_ingest::remote_write::Version;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| kymo_ingest_fuzz::feed(Version::V2, message));
