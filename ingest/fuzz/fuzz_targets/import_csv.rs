//! Any bytes as a file of CSV that is imported.
#![no_main]

use kymo_ingest::import::csv;
use kymo_ingest_fuzz::import::feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| feed(csv, bytes));
