//! How many ns does one sample of a remote write 1.0 body take until it is a row, beside snap, a bare walk and prost?

use std::time::Duration;

use criterion::{Criterion, Throughput};
use kymo_benches::cases::decode::Decode;
use kymo_benches::load::{self, Load, Shape};

const SHAPE: Shape = Shape { series: 4_000, scrapes: 4, base_ms: 1_800_000_000_000 };
const SEED: u64 = 1;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let load = Load::new(load::synthetic(SEED), SHAPE);
    // Checks that every way finds every sample.
    let mut decode = Decode::new(&load).expect("requests that every decoder reads alike");
    let mut group = criterion.benchmark_group("remote write");
    group.throughput(Throughput::Elements(decode.samples())).measurement_time(Duration::from_secs(2)).sample_size(30);
    group.bench_function("floor: snap", |bencher| bencher.iter(|| decode.snap()));
    group.bench_function("floor: walk", |bencher| bencher.iter(|| decode.walk()));
    group.bench_function("peer: snap + prost", |bencher| bencher.iter(|| decode.prost()));
    group.bench_function("known series to rows", |bencher| bencher.iter(|| decode.receive()));
    group.finish();
    criterion.final_summary();
}
