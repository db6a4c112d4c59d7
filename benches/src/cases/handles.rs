//! Handles of the registry.
//!
//! An operation is a call that is not inlined and gets its handle by reference, so that the optimiser knows nothing of it, or
//! is inlined, as a program's hot loop has it.

use std::any::Any;
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use kymo_core::metric::{MetricKind, MetricPoint};
use kymo_core::random::{Random, SeededRandom};
use kymo_core::registry::{Counter, Family, Gauge, Histogram};
use kymo_core::ring::RingWriter;
use kymo_core::{HotMetricsRing, Registry, StringPool};
use kymo_export::exposition::{Exposition, Format};

use crate::groups::hot_path::{Operation, Peer};

/// Upper bounds of the histograms.
pub const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Values recorded in turn, and label sets looked up in turn.
pub const ROTATION: usize = 64;
/// Strings of the pool that is not hot: a rotation through them does not stay in the first cache.
pub const STRINGS: usize = 10_000;
const SEED: u64 = 7;

/// One handle of each kind, and values for them.
pub struct Handles {
    counter: Counter,
    gauge: Gauge,
    histogram: Histogram,
    /// [`ROTATION`] of them, to be used in turn.
    counters: Vec<Counter>,
    gauges: Vec<Gauge>,
    /// Each with the value it gets.
    histograms: Vec<(Histogram, f64)>,
    family: Family<Counter, 2>,
    family_5: Family<Counter, 5>,
    pool: StringPool,
    pool_of_many: StringPool,
    strings: Vec<String>,
    ring: HotMetricsRing,
    writer: Mutex<RingWriter>,
    /// The page of each operation's series alone, in the order of [`Operation`].
    pages: [Exposition; 5],
    values: [f64; ROTATION],
    label_values: Vec<[String; 2]>,
}

thread_local! {
    /// A scraper's page, made again and again in one place.
    static PAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Observations spread evenly over the orders of magnitude of [`BOUNDS`].
#[must_use]
pub fn observations() -> [f64; ROTATION] {
    let random = SeededRandom::new(SEED);
    std::array::from_fn(|_| 10f64.powf(random.next_f64() * 4.5 - 3.2))
}

/// Label sets as a server has them: a method and a path.
#[must_use]
pub fn label_values() -> Vec<[String; 2]> {
    (0..ROTATION).map(|n| [["GET", "POST"][n % 2].to_owned(), format!("/api/v1/resource/{}", n / 2)]).collect()
}

/// Five label values, two of which are of [`label_values`].
#[must_use]
#[inline]
pub fn five([method, path]: &[String; 2]) -> [&str; 5] {
    ["200", "web-17.example", method, path, "eu-west-1"]
}

/// Calls of an operation in a row, so that the loop around them is not what is timed.
const UNROLLED: usize = 8;

/// Does `operation` so often.
#[inline(always)]
pub fn repeat(times: u64, operation: impl Fn()) {
    for _ in 0..times / UNROLLED as u64 {
        operation();
        operation();
        operation();
        operation();
        operation();
        operation();
        operation();
        operation();
    }
    (0..times % UNROLLED as u64).for_each(|_| operation());
}

/// Does `operation` so often, with each of [`ROTATION`] values in turn, from the first.
#[inline(always)]
pub fn in_rotation<V>(times: u64, values: &[V], operation: impl Fn(&V)) {
    let rows = values.chunks_exact(UNROLLED).cycle();
    for row in rows.take(times as usize / UNROLLED) {
        if let [a, b, c, d, e, f, g, h] = row {
            operation(a);
            operation(b);
            operation(c);
            operation(d);
            operation(e);
            operation(f);
            operation(g);
            operation(h);
        }
    }
    let rest = times as usize % UNROLLED;
    values.iter().cycle().skip(times as usize % values.len() - rest).take(rest).for_each(operation);
}

impl Handles {
    /// Registers everything and checks that each handle counts.
    ///
    /// # Errors
    /// A handle that does not show what was recorded.
    pub fn new() -> Result<Handles> {
        let registries: [Registry; 5] = std::array::from_fn(|_| Registry::new());
        let [counts, levels, times, by_two, by_five] = &registries;
        let in_turn = Registry::new();
        let parts = in_turn.counter("parts_total").labels(["part"]).family()?;
        let levels_of = in_turn.gauge("part_level").labels(["part"]).family()?;
        let times_of = in_turn.histogram("part_seconds").buckets(&BOUNDS).labels(["part"]).family()?;
        let ring = HotMetricsRing::new(1 << 16, 1 << 10);
        let handles = Handles {
            counter: counts.counter("requests_total").register()?,
            gauge: levels.gauge("queue_length").register()?,
            histogram: times.histogram("duration_seconds").buckets(&BOUNDS).register()?,
            counters: (0..ROTATION).map(|n| parts.with([&n.to_string()])).collect(),
            gauges: (0..ROTATION).map(|n| levels_of.with([&n.to_string()])).collect(),
            histograms: (0..)
                .zip(observations())
                .map(|(n, value): (u32, f64)| (times_of.with([&n.to_string()]), value))
                .collect(),
            family: by_two.counter("responses_total").labels(["method", "path"]).family()?,
            family_5: by_five.counter("all_total").labels(["code", "host", "method", "path", "zone"]).family()?,
            pool: StringPool::new(100_000, 8 << 20),
            pool_of_many: StringPool::new(100_000, 8 << 20),
            strings: (0..STRINGS).map(|n| format!("attribute-value-{n}")).collect(),
            writer: Mutex::new(ring.writer().context("a ring has a lane")?),
            ring,
            values: observations(),
            label_values: label_values(),
            pages: registries.map(Exposition::from),
        };
        handles.counter(3);
        handles.gauge(3);
        handles.histogram(3);
        handles.lookup(ROTATION as u64 + 1);
        ensure!(handles.counter.value() == 3.0, "the counter shows {}", handles.counter.value());
        ensure!(handles.gauge.value() == handles.values[2], "the gauge shows {}", handles.gauge.value());
        ensure!(handles.histogram.count() == 3, "the histogram shows {}", handles.histogram.count());
        let [method, path] = &handles.label_values[0];
        handles.lookup_5(1);
        handles.intern(ROTATION as u64);
        handles.intern_many(STRINGS as u64);
        ensure!(handles.pool_of_many.size().strings == STRINGS, "it holds {:?}", handles.pool_of_many.size());
        handles.push(3);
        ensure!(handles.pool.size().strings == ROTATION / 2, "the pool holds {:?}", handles.pool.size());
        ensure!(handles.ring.drain(|_| ()).points == 3, "the ring lost points");
        let looked_up = handles.family.with([method, path]).value();
        ensure!(looked_up == 2.0, "the labelled counter shows {looked_up}");
        handles.counter_inlined(2);
        ensure!(handles.counter.value() == 5.0, "inlined, the counter shows {}", handles.counter.value());
        handles.counters_inlined(2 * ROTATION as u64);
        handles.gauges_inlined(ROTATION as u64);
        let (counts, level) = (handles.counters.iter().map(Counter::value), handles.values[0]);
        ensure!(counts.clone().all(|count| count == 2.0), "in turn, counters show {:?}", counts.collect::<Vec<_>>());
        handles.histogram_inlined(2);
        ensure!(handles.histogram.count() == 5, "inlined, the histogram shows {}", handles.histogram.count());
        handles.histograms_inlined(2 * ROTATION as u64);
        ensure!(
            handles.histograms.iter().all(|(one, _)| one.count() == 2),
            "in turn, a histogram lacks an observation"
        );
        ensure!(handles.gauges.iter().all(|gauge| gauge.value() == level), "in turn, a gauge is not at {level}");
        Ok(handles)
    }

    /// Ours: adds one to a counter.
    pub fn counter(&self, times: u64) {
        #[inline(never)]
        fn inc(counter: &Counter) {
            counter.inc();
        }
        let counter = black_box(&self.counter);
        repeat(times, || inc(counter));
    }

    /// Ours: the same, inlined.
    pub fn counter_inlined(&self, times: u64) {
        let counter = black_box(&self.counter);
        repeat(times, || counter.inc());
    }

    /// Ours: the same with [`ROTATION`] counters in turn.
    pub fn counters_inlined(&self, times: u64) {
        in_rotation(times, black_box(&self.counters), Counter::inc);
    }

    /// Ours: sets a gauge.
    pub fn gauge(&self, times: u64) {
        #[inline(never)]
        fn set(gauge: &Gauge, value: f64) {
            gauge.set(value);
        }
        let (gauge, values) = black_box((&self.gauge, &self.values));
        in_rotation(times, values, |value| set(gauge, *value));
    }

    /// Ours: the same, inlined.
    pub fn gauge_inlined(&self, times: u64) {
        let (gauge, values) = black_box((&self.gauge, &self.values));
        in_rotation(times, values, |value| gauge.set(*value));
    }

    /// Ours: the same with [`ROTATION`] gauges in turn.
    pub fn gauges_inlined(&self, times: u64) {
        let level = black_box(self.values[0]);
        in_rotation(times, black_box(&self.gauges), |gauge| gauge.set(level));
    }

    /// Ours: records an observation in 12 buckets.
    pub fn histogram(&self, times: u64) {
        #[inline(never)]
        fn record(histogram: &Histogram, value: f64) {
            histogram.record(value);
        }
        let (histogram, values) = black_box((&self.histogram, &self.values));
        in_rotation(times, values, |value| record(histogram, *value));
    }

    /// Ours: the same, inlined.
    pub fn histogram_inlined(&self, times: u64) {
        let (histogram, values) = black_box((&self.histogram, &self.values));
        in_rotation(times, values, |value| histogram.record(*value));
    }

    /// Ours: the same with [`ROTATION`] histograms in turn, each of which gets one value.
    pub fn histograms_inlined(&self, times: u64) {
        let pairs = black_box(self.histograms.as_slice());
        in_rotation(times, pairs, |(histogram, value)| histogram.record(*value));
    }

    /// Ours: finds a counter by two label values and adds one.
    pub fn lookup(&self, times: u64) {
        #[inline(never)]
        fn inc(family: &Family<Counter, 2>, values: [&str; 2]) {
            family.at(values).inc();
        }
        let (family, labels) = black_box((&self.family, &self.label_values));
        in_rotation(times, labels, |[method, path]| inc(family, [method, path]));
    }
}

impl Handles {
    /// Ours: finds a counter by five label values and adds one.
    pub fn lookup_5(&self, times: u64) {
        #[inline(never)]
        fn inc(family: &Family<Counter, 5>, values: [&str; 5]) {
            family.at(values).inc();
        }
        let (family, labels) = black_box((&self.family_5, &self.label_values));
        in_rotation(times, labels, |labels| inc(family, five(labels)));
    }

    /// Ours: the ids of 32 strings in turn.
    pub fn intern(&self, times: u64) {
        let (pool, labels) = black_box((&self.pool, &self.label_values));
        in_rotation(times, labels, |[_, path]| intern(pool, path));
    }

    /// Ours: the ids of [`STRINGS`] strings in turn.
    pub fn intern_many(&self, times: u64) {
        let (pool, strings) = black_box((&self.pool_of_many, &self.strings));
        in_rotation(times, strings, |text| intern(pool, text));
    }

    /// Ours: pushes points over the oldest. By one thread.
    pub fn push(&self, times: u64) {
        #[inline(never)]
        fn push(writer: &mut RingWriter, time_ms: i64, value: f64) {
            // Made here, where it stays in registers as in a program's own code: a point in memory is stored twice.
            writer.push_metric(MetricPoint::new(1, MetricKind::Gauge, time_ms, value));
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, values) = black_box((&mut *writer, &self.values));
        for n in 0..times {
            push(writer, n as i64, values[n as usize % ROTATION]);
        }
    }

    /// What a scrape reads of the counter.
    pub fn read_counter(&self) {
        black_box(self.counter.value());
    }

    /// What a scrape reads of the histogram.
    pub fn read_histogram(&self) {
        black_box(self.histogram.sum());
    }

    /// What a scrape reads of a series that was looked up.
    pub fn read_lookup(&self) {
        let [method, path] = &self.label_values[0];
        black_box(self.family.at([method, path]).value());
    }
}

#[inline(never)]
fn intern(pool: &StringPool, text: &str) {
    black_box(pool.intern_string(text));
}

impl Peer for Handles {
    fn name(&self) -> &'static str {
        "kymo"
    }

    fn record(&self, operation: Operation, times: u64) {
        match operation {
            Operation::Counter => self.counter(times),
            Operation::Gauge => self.gauge(times),
            Operation::Histogram => self.histogram(times),
            Operation::Lookup2 => self.lookup(times),
            Operation::Lookup5 => self.lookup_5(times),
        }
    }

    fn scrape(&self, operation: Operation) {
        let Some(exposition) = self.pages.get(operation as usize) else { return };
        PAGE.with_borrow_mut(|page| {
            page.clear();
            exposition.render_into(Format::Text004, page);
            black_box(page.as_slice());
        });
    }

    fn counters(&self, series: usize) -> Result<Box<dyn Any>> {
        Ok(Box::new(counters(series)?))
    }
}

/// Counters with two labels, as many as are told: for what a series weighs.
///
/// # Errors
/// The family cannot be made.
pub fn counters(series: usize) -> Result<Registry> {
    let registry = Registry::new();
    let family = registry.counter("many_total").labels(["method", "path"]).family()?;
    for n in 0..series {
        family.at([["GET", "POST"][n % 2], &format!("/api/v1/resource/{}", n / 2)]).inc();
    }
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_show_what_was_recorded() {
        Handles::new().unwrap();
    }
}
