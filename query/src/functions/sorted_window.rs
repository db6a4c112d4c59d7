//! A window that slides over one series and is kept in order: for quantiles and medians.

use std::cmp::Ordering;

use kymo_core::aggregate::{nan_first, quantile_of_sorted};

/// The values of a window, sorted. A sample that leaves and one that enters move only what lies between them.
#[derive(Debug, Default)]
pub(crate) struct SortedWindow {
    sorted: Vec<f64>,
    /// What is sorted: `values[begin..end]` of the series.
    begin: usize,
    end: usize,
    /// Distances from the median.
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
        2 * (values * size_of::<f64>()) as u64
    }

    /// The `q`-quantile of `values[begin..end]`. Neither end may ever move back.
    pub(crate) fn quantile(&mut self, q: f64, values: &[f64], begin: usize, end: usize) -> f64 {
        self.slide(values, begin, end);
        quantile_of_sorted(q, &self.sorted)
    }

    /// Median of the absolute distances from the median, NaN if any value is. O(n), sorts nothing.
    pub(crate) fn mad(&mut self, values: &[f64], begin: usize, end: usize) -> f64 {
        self.slide(values, begin, end);
        if self.sorted.first().is_none_or(|least| least.is_nan()) {
            return f64::NAN;
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
            self.distances.sort_unstable_by(nan_first);
        }
        quantile_of_sorted(0.5, &self.distances)
    }

    fn slide(&mut self, values: &[f64], begin: usize, end: usize) {
        debug_assert!(begin >= self.begin && end >= self.end, "a window does not slide back");
        if begin >= self.end || (begin - self.begin) + (end - self.end) > self.sorted.len() {
            self.sorted.clear();
            self.sorted.extend_from_slice(&values[begin..end]);
            self.sorted.sort_unstable_by(nan_first);
            (self.begin, self.end) = (begin, end);
            return;
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
                ], 1..80),
            moves in prop::collection::vec((0usize..9, 0usize..9), 1..40),
            q in 0.0..1.0f64,
        ) {
            let (mut window, mut mads) = (SortedWindow::default(), SortedWindow::default());
            let (mut begin, mut end) = (0, 0);
            for (forward, further) in moves {
                end = (end + further).min(values.len());
                begin = (begin + forward).min(end);
                if begin == end {
                    continue;
                }
                let part = &values[begin..end];
                let expected = over_time::quantile_of(q, part, &mut Vec::new());
                let found = window.quantile(q, &values, begin, end);
                prop_assert_eq!(found.to_bits(), expected.to_bits(), "{:?} {}", part, q);
                let expected = over_time::mad(part, &mut Vec::new());
                let found = mads.mad(&values, begin, end);
                prop_assert!(found == expected || (found.is_nan() && expected.is_nan()), "{part:?}: {found} {expected}");
            }
        }
    }
}
