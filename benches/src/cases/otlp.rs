//! An OTLP request, and an engine that keeps nothing of it: what is left is reading and translating.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use kymo_core::batch::{Exemplar, Metadata, RowSeries, SampleBatch};
use kymo_core::memory::one_of;
use kymo_core::storage::{Changes, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, Clock, Labels, LabelsRef, MemoryStorage, MetricStorage, QueryContext, SelectError,
    Selector, SeriesRef, SeriesSet, SystemClock,
};
use kymo_ingest::otlp::{Coding, Encoding, OtlpConfig, OtlpLimits, Receiver};
use kymo_ingest::remote_write::ReceiverParts;
use prost::Message;
use prost::bytes::Bytes;

/// Metrics of one request, each with [`POINTS`] points of five attributes.
const METRICS: usize = 40;
const POINTS: usize = 25;
/// Points of a request.
pub const POINTS_PER_REQUEST: u64 = (METRICS * POINTS) as u64;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}
#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}
#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}
#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}
#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "5")]
    gauge: Option<Gauge>,
}
#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    points: Vec<Point>,
}
#[derive(Clone, PartialEq, Message)]
struct Point {
    #[prost(fixed64, tag = "3")]
    time_ns: u64,
    #[prost(double, optional, tag = "4")]
    value: Option<f64>,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}
#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    text: String,
}

fn attribute(key: &str, text: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { text }) }
}

/// An encoded request of [`POINTS_PER_REQUEST`] points at a time; the series are always the same.
#[must_use]
pub fn body(time_ns: u64) -> Bytes {
    let point = |n: usize| Point {
        time_ns,
        value: Some(n as f64 * 0.5),
        attributes: vec![
            attribute("http.request.method", ["GET", "POST"][n % 2].to_owned()),
            attribute("http.response.status_code", (200 + n).to_string()),
            attribute("http.route", format!("/api/v1/items/{n}")),
            attribute("server.address", "shop.example".to_owned()),
            attribute("network.protocol.version", "1.1".to_owned()),
        ],
    };
    let metric = |n: usize| Metric {
        name: format!("http.server.metric.{n}"),
        gauge: Some(Gauge { points: (0..POINTS).map(point).collect() }),
    };
    let resource = Resource {
        attributes: ["service.name", "service.instance.id", "host.name"]
            .map(|key| attribute(key, "shop-7".to_owned()))
            .into(),
    };
    let metrics = (0..METRICS).map(metric).collect();
    let request = Request {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { metrics }],
        }],
    };
    request.encode_to_vec().into()
}

/// A request, and a receiver in front of an engine that keeps nothing.
pub struct Otlp {
    body: Bytes,
    receiver: Receiver,
}

impl Otlp {
    /// # Errors
    /// The receiver does not take every point.
    pub fn new() -> Result<Otlp> {
        let now_ns = u64::try_from(SystemClock::new().now_ms()).context("the clock is before 1970")? * 1_000_000;
        let parts = ReceiverParts::around(Arc::new(KeepsNothing::default()));
        let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts)?;
        let otlp = Otlp { body: body(now_ns), receiver };
        ensure!(otlp.export() == otlp.points(), "the receiver does not take every point");
        Ok(otlp)
    }

    /// Points of the request.
    #[must_use]
    pub fn points(&self) -> u64 {
        POINTS_PER_REQUEST
    }

    /// Decodes the request with prost and no more; gives its metrics.
    #[must_use]
    pub fn prost(&self) -> usize {
        let request = Request::decode(&self.body[..]).unwrap_or_default();
        request.resource_metrics.iter().flat_map(|one| &one.scope_metrics).map(|scope| scope.metrics.len()).sum()
    }

    /// Hands the request in; gives the points taken.
    #[must_use]
    pub fn export(&self) -> u64 {
        let outcome = self.receiver.export(Encoding::Protobuf, Coding::Identity, self.body.clone());
        outcome.map_or(0, |outcome| outcome.written)
    }
}

/// Services, and operations of each, of a request of spans.
const SERVICES: usize = 10;
const OPERATIONS: usize = 10;
/// Spans of each operation.
const SPANS: usize = 10;

#[derive(Clone, PartialEq, Message)]
struct SpansRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}
#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}
#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_ns: u64,
    #[prost(fixed64, tag = "8")]
    end_ns: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

/// A request of spans of known operations, which is another one each time, and a receiver as that of [`Otlp`].
pub struct Spans {
    body: RefCell<Vec<u8>>,
    /// Where the ids of traces stand in it.
    traces: Vec<usize>,
    round: Cell<u64>,
    receiver: Receiver,
}

impl Spans {
    /// # Errors
    /// The receiver does not count every span.
    pub fn new() -> Result<Spans> {
        let now_ns = u64::try_from(SystemClock::new().now_ms()).context("the clock is before 1970")? * 1_000_000;
        let mark = |number: usize| [&b"bench trace"[..], &(number as u32).to_be_bytes(), &[1]].concat();
        let span = |service: usize, n: usize| Span {
            trace_id: mark(service * OPERATIONS * SPANS + n),
            span_id: (n as u64 + 1).to_be_bytes().to_vec(),
            name: "GET".to_owned(),
            kind: 2,
            start_ns: now_ns - 1_000_000 * (n as u64 + 1),
            end_ns: now_ns,
            attributes: vec![
                attribute("http.request.method", "GET".to_owned()),
                attribute("http.response.status_code", "200".to_owned()),
                attribute("http.route", format!("/api/v1/items/{}", n % OPERATIONS)),
                attribute("server.address", "shop.example".to_owned()),
                attribute("network.protocol.version", "1.1".to_owned()),
            ],
        };
        let of_service = |service: usize| ResourceSpans {
            resource: Some(Resource { attributes: vec![attribute("service.name", format!("shop-{service}"))] }),
            scope_spans: vec![ScopeSpans { spans: (0..OPERATIONS * SPANS).map(|n| span(service, n)).collect() }],
        };
        let body = SpansRequest { resource_spans: (0..SERVICES).map(of_service).collect() }.encode_to_vec();
        let traces: Vec<usize> =
            body.windows(11).enumerate().filter(|(_, at)| *at == b"bench trace").map(|(at, _)| at).collect();
        let parts = ReceiverParts::around(Arc::new(KeepsNothing::default()));
        let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts)?;
        let spans = Spans { body: RefCell::new(body), traces, round: Cell::new(0), receiver };
        ensure!(spans.traces.len() as u64 == spans.spans(), "not every span has its trace");
        ensure!(spans.export() == spans.spans(), "the receiver does not count every span");
        Ok(spans)
    }

    /// Spans of the request.
    #[must_use]
    pub fn spans(&self) -> u64 {
        (SERVICES * OPERATIONS * SPANS) as u64
    }

    /// Hands the request in with new ids of traces; gives the spans counted.
    #[must_use]
    pub fn export(&self) -> u64 {
        let round = self.round.replace(self.round.get() + 1);
        let mut body = self.body.borrow_mut();
        for &at in &self.traces {
            body[at..at + 8].copy_from_slice(&round.to_be_bytes());
        }
        let outcome = self.receiver.export_spans(Encoding::Protobuf, Coding::Identity, body.clone().into());
        outcome.map_or(0, |outcome| outcome.counted)
    }
}

/// Says of every row that it is stored, and gives each label set a ref.
#[derive(Default)]
struct KeepsNothing {
    series: AtomicU64,
}

impl MetricStorage for KeepsNothing {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        if !batch.has_labels() {
            // Of which kind they are, nobody asks.
            report.stored.floats = batch.len() as u64;
            return Ok(report);
        }
        for (number, row) in batch.rows().enumerate() {
            report.stored += one_of(&row);
            if let RowSeries::Labels(_) = row.series {
                let series = SeriesRef::new(1, self.series.fetch_add(1, Ordering::Relaxed));
                report.new_refs.extend(series.map(|series| (number, series)));
            }
        }
        Ok(report)
    }
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        MemoryStorage::default().select(what, ctx)
    }
    fn version(&self) -> u64 {
        0
    }
    fn changed_since(&self, _since: u64, _what: &Selector) -> Changes {
        Changes::Unknown
    }
    fn resolve(&self, _labels: LabelsRef<'_>) -> Option<SeriesRef> {
        None
    }
    fn labels(&self, _series: SeriesRef) -> Option<Labels> {
        None
    }
    fn label_names(&self, _what: &Selector, _ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        Ok(Vec::new())
    }
    fn label_values(&self, _: &str, _: &Selector, _: &QueryContext) -> Result<Vec<String>, SelectError> {
        Ok(Vec::new())
    }
    fn metadata(&self, _: Option<&str>, _: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        Ok(Vec::new())
    }
    fn exemplars(&self, _: &Selector, _: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        Ok(Vec::new())
    }
    fn statistics(&self) -> StorageStatistics {
        StorageStatistics::default()
    }
}
