//! First and last value by time.

/// The value with the earliest time; among equal times the one seen first.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct First {
    sample: Option<(i64, f64)>,
}

impl First {
    /// Looks at one sample.
    pub fn update(&mut self, time_ms: i64, value: f64) {
        if self.sample.is_none_or(|(first, _)| time_ms < first) {
            self.sample = Some((time_ms, value));
        }
    }

    /// Looks at the samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        if let Some((time_ms, value)) = other.sample {
            self.update(time_ms, value);
        }
    }

    /// The first value, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.sample.map(|(_, value)| value)
    }

    /// Its time in ms since the Unix epoch, `None` of nothing.
    pub fn time_ms(&self) -> Option<i64> {
        self.sample.map(|(time_ms, _)| time_ms)
    }
}

/// The value with the latest time; among equal times the one seen last.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Last {
    sample: Option<(i64, f64)>,
}

impl Last {
    /// Looks at one sample.
    pub fn update(&mut self, time_ms: i64, value: f64) {
        if self.sample.is_none_or(|(last, _)| time_ms >= last) {
            self.sample = Some((time_ms, value));
        }
    }

    /// Looks at the samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        if let Some((time_ms, value)) = other.sample {
            self.update(time_ms, value);
        }
    }

    /// The last value, `None` of nothing.
    pub fn finish(&self) -> Option<f64> {
        self.sample.map(|(_, value)| value)
    }

    /// Its time in ms since the Unix epoch, `None` of nothing.
    pub fn time_ms(&self) -> Option<i64> {
        self.sample.map(|(time_ms, _)| time_ms)
    }
}
