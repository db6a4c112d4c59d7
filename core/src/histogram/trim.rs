//! Cutting off the observations above or below a value: PromQL's `</` and `>/`.
//!
//! Buckets beyond the value go, the one it lies in is divided by interpolation, and the sum of observations is
//! estimated anew from the middles of what is left. As Prometheus 3.14 (`FloatHistogram.TrimBuckets`).

use super::NativeHistogram;
use super::bucket::{Bucket, Side};
use super::quantile::exponential_fraction;

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Those below the value: `</`.
    Below,
    /// Those above the value: `>/`.
    Above,
}

impl NativeHistogram {
    /// The histogram without the observations beyond `at`. Counts are floats.
    ///
    /// If nothing has to go, count and sum stay as they are; else both are those of what is left, the sum an
    /// estimate. Of a bucket that reaches to infinity little is known, and it goes as a whole in doubt.
    #[must_use]
    pub fn trimmed(&self, at: f64, keep: Keep) -> NativeHistogram {
        let mut trimmed = self.to_float();
        let custom = self.has_custom_bounds();
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut populated = [false; 2];
        let sides = [(Side::Positive, self.positive_buckets()), (Side::Negative, self.negative_buckets())];
        for (number, (side, buckets)) in sides.into_iter().enumerate() {
            for (position, bucket) in buckets.enumerate().filter(|(_, bucket)| bucket.count != 0.0) {
                populated[number] = true;
                let (kept, middle) = match (whole(&bucket, at, keep), custom) {
                    (Some(true), linear) => (bucket.count, middle(bucket.lower, bucket.upper, side, linear)),
                    (Some(false), _) => (0.0, 0.0),
                    (None, linear) => divide(&bucket, at, keep, side, linear),
                };
                count += kept;
                sum += middle * kept;
                if kept != bucket.count {
                    changed = true;
                    let counts = trimmed.float_counts();
                    let counts = if side == Side::Positive { &mut counts.positive } else { &mut counts.negative };
                    if let Some(slot) = counts.get_mut(position) {
                        *slot = kept;
                    }
                }
            }
        }
        if let Some(zero) = self.zero_bucket().filter(|zero| zero.count > 0.0) {
            let (kept, middle) = divide_zero(zero, at, keep, populated);
            count += kept;
            sum += middle * kept;
            if kept != zero.count {
                changed = true;
                trimmed.float_counts().zero = kept;
            }
        }
        if changed {
            trimmed.float_counts().count = count;
            trimmed.sum = sum;
            trimmed.compact(0);
        }
        trimmed
    }
}

/// Whether a bucket stays or goes as a whole; `None` if `at` lies inside.
fn whole(bucket: &Bucket, at: f64, keep: Keep) -> Option<bool> {
    match keep {
        Keep::Below if bucket.upper <= at => Some(true),
        Keep::Below if bucket.lower < at => None,
        Keep::Above if bucket.lower >= at => Some(true),
        Keep::Above if bucket.upper > at => None,
        _ => Some(false),
    }
}

/// What stays of a bucket that `at` lies in, and the middle of that.
fn divide(bucket: &Bucket, at: f64, keep: Keep, side: Side, linear: bool) -> (f64, f64) {
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return divide_infinite(bucket, at, keep);
    }
    let below = bucket.count
        * if linear { (at - bucket.lower) / (bucket.upper - bucket.lower) } else { exponential_fraction(bucket, at) };
    match keep {
        Keep::Below => (below, middle(bucket.lower, at, side, linear)),
        Keep::Above => (bucket.count - below, middle(at, bucket.upper, side, linear)),
    }
}

fn divide_infinite(bucket: &Bucket, at: f64, keep: Keep) -> (f64, f64) {
    let Bucket { lower, upper, count, .. } = *bucket;
    let finite_or_zero = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
    if lower == f64::NEG_INFINITY {
        // A first custom bucket that ends above zero is taken to begin there.
        let from_zero = upper > 0.0 && upper != f64::INFINITY;
        return match keep {
            Keep::Below if from_zero && at > 0.0 => (count * at / upper, at / 2.0),
            Keep::Below if upper <= 0.0 => (count, at),
            Keep::Above if from_zero && at >= 0.0 => (count * (1.0 - at / upper), (at + upper) / 2.0),
            Keep::Below | Keep::Above => (0.0, finite_or_zero(upper)),
        };
    }
    match keep {
        Keep::Below => (0.0, finite_or_zero(lower)),
        Keep::Above => (count, at),
    }
}

/// What stays of the zero bucket. It lies on the side where there are other observations, if only one.
fn divide_zero(zero: Bucket, at: f64, keep: Keep, [positive, negative]: [bool; 2]) -> (f64, f64) {
    let lower = if positive && !negative { 0.0 } else { zero.lower };
    let upper = if negative && !positive { 0.0 } else { zero.upper };
    let (all, nothing) = ((zero.count, (lower + upper) / 2.0), (0.0, 0.0));
    match keep {
        Keep::Below if at <= lower => nothing,
        Keep::Below if at >= upper => all,
        Keep::Below => (zero.count * ((at - lower) / (upper - lower)), (lower + at) / 2.0),
        Keep::Above if at <= lower => all,
        Keep::Above if at >= upper => nothing,
        Keep::Above => (zero.count * ((upper - at) / (upper - lower)), (at + upper) / 2.0),
    }
}

/// The value that stands for observations between two bounds.
fn middle(lower: f64, upper: f64, side: Side, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let middle = (lower * upper).abs().sqrt();
            if side == Side::Positive { middle } else { -middle }
        }
    }
}
