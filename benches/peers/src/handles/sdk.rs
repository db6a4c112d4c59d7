//! OpenTelemetry's SDK: bound instruments, which stand for handles, attributes with each use, and a collecting reader.

use std::any::Any;
use std::hint::black_box;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kymo_benches::cases::handles::{BOUNDS, ROTATION};
use kymo_benches::groups::hot_path::{Operation, Peer};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundGauge, BoundHistogram, Counter, Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality,
};

use super::{LABELS_2, LABELS_5, Values, many_labels};

pub(super) struct OfSdk {
    counter: BoundCounter<u64>,
    gauge: BoundGauge<f64>,
    histogram: BoundHistogram<f64>,
    by_two: Counter<u64>,
    by_five: Counter<u64>,
    /// One for each operation, in their order.
    collectors: [Collector; 5],
    values: Values,
}

/// A provider and who collects from it.
struct Collector {
    provider: SdkMeterProvider,
    reader: Shared,
}

impl Collector {
    fn new() -> Collector {
        let reader = Shared(Arc::new(ManualReader::builder().build()));
        // Its limit of 2,000 series is one that the counters to be weighed pass.
        let unlimited = |_: &Instrument| Stream::builder().with_cardinality_limit(1 << 20).build().ok();
        let with_buckets = |instrument: &Instrument| {
            let aggregation =
                Aggregation::ExplicitBucketHistogram { boundaries: BOUNDS.to_vec(), record_min_max: false };
            let is_histogram = instrument.kind() == InstrumentKind::Histogram;
            is_histogram.then(|| Stream::builder().with_aggregation(aggregation).build().ok())?
        };
        let views = move |instrument: &Instrument| with_buckets(instrument).or_else(|| unlimited(instrument));
        let provider = SdkMeterProvider::builder().with_reader(reader.clone()).with_view(views).build();
        Collector { provider, reader }
    }

    fn meter(&self) -> Meter {
        self.provider.meter("peers")
    }

    fn collect(&self) -> ResourceMetrics {
        let mut metrics = ResourceMetrics::default();
        // Fails only after a shutdown, which nothing asks for.
        let _ = self.reader.collect(&mut metrics);
        metrics
    }
}

impl OfSdk {
    pub(super) fn new() -> OfSdk {
        let collectors: [Collector; 5] = std::array::from_fn(|_| Collector::new());
        let [counters, gauges, histograms, by_two, by_five] = &collectors;
        OfSdk {
            counter: counters.meter().u64_counter("requests").build().bind(&[]),
            gauge: gauges.meter().f64_gauge("queue_length").build().bind(&[]),
            histogram: histograms.meter().f64_histogram("duration_seconds").build().bind(&[]),
            by_two: by_two.meter().u64_counter("responses").build(),
            by_five: by_five.meter().u64_counter("all").build(),
            collectors,
            values: Values::new(),
        }
    }

    /// Whole numbers that a collection shows, in all.
    fn total(&self, operation: Operation) -> Option<u64> {
        let found = self.collectors[operation as usize].collect();
        let metric = found.scope_metrics().next()?.metrics().next()?;
        match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => Some(sum.data_points().map(|point| point.value()).sum()),
            AggregatedMetrics::F64(MetricData::Histogram(found)) => {
                Some(found.data_points().map(|point| point.count()).sum())
            }
            _ => None,
        }
    }

    /// What is recorded is collected.
    pub(super) fn check(&self) -> Result<()> {
        for operation in [Operation::Counter, Operation::Histogram, Operation::Lookup2, Operation::Lookup5] {
            let before = self.total(operation).unwrap_or(0);
            self.record(operation, ROTATION as u64);
            let after = self.total(operation).with_context(|| format!("the SDK shows nothing of {operation:?}"))?;
            ensure!(after == before + ROTATION as u64, "the SDK shows {after} after {operation:?}, before {before}");
        }
        Ok(())
    }
}

fn attributes<const N: usize>(names: [&'static str; N], values: [&str; N]) -> [KeyValue; N] {
    std::array::from_fn(|at| KeyValue::new(names[at], values[at].to_owned()))
}

impl Peer for OfSdk {
    fn name(&self) -> &'static str {
        "opentelemetry_sdk"
    }

    fn record(&self, operation: Operation, times: u64) {
        let values = &self.values;
        match operation {
            Operation::Counter => Values::each(&self.counter, times, |counter| counter.add(1)),
            Operation::Gauge => values.observe(&self.gauge, times, |gauge, value| gauge.record(value)),
            Operation::Histogram => values.observe(&self.histogram, times, |histogram, value| histogram.record(value)),
            Operation::Lookup2 => {
                values.by_two(&self.by_two, times, |counter, labels| counter.add(1, &attributes(LABELS_2, labels)));
            }
            Operation::Lookup5 => {
                values.by_five(&self.by_five, times, |counter, labels| counter.add(1, &attributes(LABELS_5, labels)));
            }
        }
    }

    fn scrape(&self, operation: Operation) {
        black_box(self.collectors[operation as usize].collect());
    }

    fn counters(&self, series: usize) -> Result<Box<dyn Any>> {
        let collector = Collector::new();
        let counter = collector.meter().u64_counter("many").build();
        for [method, path] in many_labels(series) {
            counter.add(1, &attributes(LABELS_2, [&method, &path]));
        }
        Ok(Box::new((collector, counter)))
    }
}

/// The provider takes a reader; this one is kept too.
#[derive(Debug, Clone)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
