//! Quantiles of kept values.

use std::cmp::Ordering;

/// The `q`-quantile of `values`, which are sorted on the way.
///
/// Linear between the two nearest ranks, as PromQL's `quantile`: NaN values sort first, `q` < 0
/// gives −Inf, `q` > 1 gives +Inf, no values or a NaN `q` gives NaN. O(n log n), does not allocate.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if (0.0..=1.0).contains(&q) {
        values.sort_unstable_by(nan_first);
    }
    quantile_of_sorted(q, values)
}

/// The same of values that are in the order of [`nan_first`] already. O(1).
pub fn quantile_of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (sorted.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}

/// A total order in which every NaN is smallest and −0 is below +0.
pub fn nan_first(a: &f64, b: &f64) -> Ordering {
    b.is_nan().cmp(&a.is_nan()).then_with(|| a.total_cmp(b))
}

/// A quantile of values; keeps them all, 8 bytes each.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantile {
    q: f64,
    values: Vec<f64>,
}

impl Quantile {
    /// Nothing yet; `q` as in [`quantile`].
    pub fn new(q: f64) -> Self {
        Self { q, values: Vec::new() }
    }

    /// Keeps one value.
    pub fn update(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Keeps the values of `other`, whose `q` must be the same.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.q.to_bits(), other.q.to_bits());
        self.values.extend_from_slice(&other.values);
    }

    /// The quantile, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        (!self.values.is_empty()).then(|| quantile(self.q, &mut self.values.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_interpolated() {
        let rows = [(0.0, 1.0), (0.5, 2.5), (0.75, 3.25), (1.0, 4.0)];
        for (q, expected) in rows {
            assert_eq!(quantile(q, &mut [4.0, 1.0, 3.0, 2.0]), expected, "{q}");
        }
        assert_eq!(quantile(0.3, &mut [7.0]), 7.0);
    }

    #[test]
    fn edges_are_those_of_promql() {
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan());
        assert!(quantile(0.5, &mut []).is_nan());
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
        assert_eq!(quantile(1.0, &mut [1.0, -f64::NAN]), 1.0);
    }
}
