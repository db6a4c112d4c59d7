//! The handles, over shared atomics.
//!
//! All orderings are Relaxed: each cell is a number of its own and publishes no other memory. A
//! reader may be late, never wrong. A histogram's count is the sum of the bucket counts that were
//! read, so the two always agree; its sum may lag by observations just under way.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::sketch::Sketch;
use crate::metric::{Bucket, MetricKind, MetricType, Quantile};

/// Bucket bounds for durations in seconds, 5 ms to 10 s: the customary ones of Prometheus clients.
pub const DURATION_BUCKETS_DEFAULT: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Quantiles of a summary unless the builder says otherwise.
pub const QUANTILES_DEFAULT: [f64; 3] = [0.5, 0.95, 0.99];

/// What the registry's handles have in common. Only they implement it.
pub trait Handle: sealed::FromCell {
    /// Kind under which the family is shown.
    const KIND: MetricKind;
}

/// The shared insides of a handle. The variant is the handle's type (invariant 1 of the module).
#[derive(Debug, Clone)]
pub enum Cell {
    /// Of a [`Counter`].
    Counter(Counter),
    /// Of a [`Gauge`].
    Gauge(Gauge),
    /// Of an [`UpDownCounter`].
    UpDownCounter(UpDownCounter),
    /// Of a [`Histogram`].
    Histogram(Histogram),
    /// Of a [`Summary`].
    Summary(Summary),
}

impl Cell {
    pub(super) fn value(&self) -> MetricType {
        match self {
            Self::Counter(counter) => MetricType::Counter { value: counter.value(), exemplars: None },
            Self::Gauge(gauge) => MetricType::Gauge { value: gauge.value() },
            Self::UpDownCounter(counter) => MetricType::Gauge { value: counter.value() as f64 },
            Self::Histogram(histogram) => histogram.read(),
            Self::Summary(summary) => summary.read(),
        }
    }
}

mod sealed {
    use super::{Cell, Debug};

    /// How the registry makes a handle and finds it again.
    ///
    /// Options are a histogram's bounds or a summary's quantiles; the other types have none.
    pub trait FromCell: Clone + Debug + Send + Sync + 'static {
        /// Distinguishes handle types of one kind.
        const TYPE_NAME: &'static str;
        /// The label that the exposition adds to series of this type.
        const OWN_LABEL: Option<&'static str> = None;
        const DEFAULT_OPTIONS: &'static [f64] = &[];

        fn check_options(_: &[f64]) -> Result<(), &'static str> {
            Ok(())
        }
        fn new(options: &[f64]) -> Self;
        fn cell(&self) -> Cell;
        fn from_cell(cell: &Cell) -> Option<Self>;
    }
}

macro_rules! handle {
    ($handle:ident, $kind:ident, $new:expr $(, $own_label:literal, $default:expr, $check:expr)?) => {
        impl Handle for $handle {
            const KIND: MetricKind = MetricKind::$kind;
        }

        impl sealed::FromCell for $handle {
            const TYPE_NAME: &'static str = stringify!($handle);
            $(
                const OWN_LABEL: Option<&'static str> = Some($own_label);
                const DEFAULT_OPTIONS: &'static [f64] = $default;

                fn check_options(options: &[f64]) -> Result<(), &'static str> {
                    $check(options)
                }
            )?

            fn new(options: &[f64]) -> Self {
                $new(options)
            }

            fn cell(&self) -> Cell {
                Cell::$handle(self.clone())
            }

            fn from_cell(cell: &Cell) -> Option<Self> {
                match cell {
                    Cell::$handle(handle) => Some(handle.clone()),
                    _ => None,
                }
            }
        }
    };
}

handle!(Counter, Counter, |_| Self::default());
handle!(Gauge, Gauge, |_| Self::default());
handle!(UpDownCounter, Gauge, |_| Self::default());
handle!(Histogram, Histogram, Self::with_bounds, "le", &DURATION_BUCKETS_DEFAULT, check_bounds);
handle!(Summary, Summary, Self::with_quantiles, "quantile", &QUANTILES_DEFAULT, check_quantiles);

/// A total that only rises.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    inner: Arc<CounterCell>,
}

/// Whole increments and others apart: whole ones are a single add and stay exact up to 2^64.
#[derive(Debug, Default)]
struct CounterCell {
    whole: AtomicU64,
    /// Bits of an `f64`.
    fraction: AtomicU64,
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds a whole number.
    pub fn add(&self, by: u64) {
        self.inner.whole.fetch_add(by, Relaxed);
    }

    /// Adds any number; one that is negative or not finite is ignored, because a total only rises.
    pub fn add_f64(&self, by: f64) {
        if by.is_finite() && by > 0.0 {
            add_to_bits(&self.inner.fraction, by);
        }
    }

    /// Raises the whole part to `total` if it is below: for totals counted elsewhere.
    pub fn raise_to(&self, total: u64) {
        self.inner.whole.fetch_max(total, Relaxed);
    }

    /// The total.
    pub fn value(&self) -> f64 {
        let fraction = f64::from_bits(self.inner.fraction.load(Relaxed));
        self.inner.whole.load(Relaxed) as f64 + fraction
    }
}

/// A level.
#[derive(Debug, Clone, Default)]
pub struct Gauge {
    /// Bits of an `f64`.
    bits: Arc<AtomicU64>,
}

impl Gauge {
    /// Sets the level.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Relaxed);
    }

    /// Raises the level, or lowers it by a negative number.
    pub fn add(&self, by: f64) {
        add_to_bits(&self.bits, by);
    }

    /// The level.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Relaxed))
    }
}

/// A whole number that is counted up and down, such as connections open.
#[derive(Debug, Clone, Default)]
pub struct UpDownCounter {
    value: Arc<AtomicI64>,
}

impl UpDownCounter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds a number, which may be negative.
    pub fn add(&self, by: i64) {
        self.value.fetch_add(by, Relaxed);
    }

    /// The number.
    pub fn value(&self) -> i64 {
        self.value.load(Relaxed)
    }
}

/// Observations counted in buckets with given bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    inner: Arc<HistogramCell>,
}

#[derive(Debug)]
struct HistogramCell {
    /// Rising; the last is `+Inf`.
    upper_bounds: Box<[f64]>,
    /// Observations per bucket, not cumulative.
    counts: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    fn with_bounds(bounds: &[f64]) -> Self {
        let mut upper_bounds = bounds.to_vec();
        if upper_bounds.last() != Some(&f64::INFINITY) {
            upper_bounds.push(f64::INFINITY);
        }
        let counts = upper_bounds.iter().map(|_| AtomicU64::new(0)).collect();
        let sum = AtomicU64::new(0);
        Self { inner: Arc::new(HistogramCell { upper_bounds: upper_bounds.into_boxed_slice(), counts, sum }) }
    }

    /// Counts one observation. NaN, which belongs to no bucket, is ignored.
    pub fn record(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let cell = &*self.inner;
        let index = cell.upper_bounds.partition_point(|bound| *bound < value);
        cell.counts[index].fetch_add(1, Relaxed);
        add_to_bits(&cell.sum, value);
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.inner.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Sum of observations.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.inner.sum.load(Relaxed))
    }

    fn read(&self) -> MetricType {
        let mut count = 0;
        let buckets = self
            .inner
            .upper_bounds
            .iter()
            .zip(&self.inner.counts)
            .map(|(&upper_bound, bucket)| {
                count += bucket.load(Relaxed);
                Bucket { upper_bound, cumulative_count: count }
            })
            .collect();
        MetricType::Histogram { buckets, sum: self.sum(), count, exemplars: None }
    }
}

/// Observations kept as quantiles, each within 1 % of a true value of that rank, since the start.
#[derive(Debug, Clone)]
pub struct Summary {
    inner: Arc<SummaryCell>,
}

#[derive(Debug)]
struct SummaryCell {
    quantiles: Vec<f64>,
    /// Guards the sketch; held for one insertion or one read of the quantiles.
    sketch: Mutex<Sketch>,
}

impl Summary {
    fn with_quantiles(quantiles: &[f64]) -> Self {
        let mut quantiles = quantiles.to_vec();
        quantiles.sort_by(f64::total_cmp);
        Self { inner: Arc::new(SummaryCell { quantiles, sketch: Mutex::default() }) }
    }

    /// Keeps one observation. What is not finite has no rank among numbers and is ignored.
    pub fn record(&self, value: f64) {
        if value.is_finite() {
            self.sketch().insert(value);
        }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.sketch().count()
    }

    /// Sum of observations.
    pub fn sum(&self) -> f64 {
        self.sketch().sum()
    }

    fn read(&self) -> MetricType {
        let sketch = self.sketch();
        let quantile = |&quantile: &f64| Quantile { quantile, value: sketch.quantile(quantile) };
        MetricType::Summary {
            quantiles: self.inner.quantiles.iter().map(quantile).collect(),
            sum: sketch.sum(),
            count: sketch.count(),
        }
    }

    fn sketch(&self) -> std::sync::MutexGuard<'_, Sketch> {
        self.inner.sketch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to a float kept as bits.
fn add_to_bits(bits: &AtomicU64, by: f64) {
    let add = |old: u64| Some((f64::from_bits(old) + by).to_bits());
    // `add` never gives `None`, so the update cannot fail.
    let _ = bits.fetch_update(Relaxed, Relaxed, add);
}

fn check_bounds(bounds: &[f64]) -> Result<(), &'static str> {
    if bounds.iter().any(|bound| bound.is_nan()) {
        return Err("a bucket bound is not a number");
    }
    if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("bucket bounds do not rise");
    }
    Ok(())
}

fn check_quantiles(quantiles: &[f64]) -> Result<(), &'static str> {
    match quantiles.iter().all(|quantile| (0.0..=1.0).contains(quantile)) {
        true => Ok(()),
        false => Err("a quantile is outside 0 to 1"),
    }
}
