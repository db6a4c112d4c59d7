//! Whether a counter was reset between two histograms.

use super::arithmetic::{above, common_bounds, place, widened};
use super::bucket::Side;
use super::{NativeHistogram, ResetHint};

impl NativeHistogram {
    /// Whether a counter that read `previous` was reset before it read this histogram.
    ///
    /// The hint decides where it says something. Otherwise there was a reset if any count fell (all
    /// observations, zero bucket, any bucket; the sum does not count), if a populated bucket vanished, or
    /// if the layout changed in a way that only a reset explains: a finer schema, a smaller zero
    /// bucket, a zero bucket that ends inside a populated bucket. A coarser schema or a wider zero bucket
    /// is applied to `previous` first. Of custom bounds that differ, those of both are compared.
    #[must_use]
    pub fn detect_reset(&self, previous: &NativeHistogram) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            // Functions for counters may be given gauges; they are then taken for counters.
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count() < previous.count() {
            return true;
        }
        if self.has_custom_bounds() {
            if !previous.has_custom_bounds() {
                return true;
            }
            if *self.custom_values != *previous.custom_values {
                return self.detect_reset_of_common_bounds(previous);
            }
            return fell(self.side_entries(Side::Positive), previous.side_entries(Side::Positive));
        }
        if previous.has_custom_bounds()
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let (previous_zero, threshold) = if self.zero_threshold == previous.zero_threshold {
            (previous.counts.zero(), self.zero_threshold)
        } else {
            widened(
                previous.schema,
                previous.counts.zero(),
                self.zero_threshold,
                || previous.side_entries(Side::Positive),
                || previous.side_entries(Side::Negative),
            )
        };
        if threshold != self.zero_threshold || self.counts.zero() < previous_zero {
            return true;
        }
        [Side::Positive, Side::Negative].into_iter().any(|side| {
            let now = above(self.side_entries(side), self.schema, self.schema, threshold);
            let before = above(previous.side_entries(side), previous.schema, self.schema, threshold);
            fell(now, before)
        })
    }

    fn detect_reset_of_common_bounds(&self, previous: &NativeHistogram) -> bool {
        let common = common_bounds(&self.custom_values, &previous.custom_values);
        let dense = |histogram: &NativeHistogram| {
            let mut counts = vec![0.0; common.len() + 1];
            for (index, count) in histogram.side_entries(Side::Positive) {
                counts[place(index, &histogram.custom_values, &common)] += count;
            }
            counts
        };
        dense(self).iter().zip(&dense(previous)).any(|(now, before)| now < before)
    }
}

/// Whether any bucket holds less than before. Numbers rise; `before` may repeat them.
fn fell(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    let mut before = before.peekable();
    while let Some((index, mut count)) = before.next() {
        while let Some((_, more)) = before.next_if(|(number, _)| *number == index) {
            count += more;
        }
        while now.next_if(|(number, _)| *number < index).is_some() {}
        let fell = match now.next_if(|(number, _)| *number == index) {
            Some((_, current)) => current < count,
            None => count != 0.0,
        };
        if fell {
            return true;
        }
    }
    false
}
