//! Records a number of times through one kind of handle: what a profiler or an instruction counter is pointed at.
//!
//! ```text
//! cargo build --release -p kymo-core --example record
//! valgrind --tool=callgrind target/release/examples/record counter 1000000
//! ```
//!
//! Each operation is a call that is not inlined, as in a program whose hot loop is elsewhere; `nothing` is the same loop
//! around an empty call, to be taken off. `cargo xtask instructions` does so and holds the counts to their limits.

use std::error::Error;
use std::hint::black_box;

use kymo_core::registry::{Counter, Family, Gauge, Histogram, Registry, UpDownCounter};

const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Values recorded in turn, and paths looked up in turn: so many that what hashes do to a few of them evens out.
const ROTATION: usize = 64;

#[inline(never)]
fn nothing(_: &Counter) {
    // A call without any effect would be left out.
    black_box(());
}

#[inline(never)]
fn counter(counter: &Counter) {
    counter.inc();
}

#[inline(never)]
fn up_down_counter(counter: &UpDownCounter) {
    counter.dec();
}

#[inline(never)]
fn gauge(gauge: &Gauge, value: f64) {
    gauge.set(value);
}

#[inline(never)]
fn histogram(histogram: &Histogram, value: f64) {
    histogram.record(value);
}

#[inline(never)]
fn lookup_2(family: &Family<Counter, 2>, values: [&str; 2]) {
    family.at(values).inc();
}

#[inline(never)]
fn lookup_5(family: &Family<Counter, 5>, values: [&str; 5]) {
    family.at(values).inc();
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().ok_or("say what to record through")?;
    let times: usize = arguments.next().ok_or("say how often")?.parse()?;
    let registry = Registry::new();
    let count = registry.counter("requests_total").register()?;
    let values: [f64; ROTATION] = std::array::from_fn(|n| BOUNDS[n % 12]);
    let paths: [String; ROTATION] = std::array::from_fn(|n| format!("/api/v1/resource/{n}"));
    let paths = paths.each_ref().map(String::as_str);
    match what.as_str() {
        "nothing" => (0..times).for_each(|_| nothing(black_box(&count))),
        "counter" => (0..times).for_each(|_| counter(black_box(&count))),
        "up_down_counter" => {
            let open = registry.up_down_counter("open").register()?;
            (0..times).for_each(|_| up_down_counter(black_box(&open)));
        }
        "gauge" => {
            let level = registry.gauge("level").register()?;
            (0..times).for_each(|n| gauge(black_box(&level), values[n % ROTATION]));
        }
        "histogram" => {
            let durations = registry.histogram("duration_seconds").buckets(&BOUNDS).register()?;
            (0..times).for_each(|n| histogram(black_box(&durations), values[n % ROTATION]));
        }
        "lookup_2" => {
            let family = registry.counter("responses_total").labels(["method", "path"]).family()?;
            (0..times).for_each(|n| lookup_2(black_box(&family), ["GET", paths[n % ROTATION]]));
        }
        "lookup_5" => {
            let family = registry.counter("all_total").labels(["code", "host", "method", "path", "zone"]).family()?;
            (0..times).for_each(|n| {
                lookup_5(black_box(&family), ["200", "web-17.example", "GET", paths[n % ROTATION], "eu-west-1"]);
            });
        }
        _ => return Err(format!("nothing is recorded through {what:?}").into()),
    }
    Ok(())
}
