//! Any bytes as a file of OpenMetrics text that is imported.
#![no_main]

use kymo_ingest::import::open_metrics;
use kymo_ingest_fuzz::import::feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| feed(open_metrics, bytes));
