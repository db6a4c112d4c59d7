//! The mean.

use super::sum::CompensatedSum;

/// The arithmetic mean of values.
///
/// Keeps a plain compensated sum as long as that does not overflow, which is the most exact way;
/// from the first overflow on it keeps the mean itself, as Prometheus does, so that the mean of
/// numbers near the largest float is not infinite.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Avg {
    count: u64,
    /// The sum, or the mean once `incremental`.
    state: CompensatedSum,
    incremental: bool,
}

impl Avg {
    /// Of `count` values whose sum is known and finite.
    #[must_use]
    pub fn of_sum(count: u64, sum: CompensatedSum) -> Self {
        Self { count, state: sum, incremental: false }
    }

    /// Adds one value.
    pub fn update(&mut self, value: f64) {
        self.merge(&Self { count: 1, state: CompensatedSum { sum: value, compensation: 0.0 }, incremental: false });
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        if !self.incremental && !other.incremental {
            let mut both = self.state;
            both.merge(&other.state);
            if !both.sum.is_infinite() {
                self.state = both;
                self.count += other.count;
                return;
            }
        }
        let (mine, theirs) = (self.mean(), other.mean());
        let count = self.count + other.count;
        let mut mean = mine.scaled(self.count as f64 / count as f64);
        // Divided, not multiplied by a share: of a single value that is exactly the reference's step.
        let parts = count as f64 / other.count as f64;
        mean.merge(&CompensatedSum { sum: theirs.sum / parts, compensation: theirs.compensation / parts });
        *self = Self { count, state: mean, incremental: true };
    }

    /// The mean, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        (self.count > 0).then(|| self.mean().total())
    }

    fn mean(&self) -> CompensatedSum {
        if self.incremental {
            return self.state;
        }
        let count = self.count as f64;
        CompensatedSum { sum: self.state.sum / count, compensation: self.state.compensation / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> f64 {
        let mut avg = Avg::default();
        values.iter().for_each(|&value| avg.update(value));
        avg.finish().unwrap()
    }

    #[test]
    fn mean_survives_what_a_sum_does_not() {
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert!((mean(&[f64::MAX; 3]) / f64::MAX - 1.0).abs() <= 1e-15);
        assert_eq!(mean(&[-f64::MAX, f64::MAX, f64::MAX, -f64::MAX]), 0.0);
        assert_eq!(mean(&[1e100, 1.0, -1e100, 1.0]), 0.5);
    }

    #[test]
    fn infinities_win_over_numbers_and_cancel_to_nan() {
        assert_eq!(mean(&[f64::INFINITY, 1.0, f64::INFINITY]), f64::INFINITY);
        assert_eq!(mean(&[1.0, f64::NEG_INFINITY, 5.0]), f64::NEG_INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(mean(&[1.0, f64::NAN]).is_nan());
    }
}
