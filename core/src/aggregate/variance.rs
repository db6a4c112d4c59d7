//! Population variance and standard deviation.

use super::sum::CompensatedSum;

/// The population variance of values.
///
/// One pass with compensated updates (Welford, "Note on a method for calculating corrected sums of
/// squares and products", 1962), as Prometheus; states are merged by Chan, Golub and LeVeque's
/// formula (1979). Any NaN or infinity makes it NaN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StdVar {
    count: u64,
    mean: CompensatedSum,
    /// Sum of squared distances from the mean.
    squares: CompensatedSum,
}

impl StdVar {
    /// Adds one value.
    pub fn update(&mut self, value: f64) {
        self.count += 1;
        let delta = value - self.mean_value();
        self.mean.add(delta / self.count as f64);
        self.squares.add(delta * (value - self.mean_value()));
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
        let (mine, theirs) = (self.count as f64, other.count as f64);
        let count = mine + theirs;
        let delta = other.mean_value() - self.mean_value();
        self.mean.add(delta * (theirs / count));
        self.squares.merge(&other.squares);
        self.squares.add(delta * delta * (mine * (theirs / count)));
        self.count += other.count;
    }

    /// The variance, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        let squares = self.squares.sum + self.squares.compensation;
        (self.count > 0).then(|| squares / self.count as f64)
    }

    fn mean_value(&self) -> f64 {
        self.mean.sum + self.mean.compensation
    }
}

/// The population standard deviation of values: the root of [`StdVar`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StdDev {
    variance: StdVar,
}

impl StdDev {
    /// Adds one value.
    pub fn update(&mut self, value: f64) {
        self.variance.update(value);
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.variance.merge(&other.variance);
    }

    /// The standard deviation, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.variance.finish().map(f64::sqrt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_of_known_values() {
        let mut deviation = StdDev::default();
        [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter().for_each(|v| deviation.update(v));
        assert_eq!(deviation.finish(), Some(2.0));
    }

    #[test]
    fn large_offset_does_not_drown_the_variance() {
        let mut variance = StdVar::default();
        [4.0, 7.0, 13.0, 16.0].into_iter().for_each(|v| variance.update(1e9 + v));
        assert_eq!(variance.finish(), Some(22.5));
    }

    #[test]
    fn not_a_number_spreads() {
        for odd in [f64::NAN, f64::INFINITY] {
            let mut variance = StdVar::default();
            [1.0, odd, 2.0].into_iter().for_each(|v| variance.update(v));
            assert!(variance.finish().unwrap().is_nan());
        }
    }
}
