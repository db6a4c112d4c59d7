//! Sums, differences and multiples of native histograms, as Prometheus 3.14 defines them.
//!
//! Two histograms rarely have one layout. Before they are added they are brought to the coarser of their
//! schemas and to a zero bucket that cuts no populated bucket of either; custom bounds that differ are
//! brought to those both have. What had to be given up is said in [`MergeNotes`], because PromQL
//! annotates it.
//!
//! There is one addition, [`HistogramSum`], with a compensation per count (Neumaier): the sum of two is the
//! sum of many with two terms, and rounding once more changes nothing there.

use std::sync::Arc;

use super::bucket::Side;
use super::layout::{entries, from_entries};
use super::schema::{coarser_index, exponential_bound};
use super::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint};

/// A histogram with custom bounds met one with exponential buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("histograms with custom and with exponential buckets cannot be combined")]
pub struct MixedBuckets;

/// What an addition or subtraction had to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeNotes {
    /// One side said there was a counter reset, the other that there was none; the result says unknown.
    pub reset_collision: bool,
    /// Custom bounds differed; only those of both sides were kept.
    pub bounds_reconciled: bool,
}

impl MergeNotes {
    /// Adds what `other` had to give up.
    pub fn absorb(&mut self, other: MergeNotes) {
        self.reset_collision |= other.reset_collision;
        self.bounds_reconciled |= other.bounds_reconciled;
    }
}

/// A number and the part of it that rounding lost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Compensated {
    value: f64,
    rest: f64,
}

impl Compensated {
    fn of(value: f64) -> Compensated {
        Compensated { value, rest: 0.0 }
    }

    /// Neumaier's step. An infinite sum has no meaningful rest.
    fn add(&mut self, term: f64) {
        let sum = self.value + term;
        if sum.is_infinite() {
            self.rest = 0.0;
        } else if self.value.abs() >= term.abs() {
            self.rest += (self.value - sum) + term;
        } else {
            self.rest += (term - sum) + self.value;
        }
        self.value = sum;
    }

    fn absorb(&mut self, other: Compensated) {
        self.add(other.value);
        self.rest += other.rest;
    }

    fn total(self) -> f64 {
        self.value + self.rest
    }
}

/// Counts of one side of zero by bucket number, strictly rising.
type SideSums = Vec<(i32, Compensated)>;

/// A running sum of histograms.
///
/// The order of the terms changes the result by no more than 1e-12 relative. Memory: 24 bytes per bucket.
#[derive(Debug, Clone)]
pub struct HistogramSum {
    schema: i8,
    hint: ResetHint,
    zero_threshold: f64,
    custom_values: Arc<[f64]>,
    zero: Compensated,
    count: Compensated,
    sum: Compensated,
    positive: SideSums,
    negative: SideSums,
}

impl HistogramSum {
    /// The sum of one term.
    #[must_use]
    pub fn new(first: &NativeHistogram) -> HistogramSum {
        let side = |side| first.side_entries(side).map(|(index, count)| (index, Compensated::of(count))).collect();
        HistogramSum {
            schema: first.schema,
            hint: first.hint,
            zero_threshold: first.zero_threshold,
            custom_values: Arc::clone(&first.custom_values),
            zero: Compensated::of(first.counts.zero()),
            count: Compensated::of(first.count()),
            sum: Compensated::of(first.sum),
            positive: side(Side::Positive),
            negative: side(Side::Negative),
        }
    }

    /// Adds a term. O(buckets of both); allocates only when layouts differ.
    ///
    /// # Errors
    /// [`MixedBuckets`]; the sum is then as before.
    pub fn add(&mut self, term: &NativeHistogram) -> Result<MergeNotes, MixedBuckets> {
        self.merge(term, 1.0)
    }

    /// Subtracts a term; otherwise as [`add`](Self::add).
    ///
    /// # Errors
    /// [`MixedBuckets`]; the sum is then as before.
    pub fn subtract(&mut self, term: &NativeHistogram) -> Result<MergeNotes, MixedBuckets> {
        self.merge(term, -1.0)
    }

    /// Multiplies every count and the sum of observations.
    pub fn multiply(&mut self, factor: f64) {
        self.each(|n| n * factor);
    }

    /// Divides every count and the sum of observations.
    pub fn divide(&mut self, by: f64) {
        self.each(|n| n / by);
    }

    /// Marks the sum as one of gauges or counters.
    pub fn set_hint(&mut self, hint: ResetHint) {
        self.hint = hint;
    }

    /// Whether count or sum of observations grew beyond the floats.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.count.value.is_infinite() || self.sum.value.is_infinite()
    }

    /// The sum so far, with float counts. Empty buckets of any term are in it; see
    /// [`NativeHistogram::compact`].
    #[must_use]
    pub fn value(&self) -> NativeHistogram {
        let side = |sums: &SideSums| from_entries(sums.iter().map(|(index, sum)| (*index, sum.total())));
        let (positive_spans, positive) = side(&self.positive);
        let (negative_spans, negative) = side(&self.negative);
        NativeHistogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            counts: HistogramCounts::Float(BucketCounts {
                zero: self.zero.total(),
                count: self.count.total(),
                positive,
                negative,
            }),
            sum: self.sum.total(),
            positive_spans,
            negative_spans,
            custom_values: Arc::clone(&self.custom_values),
        }
    }

    fn each(&mut self, change: impl Fn(f64) -> f64) {
        let buckets = self.positive.iter_mut().chain(&mut self.negative).map(|(_, sum)| sum);
        for number in buckets.chain([&mut self.zero, &mut self.count, &mut self.sum]) {
            *number = Compensated { value: change(number.value), rest: change(number.rest) };
        }
    }

    fn has_custom_bounds(&self) -> bool {
        self.schema == super::CUSTOM_BUCKETS_SCHEMA
    }

    fn merge(&mut self, term: &NativeHistogram, sign: f64) -> Result<MergeNotes, MixedBuckets> {
        if self.has_custom_bounds() != term.has_custom_bounds() {
            return Err(MixedBuckets);
        }
        let mut notes = MergeNotes { reset_collision: self.merge_hint(term.hint), bounds_reconciled: false };
        self.count.add(sign * term.count());
        self.sum.add(sign * term.sum);
        if self.has_custom_bounds() {
            notes.bounds_reconciled = self.merge_custom(term, sign);
        } else {
            self.merge_exponential(term, sign);
        }
        Ok(notes)
    }

    /// Returns whether a reset met the statement that there was none.
    fn merge_hint(&mut self, other: ResetHint) -> bool {
        let (hint, collision) = match (self.hint, other) {
            (a, b) if a == b => (a, false),
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
            (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
            _ => (ResetHint::Unknown, true),
        };
        self.hint = hint;
        collision
    }

    /// Returns whether bounds differed.
    fn merge_custom(&mut self, term: &NativeHistogram, sign: f64) -> bool {
        if *self.custom_values == *term.custom_values {
            merge_side(&mut self.positive, term.side_entries(Side::Positive), sign);
            return false;
        }
        let common = common_bounds(&self.custom_values, &term.custom_values);
        let mut dense = vec![Compensated::default(); common.len() + 1];
        for (index, sum) in &self.positive {
            dense[place(*index, &self.custom_values, &common)].absorb(*sum);
        }
        for (index, count) in term.side_entries(Side::Positive) {
            dense[place(index, &term.custom_values, &common)].add(sign * count);
        }
        self.positive = (0i32..).zip(dense).filter(|(_, sum)| sum.value != 0.0).collect();
        self.custom_values = common.into();
        true
    }

    fn merge_exponential(&mut self, term: &NativeHistogram, sign: f64) {
        let schema = self.schema.min(term.schema);
        if self.zero_threshold == term.zero_threshold {
            self.zero.add(sign * term.counts.zero());
            self.reduce_to(schema);
            for (side, sums) in [(Side::Positive, &mut self.positive), (Side::Negative, &mut self.negative)] {
                let buckets = term.side_entries(side);
                merge_side(sums, above(buckets, term.schema, schema, self.zero_threshold), sign);
            }
            return;
        }
        let mut term = HistogramSum::new(term);
        while term.zero_threshold != self.zero_threshold {
            if self.zero_threshold > term.zero_threshold {
                term.widen_zero(self.zero_threshold);
            }
            if term.zero_threshold > self.zero_threshold {
                self.widen_zero(term.zero_threshold);
            }
        }
        self.zero.add(sign * term.zero.total());
        self.reduce_to(schema);
        let threshold = self.zero_threshold;
        for (from, to) in [(term.positive, &mut self.positive), (term.negative, &mut self.negative)] {
            let buckets = from.into_iter().map(|(index, sum)| (index, sum.total()));
            merge_side(to, above(buckets, term.schema, schema, threshold), sign);
        }
    }

    fn reduce_to(&mut self, schema: i8) {
        if schema == self.schema {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            for (index, _) in side.iter_mut() {
                *index = coarser_index(*index, self.schema, schema);
            }
            side.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                if same {
                    kept.1.absorb(next.1);
                }
                same
            });
        }
        self.schema = schema;
    }

    /// Widens the zero bucket to `threshold`, or further where that would cut a populated bucket.
    fn widen_zero(&mut self, threshold: f64) {
        let values = |side: &SideSums| side.iter().map(|(index, sum)| (*index, sum.value)).collect::<Vec<_>>();
        let (positive, negative) = (values(&self.positive), values(&self.negative));
        let (_, threshold) =
            widened(self.schema, 0.0, threshold, || positive.iter().copied(), || negative.iter().copied());
        for side in [&mut self.positive, &mut self.negative] {
            let inside = side.partition_point(|(index, _)| lower_bound(*index, self.schema) < threshold);
            for (_, sum) in side.drain(..inside) {
                self.zero.absorb(sum);
            }
        }
        self.zero_threshold = threshold;
    }
}

/// Adds `sign` times the numbered counts, which rise but may repeat a number.
fn merge_side(sums: &mut SideSums, term: impl Iterator<Item = (i32, f64)>, sign: f64) {
    let mut at = 0;
    let mut missing: SideSums = Vec::new();
    for (index, count) in term {
        while sums.get(at).is_some_and(|(known, _)| *known < index) {
            at += 1;
        }
        match (sums.get_mut(at), missing.last_mut()) {
            (Some((known, sum)), _) if *known == index => sum.add(sign * count),
            (_, Some((known, sum))) if *known == index => sum.add(sign * count),
            _ => missing.push((index, Compensated::of(sign * count))),
        }
    }
    if !missing.is_empty() {
        // Two sorted runs: the sort finds them and merges once.
        sums.append(&mut missing);
        sums.sort_by_key(|(index, _)| *index);
    }
}

/// Buckets in the numbers of a coarser schema, without the leading ones inside the zero bucket.
pub(super) fn above(
    buckets: impl Iterator<Item = (i32, f64)>,
    from: i8,
    to: i8,
    zero_threshold: f64,
) -> impl Iterator<Item = (i32, f64)> {
    buckets
        .map(move |(index, count)| (coarser_index(index, from, to), count))
        .skip_while(move |(index, _)| exponential_bound(*index, to) <= zero_threshold)
}

fn lower_bound(index: i32, schema: i8) -> f64 {
    exponential_bound(index.saturating_sub(1), schema)
}

/// Count and threshold of the zero bucket after widening it to at least `threshold`.
///
/// A threshold inside a populated bucket moves on to that bucket's outer bound, its count included. Both
/// sides are given in rising order of numbers, from zero outwards.
pub(super) fn widened<P: Iterator<Item = (i32, f64)>, N: Iterator<Item = (i32, f64)>>(
    schema: i8,
    zero: f64,
    mut threshold: f64,
    positive: impl Fn() -> P,
    negative: impl Fn() -> N,
) -> (f64, f64) {
    loop {
        let mut count = zero;
        let reached = threshold;
        for (index, n) in positive() {
            if lower_bound(index, schema) >= threshold {
                break;
            }
            count += n;
            let outer = exponential_bound(index, schema);
            if outer > threshold {
                if n != 0.0 {
                    threshold = outer;
                }
                break;
            }
        }
        let after_positive = threshold;
        for (index, n) in negative() {
            if lower_bound(index, schema) >= threshold {
                break;
            }
            count += n;
            let outer = exponential_bound(index, schema);
            if outer > threshold {
                if n != 0.0 {
                    threshold = outer;
                }
                break;
            }
        }
        debug_assert!(after_positive >= reached);
        if threshold == after_positive {
            return (count, threshold);
        }
        // The negative side moved the threshold, so the positive side must be looked at again.
    }
}

/// Bounds that both have, rising.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut others = b.iter().peekable();
    let mut common = Vec::new();
    for bound in a {
        while others.next_if(|other| *other < bound).is_some() {}
        if others.next_if(|other| *other == bound).is_some() {
            common.push(*bound);
        }
    }
    common
}

/// The bucket between `common` bounds that holds bucket `index` of `bounds`.
pub(super) fn place(index: i32, bounds: &[f64], common: &[f64]) -> usize {
    let upper = usize::try_from(index).ok().and_then(|at| bounds.get(at));
    upper.map_or(common.len(), |upper| common.partition_point(|bound| bound < upper))
}

impl NativeHistogram {
    /// The same histogram with float counts.
    #[must_use]
    pub fn to_float(&self) -> NativeHistogram {
        let mut float = self.clone();
        float.float_counts();
        float
    }

    /// The same histogram with integer counts, if every count is a whole number that a float holds exactly.
    #[must_use]
    pub fn to_integer(&self) -> Option<NativeHistogram> {
        const EXACT_MAX: f64 = (1u64 << 53) as f64;
        let HistogramCounts::Float(counts) = &self.counts else { return Some(self.clone()) };
        let whole = |n: f64| ((0.0..=EXACT_MAX).contains(&n) && n.fract() == 0.0).then_some(n as u64);
        let all = |counts: &[f64]| counts.iter().map(|n| whole(*n)).collect::<Option<Vec<u64>>>();
        let counts = BucketCounts {
            zero: whole(counts.zero)?,
            count: whole(counts.count)?,
            positive: all(&counts.positive)?,
            negative: all(&counts.negative)?,
        };
        Some(NativeHistogram { counts: HistogramCounts::Integer(counts), ..self.clone() })
    }

    /// Turns integer counts into floats and gives them.
    pub fn float_counts(&mut self) -> &mut BucketCounts<f64> {
        if let HistogramCounts::Integer(c) = &self.counts {
            let floats = |counts: &[u64]| counts.iter().map(|&n| n as f64).collect();
            self.counts = HistogramCounts::Float(BucketCounts {
                zero: c.zero as f64,
                count: c.count as f64,
                positive: floats(&c.positive),
                negative: floats(&c.negative),
            });
        }
        match &mut self.counts {
            HistogramCounts::Float(counts) => counts,
            HistogramCounts::Integer(_) => unreachable!("turned into floats above"),
        }
    }

    /// Adds `other`. Counts become floats.
    ///
    /// # Errors
    /// [`MixedBuckets`]; the histogram is then as before.
    pub fn add(&mut self, other: &NativeHistogram) -> Result<MergeNotes, MixedBuckets> {
        let mut sum = HistogramSum::new(self);
        let notes = sum.add(other)?;
        *self = sum.value();
        Ok(notes)
    }

    /// Subtracts `other`. Counts become floats. The hint is merged as in an addition; PromQL's `-` makes the
    /// result a gauge besides.
    ///
    /// # Errors
    /// [`MixedBuckets`]; the histogram is then as before.
    pub fn subtract(&mut self, other: &NativeHistogram) -> Result<MergeNotes, MixedBuckets> {
        let mut sum = HistogramSum::new(self);
        let notes = sum.subtract(other)?;
        *self = sum.value();
        Ok(notes)
    }

    /// Multiplies every count and the sum of observations. Counts become floats; a negative factor makes
    /// the histogram a gauge.
    pub fn multiply(&mut self, factor: f64) {
        self.sum *= factor;
        self.each_count(|n| n * factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Divides every count and the sum of observations; otherwise as [`multiply`](Self::multiply). Division
    /// by 0 removes all buckets.
    pub fn divide(&mut self, by: f64) {
        self.sum /= by;
        self.each_count(|n| n / by);
        if by == 0.0 {
            self.positive_spans.clear();
            self.negative_spans.clear();
            let counts = self.float_counts();
            counts.positive.clear();
            counts.negative.clear();
        } else if by < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    fn each_count(&mut self, change: impl Fn(f64) -> f64) {
        let counts = self.float_counts();
        counts.zero = change(counts.zero);
        counts.count = change(counts.count);
        for count in counts.positive.iter_mut().chain(&mut counts.negative) {
            *count = change(*count);
        }
    }

    /// Rewrites spans so that there is no empty bucket but in gaps of at most `empty_max`, which are filled.
    pub fn compact(&mut self, empty_max: usize) {
        match &mut self.counts {
            HistogramCounts::Integer(c) => {
                compact_side(&mut self.positive_spans, &mut c.positive, empty_max);
                compact_side(&mut self.negative_spans, &mut c.negative, empty_max);
            }
            HistogramCounts::Float(c) => {
                compact_side(&mut self.positive_spans, &mut c.positive, empty_max);
                compact_side(&mut self.negative_spans, &mut c.negative, empty_max);
            }
        }
    }

    /// Whether both hold the same data: bounds, layout of buckets and, by bits, counts and sum. The kind of
    /// counts and the hint do not matter; spans of length 0 neither.
    #[must_use]
    pub fn equals(&self, other: &NativeHistogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let side = |side| {
            let mut theirs = other.side_entries(side);
            let all = self
                .side_entries(side)
                .all(|(index, count)| theirs.next().is_some_and(|(number, n)| number == index && same(n, count)));
            all && theirs.next().is_none()
        };
        self.schema == other.schema
            && same(self.count(), other.count())
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && same(self.counts.zero(), other.counts.zero())
            && (!self.has_custom_bounds() || *self.custom_values == *other.custom_values)
            && side(Side::Positive)
            && side(Side::Negative)
    }
}

fn compact_side<T: Copy + Default + PartialEq>(spans: &mut Vec<BucketSpan>, counts: &mut Vec<T>, empty_max: usize) {
    let tidy = spans.iter().skip(1).all(|s| s.offset as usize > empty_max) && spans.iter().all(|s| s.len > 0);
    if tidy && !counts.contains(&T::default()) {
        return;
    }
    let mut kept: Vec<(i32, T)> = Vec::with_capacity(counts.len());
    for (index, count) in entries(spans, counts).filter(|(_, count)| *count != T::default()) {
        if let Some(&(last, _)) = kept.last() {
            let gap = (i64::from(index) - i64::from(last) - 1).unsigned_abs();
            if gap <= empty_max as u64 {
                kept.extend((last + 1..index).map(|empty| (empty, T::default())));
            }
        }
        kept.push((index, count));
    }
    (*spans, *counts) = from_entries(kept);
}
