//! Histograms: explicit buckets in cells that each thread writes for itself, or native exponential ones.

use std::sync::Arc;

use super::cells::{self, Cells};
use super::counter::keep_exemplar;
use super::handle::{Handle, sealed};
use super::native::Native;
use super::node::Node;
use super::options::{Bounds, DURATION_BUCKETS_DEFAULT, Options};
use super::view::{Reading, Recorded, Scratch};
use crate::batch::Exemplar;
use crate::histogram::NativeHistogram;
use crate::labels::Labels;
use crate::metric::MetricKind;

/// Observations counted in buckets.
///
/// With explicit buckets an observation costs a look into a table of the bounds by the leading bits of the number, one
/// comparison, and two loads and stores to cells that no other thread writes. Where bounds are too many or too close for a
/// table, many are compared. A native histogram costs a lock that few threads share.
#[derive(Debug, Clone)]
pub struct Histogram {
    node: Arc<Node<HistogramValue>>,
}

/// What is counted, by the kind of buckets.
#[derive(Debug)]
pub struct HistogramValue(Buckets);

#[derive(Debug)]
enum Buckets {
    /// The first cell is the sum, the others are counts by bucket, not cumulative.
    Explicit {
        cells: Cells,
        bounds: Arc<Bounds>,
    },
    Native(Box<Native>),
}

impl Recorded for HistogramValue {
    fn new(options: &Arc<Options>) -> Self {
        Self(match &**options {
            Options::Native(native) => Buckets::Native(Box::new(Native::new(*native))),
            Options::Buckets(bounds) => {
                Buckets::Explicit { cells: Cells::new(bounds.upper().len() as u32 + 1), bounds: Arc::clone(bounds) }
            }
            // The builder gives a histogram one of these two kinds of options.
            Options::Plain | Options::Summary(_) => unreachable!("a histogram without bounds"),
        })
    }

    fn reading<'a>(&'a self, _: usize, scratch: &'a mut Scratch) -> Reading<'a> {
        match &self.0 {
            Buckets::Explicit { cells, bounds } => {
                let upper_bounds = bounds.upper();
                let (first, len) = (cells.first(), upper_bounds.len() as u32);
                let sums = cells::read();
                scratch.counts.clear();
                scratch.counts.extend((0..len).map(|bucket| sums.whole(first + 1 + bucket)));
                let count = scratch.counts.iter().sum();
                Reading::Buckets { upper_bounds, counts: &scratch.counts, sum: sums.float(first), count }
            }
            Buckets::Native(native) => {
                native.read(&mut scratch.native);
                Reading::Native(&scratch.native)
            }
        }
    }
}

impl HistogramValue {
    #[inline]
    pub(super) fn record(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        match &self.0 {
            Buckets::Explicit { cells, bounds } => match bounds.steps() {
                Some(steps) => cells::observe(cells.first(), steps.bucket_of(value), value),
                None => self.record_otherwise(value),
            },
            Buckets::Native(_) => self.record_otherwise(value),
        }
    }

    /// Kept out of the caller's code, which it would make slower.
    #[inline(never)]
    fn record_otherwise(&self, value: f64) {
        match &self.0 {
            Buckets::Explicit { cells, bounds } => cells::observe(cells.first(), bounds.bucket_of(value), value),
            Buckets::Native(native) => native.record(value),
        }
    }
}

impl Handle for Histogram {
    const KIND: MetricKind = MetricKind::Histogram;
}

impl sealed::Sealed for Histogram {
    type Value = HistogramValue;
    const TYPE_NAME: &'static str = "Histogram";
    const OWN_LABEL: Option<&'static str> = Some("le");

    fn default_options(_: &Arc<dyn crate::clock::Clock>) -> Options {
        Options::Buckets(Arc::new(Bounds::new(&DURATION_BUCKETS_DEFAULT)))
    }

    #[inline]
    fn of(node: Arc<Node<HistogramValue>>) -> Self {
        Self { node }
    }

    fn node(&self) -> &Arc<Node<HistogramValue>> {
        &self.node
    }
}

impl Histogram {
    /// Counts one observation. NaN, which belongs to no bucket, is ignored.
    #[inline]
    pub fn record(&self, value: f64) {
        self.node.value.record(value);
    }

    /// Counts an observation and keeps `labels`, such as a `trace_id`, as the newest exemplar of its bucket.
    ///
    /// Takes a lock. `time_ms` is milliseconds since the Unix epoch. Of a native histogram at most ten are kept.
    pub fn record_with_exemplar(&self, value: f64, labels: Labels, time_ms: i64) {
        const NATIVE_EXEMPLARS_MAX: usize = 10;
        if value.is_nan() {
            return;
        }
        self.record(value);
        let (bucket, buckets_max) = match &self.node.value.0 {
            Buckets::Explicit { bounds, .. } => (i64::from(bounds.bucket_of(value)), bounds.upper().len()),
            Buckets::Native(native) => (native.bucket_of(value), NATIVE_EXEMPLARS_MAX),
        };
        keep_exemplar(&self.node, bucket, buckets_max, Exemplar { labels, value, time_ms });
    }

    /// Number of observations. Takes locks.
    pub fn count(&self) -> u64 {
        match self.node.value.reading(0, &mut Scratch::default()) {
            Reading::Buckets { count, .. } => count,
            Reading::Native(native) => native.count() as u64,
            _ => 0,
        }
    }

    /// Sum of observations. Takes locks.
    pub fn sum(&self) -> f64 {
        match self.node.value.reading(0, &mut Scratch::default()) {
            Reading::Buckets { sum, .. } => sum,
            Reading::Native(native) => native.sum,
            _ => 0.0,
        }
    }

    /// What a native histogram holds, for merging ([`NativeHistogram::add`]) and quantiles; `None` for explicit buckets.
    pub fn native(&self) -> Option<NativeHistogram> {
        match &self.node.value.0 {
            Buckets::Explicit { .. } => None,
            Buckets::Native(native) => {
                let mut found = NativeHistogram::default();
                native.read(&mut found);
                Some(found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::{RegisterError, Registry};

    #[test]
    fn observations_count_alike_where_no_table_holds_the_bounds() -> Result<(), RegisterError> {
        let registry = Registry::new();
        let tabled = registry.histogram("tabled_seconds").buckets(&[1.0, 2.0]).register()?;
        let scanned = registry.histogram("scanned_seconds").buckets(&[-2.0, -1.0, 1.0, 2.0]).register()?;
        for histogram in [&tabled, &scanned] {
            [-3.0, 0.5, 1.0, 1.5, 9.0, f64::NAN].into_iter().for_each(|value| histogram.record(value));
            assert_eq!((histogram.count(), histogram.sum()), (5, 9.0), "{histogram:?}");
        }
        Ok(())
    }
}
