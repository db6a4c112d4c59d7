//! How many ns does the engine take to log and keep one sample of a known series (batches of 2,000, a real disk)?

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use kymo_benches::cases::append::Appending;
use kymo_benches::load::{self, Load, Shape};

const SERIES: usize = 2_000;
const SEED: u64 = 1;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let dir = tempfile::tempdir().expect("a folder for data");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // An endless load would reach into the future: it begins three weeks ago, within the retention.
    let base_ms = now.as_millis() as i64 - 21 * 24 * 3_600_000;
    let load = Load::new(load::synthetic(SEED), Shape { series: SERIES, scrapes: usize::MAX, base_ms });
    let mut appending = Appending::new(&load, dir.path()).expect("an engine");
    let first = appending.prepare(&load);
    let stored = appending.append(&first).expect("a scrape is stored");
    assert!(stored > SERIES as u64 / 2, "{stored} of {SERIES} series have a sample");

    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(stored)).measurement_time(Duration::from_secs(3)).sample_size(30);
    let appending = std::cell::RefCell::new(appending);
    group.bench_function("known series", |bencher| {
        bencher.iter_batched(
            || appending.borrow_mut().prepare(&load),
            |batches| appending.borrow_mut().append(&batches).expect("a scrape is stored"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
}
