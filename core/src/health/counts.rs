//! Many requests at once, as metrics tell them.

use super::cells::{BUCKETS, FIRST_INDEX, LATENCY_SCHEMA, Outcome, Place, bounds, bucket_of};
use crate::histogram::{NativeHistogram, coarser_index, is_exponential};

/// What is known of how long requests took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// Exactly, seconds.
    Seconds(f64),
    /// More than the first and at most the second, seconds: a bucket of a histogram.
    Between(f64, f64),
    /// Nothing.
    Unknown,
}

/// Requests by outcome and latency, gathered to be recorded at once.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub(super) places: Vec<(Place, u64)>,
}

impl Counts {
    /// No requests.
    #[must_use]
    pub fn new() -> Counts {
        Counts::default()
    }

    /// Forgets all, and keeps the buffer.
    pub fn clear(&mut self) {
        self.places.clear();
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Requests added, those of which only the latency was told not included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.places.iter().filter(|(place, _)| place.outcome() != Outcome::LatencyOnly).map(|(_, count)| count).sum()
    }

    /// Adds requests. Those of a bucket are spread over it evenly, and those of one that has no end above are taken for its
    /// lower end, both as `histogram_quantile` does. Of [`Outcome::LatencyOnly`], unknown latencies say nothing.
    pub fn add(&mut self, outcome: Outcome, latency: Latency, count: u64) {
        if count == 0 {
            return;
        }
        match latency {
            Latency::Unknown if outcome == Outcome::LatencyOnly => {}
            Latency::Unknown => self.places.push((Place::new(outcome, None), count)),
            Latency::Seconds(seconds) => self.places.push((Place::new(outcome, bucket_of(seconds)), count)),
            Latency::Between(lower, upper) => {
                let (lower, width) = (lower.max(0.0), upper - lower.max(0.0));
                self.spread(outcome, (lower, upper), count, |at| (at - lower) / width);
            }
        }
    }

    /// Spreads requests over the buckets of `ends`; `share` is which part of them took at most so long.
    fn spread(&mut self, outcome: Outcome, ends: (f64, f64), count: u64, share: impl Fn(f64) -> f64) {
        let (lower, upper) = ends;
        let (Some(first), Some(last)) = (bucket_of(lower), bucket_of(if upper.is_finite() { upper } else { lower }))
        else {
            return;
        };
        let mut told = 0;
        for bucket in first..last {
            let share = share(bounds(bucket).1);
            let until = (share.clamp(0.0, 1.0) * count as f64).round() as u64;
            if until > told {
                self.places.push((Place::new(outcome, Some(bucket)), until - told));
                told = until;
            }
        }
        // The rest is in the last one, whatever the share of its end comes to.
        if told < count {
            self.places.push((Place::new(outcome, Some(last)), count - told));
        }
    }

    /// Adds the observations of a histogram of seconds times `unit_seconds`; fractions of counts are rounded.
    ///
    /// O(buckets).
    pub fn add_histogram(&mut self, outcome: Outcome, histogram: &NativeHistogram, unit_seconds: f64) {
        let is_exact = is_exponential(histogram.schema) && histogram.schema >= LATENCY_SCHEMA && unit_seconds == 1.0;
        for bucket in histogram.all_buckets() {
            let count = bucket.count.round() as u64;
            if is_exact && bucket.lower > 0.0 {
                // The same bounds: a bucket of theirs lies within one of these.
                let index = coarser_index(bucket.index, histogram.schema, LATENCY_SCHEMA);
                let at = index.saturating_sub(FIRST_INDEX).clamp(0, BUCKETS as i32 - 1) as usize;
                if count > 0 {
                    self.places.push((Place::new(outcome, Some(at)), count));
                }
                continue;
            }
            // What is at or below zero took no time: clocks disagree.
            let (lower, upper) = (bucket.lower.max(0.0) * unit_seconds, bucket.upper.max(0.0) * unit_seconds);
            if is_exponential(histogram.schema) && lower > 0.0 && count > 0 {
                // As in such a histogram: evenly on a scale of ratios.
                let width = (upper / lower).ln();
                self.spread(outcome, (lower, upper), count, |at| (at / lower).ln() / width);
            } else {
                let latency = if upper > 0.0 { Latency::Between(lower, upper) } else { Latency::Seconds(0.0) };
                self.add(outcome, latency, count);
            }
        }
    }

    /// The latencies alone, of requests that are counted elsewhere.
    #[must_use]
    pub fn latencies_only(&self) -> Counts {
        let timed = self.places.iter().filter(|(place, _)| place.bucket().is_some());
        let only = timed.map(|(place, count)| (Place::new(Outcome::LatencyOnly, place.bucket()), *count));
        Counts { places: only.collect() }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Counts) {
        self.places.extend_from_slice(&other.places);
    }
}
