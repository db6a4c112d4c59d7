//! Aggregations over the floats of one window, and the extremes of sliding ones.

use std::collections::VecDeque;

use kymo_core::aggregate::{Avg, CompensatedSum, StdVar, Sum, quantile_of_sorted};
use kymo_core::{QueryContext, SelectError};

use super::sorted_window::in_order;

/// Compensated sum.
pub(crate) fn sum(values: &[f64]) -> f64 {
    let mut state = Sum::default();
    values.iter().for_each(|&v| state.update(v));
    state.finish().unwrap_or(f64::NAN)
}

/// Compensated mean.
pub(crate) fn avg(values: &[f64]) -> f64 {
    let mut sum = CompensatedSum::default();
    values.iter().for_each(|&v| sum.add(v));
    if sum.sum.is_finite() {
        let count = values.len() as f64;
        return sum.sum / count + sum.compensation / count;
    }
    // A sum beyond the floats: the mean itself is kept from there on.
    let mut state = Avg::default();
    values.iter().for_each(|&v| state.update(v));
    state.finish().unwrap_or(f64::NAN)
}

/// Population variance.
pub(crate) fn stdvar(values: &[f64]) -> f64 {
    let mut state = StdVar::default();
    values.iter().for_each(|&v| state.update(v));
    state.finish().unwrap_or(f64::NAN)
}

/// The `q`-quantile; `sorted` is scratch.
pub(crate) fn quantile_of(
    q: f64,
    values: &[f64],
    sorted: &mut Vec<f64>,
    ctx: &QueryContext,
) -> Result<f64, SelectError> {
    sorted.clear();
    sorted.extend_from_slice(values);
    in_order(sorted, ctx)?;
    Ok(quantile_of_sorted(q, sorted))
}

/// Median of the absolute distances from the median, NaN if any value is; `sorted` is scratch.
pub(crate) fn mad(values: &[f64], sorted: &mut Vec<f64>, ctx: &QueryContext) -> Result<f64, SelectError> {
    if values.iter().any(|v| v.is_nan()) {
        return Ok(f64::NAN);
    }
    let median = quantile_of(0.5, values, sorted, ctx)?;
    sorted.clear();
    sorted.extend(values.iter().map(|v| (v - median).abs()));
    in_order(sorted, ctx)?;
    Ok(quantile_of_sorted(0.5, sorted))
}

/// Whether a value differs from the one before; NaN equals NaN.
pub(crate) fn is_change(before: f64, value: f64) -> bool {
    before != value && !(before.is_nan() && value.is_nan())
}

/// Whether a value is below the one before.
pub(crate) fn is_reset(before: f64, value: f64) -> bool {
    value < before
}

/// How often neighbours differ.
pub(crate) fn changes(values: &[f64]) -> usize {
    values.windows(2).filter(|w| is_change(w[0], w[1])).count()
}

/// How often a value is below the one before.
pub(crate) fn resets(values: &[f64]) -> usize {
    values.windows(2).filter(|w| is_reset(w[0], w[1])).count()
}

/// For each value, how many up to it turned from the one before.
pub(crate) fn running_count(values: &[f64], turned: impl Fn(f64, f64) -> bool, counts: &mut Vec<f64>) {
    counts.clear();
    let mut count = 0.0;
    let mut before = values.first().copied().unwrap_or_default();
    counts.extend(values.iter().map(|&value| {
        if turned(before, value) {
            count += 1.0;
        }
        before = value;
        count
    }));
}

/// The time of the last sample that holds the extreme; NaN holds it only if there is nothing else.
pub(crate) fn time_of(times: &[i64], values: &[f64], beats: impl Fn(f64, f64) -> bool) -> Option<i64> {
    let mut best = (*times.first()?, *values.first()?);
    for (&time, &value) in times.iter().zip(values) {
        if beats(value, best.1) || value == best.1 || best.1.is_nan() {
            best = (time, value);
        }
    }
    Some(best.0)
}

/// Holt's linear smoothing. `None` for fewer than two values.
///
/// `smoothing` and `trend` lie strictly between 0 and 1.
pub(crate) fn double_exponential_smoothing(values: &[f64], smoothing: f64, trend: f64) -> Option<f64> {
    let (&first, &second) = (values.first()?, values.get(1)?);
    let (mut before, mut smooth, mut slope) = (0.0, first, second - first);
    for (idx, value) in values.iter().enumerate().skip(1) {
        let scaled = smoothing * value;
        if idx > 1 {
            slope = trend * (smooth - before) + (1.0 - trend) * slope;
        }
        let carried = (1.0 - smoothing) * (smooth + slope);
        (before, smooth) = (smooth, scaled + carried);
    }
    Some(smooth)
}

/// The extreme of a window that slides forward over one series: each value enters and leaves once.
///
/// Holds positions whose values could still become the extreme, best first.
#[derive(Debug, Default)]
pub(crate) struct SlidingExtreme {
    candidates: VecDeque<u32>,
    /// Positions before it have been looked at.
    seen: usize,
}

impl SlidingExtreme {
    pub(crate) fn restart(&mut self) {
        self.candidates.clear();
        self.seen = 0;
    }

    /// The extreme of `values[begin..end]` by `beats`, NaN if there is nothing but NaN. Neither end
    /// may ever move back.
    pub(crate) fn of(&mut self, values: &[f64], begin: usize, end: usize, beats: impl Fn(f64, f64) -> bool) -> f64 {
        self.seen = self.seen.max(begin);
        for (at, &value) in values.iter().enumerate().take(end).skip(self.seen) {
            if value.is_nan() {
                continue;
            }
            while self.candidates.back().is_some_and(|&back| beats(value, values[back as usize])) {
                self.candidates.pop_back();
            }
            self.candidates.push_back(at as u32);
        }
        self.seen = self.seen.max(end);
        while self.candidates.front().is_some_and(|&front| (front as usize) < begin) {
            self.candidates.pop_front();
        }
        self.candidates.front().map_or(f64::NAN, |&front| values[front as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_windows() {
        let values = [4.0, 6.0, 2.0, f64::NAN, 2.0];
        let mut scratch = Vec::new();
        assert_eq!((sum(&values[..3]), avg(&values[..3])), (12.0, 4.0));
        assert!((stdvar(&values[..3]) - 8.0 / 3.0).abs() < 1e-15);
        let ctx = QueryContext::unlimited();
        assert_eq!(quantile_of(0.25, &values[..3], &mut scratch, &ctx).unwrap(), 3.0);
        assert_eq!(mad(&[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0], &mut scratch, &ctx).unwrap(), 1.0);
        assert!(mad(&values, &mut scratch, &ctx).unwrap().is_nan());
        assert_eq!((changes(&values), resets(&values)), (4, 1));
        assert_eq!(changes(&[f64::NAN, f64::NAN]), 0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(avg(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
    }

    #[test]
    fn the_last_of_equal_extremes_gives_the_time() {
        let (times, values) = ([1, 2, 3, 4], [f64::NAN, 7.0, 7.0, 3.0]);
        assert_eq!(time_of(&times, &values, |a, b| a > b), Some(3));
        assert_eq!(time_of(&times, &values, |a, b| a < b), Some(4));
        assert_eq!(time_of(&[], &[], |a, b| a < b), None);
    }

    #[test]
    fn a_sliding_extreme_equals_a_scan() {
        let values: Vec<f64> =
            (0..200u32).map(|i| if i % 17 == 3 { f64::NAN } else { f64::from(i * 7919 % 101) }).collect();
        let mut sliding = SlidingExtreme::default();
        for begin in 0..150usize {
            let end = begin + 1 + begin / 5;
            let scan = values[begin..end].iter().copied().filter(|v| !v.is_nan()).fold(f64::NAN, f64::max);
            let found = sliding.of(&values, begin, end, |a, b| a > b);
            assert!(found == scan || (found.is_nan() && scan.is_nan()), "{begin}..{end}: {found} {scan}");
        }
    }

    #[test]
    fn smoothing_follows_a_line() {
        let line: Vec<f64> = (0..10).map(f64::from).collect();
        assert!((double_exponential_smoothing(&line, 0.5, 0.5).unwrap() - 9.0).abs() < 1e-12);
        assert_eq!(double_exponential_smoothing(&line[..1], 0.5, 0.5), None);
    }
}
