//! How many, and whether any.

/// The number of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    count: u64,
}

impl Count {
    /// Counts one value, whatever it is.
    pub fn update(&mut self, _value: f64) {
        self.count += 1;
    }

    /// Counts the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
    }

    /// The count as a sample value, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        (self.count > 0).then_some(self.count as f64)
    }
}

/// Always 1: PromQL's `group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    seen: bool,
}

impl Group {
    /// Sees one value.
    pub fn update(&mut self, _value: f64) {
        self.seen = true;
    }

    /// Sees what `other` saw.
    pub fn merge(&mut self, other: &Self) {
        self.seen |= other.seen;
    }

    /// 1, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.seen.then_some(1.0)
    }
}
