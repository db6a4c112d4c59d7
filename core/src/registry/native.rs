//! A native histogram as it is recorded: dense runs of exponential buckets, bounded, in a few stripes.
//!
//! Buckets cannot be cells of a thread, as which ones there are is found out while recording. So there are a few stripes,
//! each with a lock, and a thread uses the one of its number: with up to [`STRIPES`] threads nobody waits. A reader merges
//! them, which is exact: buckets of a finer schema lie whole in those of a coarser one.
//!
//! A quantile lies in the bucket of a true value of that rank, so it is off by less than the bucket's width: at schema `s` by
//! 2^(2^−s) − 1 of it (9.1 % at 3, 0.27 % at 8), for observations outside the zero bucket.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cells;
use super::options::NativeOptions;
use crate::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, coarser_index, exponential_index};

/// Locks of one histogram. 64 bytes each and empty until used.
const STRIPES: usize = 8;

/// A gap of so many empty buckets or more ends a span: two numbers per span against one per bucket.
const GAP_MIN: usize = 3;

#[derive(Debug)]
pub(super) struct Native {
    options: NativeOptions,
    /// Each guards its own observations.
    stripes: [Mutex<Stripe>; STRIPES],
}

#[derive(Debug)]
struct Stripe {
    schema: i8,
    zero: u64,
    count: u64,
    sum: f64,
    positive: Run,
    negative: Run,
}

/// Counts of buckets `start..start + counts.len()`.
#[derive(Debug, Default)]
struct Run {
    start: i32,
    counts: Vec<u64>,
}

impl Native {
    pub(super) fn new(options: NativeOptions) -> Self {
        Self { options, stripes: std::array::from_fn(|_| Mutex::new(Stripe::new(options.schema))) }
    }

    fn stripe(&self, number: usize) -> MutexGuard<'_, Stripe> {
        self.stripes[number % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a number that is not NaN.
    pub(super) fn record(&self, value: f64) {
        self.stripe(cells::thread_number() as usize).record(value, &self.options);
    }

    /// A number of the value's bucket at the schema to begin with; negative buckets have numbers of their own.
    pub(super) fn bucket_of(&self, value: f64) -> i64 {
        let magnitude = value.abs().min(f64::MAX);
        if magnitude <= self.options.zero_threshold {
            return i64::MIN;
        }
        let index = i64::from(exponential_index(magnitude, self.options.schema));
        if value > 0.0 { index } else { index + (1 << 32) }
    }

    /// Puts all observations into `out`, whose buffers are reused.
    pub(super) fn read(&self, out: &mut NativeHistogram) {
        let mut all = Stripe::new(self.options.schema);
        for number in 0..STRIPES {
            all.merge(&self.stripe(number), self.options.buckets_max);
        }
        out.schema = all.schema;
        out.zero_threshold = self.options.zero_threshold;
        out.sum = all.sum;
        let mut counts = match std::mem::replace(&mut out.counts, HistogramCounts::Integer(BucketCounts::default())) {
            HistogramCounts::Integer(counts) => counts,
            HistogramCounts::Float(_) => BucketCounts::default(),
        };
        (counts.zero, counts.count) = (all.zero, all.count);
        all.positive.write(&mut out.positive_spans, &mut counts.positive);
        all.negative.write(&mut out.negative_spans, &mut counts.negative);
        out.counts = HistogramCounts::Integer(counts);
    }
}

impl Stripe {
    fn new(schema: i8) -> Self {
        Self { schema, zero: 0, count: 0, sum: 0.0, positive: Run::default(), negative: Run::default() }
    }

    fn record(&mut self, value: f64, options: &NativeOptions) {
        self.count += 1;
        self.sum += value;
        // The last bucket ends at infinity, and begins at the largest number there is a bucket for.
        let magnitude = value.abs();
        if magnitude <= options.zero_threshold || magnitude == 0.0 {
            self.zero += 1;
            return;
        }
        let mut index = match magnitude.is_finite() {
            true => exponential_index(magnitude, self.schema),
            false => exponential_index(f64::MAX, self.schema) + 1,
        };
        loop {
            let run = if value > 0.0 { &mut self.positive } else { &mut self.negative };
            if run.reach(index, options.buckets_max) {
                run.counts[(index - run.start) as usize] += 1;
                return;
            }
            self.coarsen(self.schema - 1);
            index = coarser_index(index, self.schema + 1, self.schema);
        }
    }

    fn coarsen(&mut self, to: i8) {
        self.positive.coarsen(self.schema, to);
        self.negative.coarsen(self.schema, to);
        self.schema = to;
    }

    fn merge(&mut self, other: &Self, buckets_max: usize) {
        if other.schema < self.schema {
            self.coarsen(other.schema);
        }
        self.zero += other.zero;
        self.count += other.count;
        self.sum += other.sum;
        for is_positive in [true, false] {
            let theirs = if is_positive { &other.positive } else { &other.negative };
            for (index, count) in theirs.entries() {
                loop {
                    let index = coarser_index(index, other.schema, self.schema);
                    let run = if is_positive { &mut self.positive } else { &mut self.negative };
                    if run.reach(index, buckets_max) {
                        run.counts[(index - run.start) as usize] += count;
                        break;
                    }
                    self.coarsen(self.schema - 1);
                }
            }
        }
    }
}

impl Run {
    /// Makes room for a bucket, if the run may be that long.
    fn reach(&mut self, index: i32, len_max: usize) -> bool {
        if self.counts.is_empty() {
            self.start = index;
            self.counts.push(0);
            return true;
        }
        let (start, end) = (i64::from(self.start), i64::from(self.start) + self.counts.len() as i64);
        let (new_start, new_end) = (start.min(i64::from(index)), end.max(i64::from(index) + 1));
        if new_end - new_start > len_max as i64 {
            return false;
        }
        if new_start < start {
            self.counts.splice(0..0, (new_start..start).map(|_| 0));
            self.start = index;
        }
        self.counts.resize((new_end - new_start) as usize, 0);
        true
    }

    fn coarsen(&mut self, from: i8, to: i8) {
        let Some(last) = self.counts.len().checked_sub(1) else { return };
        let start = coarser_index(self.start, from, to);
        let end = coarser_index(self.start + last as i32, from, to);
        let mut counts = vec![0; (end - start) as usize + 1];
        for (index, count) in self.entries() {
            counts[(coarser_index(index, from, to) - start) as usize] += count;
        }
        (self.start, self.counts) = (start, counts);
    }

    fn entries(&self) -> impl Iterator<Item = (i32, u64)> {
        self.counts
            .iter()
            .enumerate()
            .map(|(at, count)| (self.start + at as i32, *count))
            .filter(|(_, count)| *count > 0)
    }

    /// As spans and counts: without empty buckets at the ends and in long gaps.
    fn write(&self, spans: &mut Vec<BucketSpan>, counts: &mut Vec<u64>) {
        spans.clear();
        counts.clear();
        // The bucket after the last one written.
        let mut next = 0;
        for (index, count) in self.entries() {
            let gap = index - next;
            match spans.last_mut() {
                Some(span) if (gap as usize) < GAP_MIN => {
                    counts.resize(counts.len() + gap as usize, 0);
                    span.len += gap as u32 + 1;
                }
                _ => spans.push(BucketSpan { offset: gap, len: 1 }),
            }
            counts.push(count);
            next = index + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram_of(values: &[f64], options: NativeOptions) -> NativeHistogram {
        let native = Native::new(options);
        values.iter().for_each(|value| native.record(*value));
        let mut found = NativeHistogram::default();
        native.read(&mut found);
        assert_eq!(found.validate(), Ok(()), "{found:?}");
        found
    }

    /// A whole bucket, by ratio.
    fn relative_error(schema: i8) -> f64 {
        2_f64.powf(2_f64.powi(-i32::from(schema))) - 1.0
    }

    fn of_any_size() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-40.0..40.0_f64, any::<bool>()).prop_map(|(log, sign)| if sign { log.exp2() } else { -log.exp2() }),
            Just(0.0),
            1.0..2.0_f64,
        ]
    }

    proptest! {
        #[test]
        fn buckets_stay_within_their_limit_and_hold_every_value(
            values in prop::collection::vec(prop_oneof![of_any_size(), any::<f64>().prop_filter("NaN", |v| !v.is_nan())], 1..200),
            schema in -4_i8..=8,
        ) {
            let found = histogram_of(&values, NativeOptions { schema, ..NativeOptions::default() });
            let HistogramCounts::Integer(counts) = &found.counts else { panic!("integers were counted") };
            prop_assert_eq!(counts.count, values.len() as u64);
            prop_assert!(counts.positive.len() <= NATIVE_MAX && counts.negative.len() <= NATIVE_MAX);
            for bucket in found.all_buckets() {
                let inside = |value: f64| match (bucket.lower < 0.0, bucket.upper > 0.0) {
                    (true, true) => value.abs() <= found.zero_threshold,
                    (true, false) => bucket.lower <= value && value < bucket.upper,
                    _ => bucket.lower < value && value <= bucket.upper,
                };
                let wanted = values.iter().filter(|value| inside(value.clamp(f64::MIN, f64::MAX))).count();
                let beyond = values.iter().filter(|value| value.is_infinite()).count();
                prop_assert!((bucket.count as usize).abs_diff(wanted) <= beyond, "{:?}: {}", bucket, wanted);
            }
        }

        #[test]
        fn stripes_and_histograms_merge_to_what_one_would_hold(
            left in prop::collection::vec(of_any_size(), 1..60),
            right in prop::collection::vec(of_any_size(), 1..60),
        ) {
            let options = NativeOptions::default();
            let mut both = left.clone();
            both.extend_from_slice(&right);
            let whole = histogram_of(&both, options);
            let mut merged = histogram_of(&left, options);
            merged.add(&histogram_of(&right, options)).unwrap();
            // One histogram may have had to give up resolution that its two parts did not.
            let coarsest = whole.schema.min(merged.schema);
            let (whole, merged) = (whole.at_schema(coarsest).unwrap(), merged.at_schema(coarsest).unwrap());
            prop_assert_eq!(whole.count(), merged.count());
            let buckets = |h: &NativeHistogram| h.all_buckets().map(|b| (b.upper.to_bits(), b.count as u64)).filter(|b| b.1 > 0).collect::<Vec<_>>();
            prop_assert_eq!(buckets(&whole), buckets(&merged));
        }

        #[test]
        fn a_quantile_is_within_its_stated_relative_error(
            logs in prop::collection::vec(-6.0..6.0_f64, 1..300),
            schema in 0_i8..=6,
            q in 0.0..=1.0_f64,
        ) {
            let mut values: Vec<f64> = logs.iter().map(|log| log.exp2()).collect();
            let found = histogram_of(&values, NativeOptions { schema, buckets_max: 2_000, ..NativeOptions::default() });
            values.sort_by(f64::total_cmp);
            // Between two ranks either is a right answer; the estimate lies in the bucket of one of them.
            let rank = q * values.len() as f64;
            let near = [rank.floor() as usize, (rank.ceil() as usize).saturating_sub(1), rank.floor().max(1.0) as usize - 1];
            let (estimate, _) = found.quantile(q);
            let error = relative_error(found.schema) + 1e-9;
            let is_near = near.iter().filter_map(|rank| values.get(*rank)).any(|exact| (estimate / exact - 1.0).abs() <= error);
            prop_assert!(is_near, "{} of {:?} at {}", estimate, values, q);
        }
    }

    const NATIVE_MAX: usize = crate::registry::options::NATIVE_BUCKETS_MIN;

    #[test]
    fn gaps_are_spans_and_their_counts_are_kept() {
        let found = histogram_of(&[1.0, 1.0, 1e6, -3.0, 0.0], NativeOptions { schema: 0, ..NativeOptions::default() });
        let HistogramCounts::Integer(counts) = &found.counts else { panic!("integers were counted") };
        assert_eq!((counts.zero, counts.count, found.sum), (1, 5, 1e6 - 1.0));
        assert_eq!(found.positive_spans, [BucketSpan { offset: 0, len: 1 }, BucketSpan { offset: 19, len: 1 }]);
        assert_eq!((counts.positive.as_slice(), counts.negative.as_slice()), ([2, 1].as_slice(), [1].as_slice()));
        assert_eq!(found.negative_spans, [BucketSpan { offset: 2, len: 1 }]);
    }

    #[test]
    fn infinities_are_beyond_the_largest_number() {
        let found = histogram_of(&[f64::INFINITY, f64::MAX, f64::NEG_INFINITY], NativeOptions::default());
        assert_eq!((found.positive_buckets().count(), found.negative_buckets().count()), (2, 1));
    }
}
