//! What one native histogram says of its observations: quantiles, fractions, mean and spread.
//!
//! Inside a bucket the position is interpolated: exponentially in exponential buckets (as if the
//! observations filled the buckets of every finer schema evenly), linearly in custom and zero buckets.
//! As Prometheus 3.14 (`promql/quantile.go`, `promql/functions.go`).

use super::NativeHistogram;
use super::bucket::Bucket;

/// What observations of NaN do to an estimate. They are in the count and in no bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NanEffect {
    /// There are none, or they do not matter.
    None,
    /// The estimate lies among them and is NaN.
    Result,
    /// A quantile comes out too high, because they count as larger than everything.
    Skewed,
    /// They are in no fraction.
    Excluded,
}

impl NativeHistogram {
    /// Estimated `q`-quantile, and what observations of NaN did to it.
    ///
    /// NaN without observations or for a NaN `q`; −∞ below 0, +∞ above 1. In a zero bucket 0 is the bound on
    /// the side where no other bucket is.
    #[must_use]
    pub fn quantile(&self, q: f64) -> (f64, NanEffect) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, NanEffect::None);
        }
        if q > 1.0 {
            return (f64::INFINITY, NanEffect::None);
        }
        let all = self.count();
        if all == 0.0 || q.is_nan() {
            return (f64::NAN, NanEffect::None);
        }
        // From the nearer end, so that rounding hurts least; observations of NaN are only ever at the
        // upper end, so with them the way is always up.
        let upwards = self.sum.is_nan() || q < 0.5;
        let mut rank = if upwards { q * all } else { (1.0 - q) * all };
        let mut buckets = self.all_buckets();
        let mut step = || if upwards { buckets.next() } else { buckets.next_back() };
        let (mut bucket, mut count) = (None, 0.0);
        while let Some(next) = step() {
            bucket = Some(next);
            if next.count == 0.0 {
                continue;
            }
            count += next.count;
            if count >= rank {
                break;
            }
        }
        // Count without any bucket: all observations are NaN, or the histogram is a broken one.
        let mut bucket = bucket.unwrap_or(Bucket {
            lower: 0.0,
            upper: 0.0,
            lower_inclusive: false,
            upper_inclusive: false,
            count: 0.0,
            index: 0,
        });
        if self.has_custom_bounds() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, NanEffect::None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, NanEffect::None);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.cut_at_zero(&mut bucket);
        }
        count = count.min(all);
        if count < rank {
            return if self.sum.is_nan() { (f64::NAN, NanEffect::Result) } else { (bucket.upper, NanEffect::None) };
        }
        rank = if upwards { rank - (count - bucket.count) } else { count - rank };
        let mut effect = NanEffect::None;
        if self.sum.is_nan() {
            // −∞ and +∞ make a NaN sum too; only a gap between buckets and count means observations of NaN.
            while let Some(next) = step() {
                count += next.count;
            }
            if count < all {
                effect = NanEffect::Skewed;
            }
        }
        let fraction = rank / bucket.count;
        if self.has_custom_bounds() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            return (bucket.lower + (bucket.upper - bucket.lower) * fraction, effect);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let value = if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        };
        (value, effect)
    }

    /// Estimated fraction of observations between `lower` and `upper`, and what observations of NaN did to it.
    ///
    /// NaN without observations or for a NaN bound; 0 if `lower` is not below `upper`.
    #[must_use]
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, NanEffect) {
        let all = self.count();
        if all == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, NanEffect::None);
        }
        if lower >= upper {
            return (0.0, NanEffect::None);
        }
        let (mut count, mut rank) = (0.0, 0.0);
        let (mut lower_rank, mut upper_rank) = (None, None);
        let mut buckets = self.all_buckets();
        for mut bucket in buckets.by_ref() {
            count += bucket.count;
            let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if zero {
                self.cut_at_zero(&mut bucket);
            }
            let linear = zero || self.has_custom_bounds();
            for (at, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
                if found.is_none() && bucket.lower >= at {
                    *found = Some(rank);
                } else if found.is_none() && bucket.upper > at {
                    *found = Some(rank_within(&bucket, at, rank, linear));
                }
            }
            if lower_rank.is_some() && upper_rank.is_some() {
                break;
            }
            rank += bucket.count;
        }
        let mut effect = NanEffect::None;
        if self.sum.is_nan() {
            count += buckets.map(|bucket| bucket.count).sum::<f64>();
            if count < all {
                effect = NanEffect::Excluded;
            }
        } else {
            count = all;
        }
        // Not `min`: a rank of NaN stays one.
        let within = |rank: Option<f64>| rank.map_or(count, |rank| if rank > count { count } else { rank });
        ((within(upper_rank) - within(lower_rank)) / all, effect)
    }

    /// Mean of the observations; NaN without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count()
    }

    /// Estimated population variance, taking every observation to lie in the middle of its bucket: the
    /// geometric middle of an exponential, the arithmetic one of a custom bucket, 0 for the zero bucket.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        let (mut total, mut rest) = (0.0f64, 0.0);
        for bucket in self.all_buckets().filter(|bucket| bucket.count != 0.0) {
            let middle = if self.has_custom_bounds() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            let term = bucket.count * delta * delta;
            let sum = total + term;
            if sum.is_infinite() {
                rest = 0.0;
            } else if total.abs() >= term.abs() {
                rest += (total - sum) + term;
            } else {
                rest += (term - sum) + total;
            }
            total = sum;
        }
        (total + rest) / self.count()
    }

    /// Square root of [`variance`](Self::variance).
    #[must_use]
    pub fn standard_deviation(&self) -> f64 {
        self.variance().sqrt()
    }

    /// Where there are buckets on one side of zero only, the zero bucket is taken to lie on that side.
    fn cut_at_zero(&self, bucket: &mut Bucket) {
        let (positive, negative) = self.counts.lens();
        if negative == 0 && positive > 0 {
            bucket.lower = 0.0;
        } else if positive == 0 && negative > 0 {
            bucket.upper = 0.0;
        }
    }
}

/// Observations below `at`, which lies inside `bucket`, given `rank` observations below the bucket.
fn rank_within(bucket: &Bucket, at: f64, rank: f64, linear: bool) -> f64 {
    if linear {
        // Without a lower bound there is nothing to interpolate from.
        if bucket.lower == f64::NEG_INFINITY {
            return bucket.count;
        }
        return rank + bucket.count * (at - bucket.lower) / (bucket.upper - bucket.lower);
    }
    rank + bucket.count * exponential_fraction(bucket, at)
}

/// How far `at` lies into an exponential bucket that does not hold zero, from its lower bound.
pub(super) fn exponential_fraction(bucket: &Bucket, at: f64) -> f64 {
    let (lower, upper, at_log) = (bucket.lower.abs().log2(), bucket.upper.abs().log2(), at.abs().log2());
    if at > 0.0 { (at_log - lower) / (upper - lower) } else { 1.0 - (at_log - upper) / (lower - upper) }
}
