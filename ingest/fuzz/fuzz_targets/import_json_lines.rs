//! Any bytes as a file of JSON lines that is imported.
#![no_main]

use kymo_ingest::import::json_lines;
use kymo_ingest_fuzz::import::feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| feed(json_lines, bytes));
