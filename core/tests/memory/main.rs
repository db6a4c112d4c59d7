//! What recording takes from the heap: nothing, and how many bytes a series and a string are.
//!
//! One test, as the allocator counts for the whole program.

#![allow(unsafe_code, reason = "counts what the system's allocator is asked for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

use kymo_core::metric::{MetricKind, MetricPoint};
use kymo_core::registry::{FamilyView, Reading, Registry, Scratch, SeriesView, Visit};
use kymo_core::{HotMetricsRing, StringPool};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

fn bytes<T>(make: impl FnOnce() -> T) -> (isize, T) {
    let before = BYTES.load(Relaxed);
    let made = make();
    (BYTES.load(Relaxed) - before, made)
}

/// Adds up what it sees.
#[derive(Default)]
struct Sum(f64, usize);

impl Visit for Sum {
    fn family(&mut self, _: &FamilyView<'_>) {}

    fn series(&mut self, series: &SeriesView<'_>) {
        self.1 += series.labels().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.0 += match series.reading {
            Reading::Counter { whole, fraction } => whole as f64 + fraction,
            Reading::Gauge(value) => value,
            Reading::UpDownCounter(value) => value as f64,
            Reading::Buckets { sum, .. } | Reading::Summary { sum, .. } => sum,
            Reading::Native(native) => native.sum,
        };
    }
}

/// What the macros of the `metrics` facade take, which look their series up at each call.
#[cfg(feature = "metrics")]
fn macros_allocate_nothing(registry: &Registry) {
    // Labels are literals here, so the keys are statics: keys of labels made at run time are built by the macro, on the heap.
    let recorder = kymo_core::registry::Recorder::new(registry.clone());
    let macros = || {
        metrics::with_local_recorder(&recorder, || {
            for n in 0..1_000 {
                metrics::counter!("macro_total").increment(1);
                metrics::counter!("macro_hits_total", "method" => "GET", "code" => "200").increment(1);
                metrics::gauge!("macro_level", "peer" => "a").set(f64::from(n));
                metrics::histogram!("macro_seconds", "e" => "1", "d" => "2", "c" => "3", "b" => "4").record(0.5);
            }
        });
    };
    macros();
    assert_eq!(allocations(macros), 0, "recording by macros");
    let snapshot = registry.snapshot();
    let total =
        snapshot.iter().find(|family| family.name == "macro_hits_total").map(|family| family.series[0].value.value());
    assert_eq!(total, Some(2_000.0));
}

#[test]
fn recording_allocates_nothing_and_series_and_strings_are_small() {
    let registry = Registry::new();
    let counter = registry.counter("c").register().expect("a family");
    let level = registry.up_down_counter("u").register().expect("a family");
    let gauge = registry.gauge("g").register().expect("a family");
    let histogram = registry.histogram("h").register().expect("a family");
    let two = registry.counter("two").labels(["method", "path"]).family().expect("a family");
    let five = registry.counter("five").labels(["e", "d", "c", "b", "a"]).family().expect("a family");
    let pool = StringPool::new(200_000, 1 << 23);
    let ring = HotMetricsRing::new(1 << 16, 64);
    let mut writer = ring.writer().expect("a lane");
    let mut record = || {
        for n in 0..1_000 {
            counter.inc();
            counter.add_f64(0.5);
            level.dec();
            gauge.set(f64::from(n));
            histogram.record(f64::from(n) / 100.0);
            two.at(["GET", "/api/v1/resource/17"]).inc();
            two.with(["PUT", "/api/v1/resource/17"]).inc();
            five.at(["1", "2", "3", "4", "5"]).inc();
            assert!(pool.intern_string("a value that is asked for again").is_some());
            writer.push_metric(MetricPoint::new(1, MetricKind::Gauge, i64::from(n), 1.0));
        }
    };
    record();
    assert_eq!(allocations(record), 0, "recording");

    #[cfg(feature = "metrics")]
    macros_allocate_nothing(&registry);

    let (mut scratch, mut sum) = (Scratch::default(), Sum::default());
    registry.visit(&mut scratch, &mut sum);
    assert_eq!(allocations(|| registry.visit(&mut scratch, &mut sum)), 0, "reading");
    assert_eq!(allocations(|| assert_eq!(ring.drain(|_| ()).points, 64)), 0, "draining");

    // What registering 10,000 counters with two labels leaves on the heap, and then what one thread adds that touches all.
    const SERIES: usize = 10_000;
    let many = registry.counter("many").labels(["method", "path"]).family().expect("a family");
    let paths: Vec<String> = (0..SERIES).map(|n| format!("/api/v1/resource/{}", n / 2)).collect();
    let methods = ["GET", "POST"];
    let (registered, ()) = bytes(|| {
        for (n, path) in paths.iter().enumerate() {
            drop(many.with([methods[n % 2], path]));
        }
    });
    let (touched, ()) = bytes(|| {
        for (n, path) in paths.iter().enumerate() {
            many.at([methods[n % 2], path]).inc();
        }
    });
    let (listed, ()) = bytes(|| registry.visit(&mut scratch, &mut sum));
    let per_series = |bytes: isize| bytes as f64 / SERIES as f64;
    println!(
        "bytes per counter series with two labels: {:.1} registered, {:.1} more for a thread, {:.1} more once read",
        per_series(registered),
        per_series(touched),
        per_series(listed)
    );
    // What stands in where unsafe code cannot be had keeps series in maps and is larger.
    if cfg!(not(kymo_portable)) {
        assert!(per_series(registered + listed) <= 100.0, "{}", per_series(registered + listed));
        // Eight and what a slab is longer than what is in it.
        assert!(per_series(touched) <= 8.0 * 1.3, "{}", per_series(touched));
    }

    const STRINGS: usize = 100_000;
    let strings: Vec<String> = (0..STRINGS).map(|n| format!("some-attribute-value-{n:06}")).collect();
    let (interned, ()) = bytes(|| strings.iter().for_each(|text| assert!(pool.intern_string(text).is_some())));
    println!("bytes of {STRINGS} strings of {} bytes: {interned}", strings[0].len());
    if cfg!(not(kymo_portable)) {
        assert!(interned < 8_000_000, "{interned}");
    }
    assert!(allocations(|| assert!(strings.iter().all(|text| pool.intern_string(text).is_some()))) == 0);
}
