//! Samples as Prometheus' chunks, which clients of the streamed protocol decode themselves.
//!
//! | Kind | Holds | Layout |
//! |---|---|---|
//! | 1 | floats and staleness markers | `xor.rs` |
//! | 2 | integer histograms | `histogram.rs` |
//! | 3 | float histograms | `histogram.rs` |
//!
//! A chunk ends after 120 samples, as Prometheus' own do, when the kind changes, and in a run of histograms when their
//! buckets change or a counter was reset: what lies within a histogram chunk is read as not reset.

mod bits;
mod histogram;
mod xor;

use kymo_core::Columns;
use kymo_core::storage::ColumnValue;

use super::wire::Chunk;

pub(super) const XOR: i32 = 1;
pub(super) const HISTOGRAM: i32 = 2;
pub(super) const FLOAT_HISTOGRAM: i32 = 3;

/// Samples of a full chunk.
const SAMPLES_MAX: u16 = 120;

/// A chunk that is being written.
enum Open {
    Floats(xor::XorChunk),
    Histograms(Box<histogram::HistogramChunk>),
}

/// Encodes one series; chunks are in time order and do not overlap.
pub(super) fn encode(columns: &Columns) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open: Option<(Open, i64, i64)> = None;
    for (time_ms, value) in columns.iter() {
        if let Some((chunk, _, last_ms)) = &mut open {
            let is_taken = match (chunk, value) {
                (Open::Floats(chunk), ColumnValue::Float(value)) => chunk.push(time_ms, value),
                (Open::Floats(chunk), ColumnValue::Stale) => chunk.push(time_ms, kymo_core::histogram::stale_nan()),
                (Open::Histograms(chunk), ColumnValue::Histogram(histogram)) => chunk.push(time_ms, histogram),
                _ => false,
            };
            if is_taken {
                *last_ms = time_ms;
                continue;
            }
        }
        chunks.extend(open.take().map(close));
        let first = match value {
            ColumnValue::Float(value) => Open::Floats(xor::XorChunk::new(time_ms, value)),
            ColumnValue::Stale => Open::Floats(xor::XorChunk::new(time_ms, kymo_core::histogram::stale_nan())),
            ColumnValue::Histogram(histogram) => {
                Open::Histograms(Box::new(histogram::HistogramChunk::new(time_ms, histogram)))
            }
        };
        open = Some((first, time_ms, time_ms));
    }
    chunks.extend(open.map(close));
    chunks
}

fn close((chunk, min_time_ms, max_time_ms): (Open, i64, i64)) -> Chunk {
    let (kind, data) = match chunk {
        Open::Floats(chunk) => (XOR, chunk.into_bytes()),
        Open::Histograms(chunk) => (chunk.kind(), chunk.into_bytes()),
    };
    Chunk { min_time_ms, max_time_ms, kind, data }
}
