//! A small world for tests: a clock that stands still, a simulated disk, and what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{Labels, ManualClock, MetricStorage, QueryContext, SampleBatch, Selector};
use kymo_storage::fs::SimFs;
use kymo_storage::{Engine, OpenReport, Options, RetentionPolicy, StorageError, SyncPolicy};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const DIR: &str = "/data";

pub(crate) fn options(clock: &Arc<ManualClock>, sync: SyncPolicy) -> Options {
    Options {
        clock: clock.clone(),
        sync,
        retention: RetentionPolicy::of_age(None),
        reserve_bytes: 4_096,
        ..Options::default()
    }
}

pub(crate) fn open(disk: &SimFs, options: Options) -> Result<(Engine, OpenReport), StorageError> {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options)
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW_MS))
}

pub(crate) fn series(n: u64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())])
}

/// Series → time → value bits.
pub(crate) type Model = BTreeMap<String, BTreeMap<i64, u64>>;

/// One sample for each of `count` series at `time_ms`; the value tells series and time.
pub(crate) fn scrape(count: u64, time_ms: i64) -> SampleBatch {
    let mut batch = SampleBatch::new();
    for n in 0..count {
        batch.push_float(&series(n), time_ms, value(n, time_ms));
    }
    batch
}

pub(crate) fn value(n: u64, time_ms: i64) -> f64 {
    n as f64 + ((time_ms - NOW_MS) / 1_000) as f64 * 0.5
}

pub(crate) fn note(model: &mut Model, count: u64, time_ms: i64) {
    for n in 0..count {
        model.entry(series(n).to_string()).or_default().insert(time_ms, value(n, time_ms).to_bits());
    }
}

/// Everything the engine answers.
pub(crate) fn dump(engine: &dyn MetricStorage) -> Model {
    let ctx = QueryContext::unlimited();
    let set = engine.select(&Selector::everything(), &ctx).expect("select");
    let mut columns = Columns::default();
    let mut found = Model::new();
    for i in 0..set.len() {
        set.read(i, &mut columns).expect("read");
        let samples = found.entry(set.labels(i).to_string()).or_default();
        for (time, value) in columns.iter() {
            if let ColumnValue::Float(v) = value {
                assert!(samples.insert(time, v.to_bits()).is_none(), "time {time} stands twice");
            }
        }
    }
    found
}

/// What of `wanted` is missing or different in `found`.
pub(crate) fn lost(wanted: &Model, found: &Model) -> Vec<(String, i64)> {
    let has = |name: &str, time: i64, bits: u64| found.get(name).and_then(|s| s.get(&time)) == Some(&bits);
    let all = wanted.iter().flat_map(|(name, samples)| samples.iter().map(move |(t, b)| (name, *t, *b)));
    all.filter(|(name, t, b)| !has(name, *t, *b)).map(|(name, t, _)| (name.clone(), t)).collect()
}

pub(crate) fn seconds(n: i64) -> i64 {
    n * 1_000
}

pub(crate) fn advance(clock: &ManualClock, seconds: u64) {
    clock.advance(Duration::from_secs(seconds));
}
