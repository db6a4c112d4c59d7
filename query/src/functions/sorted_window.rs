//! A window that slides over one series and is kept in order: for quantiles and medians.

use std::cmp::Ordering;
use std::ops::Range;

use kymo_core::aggregate::{nan_first, quantile_of_sorted};
use kymo_core::{QueryContext, SelectError};

/// Values that are sorted at once: some milliseconds' worth.
const SORTED_AT_ONCE: usize = 1 << 16;
/// As many enter and leave one by one; more are sorted, and put in their places in one go.
const ONE_BY_ONE_MAX: usize = 32;

/// Sorts values, NaN first. Many are sorted in parts, with a look between them whether the query should stop.
pub(crate) fn in_order(values: &mut Vec<f64>, ctx: &QueryContext) -> Result<(), SelectError> {
    if values.len() <= SORTED_AT_ONCE {
        values.sort_unstable_by(nan_first);
    } else {
        *values = ctx.sorted(std::mem::take(values), nan_first)?;
    }
    Ok(())
}

/// The values of a window, sorted. A sample that leaves and one that enters move only what lies between them.
#[derive(Debug, Default)]
pub(crate) struct SortedWindow {
    sorted: Vec<f64>,
    /// What is sorted: `values[begin..end]` of the series.
    begin: usize,
    end: usize,
    /// Distances from the median, or the next window in the making.
    distances: Vec<f64>,
}

impl SortedWindow {
    /// Forgets the series before.
    pub(crate) fn restart(&mut self) {
        self.sorted.clear();
        (self.begin, self.end) = (0, 0);
    }

    /// Bytes held for windows of so many values.
    pub(crate) fn bytes(values: usize) -> u64 {
        // The window, the next one or its distances, and what enters and leaves.
        3 * (values * size_of::<f64>()) as u64
    }

    /// The `q`-quantile of `values[window]`. Neither end may ever move back.
    pub(crate) fn quantile(
        &mut self,
        q: f64,
        values: &[f64],
        window: Range<usize>,
        ctx: &QueryContext,
    ) -> Result<f64, SelectError> {
        self.slide(values, window, ctx)?;
        Ok(quantile_of_sorted(q, &self.sorted))
    }

    /// Median of the absolute distances from the median, NaN if any value is. O(n), sorts nothing.
    pub(crate) fn mad(&mut self, values: &[f64], window: Range<usize>, ctx: &QueryContext) -> Result<f64, SelectError> {
        self.slide(values, window, ctx)?;
        if self.sorted.first().is_none_or(|least| least.is_nan()) {
            return Ok(f64::NAN);
        }
        let median = quantile_of_sorted(0.5, &self.sorted);
        // Below the median distances fall with the value, above it they rise: two sorted runs are merged.
        let (mut below, mut above) = (self.sorted.partition_point(|&v| v < median), 0);
        above += below;
        self.distances.clear();
        while below > 0 || above < self.sorted.len() {
            let down = (below > 0).then(|| (self.sorted[below - 1] - median).abs());
            let up = self.sorted.get(above).map(|value| (value - median).abs());
            match (down, up) {
                (Some(down), Some(up)) if down < up || up.is_nan() => {
                    self.distances.push(down);
                    below -= 1;
                }
                (Some(down), None) => {
                    self.distances.push(down);
                    below -= 1;
                }
                (_, Some(up)) => {
                    self.distances.push(up);
                    above += 1;
                }
                (None, None) => break,
            }
        }
        if self.distances.iter().any(|distance| distance.is_nan()) {
            // An infinite median has NaN distances, which go first.
            in_order(&mut self.distances, ctx)?;
        }
        Ok(quantile_of_sorted(0.5, &self.distances))
    }

    fn slide(&mut self, values: &[f64], window: Range<usize>, ctx: &QueryContext) -> Result<(), SelectError> {
        let Range { start: begin, end } = window;
        debug_assert!(begin >= self.begin && end >= self.end, "a window does not slide back");
        let moved = (begin - self.begin) + (end - self.end);
        if begin >= self.end || moved > self.sorted.len() {
            self.sorted.clear();
            self.sorted.extend_from_slice(&values[begin..end]);
            in_order(&mut self.sorted, ctx)?;
            (self.begin, self.end) = (begin, end);
            return Ok(());
        }
        if moved > ONE_BY_ONE_MAX {
            self.exchange(&values[self.begin..begin], &values[self.end..end], ctx)?;
            (self.begin, self.end) = (begin, end);
            return Ok(());
        }
        while self.begin < begin || self.end < end {
            match (self.begin < begin, self.end < end) {
                (true, true) => self.replace(values[self.begin], values[self.end]),
                (true, false) => {
                    let at = self.place(values[self.begin]);
                    self.sorted.remove(at);
                }
                _ => {
                    let at = self.place(values[self.end]);
                    self.sorted.insert(at, values[self.end]);
                }
            }
            self.begin += usize::from(self.begin < begin);
            self.end += usize::from(self.end < end);
        }
        Ok(())
    }

    /// Takes values out and others in, in one pass over the window.
    fn exchange(&mut self, leaving: &[f64], entering: &[f64], ctx: &QueryContext) -> Result<(), SelectError> {
        let (mut leaving, mut entering) = (leaving.to_vec(), entering.to_vec());
        in_order(&mut leaving, ctx)?;
        in_order(&mut entering, ctx)?;
        let (mut leaving, mut entering) = (leaving.into_iter().peekable(), entering.into_iter().peekable());
        self.distances.clear();
        for &value in &self.sorted {
            // The order is total, so values that are equal in it are the same.
            if leaving.next_if(|gone| nan_first(gone, &value) == Ordering::Equal).is_some() {
                continue;
            }
            while let Some(new) = entering.next_if(|new| nan_first(new, &value) == Ordering::Less) {
                self.distances.push(new);
            }
            self.distances.push(value);
        }
        self.distances.extend(entering);
        std::mem::swap(&mut self.sorted, &mut self.distances);
        Ok(())
    }

    /// The place of the first value not below `value`.
    fn place(&self, value: f64) -> usize {
        self.sorted.partition_point(|other| nan_first(other, &value) == Ordering::Less)
    }

    fn replace(&mut self, leaving: f64, entering: f64) {
        let (from, to) = (self.place(leaving), self.place(entering));
        if from < to {
            self.sorted.copy_within(from + 1..to, from);
            self.sorted[to - 1] = entering;
        } else {
            self.sorted.copy_within(to..from, to + 1);
            self.sorted[to] = entering;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::over_time;

    proptest! {
        #[test]
        fn a_sliding_quantile_and_median_equal_those_of_each_window(
            values in prop::collection::vec(
                prop_oneof![
                    9 => (0i32..20).prop_map(f64::from),
                    1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.5]),
                ], 1..300),
            moves in prop::collection::vec(prop_oneof![3 => (0usize..9, 0usize..9), 1 => (0usize..50, 0usize..50)], 1..40),
            q in 0.0..1.0f64,
        ) {
            let (mut window, mut mads) = (SortedWindow::default(), SortedWindow::default());
            let (mut begin, mut end, ctx) = (0, 0, QueryContext::unlimited());
            for (forward, further) in moves {
                end = (end + further).min(values.len());
                begin = (begin + forward).min(end);
                if begin == end {
                    continue;
                }
                let part = &values[begin..end];
                let expected = over_time::quantile_of(q, part, &mut Vec::new(), &ctx).unwrap();
                let found = window.quantile(q, &values, begin..end, &ctx).unwrap();
                prop_assert_eq!(found.to_bits(), expected.to_bits(), "{:?} {}", part, q);
                let expected = over_time::mad(part, &mut Vec::new(), &ctx).unwrap();
                let found = mads.mad(&values, begin..end, &ctx).unwrap();
                prop_assert!(found == expected || (found.is_nan() && expected.is_nan()), "{part:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_long_window_is_left_when_the_query_ends() {
        let values: Vec<f64> = (0..200_000u32).map(|n| f64::from(n.wrapping_mul(2_654_435_761) >> 8)).collect();
        let (ctx, mut window) = (QueryContext::unlimited(), SortedWindow::default());
        let whole = window.quantile(0.5, &values, 0..values.len(), &ctx).unwrap();
        assert_eq!(whole, kymo_core::aggregate::quantile(0.5, &mut values.clone()));
        window.restart();
        ctx.cancel.cancel();
        assert!(window.quantile(0.5, &values, 0..values.len(), &ctx).is_err());
        assert!(over_time::quantile_of(0.5, &values, &mut Vec::new(), &ctx).is_err());
    }
}
