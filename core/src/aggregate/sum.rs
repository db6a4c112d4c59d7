//! Compensated summation.

/// A running sum with its rounding error kept beside it.
///
/// Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen" (1974), with
/// Prometheus' rule that an infinite sum forgets its compensation: infinities have no rounding
/// error, and keeping one would end in NaN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CompensatedSum {
    /// The sum as plain addition gives it.
    pub sum: f64,
    /// What plain addition lost so far.
    pub compensation: f64,
}

impl CompensatedSum {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// Adds another sum with what it lost.
    pub fn merge(&mut self, other: &Self) {
        self.add(other.sum);
        if self.sum.is_finite() {
            self.compensation += other.compensation;
        }
    }

    /// Both parts times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { sum: self.sum * factor, compensation: self.compensation * factor }
    }

    /// The sum; an infinite one is returned as it is.
    pub fn total(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.compensation }
    }
}

/// The sum of values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    seen: bool,
    sum: CompensatedSum,
}

impl Sum {
    /// Adds one value.
    pub fn update(&mut self, value: f64) {
        self.seen = true;
        self.sum.add(value);
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.seen {
            self.seen = true;
            self.sum.merge(&other.sum);
        }
    }

    /// The sum, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.seen.then(|| self.sum.total())
    }
}
