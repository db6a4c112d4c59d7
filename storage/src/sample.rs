//! One sample, owned: what the head compares and keeps where columns do not pay.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{STALE_NAN_BITS, stale_nan};
use kymo_core::storage::{ColumnValue, Columns};

/// Samples in a run before it is sealed: at 120 open runs take twice the memory, at 24 the chunks' fixed cost does.
pub(crate) const RUN_SAMPLES: usize = 60;

/// A sample of one series.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) time_ms: i64,
    /// 0 = unset.
    pub(crate) start_ms: i64,
    /// The stale NaN is a staleness marker; meaningless beside a histogram.
    pub(crate) bits: u64,
    pub(crate) histogram: Option<Arc<NativeHistogram>>,
}

impl Sample {
    pub(crate) fn float(time_ms: i64, start_ms: i64, value: f64) -> Sample {
        Sample { time_ms, start_ms, bits: value.to_bits(), histogram: None }
    }

    pub(crate) fn stale(time_ms: i64, start_ms: i64) -> Sample {
        Sample::float(time_ms, start_ms, stale_nan())
    }

    pub(crate) fn histogram(time_ms: i64, start_ms: i64, histogram: Arc<NativeHistogram>) -> Sample {
        Sample { time_ms, start_ms, bits: 0, histogram: Some(histogram) }
    }

    /// The only sample of `columns`.
    pub(crate) fn of_columns(columns: &Columns) -> Option<Sample> {
        let (time_ms, value) = columns.iter().next()?;
        let start_ms = columns.starts.first().copied().unwrap_or(0);
        Some(match value {
            ColumnValue::Float(v) => Sample::float(time_ms, start_ms, v),
            ColumnValue::Histogram(h) => Sample::histogram(time_ms, start_ms, h.clone().into()),
            ColumnValue::Stale => Sample::stale(time_ms, start_ms),
        })
    }

    /// Whether a retry would send these very bits.
    pub(crate) fn is_identical(&self, other: &Sample) -> bool {
        let values = match (&self.histogram, &other.histogram) {
            (None, None) => self.bits == other.bits,
            (Some(a), Some(b)) => a.same_bits(b),
            _ => false,
        };
        values && self.time_ms == other.time_ms && self.start_ms == other.start_ms
    }

    /// Appends it to `columns`.
    pub(crate) fn read(&self, columns: &mut Columns) {
        let value = match &self.histogram {
            Some(h) => ColumnValue::Histogram(h),
            None if self.bits == STALE_NAN_BITS => ColumnValue::Stale,
            None => ColumnValue::Float(f64::from_bits(self.bits)),
        };
        columns.push(self.time_ms, self.start_ms, value);
    }

    /// Bytes of its histogram on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.histogram.as_ref().map_or(0, |h| h.bytes() + 16)
    }
}

const _: () = assert!(STALE_NAN_BITS == 0x7ff0_0000_0000_0002);
