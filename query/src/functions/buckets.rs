//! Quantiles and fractions of classic histograms, from their cumulative buckets.

use crate::eval::notes::BucketFix;

/// One classic bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// Its `le`.
    pub(crate) upper: f64,
    /// Observations at or below it.
    pub(crate) count: f64,
}

/// Relative difference of neighbouring buckets that is put down to rounding.
const SMALL_DELTA: f64 = 1e-12;

/// The `q`-quantile, and how buckets that fell were mended. Sorts and changes `buckets`.
///
/// NaN without observations, with fewer than two buckets, or without one for +Inf.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<BucketFix>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !sort_and_join(buckets) {
        return (f64::NAN, None);
    }
    let fix = make_rising(buckets);
    let (Some(last), true) = (buckets.last(), buckets.len() > 1) else { return (f64::NAN, None) };
    let observations = last.count;
    if observations == 0.0 {
        return (f64::NAN, None);
    }
    let top = buckets.len() - 1;
    let mut rank = q * observations;
    // A NaN count is below every rank, as in upstream's search.
    let at = buckets[..top].partition_point(|b| b.count < rank || b.count.is_nan() || rank.is_nan());
    if at == top {
        return (buckets[top - 1].upper, fix);
    }
    let end = buckets[at].upper;
    if at == 0 && end <= 0.0 {
        return (end, fix);
    }
    let (mut start, mut count) = (0.0, buckets[at].count);
    if at > 0 {
        start = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (end - start) * (rank / count), fix)
}

/// The fraction of observations between two bounds. Sorts and changes `buckets`.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !sort_and_join(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(f64::NAN, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |bound: f64| rank_of(bound, buckets).min(count);
    (below(upper) - below(lower)) / count
}

/// Observations at or below `bound`, linear within a bucket.
fn rank_of(bound: f64, buckets: &[Bucket]) -> f64 {
    // The lowest bucket begins at 0 if it ends above it, else nowhere.
    let mut start = if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let mut rank = 0.0;
    for bucket in buckets {
        if start >= bound {
            return rank;
        }
        if bucket.upper > bound {
            if start == f64::NEG_INFINITY {
                return bucket.count;
            }
            return rank + (bucket.count - rank) * (bound - start) / (bucket.upper - start);
        }
        (start, rank) = (bucket.upper, bucket.count);
    }
    rank
}

/// Sorts by bound and joins equal bounds; false if there is no bucket for +Inf.
fn sort_and_join(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|later, first| {
        let same = later.upper == first.upper;
        if same {
            first.count += later.count;
        }
        same
    });
    true
}

/// Makes counts rise: differences as small as rounding are ignored in either direction, larger drops
/// are filled up and reported.
fn make_rising(buckets: &mut [Bucket]) -> Option<BucketFix> {
    let mut fix: Option<BucketFix> = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            let diff = before - bucket.count;
            bucket.count = before;
            let fix = fix.get_or_insert(BucketFix { min_bound: bucket.upper, max_bound: bucket.upper, max_diff: diff });
            fix.max_bound = bucket.upper;
            fix.max_diff = fix.max_diff.max(diff);
        } else {
            before = bucket.count;
        }
    }
    fix
}

/// Relative comparison that also works near zero (Prometheus' `almost.Equal`).
fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < SMALL_DELTA
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(rows: &[(f64, f64)]) -> Vec<Bucket> {
        rows.iter().map(|&(upper, count)| Bucket { upper, count }).collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let sound = [(0.1, 50.0), (0.2, 70.0), (1.0, 110.0), (INF, 120.0)];
        let rows = [(0.0, 0.0), (0.2, 0.048), (0.5, 0.15), (0.8, 0.72), (1.0, 1.0), (-1.0, -INF), (2.0, INF)];
        for (q, expected) in rows {
            let (found, fix) = quantile(q, &mut buckets(&sound));
            assert!(found == expected || (found - expected).abs() < 1e-12, "{q}: {found}");
            assert_eq!(fix, None);
        }
        assert!(quantile(0.5, &mut buckets(&sound[..3])).0.is_nan());
        assert!(quantile(0.5, &mut buckets(&[(INF, 3.0)])).0.is_nan());
        assert_eq!(quantile(0.1, &mut buckets(&[(-1.0, 5.0), (INF, 9.0)])).0, -1.0);
    }

    #[test]
    fn falling_buckets_are_filled_and_said() {
        let (found, fix) = quantile(0.5, &mut buckets(&[(0.5, 40.0), (1.0, 30.0), (INF, 45.0)]));
        assert_eq!(found, 0.5 * (22.5 / 40.0));
        assert_eq!(fix, Some(BucketFix { min_bound: 1.0, max_bound: 1.0, max_diff: 10.0 }));
        let rounding = [(1.0, 10.0), (2.0, 10.0 - 1e-13), (INF, 20.0)];
        assert_eq!(quantile(0.9, &mut buckets(&rounding)).1, None);
    }

    #[test]
    fn fractions_lie_between_bounds() {
        let rows = [(1.0, 10.0), (2.0, 30.0), (INF, 40.0)];
        assert_eq!(fraction(0.0, 2.0, &mut buckets(&rows)), 0.75);
        assert_eq!(fraction(0.5, 1.5, &mut buckets(&rows)), (20.0 - 5.0) / 40.0);
        assert_eq!(fraction(-INF, INF, &mut buckets(&rows)), 1.0);
        assert_eq!(fraction(3.0, 2.0, &mut buckets(&rows)), 0.0);
        assert!(fraction(f64::NAN, 2.0, &mut buckets(&rows)).is_nan());
    }
}
