//! Smallest and largest value. NaN counts only when there is nothing else; of −0 and +0 the first
//! one seen stays.

/// The smallest value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Min {
    min: Option<f64>,
}

impl Min {
    /// Looks at one value.
    pub fn update(&mut self, value: f64) {
        if self.min.is_none_or(|min| value < min || min.is_nan()) {
            self.min = Some(value);
        }
    }

    /// Looks at the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        if let Some(value) = other.min {
            self.update(value);
        }
    }

    /// The smallest value, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.min
    }
}

/// The largest value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Max {
    max: Option<f64>,
}

impl Max {
    /// Looks at one value.
    pub fn update(&mut self, value: f64) {
        if self.max.is_none_or(|max| value > max || max.is_nan()) {
            self.max = Some(value);
        }
    }

    /// Looks at the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        if let Some(value) = other.max {
            self.update(value);
        }
    }

    /// The largest value, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.max
    }
}
