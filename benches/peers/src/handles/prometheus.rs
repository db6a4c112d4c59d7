//! `prometheus`: handles, families and the text page.

use std::any::Any;
use std::hint::black_box;

use anyhow::Result;
use kymo_benches::cases::handles::BOUNDS;
use kymo_benches::groups::hot_path::{Operation, Peer};
use prometheus::{Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

use super::{LABELS_2, LABELS_5, Values, many_labels};

pub(super) struct OfPrometheus {
    counter: IntCounter,
    gauge: Gauge,
    histogram: Histogram,
    by_two: IntCounterVec,
    by_five: IntCounterVec,
    /// One for each operation, in their order.
    registries: [Registry; 5],
    values: Values,
}

impl OfPrometheus {
    pub(super) fn new() -> Result<OfPrometheus> {
        let options = |name: &str| Opts::new(name, "help");
        let buckets = HistogramOpts::new("duration_seconds", "help").buckets(BOUNDS.to_vec());
        let made = OfPrometheus {
            counter: IntCounter::with_opts(options("requests_total"))?,
            gauge: Gauge::with_opts(options("queue_length"))?,
            histogram: Histogram::with_opts(buckets)?,
            by_two: IntCounterVec::new(options("responses_total"), &LABELS_2)?,
            by_five: IntCounterVec::new(options("all_total"), &LABELS_5)?,
            registries: Default::default(),
            values: Values::new(),
        };
        let [counters, gauges, histograms, by_two, by_five] = &made.registries;
        counters.register(Box::new(made.counter.clone()))?;
        gauges.register(Box::new(made.gauge.clone()))?;
        histograms.register(Box::new(made.histogram.clone()))?;
        by_two.register(Box::new(made.by_two.clone()))?;
        by_five.register(Box::new(made.by_five.clone()))?;
        Ok(made)
    }

    pub(super) fn page(&self, operation: Operation) -> String {
        let mut page = Vec::new();
        let families = self.registries[operation as usize].gather();
        // Writing to memory does not fail.
        let _ = TextEncoder::new().encode(&families, &mut page);
        String::from_utf8_lossy(&page).into_owned()
    }
}

impl Peer for OfPrometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn record(&self, operation: Operation, times: u64) {
        let values = &self.values;
        match operation {
            Operation::Counter => Values::each(&self.counter, times, |counter| counter.inc()),
            Operation::Gauge => values.observe(&self.gauge, times, |gauge, value| gauge.set(value)),
            Operation::Histogram => values.observe(&self.histogram, times, |histogram, value| histogram.observe(value)),
            Operation::Lookup2 => {
                values.by_two(&self.by_two, times, |family, labels| family.with_label_values(&labels).inc());
            }
            Operation::Lookup5 => {
                values.by_five(&self.by_five, times, |family, labels| family.with_label_values(&labels).inc());
            }
        }
    }

    fn scrape(&self, operation: Operation) {
        black_box(self.page(operation));
    }

    fn counters(&self, series: usize) -> Result<Box<dyn Any>> {
        let family = IntCounterVec::new(Opts::new("many_total", "help"), &LABELS_2)?;
        many_labels(series).for_each(|labels| family.with_label_values(&labels).inc());
        Ok(Box::new(family))
    }
}
