//! Functions of ranges and groups of native histograms, over the arithmetic of `core`.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, HistogramCounts, HistogramSum, MergeNotes, MixedBuckets, ResetHint};

use super::rate::{Edges, Meaning, edge_samples};
use super::starts::Starts;
use crate::eval::window::Window;

/// Change between the edges of the window, without extrapolation, of native histograms (`extendedHistogramRate`, 3.13).
///
/// `times` reach beyond the window by the lookback and have the length of `histograms`. `None` if nothing lies behind
/// the window's start or, with a remark, if bucket kinds are mixed. The result is a gauge.
pub(crate) fn extended(
    times: &[i64],
    histograms: &[Arc<NativeHistogram>],
    window: Window,
    meaning: Meaning,
    edges: Edges,
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let (first, last) = edge_samples(times, window, edges)?;
    let (counter, smoothed) = (meaning == Meaning::Counter, edges == Edges::Smoothed);
    let custom = histograms[first].has_custom_bounds();
    for histogram in &histograms[first..=last] {
        if histogram.has_custom_bounds() != custom {
            remarks.mixed_buckets = true;
            return None;
        }
        remarks.not_counter |= counter && histogram.hint == ResetHint::Gauge;
    }
    let mut between = |idx: usize, at_ms: i64| interpolated(times, histograms, idx, at_ms, meaning, remarks);
    let starts_before = smoothed && times[first] < window.start_ms;
    let left = if starts_before { between(first, window.start_ms)? } else { histograms[first].to_float() };
    let ends_behind = smoothed && last > 0 && times[last] > window.end_ms;
    let right = if ends_behind { between(last - 1, window.end_ms)? } else { histograms[last].to_float() };
    remarks.not_gauge |= !counter && (left.hint != ResetHint::Gauge || right.hint != ResetHint::Gauge);
    let mut change = right.clone();
    remarks.reconciled_sub |= merged(change.subtract(&left), remarks)?;
    if counter {
        // The samples between the edges; the edges themselves are `left` and `right`. A reset that the left edge was
        // interpolated over is accounted for there.
        let over_reset = starts_before && histograms[first + 1].detect_reset(&histograms[first]);
        let (inner, mut before) = match over_reset {
            true => (first + 2, histograms[first + 1].as_ref()),
            false => (first + 1, &left),
        };
        let mut lost: Option<NativeHistogram> = None;
        if inner <= last {
            let inside = histograms[inner..last].iter().map(Arc::as_ref);
            for histogram in inside.chain([&right]) {
                if histogram.detect_reset(before) {
                    match &mut lost {
                        Some(lost) => remarks.reconciled_add |= merged(lost.add(before), remarks)?,
                        None => lost = Some(before.to_float()),
                    }
                }
                before = histogram;
            }
        }
        if let Some(lost) = lost {
            remarks.reconciled_add |= merged(change.add(&lost), remarks)?;
        }
    }
    change.hint = ResetHint::Gauge;
    change.compact(0);
    Some(change)
}

/// The histogram at `at_ms` between sample `idx` and the next; a counter that fell started from nothing.
pub(crate) fn interpolated(
    times: &[i64],
    histograms: &[Arc<NativeHistogram>],
    idx: usize,
    at_ms: i64,
    meaning: Meaning,
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let (earlier, later) = (&histograms[idx], &histograms[idx + 1]);
    if at_ms == times[idx] {
        return Some(earlier.to_float());
    }
    if at_ms == times[idx + 1] {
        return Some(later.to_float());
    }
    let share = (at_ms - times[idx]) as f64 / (times[idx + 1] - times[idx]) as f64;
    let mut between = later.to_float();
    if meaning == Meaning::Counter && later.detect_reset(earlier) {
        between.multiply(share);
        return Some(between);
    }
    remarks.reconciled_sub |= merged(between.subtract(earlier), remarks)?;
    between.multiply(share);
    remarks.reconciled_add |= merged(between.add(earlier), remarks)?;
    Some(between)
}

/// Whether bounds were reconciled; `None`, with a remark, if there is no sum.
fn merged(notes: Result<MergeNotes, MixedBuckets>, remarks: &mut Remarks) -> Option<bool> {
    remarks.mixed_buckets |= notes.is_err();
    notes.ok().map(|notes| notes.bounds_reconciled)
}

/// What is to be said of a computation besides its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Remarks {
    /// A counter's function met a gauge.
    pub(crate) not_counter: bool,
    /// A gauge's function met a counter.
    pub(crate) not_gauge: bool,
    /// Custom and exponential buckets met; there is no result.
    pub(crate) mixed_buckets: bool,
    /// Custom bounds were reconciled while adding.
    pub(crate) reconciled_add: bool,
    /// Custom bounds were reconciled while subtracting.
    pub(crate) reconciled_sub: bool,
    /// Custom bounds were reconciled while aggregating.
    pub(crate) reconciled_aggregate: bool,
    /// One term said it was a reset, another that it was none.
    pub(crate) collision: bool,
}

/// Change over histograms in time order, at least two, resets added (`histogramRate`, 3.x). `starts` are theirs.
///
/// `None`, with a remark, if bucket kinds are mixed. The result is a gauge.
pub(crate) fn change(
    histograms: &[Arc<NativeHistogram>],
    starts: Starts<'_>,
    meaning: Meaning,
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let (first, last) = (histograms.first()?, histograms.last()?);
    let counter = meaning == Meaning::Counter;
    let gauges = first.hint == ResetHint::Gauge || last.hint == ResetHint::Gauge;
    remarks.not_counter |= counter && gauges;
    // The layout of a first sample from before a reset does not matter: it is not looked at again.
    let second = histograms.get(1)?;
    let nothing;
    let start: &NativeHistogram = if counter && (starts.is_reset(1) || second.detect_reset(first)) {
        nothing = empty_like(second);
        &nothing
    } else {
        first
    };
    let custom = start.has_custom_bounds();
    let mut mixed = last.has_custom_bounds() != custom;
    let mut schema = start.schema.min(last.schema);
    for between in histograms[1..histograms.len() - 1].iter().filter(|_| counter) {
        remarks.not_counter |= between.hint == ResetHint::Gauge;
        mixed |= between.has_custom_bounds() != custom;
        schema = schema.min(between.schema);
    }
    let computed = if mixed { None } else { difference(histograms, starts, (start, schema, counter), remarks) };
    remarks.mixed_buckets |= computed.is_none();
    let mut result = computed?;
    remarks.not_gauge |= !counter && (first.hint != ResetHint::Gauge || last.hint != ResetHint::Gauge);
    result.hint = ResetHint::Gauge;
    result.compact(0);
    Some(result)
}

fn difference(
    histograms: &[Arc<NativeHistogram>],
    starts: Starts<'_>,
    (start, schema, counter): (&NativeHistogram, i8, bool),
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let last = histograms.last()?;
    let mut sum = HistogramSum::new(&last.at_schema(schema).ok()?);
    remarks.reconciled_sub |= sum.subtract(start).ok()?.bounds_reconciled;
    let mut before = start;
    for (idx, histogram) in histograms.iter().enumerate().skip(1).filter(|_| counter) {
        if starts.is_reset(idx) || histogram.detect_reset(before) {
            remarks.reconciled_add |= sum.add(before).ok()?.bounds_reconciled;
        }
        before = histogram;
    }
    Some(sum.value())
}

/// Change over histograms since they were nothing: that since the first, and the first. One is enough.
///
/// `None`, with a remark, if bucket kinds are mixed.
pub(crate) fn change_since_zero(
    histograms: &[Arc<NativeHistogram>],
    starts: Starts<'_>,
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let [first] = histograms else {
        let mut sum = change(histograms, starts, Meaning::Counter, remarks)?;
        remarks.reconciled_add |= merged(sum.add(histograms.first()?), remarks)?;
        return Some(sum);
    };
    Some(first.to_float())
}

/// Change between the last two histograms; `reset` as in [`last_two`](super::rate::last_two). `None`, with a remark, if bucket kinds are mixed.
pub(crate) fn last_two(
    earlier: &NativeHistogram,
    later: &NativeHistogram,
    meaning: Meaning,
    reset: bool,
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let gauges = [earlier, later].map(|h| h.hint == ResetHint::Gauge);
    let counter = meaning == Meaning::Counter;
    remarks.not_counter |= counter && (gauges[0] || gauges[1]);
    remarks.not_gauge |= !counter && gauges != [true, true];
    let mut result = later.to_float();
    if !counter || !(reset || later.detect_reset(earlier)) {
        match result.subtract(earlier) {
            Ok(notes) => remarks.reconciled_sub |= notes.bounds_reconciled,
            Err(MixedBuckets) => {
                remarks.mixed_buckets = true;
                return None;
            }
        }
    }
    result.hint = ResetHint::Gauge;
    result.compact(0);
    Some(result)
}

/// How often a counter of histograms was reset, or any series of them changed, between neighbours.
pub(crate) fn turned(name: &str, before: &NativeHistogram, after: &NativeHistogram) -> bool {
    if name == "changes" { !after.equals(before) } else { after.detect_reset(before) }
}

/// A sum or mean of histograms that come one by one.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    sum: HistogramSum,
    count: f64,
    /// The sum grew beyond the floats, so `sum` is the mean from there on.
    incremental: bool,
    mean: bool,
    seen: [bool; 2],
    /// Bucket kinds were mixed: there is no result.
    failed: bool,
}

impl Fold {
    /// The sum of histograms.
    pub(crate) fn sum(first: &NativeHistogram) -> Fold {
        let mut fold = Fold {
            sum: HistogramSum::new(first),
            count: 1.0,
            incremental: false,
            mean: false,
            seen: [false; 2],
            failed: false,
        };
        fold.see(first);
        fold
    }

    /// The mean of histograms.
    pub(crate) fn mean(first: &NativeHistogram) -> Fold {
        Fold { mean: true, ..Fold::sum(first) }
    }

    /// Adds a histogram. The first one that cannot be added ends it.
    pub(crate) fn update(&mut self, histogram: &NativeHistogram, remarks: &mut Remarks) {
        if self.failed {
            return;
        }
        self.see(histogram);
        match self.add(histogram) {
            Ok(reconciled) => remarks.reconciled_aggregate |= reconciled,
            Err(MixedBuckets) => {
                self.failed = true;
                remarks.mixed_buckets = true;
            }
        }
    }

    fn add(&mut self, histogram: &NativeHistogram) -> Result<bool, MixedBuckets> {
        self.count += 1.0;
        if !self.mean {
            return Ok(self.sum.add(histogram)?.bounds_reconciled);
        }
        if !self.incremental {
            let mut grown = self.sum.clone();
            let notes = grown.add(histogram)?;
            if !grown.overflowed() {
                self.sum = grown;
                return Ok(notes.bounds_reconciled);
            }
            self.incremental = true;
            self.sum.divide(self.count - 1.0);
        }
        self.sum.multiply((self.count - 1.0) / self.count);
        let mut share = histogram.to_float();
        share.divide(self.count);
        Ok(self.sum.add(&share)?.bounds_reconciled)
    }

    /// Whether there will be no result.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// The result, if there is one.
    pub(crate) fn finish(mut self, remarks: &mut Remarks) -> Option<NativeHistogram> {
        remarks.collision |= self.seen == [true, true];
        if self.mean && !self.incremental {
            self.sum.divide(self.count);
        }
        (!self.failed).then(|| self.sum.value())
    }

    fn see(&mut self, histogram: &NativeHistogram) {
        self.seen[0] |= histogram.hint == ResetHint::Reset;
        self.seen[1] |= histogram.hint == ResetHint::NotReset;
    }
}

fn empty_like(histogram: &NativeHistogram) -> NativeHistogram {
    NativeHistogram {
        schema: histogram.schema,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(BucketCounts::default()),
        sum: 0.0,
        positive_spans: Vec::new(),
        negative_spans: Vec::new(),
        custom_values: Arc::clone(&histogram.custom_values),
    }
}

#[cfg(test)]
mod tests {
    use kymo_core::histogram::BucketSpan;

    use super::*;

    const NO_STARTS: Starts<'static> = Starts { times: &[], starts: &[] };

    fn counter(counts: [u64; 2], sum: f64) -> Arc<NativeHistogram> {
        Arc::new(NativeHistogram {
            schema: 0,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            counts: HistogramCounts::Integer(BucketCounts {
                zero: 0,
                count: counts[0] + counts[1],
                positive: counts.to_vec(),
                negative: vec![],
            }),
            sum,
            positive_spans: vec![BucketSpan { offset: 0, len: 2 }],
            negative_spans: vec![],
            custom_values: Arc::from([]),
        })
    }

    #[test]
    fn a_change_adds_what_resets_lost() {
        let mut remarks = Remarks::default();
        let rising = [counter([1, 1], 2.0), counter([2, 3], 9.0), counter([4, 4], 12.0)];
        let found = change(&rising, NO_STARTS, Meaning::Counter, &mut remarks).unwrap();
        assert_eq!((found.count(), found.sum, found.hint), (6.0, 10.0, ResetHint::Gauge));
        let reset = [counter([1, 1], 2.0), counter([2, 3], 9.0), counter([1, 0], 1.0)];
        let found = change(&reset, NO_STARTS, Meaning::Counter, &mut remarks).unwrap();
        assert_eq!((found.count(), found.sum), (4.0, 8.0));
        assert_eq!(remarks, Remarks::default());
        change(&rising, NO_STARTS, Meaning::Gauge, &mut remarks).unwrap();
        assert!(remarks.not_gauge && !remarks.not_counter);
    }

    #[test]
    fn sums_and_means_of_histograms() {
        let terms = [counter([1, 1], 2.0), counter([2, 3], 10.0)];
        let mut remarks = Remarks::default();
        let mut fold = Fold::sum(&terms[0]);
        fold.update(&terms[1], &mut remarks);
        assert_eq!(fold.finish(&mut remarks).unwrap().count(), 7.0);
        let mut fold = Fold::mean(&terms[0]);
        fold.update(&terms[1], &mut remarks);
        let mean = fold.finish(&mut remarks).unwrap();
        assert_eq!((mean.count(), mean.sum, remarks), (3.5, 6.0, Remarks::default()));
    }
}
