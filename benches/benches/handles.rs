//! How many ns does recording through a handle of the registry take, beside the cheapest thing that could stand for it?

use std::time::{Duration, Instant};

use criterion::Criterion;
use kymo_benches::cases::floors::Floors;
use kymo_benches::cases::handles::Handles;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let handles = Handles::new().expect("handles that count");
    let mut group = criterion.benchmark_group("handles");
    group.measurement_time(Duration::from_secs(2)).sample_size(30);
    let floors = Floors::default();
    let cases: [(&str, &dyn Fn(u64)); 9] = [
        ("counter", &|times| handles.counter(times)),
        ("floor: owned cell", &|times| floors.owned_add(times)),
        ("floor: shared atomic", &|times| floors.shared_add(times)),
        ("gauge", &|times| handles.gauge(times)),
        ("floor: store", &|times| floors.store(times)),
        ("histogram", &|times| handles.histogram(times)),
        ("floor: histogram", &|times| floors.bare_histogram(times)),
        ("counter by 2 label values", &|times| handles.lookup(times)),
        ("floor: counter by 2 label values", &|times| floors.find_by_two(times)),
    ];
    for (name, work) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let started = Instant::now();
                work(times);
                started.elapsed()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
