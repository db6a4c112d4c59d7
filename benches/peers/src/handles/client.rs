//! `prometheus-client`: handles, families of owned label pairs and the text page.

use std::any::Any;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use kymo_benches::cases::handles::BOUNDS;
use kymo_benches::groups::hot_path::{Operation, Peer};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Values, many_labels};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Two {
    method: String,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Five {
    code: String,
    host: String,
    method: String,
    path: String,
    zone: String,
}

impl Two {
    fn new([method, path]: [&str; 2]) -> Two {
        Two { method: method.to_owned(), path: path.to_owned() }
    }
}

impl Five {
    fn new(labels: [&str; 5]) -> Five {
        let [code, host, method, path, zone] = labels.map(str::to_owned);
        Five { code, host, method, path, zone }
    }
}

pub(super) struct OfClient {
    counter: Counter,
    gauge: Gauge<f64, AtomicU64>,
    histogram: Histogram,
    by_two: Family<Two, Counter>,
    by_five: Family<Five, Counter>,
    /// One for each operation, in their order.
    registries: [Registry; 5],
    values: Values,
}

impl OfClient {
    pub(super) fn new() -> OfClient {
        let mut made = OfClient {
            counter: Counter::default(),
            gauge: Gauge::default(),
            histogram: Histogram::new(BOUNDS),
            by_two: Family::default(),
            by_five: Family::default(),
            registries: Default::default(),
            values: Values::new(),
        };
        let [counters, gauges, histograms, by_two, by_five] = &mut made.registries;
        counters.register("requests", "help", made.counter.clone());
        gauges.register("queue_length", "help", made.gauge.clone());
        histograms.register("duration_seconds", "help", made.histogram.clone());
        by_two.register("responses", "help", made.by_two.clone());
        by_five.register("all", "help", made.by_five.clone());
        made
    }

    pub(super) fn page(&self, operation: Operation) -> String {
        let mut page = String::new();
        // Writing to memory does not fail.
        let _ = text::encode(&mut page, &self.registries[operation as usize]);
        page
    }
}

impl Peer for OfClient {
    fn name(&self) -> &'static str {
        "prometheus-client"
    }

    fn record(&self, operation: Operation, times: u64) {
        let values = &self.values;
        match operation {
            Operation::Counter => Values::each(&self.counter, times, |counter| {
                counter.inc();
            }),
            Operation::Gauge => values.observe(&self.gauge, times, |gauge, value| {
                gauge.set(value);
            }),
            Operation::Histogram => values.observe(&self.histogram, times, |histogram, value| histogram.observe(value)),
            Operation::Lookup2 => values.by_two(&self.by_two, times, |family, labels| {
                family.get_or_create(&Two::new(labels)).inc();
            }),
            Operation::Lookup5 => values.by_five(&self.by_five, times, |family, labels| {
                family.get_or_create(&Five::new(labels)).inc();
            }),
        }
    }

    fn scrape(&self, operation: Operation) {
        black_box(self.page(operation));
    }

    fn counters(&self, series: usize) -> Result<Box<dyn Any>> {
        let family = Family::<Two, Counter>::default();
        for [method, path] in many_labels(series) {
            family.get_or_create(&Two { method, path }).inc();
        }
        Ok(Box::new(family))
    }
}
