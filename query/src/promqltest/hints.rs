//! Counter-reset hints as Prometheus' head gives them back.
//!
//! A chunk holds either gauges or a counter without a reset. So of a loaded counter histogram only the first of a
//! chunk keeps what was written, every later one reads "not reset", and one that fell begins a
//! chunk that reads "reset". Scripts that write hints down expect these.

use kymo_core::NativeHistogram;
use kymo_core::histogram::ResetHint;

/// What the chunk that a series' samples go into holds.
#[derive(Debug, Default)]
pub(super) enum OpenChunk {
    /// Nothing, floats, or a staleness marker at its end: the next histogram begins a chunk.
    #[default]
    None,
    Gauges,
    Counter(Box<NativeHistogram>),
}

impl OpenChunk {
    /// Appends a histogram and sets its hint to what will be read.
    pub(super) fn append(&mut self, histogram: &mut NativeHistogram) {
        if histogram.hint == ResetHint::Gauge {
            *self = OpenChunk::Gauges;
            return;
        }
        let said_reset = histogram.hint == ResetHint::Reset;
        // From here on only the data decides.
        histogram.hint = ResetHint::Unknown;
        histogram.hint = match self {
            _ if said_reset => ResetHint::Reset,
            OpenChunk::Counter(last) if histogram.count() < last.count() => ResetHint::Reset,
            // A chunk has one layout; what a change of it means is left to the query.
            OpenChunk::Counter(last) if layout(histogram) != layout(last) => ResetHint::Unknown,
            OpenChunk::Counter(last) if histogram.detect_reset(last) => ResetHint::Reset,
            OpenChunk::Counter(_) => ResetHint::NotReset,
            OpenChunk::None | OpenChunk::Gauges => ResetHint::Unknown,
        };
        *self = OpenChunk::Counter(Box::new(histogram.clone()));
    }
}

fn layout(histogram: &NativeHistogram) -> (i8, u64, &[f64]) {
    (histogram.schema, histogram.zero_threshold.to_bits(), &histogram.custom_values)
}
