//! A quantile sketch with relative accuracy.

use std::collections::BTreeMap;

/// Guaranteed relative error of a quantile.
const ACCURACY: f64 = 0.01;

/// Bins kept per sign. At 1 % they span a factor of 10^17 between the smallest and the largest
/// magnitude; beyond that, the smallest magnitudes are merged.
const BINS_MAX: usize = 2048;

/// Counts observations in bins whose bounds grow by a constant factor.
///
/// Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
/// guarantees", VLDB 2019.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    /// Bin `i` holds magnitudes in `(growth^(i-1), growth^i]`.
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    zeros: u64,
}

impl Sketch {
    /// Adds a finite value.
    pub(super) fn insert(&mut self, value: f64) {
        let bins = if value > 0.0 {
            &mut self.positive
        } else if value < 0.0 {
            &mut self.negative
        } else {
            self.zeros += 1;
            return;
        };
        *bins.entry(bin_of(value.abs())).or_default() += 1;
        if bins.len() > BINS_MAX {
            if let Some((_, merged)) = bins.pop_first() {
                if let Some(mut smallest) = bins.first_entry() {
                    *smallest.get_mut() += merged;
                }
            }
        }
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        self.positive.clear();
        self.negative.clear();
        self.zeros = 0;
    }

    /// Appends a value and a count for each bin. Sketches merge by having their bins appended to one list.
    pub(super) fn bins(&self, out: &mut Vec<(f64, u64)>) {
        out.extend(self.negative.iter().map(|(bin, count)| (-value_of(*bin), *count)));
        out.extend((self.zeros > 0).then_some((0.0, self.zeros)));
        out.extend(self.positive.iter().map(|(bin, count)| (value_of(*bin), *count)));
    }
}

/// The value of rank `q × (count − 1)` among bins sorted by value, within the accuracy; NaN without values.
pub(super) fn quantile(bins: &[(f64, u64)], q: f64) -> f64 {
    let total: u64 = bins.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return f64::NAN;
    }
    let rank = (q * (total - 1) as f64) as u64;
    let mut seen = 0;
    for (value, count) in bins {
        seen += count;
        if seen > rank {
            return *value;
        }
    }
    f64::NAN
}

fn growth() -> f64 {
    (1.0 + ACCURACY) / (1.0 - ACCURACY)
}

fn bin_of(magnitude: f64) -> i32 {
    (magnitude.ln() / growth().ln()).ceil() as i32
}

/// The value in the bin with the same relative distance to both of its bounds.
fn value_of(bin: i32) -> f64 {
    2.0 * growth().powi(bin) / (growth() + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_within_their_accuracy(
            values in prop::collection::vec(prop_oneof![-1e6..1e6_f64, Just(0.0), 1e-6..1.0_f64], 1..200),
            q in 0.0..=1.0_f64,
        ) {
            let mut sketches = [Sketch::default(), Sketch::default()];
            values.iter().enumerate().for_each(|(at, value)| sketches[at % 2].insert(*value));
            let mut bins = Vec::new();
            sketches.iter().for_each(|sketch| sketch.bins(&mut bins));
            bins.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(q * (sorted.len() - 1) as f64) as usize];
            let found = quantile(&bins, q);
            prop_assert!((found - exact).abs() <= exact.abs() * (ACCURACY + 1e-9), "{} for {}", found, exact);
        }
    }

    #[test]
    fn bins_are_bounded_and_large_values_stay_exact() {
        let mut sketch = Sketch::default();
        for exponent in -300..300 {
            for step in 0..20 {
                sketch.insert(10_f64.powi(exponent) * (1.0 + f64::from(step) / 2.2));
            }
        }
        assert_eq!(sketch.positive.len(), BINS_MAX);
        assert_eq!(sketch.positive.values().sum::<u64>(), 600 * 20);
        let mut bins = Vec::new();
        sketch.bins(&mut bins);
        let largest = 1e299 * (1.0 + 19.0 / 2.2);
        assert!((quantile(&bins, 1.0) / largest - 1.0).abs() <= ACCURACY + 1e-9);
    }
}
