//! A request of known series allocates nothing: gauges, counters, increments and classic histograms.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kymo_core::batch::{RowSeries, SampleBatch};
use kymo_core::memory::one_of;
use kymo_core::storage::{Changes, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, Labels, LabelsRef, MetricStorage, QueryContext, SelectError, Selector, SeriesRef,
    SeriesSet,
};
use kymo_ingest::otlp::{Coding, Encoding, OtlpConfig, OtlpLimits, Receiver};
use kymo_ingest::remote_write::ReceiverParts;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Says of every row that it is stored, and gives refs.
#[derive(Default)]
struct Sink {
    series: AtomicU64,
    by_ref: AtomicU64,
}

impl MetricStorage for Sink {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        for (number, row) in batch.rows().enumerate() {
            match row.series {
                RowSeries::Ref(_) => drop(self.by_ref.fetch_add(1, Ordering::Relaxed)),
                RowSeries::Labels(_) => {
                    let index = self.series.fetch_add(1, Ordering::Relaxed);
                    report.new_refs.push((number, SeriesRef::new(1, index).unwrap()));
                }
            }
            report.stored += one_of(&row);
        }
        Ok(report)
    }
    fn select(&self, _: &Selector, _: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn version(&self) -> u64 {
        0
    }
    fn changed_since(&self, _: u64, _: &Selector) -> Changes {
        Changes::Unknown
    }
    fn resolve(&self, _: LabelsRef<'_>) -> Option<SeriesRef> {
        None
    }
    fn labels(&self, _: SeriesRef) -> Option<Labels> {
        None
    }
    fn label_names(&self, _: &Selector, _: &QueryContext) -> Result<Vec<String>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn label_values(&self, _: &str, _: &Selector, _: &QueryContext) -> Result<Vec<String>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn metadata(
        &self,
        _: Option<&str>,
        _: &QueryContext,
    ) -> Result<Vec<(String, Vec<kymo_core::Metadata>)>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn exemplars(
        &self,
        _: &Selector,
        _: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<kymo_core::Exemplar>)>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn statistics(&self) -> StorageStatistics {
        StorageStatistics::default()
    }
}

const POINTS: usize = 100;

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn request(round: u64) -> Vec<u8> {
    let text = |text: &str| Value::StringValue(text.into());
    let time_unix_nano = 1_760_000_000_000_000_000 + round * 1_000_000_000;
    let start_time_unix_nano = time_unix_nano - 1_000_000_000;
    let attributes = |n: usize| {
        vec![
            key_value("http.request.method", text("GET")),
            key_value("http.response.status_code", Value::IntValue(n as i64)),
            key_value("http.route", text(&format!("/api/v1/items/{n}"))),
            key_value("server.address", text("shop.example")),
            key_value("tls", Value::BoolValue(true)),
        ]
    };
    let numbers = || -> Vec<otlp::NumberDataPoint> {
        let point = |n| otlp::NumberDataPoint {
            attributes: attributes(n),
            start_time_unix_nano,
            time_unix_nano,
            value: Some(otlp::number_data_point::Value::AsDouble(n as f64)),
            ..Default::default()
        };
        (0..POINTS).map(point).collect()
    };
    let histogram = |n| otlp::HistogramDataPoint {
        attributes: attributes(n),
        start_time_unix_nano,
        time_unix_nano,
        count: 6,
        sum: Some(1.0),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.1, 1.0],
        ..Default::default()
    };
    let metric = |name: &str, data| otlp::Metric { name: name.into(), data: Some(data), ..Default::default() };
    let sum = |aggregation_temporality| {
        Data::Sum(otlp::Sum { data_points: numbers(), aggregation_temporality, is_monotonic: true })
    };
    let histograms = (0..POINTS).map(histogram).collect();
    let metrics = vec![
        metric("gauge", Data::Gauge(otlp::Gauge { data_points: numbers() })),
        metric("cumulative", sum(2)),
        metric("delta", sum(1)),
        metric("histogram", Data::Histogram(otlp::Histogram { data_points: histograms, aggregation_temporality: 2 })),
    ];
    let resource = Resource {
        attributes: ["service.name", "service.instance.id", "host.name"].map(|key| key_value(key, text("a"))).into(),
        ..Default::default()
    };
    let scope_metrics = vec![otlp::ScopeMetrics { metrics, ..Default::default() }];
    let resource_metrics =
        vec![otlp::ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

#[test]
fn a_request_of_known_series_allocates_nothing() {
    let sink = Arc::new(Sink::default());
    let parts = ReceiverParts::around(sink.clone());
    let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts).unwrap();
    let mut allocations = Vec::new();
    for round in 0..6 {
        let body = bytes::Bytes::from(request(round));
        let before = ALLOCATIONS.get();
        let outcome = receiver.export(Encoding::Protobuf, Coding::Identity, body).unwrap();
        allocations.push(ALLOCATIONS.get() - before);
        assert_eq!((outcome.written, outcome.rejected()), (4 * POINTS as u64, 0), "{outcome:?}");
    }
    // Three series of numbers, five of a histogram with two bounds, and the target's.
    let series = (POINTS * (3 + 5) + 1) as u64;
    assert_eq!(sink.series.load(Ordering::Relaxed), series);
    assert_eq!(sink.by_ref.load(Ordering::Relaxed), 5 * series);
    assert_eq!(allocations[3..], [0, 0, 0], "{allocations:?}");
}
