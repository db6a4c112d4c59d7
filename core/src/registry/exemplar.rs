//! Traced observations beside series that were asked to keep them.
//!
//! Few series have any, so they are kept here and not in every series: by the series' address, which is its own as long as
//! it lives; it forgets them when it goes. For each bucket the newest one is kept, for a counter the newest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::Exemplar;

/// Guards exemplars of all series; held for one look-up. Recording with an exemplar is asked for and not the hot path.
static KEPT: Mutex<BTreeMap<usize, BTreeMap<i64, Exemplar>>> = Mutex::new(BTreeMap::new());

fn kept() -> MutexGuard<'static, BTreeMap<usize, BTreeMap<i64, Exemplar>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the newest exemplar of a bucket; there are never more than `buckets_max` of a series.
pub(super) fn keep(series: usize, bucket: i64, buckets_max: usize, exemplar: Exemplar) {
    let mut kept = kept();
    let of_series = kept.entry(series).or_default();
    of_series.insert(bucket, exemplar);
    if of_series.len() > buckets_max {
        let oldest = of_series.iter().min_by_key(|(_, exemplar)| exemplar.time_ms).map(|(bucket, _)| *bucket);
        oldest.and_then(|bucket| of_series.remove(&bucket));
    }
}

/// Those of a series, oldest first.
pub(super) fn of(series: usize) -> Vec<Exemplar> {
    let mut found: Vec<Exemplar> = kept().get(&series).into_iter().flat_map(BTreeMap::values).cloned().collect();
    found.sort_by_key(|exemplar| exemplar.time_ms);
    found
}

/// The series is gone.
pub(super) fn forget(series: usize) {
    kept().remove(&series);
}
