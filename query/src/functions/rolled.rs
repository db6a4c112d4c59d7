//! Functions over ranges of rollups: from the figures of buckets what would follow from their samples.
//!
//! Sums, means, counts, extremes, first and last samples, and changes of counters and gauges follow exactly (sums of floats to 1e-12
//! relative). Of a quantile only bounds follow: between that of all minima and that of all maxima.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::aggregate::{Avg, CompensatedSum, Max, Min};
use kymo_core::histogram::{HistogramSum, ResetHint};
use kymo_core::storage::{FloatRollup, HistogramRollup};

use super::histogram::Remarks;
use super::rate::Meaning;

/// Functions that are told from figures of buckets; all others from the last sample of each.
pub(crate) const EXACT: [&str; 14] = [
    "absent_over_time",
    "avg_over_time",
    "count_over_time",
    "delta",
    "first_over_time",
    "increase",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "rate",
    "sum_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
];

/// What a counter lost to resets in buckets whose last samples are `lasts`.
pub(crate) fn lost(lasts: &[f64], buckets: &[FloatRollup]) -> f64 {
    let between = lasts.iter().zip(&buckets[1..]).filter(|(last, next)| next.first < **last).map(|(last, _)| *last);
    buckets.iter().map(|bucket| bucket.lost).sum::<f64>() + between.sum::<f64>()
}

/// How many samples.
pub(crate) fn count(buckets: &[FloatRollup]) -> f64 {
    buckets.iter().map(|bucket| bucket.count).sum()
}

/// Their compensated sum.
pub(crate) fn sum(buckets: &[FloatRollup]) -> f64 {
    compensated(buckets).total()
}

fn compensated(buckets: &[FloatRollup]) -> CompensatedSum {
    let mut sum = CompensatedSum::default();
    buckets.iter().for_each(|bucket| sum.add(bucket.sum));
    sum
}

/// Their mean.
pub(crate) fn mean(buckets: &[FloatRollup]) -> f64 {
    let sum = compensated(buckets);
    if sum.sum.is_finite() {
        let count = count(buckets);
        return sum.sum / count + sum.compensation / count;
    }
    // A sum beyond the floats: the mean itself is kept from there on.
    let mut mean = Avg::default();
    for bucket in buckets {
        mean.merge(&Avg::of_sum(bucket.count as u64, CompensatedSum { sum: bucket.sum, compensation: 0.0 }));
    }
    mean.finish().unwrap_or(f64::NAN)
}

/// The smallest, NaN if there is nothing else.
pub(crate) fn min(buckets: &[FloatRollup]) -> f64 {
    let mut min = Min::default();
    buckets.iter().for_each(|bucket| min.update(bucket.min));
    min.finish().unwrap_or(f64::NAN)
}

/// The largest, NaN if there is nothing else.
pub(crate) fn max(buckets: &[FloatRollup]) -> f64 {
    let mut max = Max::default();
    buckets.iter().for_each(|bucket| max.update(bucket.max));
    max.finish().unwrap_or(f64::NAN)
}

/// The middle of what the `q`-quantile can be, and how far it can be from there.
pub(crate) fn quantile(q: f64, buckets: &[FloatRollup], scratch: &mut Vec<(f64, f64)>) -> (f64, f64) {
    let mut of = |figure: fn(&FloatRollup) -> f64| {
        scratch.clear();
        scratch.extend(buckets.iter().map(|bucket| (figure(bucket), bucket.count)));
        scratch.sort_by(|a, b| kymo_core::aggregate::nan_first(&a.0, &b.0));
        weighted_quantile(q, scratch)
    };
    let (low, high) = (of(|bucket| bucket.min), of(|bucket| bucket.max));
    if low == high || !(low.is_finite() && high.is_finite()) {
        return (low, if low == high || low.is_nan() { 0.0 } else { f64::INFINITY });
    }
    let half = high / 2.0 - low / 2.0;
    (low + half, half)
}

/// The quantile of values, sorted, each with how often it is there.
fn weighted_quantile(q: f64, sorted: &[(f64, f64)]) -> f64 {
    let total: f64 = sorted.iter().map(|(_, count)| count).sum();
    if total == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (total - 1.0);
    let at = |rank: f64| {
        let mut before = 0.0;
        let found = sorted.iter().find(|(_, count)| {
            before += count;
            rank < before
        });
        found.or(sorted.last()).map_or(f64::NAN, |(value, _)| *value)
    };
    let (low, high) = (at(rank.floor()), at((rank.floor() + 1.0).min(total - 1.0)));
    let weight = rank - rank.floor();
    if low == high { low } else { low * (1.0 - weight) + high * weight }
}

/// How many histograms.
pub(crate) fn count_of(buckets: &[HistogramRollup]) -> f64 {
    buckets.iter().map(|bucket| bucket.count).sum()
}

/// The sum of histograms; `None`, with a remark, if bucket kinds are mixed.
pub(crate) fn sum_of(buckets: &[HistogramRollup], remarks: &mut Remarks) -> Option<NativeHistogram> {
    let mut summed = || {
        let (first, rest) = buckets.split_first()?;
        let mut sum = HistogramSum::new(first.sum.as_ref()?);
        for bucket in rest {
            remarks.reconciled_aggregate |= sum.add(bucket.sum.as_ref()?).ok()?.bounds_reconciled;
        }
        Some(sum.value())
    };
    let found = summed();
    remarks.mixed_buckets |= found.is_none();
    found
}

/// Change over the histograms of buckets, resets added; of two histograms at least. The result is a gauge.
///
/// `None`, with a remark, if bucket kinds are mixed.
pub(crate) fn change_of(
    lasts: &[Arc<NativeHistogram>],
    buckets: &[HistogramRollup],
    meaning: Meaning,
    remarks: &mut Remarks,
) -> Option<NativeHistogram> {
    let (first, last) = (&buckets.first()?.first, lasts.last()?);
    let counter = meaning == Meaning::Counter;
    let gauges = [first, last.as_ref()].map(|h| h.hint == ResetHint::Gauge);
    remarks.not_counter |= counter && gauges.contains(&true);
    let mut computed = || {
        let custom = first.has_custom_bounds();
        let mut schema = first.schema.min(last.schema);
        for bucket in buckets.iter().filter(|_| counter) {
            let sum = bucket.sum.as_ref().filter(|sum| sum.has_custom_bounds() == custom)?;
            schema = schema.min(sum.schema);
        }
        if last.has_custom_bounds() != custom {
            return None;
        }
        let mut sum = HistogramSum::new(&last.at_schema(schema).ok()?);
        remarks.reconciled_sub |= sum.subtract(first).ok()?.bounds_reconciled;
        for (at, bucket) in buckets.iter().enumerate().filter(|_| counter) {
            if let Some(before) = at.checked_sub(1).map(|before| &lasts[before])
                && bucket.first.detect_reset(before)
            {
                remarks.reconciled_add |= sum.add(before).ok()?.bounds_reconciled;
            }
            if let Some(lost) = &bucket.lost {
                remarks.reconciled_add |= sum.add(lost).ok()?.bounds_reconciled;
            }
        }
        Some(sum.value())
    };
    let found = computed();
    remarks.mixed_buckets |= found.is_none();
    let mut result = found?;
    remarks.not_gauge |= !counter && gauges != [true, true];
    result.hint = ResetHint::Gauge;
    result.compact(0);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(values: &[f64]) -> FloatRollup {
        let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        FloatRollup {
            count: values.len() as f64,
            sum: values.iter().sum(),
            min: fold(f64::min),
            max: fold(f64::max),
            ..FloatRollup::of(0, values[0])
        }
    }

    #[test]
    fn a_quantile_lies_within_what_is_said_of_it() {
        let buckets = [vec![1.0, 5.0, 2.0], vec![4.0], vec![9.0, 7.0, 3.0, 3.0]];
        let figures: Vec<FloatRollup> = buckets.iter().map(|values| bucket(values)).collect();
        for q in [0.0, 0.1, 0.25, 0.5, 0.9, 1.0] {
            let mut all: Vec<f64> = buckets.iter().flatten().copied().collect();
            let exact = kymo_core::aggregate::quantile(q, &mut all);
            let (found, error) = quantile(q, &figures, &mut Vec::new());
            assert!((found - exact).abs() <= error, "{q}: {found} ± {error}, not {exact}");
        }
        assert_eq!(quantile(0.5, &[bucket(&[2.0]), bucket(&[4.0])], &mut Vec::new()), (3.0, 0.0));
        assert!(quantile(2.0, &figures, &mut Vec::new()).0.is_infinite());
    }

    #[test]
    fn a_mean_survives_what_a_sum_does_not() {
        assert_eq!(mean(&[bucket(&[f64::MAX]), bucket(&[f64::MAX])]), f64::MAX);
        assert_eq!(mean(&[bucket(&[1.0, 2.0]), bucket(&[6.0])]), 3.0);
    }
}
