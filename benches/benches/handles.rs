//! How many ns does recording through a handle of the registry take, beside the cheapest thing that could stand for it?

use std::time::{Duration, Instant};

use criterion::Criterion;
use kymo_benches::cases::handles::Handles;

type Work = fn(&Handles, u64);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let handles = Handles::new().expect("handles that count");
    let mut group = criterion.benchmark_group("handles");
    group.measurement_time(Duration::from_secs(2)).sample_size(30);
    let cases: [(&str, Work); 8] = [
        ("counter", Handles::counter),
        ("floor: owned cell", Handles::owned_add),
        ("floor: shared atomic", Handles::shared_add),
        ("gauge", Handles::gauge),
        ("floor: store", Handles::store),
        ("histogram", Handles::histogram),
        ("floor: histogram", Handles::bare_histogram),
        ("counter by 2 label values", Handles::lookup),
    ];
    for (name, work) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let started = Instant::now();
                work(&handles, times);
                started.elapsed()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
