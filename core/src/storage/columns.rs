//! What a series is read into: [`Columns`].

use super::Tier;
use crate::histogram::NativeHistogram;

/// What a run of samples holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunKind {
    /// Floats.
    Float,
    /// Native histograms.
    Histogram,
    /// Staleness markers, which carry no value.
    Stale,
}

/// Neighbouring samples of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Their kind.
    pub kind: RunKind,
    /// How many.
    pub len: usize,
}

/// The samples of one series in time order, in the caller's reused buffers.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Milliseconds, rising, unique.
    pub times: Vec<i64>,
    /// Equal non-zero ids within one [`SeriesSet`](super::SeriesSet) mean equal `times`, so work on times is done once.
    pub times_id: u64,
    /// Kinds in time order; lengths add up to `times.len()`.
    pub runs: Vec<Run>,
    /// Values of the float runs, in order.
    pub floats: Vec<f64>,
    /// Values of the histogram runs, in order.
    pub histograms: Vec<NativeHistogram>,
    /// Empty, or start timestamps as long as `times` (0 = unset).
    pub starts: Vec<i64>,
    /// The coarsest resolution that answered.
    pub tier: Tier,
    /// What stands behind rows that answer for several samples each; empty if all rows are samples as written.
    ///
    /// The rows themselves are then the last samples of their buckets, at the times they were written with.
    pub rollups: Rollups,
}

/// Rows of rollups: what is known of the samples each stands for. See [`crate::aggregate::rollup`].
///
/// A bucket gives a row for its floats, one for its histograms, and one for a staleness marker behind both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollups {
    /// Neighbouring rows of one tier, in time order: which, and how many. Rows of [`Tier::Raw`] stand for themselves.
    pub tiers: Vec<(Tier, usize)>,
    /// One per float row.
    pub floats: Vec<FloatRollup>,
    /// One per histogram row.
    pub histograms: Vec<HistogramRollup>,
}

/// The floats of one bucket; the last of them is the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatRollup {
    /// Time of the first.
    pub first_ms: i64,
    /// The first.
    pub first: f64,
    /// How many.
    pub count: f64,
    /// Their compensated sum.
    pub sum: f64,
    /// The smallest; NaN if there is nothing else.
    pub min: f64,
    /// The largest; NaN if there is nothing else.
    pub max: f64,
    /// The sum of the values before each drop: last − first + lost is the increase of a counter.
    pub lost: f64,
}

/// The histograms of one bucket; the last of them is the row.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramRollup {
    /// Time of the first.
    pub first_ms: i64,
    /// The first.
    pub first: NativeHistogram,
    /// How many.
    pub count: f64,
    /// Their sum; `None` if custom and exponential buckets met.
    pub sum: Option<NativeHistogram>,
    /// The sum of those before each reset, if there was one that could be added.
    pub lost: Option<NativeHistogram>,
}

impl FloatRollup {
    /// Of one sample.
    #[must_use]
    pub fn of(time_ms: i64, value: f64) -> FloatRollup {
        FloatRollup { first_ms: time_ms, first: value, count: 1.0, sum: value, min: value, max: value, lost: 0.0 }
    }
}

impl HistogramRollup {
    /// Of one sample.
    #[must_use]
    pub fn of(time_ms: i64, value: &NativeHistogram) -> HistogramRollup {
        let (first, sum) = (value.clone(), Some(value.clone()));
        HistogramRollup { first_ms: time_ms, first, count: 1.0, sum, lost: None }
    }
}

impl Rollups {
    /// Whether all rows are samples as written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// Forgets all and keeps the buffers.
    pub fn clear(&mut self) {
        self.tiers.clear();
        self.floats.clear();
        self.histograms.clear();
    }

    /// Notes rows of a tier behind those there are.
    pub fn add_rows(&mut self, tier: Tier, rows: usize) {
        match self.tiers.last_mut() {
            _ if rows == 0 => {}
            Some((last, count)) if *last == tier => *count += rows,
            _ => self.tiers.push((tier, rows)),
        }
    }
}

/// One value out of [`Columns`].
#[derive(Debug, Clone, Copy)]
pub enum ColumnValue<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a NativeHistogram),
    /// A staleness marker.
    Stale,
}

impl Columns {
    /// Forgets the samples and keeps the buffers.
    pub fn clear(&mut self) {
        self.times.clear();
        self.times_id = 0;
        self.runs.clear();
        self.floats.clear();
        self.histograms.clear();
        self.starts.clear();
        self.tier = Tier::Raw;
        self.rollups.clear();
    }

    /// Appends a sample; the time must be above the last one.
    pub fn push(&mut self, time_ms: i64, start_ms: i64, value: ColumnValue<'_>) {
        debug_assert!(self.times.last().is_none_or(|&last| last < time_ms), "times must rise");
        self.times.push(time_ms);
        if start_ms != 0 || !self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
            if let Some(last) = self.starts.last_mut() {
                *last = start_ms;
            }
        }
        let kind = match value {
            ColumnValue::Float(v) => {
                self.floats.push(v);
                RunKind::Float
            }
            ColumnValue::Histogram(h) => {
                self.histograms.push(h.clone());
                RunKind::Histogram
            }
            ColumnValue::Stale => RunKind::Stale,
        };
        match self.runs.last_mut() {
            Some(run) if run.kind == kind => run.len += 1,
            _ => self.runs.push(Run { kind, len: 1 }),
        }
    }

    /// All samples in time order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, ColumnValue<'_>)> {
        let mut floats = self.floats.iter();
        let mut histograms = self.histograms.iter();
        let kinds = self.runs.iter().flat_map(|run| std::iter::repeat_n(run.kind, run.len));
        self.times.iter().zip(kinds).map_while(move |(&time, kind)| {
            let value = match kind {
                RunKind::Float => ColumnValue::Float(*floats.next()?),
                RunKind::Histogram => ColumnValue::Histogram(histograms.next()?),
                RunKind::Stale => ColumnValue::Stale,
            };
            Some((time, value))
        })
    }
}
