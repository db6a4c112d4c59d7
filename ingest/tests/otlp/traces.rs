//! Spans become metrics: what is counted, of whom, and what is told to senders.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kymo_core::health::{HealthOptions, ServiceHealth};
use kymo_core::memory::MemoryOptions;
use kymo_core::{Budget, ManualClock, MemoryStorage, MetricStorage};
use kymo_ingest::otlp::{
    Coding, Encoding, ExportError, OPERATIONS_PER_SERVICE_MAX, OtlpConfig, OtlpLimits, Receiver, SpanOutcome,
};
use kymo_ingest::remote_write::ReceiverParts;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use crate::support::{Door, NOW_MS, NOW_NS};

pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;
pub const PRODUCER: i32 = 4;
pub const CONSUMER: i32 = 5;
const TRACE: u8 = 7;

pub const SPANS_JSON: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"later":1,
    "scopeSpans":[{"scope":{"name":"s"},"spans":[
    {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"GET","kind":2,
     "startTimeUnixNano":"1759999999000000000","endTimeUnixNano":1759999999250000000,"droppedAttributesCount":0,
     "attributes":[{"key":"http.route","value":{"stringValue":"/x"}},{"key":"http.request.method","value":{"stringValue":"GET"}},
        {"key":"http.response.status_code","value":{"intValue":"503"}}],"status":{},"events":[{}],"links":[]},
    {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175","name":"bad","kind":"SPAN_KIND_SERVER"}
    ]}]}]}"#;

pub fn attribute(key: &str, value: &str) -> KeyValue {
    let value = match value.parse() {
        Ok(number) => Value::IntValue(number),
        Err(_) => Value::StringValue(value.into()),
    };
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Number `id` of a trace, of a quarter of a second.
pub fn span(id: u8, parent: u8, kind: i32, name: &str) -> Span {
    Span {
        trace_id: vec![TRACE; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { vec![] } else { vec![parent; 8] },
        name: name.into(),
        kind,
        start_time_unix_nano: NOW_NS - 1_250_000_000,
        end_time_unix_nano: NOW_NS - 1_000_000_000,
        ..Span::default()
    }
}

pub fn with(span: Span, attributes: &[(&str, &str)]) -> Span {
    Span { attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(), ..span }
}

pub fn of_service(service: &str, spans: Vec<Span>) -> ResourceSpans {
    let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }
}

pub fn request(resource_spans: Vec<ResourceSpans>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest { resource_spans }
}

/// A checkout that reads a cart over HTTP, which asks a database; the cart fails.
pub fn shop() -> ExportTraceServiceRequest {
    let route = [("http.request.method", "GET"), ("http.route", "/cart/{id}")];
    let error = Some(Status { code: 2, ..Status::default() });
    request(vec![
        of_service(
            "checkout",
            vec![
                with(span(1, 0, SERVER, "POST"), &[("http.request.method", "POST"), ("http.route", "/orders")]),
                with(
                    span(2, 1, CLIENT, "GET"),
                    &[("http.response.status_code", "500"), ("server.address", "cart.local")],
                ),
            ],
        ),
        of_service(
            "cart",
            vec![
                Span { status: error, ..with(span(3, 2, SERVER, "GET"), &route) },
                with(span(4, 3, CLIENT, "q"), &[("db.system", "redis"), ("db.operation", "GET")]),
            ],
        ),
    ])
}

impl Door {
    pub fn spans(&self, request: &ExportTraceServiceRequest) -> Result<SpanOutcome, ExportError> {
        self.receiver.export_spans(Encoding::Protobuf, Coding::Identity, request.encode_to_vec().into())
    }

    /// Names, labels and newest values of what was counted; durations as count and sum.
    pub fn counted(&self) -> Vec<String> {
        let set =
            self.engine.select(&kymo_core::Selector::everything(), &kymo_core::QueryContext::unlimited()).unwrap();
        let mut columns = kymo_core::Columns::default();
        let mut lines = Vec::new();
        for at in 0..set.len() {
            set.read(at, &mut columns).unwrap();
            let value = match columns.iter().last() {
                Some((_, kymo_core::storage::ColumnValue::Histogram(h))) => format!("{} in {}", h.count(), h.sum),
                Some((_, kymo_core::storage::ColumnValue::Float(value))) => value.to_string(),
                other => panic!("{other:?}"),
            };
            lines.push(format!("{} {value}", set.labels(at)).replace("kymo_service_", ""));
        }
        lines.sort();
        lines
    }
}

#[test]
fn spans_are_counted_by_operation_and_calls_by_caller_and_callee() {
    let door = Door::open();
    let outcome = door.spans(&shop()).unwrap();
    assert_eq!(outcome, SpanOutcome { counted: 4, ..SpanOutcome::default() });
    let expected = [
        r#"duration_seconds{kind="client", operation="GET", service="cart"} 1 in 0.25"#,
        r#"duration_seconds{kind="client", operation="GET", service="checkout"} 1 in 0.25"#,
        r#"duration_seconds{kind="server", operation="GET /cart/{id}", service="cart"} 1 in 0.25"#,
        r#"duration_seconds{kind="server", operation="POST /orders", service="checkout"} 1 in 0.25"#,
        r#"edge_duration_seconds{callee="cart", caller="checkout"} 1 in 0.25"#,
        r#"edge_duration_seconds{callee="redis", caller="cart"} 1 in 0.25"#,
        r#"edge_errors_total{callee="cart", caller="checkout"} 1"#,
        r#"edge_errors_total{callee="redis", caller="cart"} 0"#,
        r#"edge_requests_total{callee="cart", caller="checkout"} 1"#,
        r#"edge_requests_total{callee="redis", caller="cart"} 1"#,
        r#"errors_total{kind="client", operation="GET", service="cart"} 0"#,
        r#"errors_total{kind="client", operation="GET", service="checkout"} 1"#,
        r#"errors_total{kind="server", operation="GET /cart/{id}", service="cart"} 1"#,
        r#"errors_total{kind="server", operation="POST /orders", service="checkout"} 0"#,
        r#"requests_total{kind="client", operation="GET", service="cart"} 1"#,
        r#"requests_total{kind="client", operation="GET", service="checkout"} 1"#,
        r#"requests_total{kind="server", operation="GET /cart/{id}", service="cart"} 1"#,
        r#"requests_total{kind="server", operation="POST /orders", service="checkout"} 1"#,
    ];
    assert_eq!(door.counted(), expected);
    // Nothing else is stored: no spans, no `target_info`.
    let exemplar = r#"kymo_service_duration_seconds{kind="server", operation="POST /orders", service="checkout"} # {span_id="0101010101010101", trace_id="07070707070707070707070707070707"} 0.25 @-1000"#;
    assert!(door.stored().contains(&exemplar.to_owned()), "{:#?}", door.stored());
    let metadata = door.metadata();
    assert_eq!(metadata.len(), 6, "{metadata:?}");
    let duration = r#"kymo_service_duration_seconds histogram "seconds" "Durations of spans of an operation.""#;
    assert!(metadata.contains(&duration.to_owned()), "{metadata:?}");
    let received = door.received_spans();
    assert_eq!((received.received, received.stored), (4, 4));
    assert_eq!(door.held(), 0);
}

#[test]
fn totals_rise_with_every_request_also_within_a_millisecond() {
    let door = Door::open();
    let one = |id: u8| request(vec![of_service("a", vec![span(id, 0, SERVER, "op")])]);
    for id in 1..=200 {
        assert_eq!(door.spans(&one(id)).unwrap().counted, 1);
    }
    let requests = r#"requests_total{kind="server", operation="op", service="a"} 200"#;
    assert!(door.counted().contains(&requests.to_owned()), "{:?}", door.counted());
    let duration = r#"duration_seconds{kind="server", operation="op", service="a"} 200 in 50"#;
    assert!(door.counted().contains(&duration.to_owned()));
    // Two hundred requests of one millisecond need fifty.
    assert!(door.stored().iter().any(|line| line.starts_with("kymo_service_requests_total") && line.contains("@+49")));
}

#[test]
fn a_request_that_is_sent_again_counts_nothing_twice() {
    let door = Door::open();
    door.spans(&shop()).unwrap();
    let before = door.counted();
    let outcome = door.spans(&shop()).unwrap();
    assert_eq!((outcome.counted, outcome.identical, outcome.rejected()), (0, 4, 0));
    assert!(outcome.message().contains("4 spans were counted before"), "{}", outcome.message());
    assert_eq!(door.counted(), before);
    // Also half of it, and twice in one request.
    let mut half = shop();
    half.resource_spans.truncate(1);
    half.resource_spans.push(of_service("b", vec![span(9, 0, SERVER, "op"), span(9, 0, SERVER, "op")]));
    let outcome = door.spans(&half).unwrap();
    assert_eq!((outcome.counted, outcome.identical), (1, 3));
    let received = door.received_spans();
    assert_eq!((received.received, received.stored, received.identical), (12, 5, 7));
}

#[test]
fn a_request_that_failed_is_counted_when_it_comes_again() {
    let door = Door::open();
    // The callee's side waits for the caller's.
    let mut halves = shop();
    let cart = request(vec![halves.resource_spans.remove(1)]);
    door.spans(&cart).unwrap();
    door.engine.full_disk.store(true, Ordering::SeqCst);
    let error = door.spans(&halves).unwrap_err();
    assert!(matches!(error, ExportError::Append { .. }) && error.loss_reason().is_none(), "{error}");
    door.engine.full_disk.store(false, Ordering::SeqCst);
    assert_eq!(door.spans(&halves).unwrap().counted, 2);
    let whole = Door::open();
    whole.spans(&shop()).unwrap();
    assert_eq!(door.counted(), whole.counted());
    assert_eq!(door.held(), 0);
}

#[test]
fn sides_of_a_call_meet_across_requests_in_either_order() {
    let whole = Door::open();
    whole.spans(&shop()).unwrap();
    for callee_first in [false, true] {
        let door = Door::open();
        let mut parts = shop().resource_spans;
        if callee_first {
            parts.reverse();
        }
        for part in parts {
            door.spans(&request(vec![part])).unwrap();
            door.clock.advance(Duration::from_secs(20));
        }
        assert_eq!(door.counted(), whole.counted(), "callee first: {callee_first}");
    }
}

#[test]
fn a_call_that_nobody_answers_goes_to_its_address() {
    let door = Door::open();
    let calls = vec![
        with(span(1, 0, CLIENT, "a"), &[("server.address", "api.example")]),
        with(span(2, 0, PRODUCER, "b"), &[("messaging.system", "kafka")]),
        // Nobody knows whom.
        span(3, 0, CLIENT, "c"),
    ];
    door.spans(&request(vec![of_service("shop", calls)])).unwrap();
    // Sides that were met are not settled once more.
    door.spans(&request(vec![of_service("worker", vec![span(4, 2, CONSUMER, "d")])])).unwrap();
    let edges =
        |door: &Door| door.counted().into_iter().filter(|line| line.starts_with("edge_requests")).collect::<Vec<_>>();
    assert_eq!(edges(&door), [r#"edge_requests_total{callee="worker", caller="shop"} 1"#]);
    door.receiver.settle_calls().unwrap();
    assert_eq!(edges(&door).len(), 1, "the other side may still come");
    door.clock.advance(Duration::from_secs(31));
    // No request has to come for it.
    door.receiver.settle_calls().unwrap();
    let expected = [
        r#"edge_requests_total{callee="api.example", caller="shop"} 1"#,
        r#"edge_requests_total{callee="worker", caller="shop"} 1"#,
    ];
    assert_eq!(edges(&door), expected);
    door.clock.advance(Duration::from_secs(31));
    door.spans(&request(vec![])).unwrap();
    assert_eq!(edges(&door), expected);
}

#[test]
fn a_restart_and_a_clock_set_back_lose_nothing() {
    let door = Door::open();
    let one = |id: u8| request(vec![of_service("a", vec![span(id, 0, SERVER, "op")])]);
    (1..=3).for_each(|id| drop(door.spans(&one(id)).unwrap()));
    for (restart, set_back_ms) in [(1u8, 0), (2, 5), (3, 60_000)] {
        let door = door.restarted(-set_back_ms);
        for id in 1..=3 {
            assert_eq!(door.spans(&one(10 * restart + id)).unwrap().counted, 1);
        }
        let requests = format!(r#"requests_total{{kind="server", operation="op", service="a"}} {}"#, 3 * (restart + 1));
        assert!(door.counted().contains(&requests), "{:?}", door.counted());
    }
}

#[test]
fn too_many_operations_are_one_and_said_so() {
    let door = Door::open();
    let spans: Vec<Span> = (0..OPERATIONS_PER_SERVICE_MAX + 50)
        .map(|n| Span {
            span_id: (n as u64 + 1).to_be_bytes().to_vec(),
            ..span(1, 0, SERVER, &format!("GET /item/{n}"))
        })
        .collect();
    let outcome =
        door.spans(&request(vec![of_service("a", spans), of_service("b", vec![span(250, 0, SERVER, "op")])])).unwrap();
    assert_eq!((outcome.counted, outcome.overflow), (OPERATIONS_PER_SERVICE_MAX as u64 + 51, 50));
    let counted = door.counted();
    let overflow = r#"requests_total{kind="server", operation="kymo_overflow", service="a"} 50"#;
    assert!(counted.contains(&overflow.to_owned()));
    assert!(counted.contains(&r#"requests_total{kind="server", operation="op", service="b"} 1"#.to_owned()));
    assert_eq!(counted.len(), 3 * (OPERATIONS_PER_SERVICE_MAX + 2));
    let metric = door.registry.snapshot().into_iter().find(|family| family.name == "kymo_otlp_spans_total");
    assert!(format!("{metric:?}").contains("overflow"));
}

#[test]
fn what_is_no_span_is_refused_alone_and_said_exactly() {
    let door = Door::open();
    let good = span(1, 0, SERVER, "good");
    let bad = vec![
        Span { trace_id: vec![], ..good.clone() },
        Span { trace_id: vec![0; 16], ..good.clone() },
        Span { span_id: vec![1; 7], ..good.clone() },
        Span { end_time_unix_nano: 0, ..good.clone() },
        Span { start_time_unix_nano: NOW_NS + 1, ..good.clone() },
    ];
    let spans = bad.into_iter().chain([good]).collect();
    let outcome = door.spans(&request(vec![of_service("a", spans)])).unwrap();
    assert_eq!((outcome.counted, outcome.rejected()), (1, 5));
    assert_eq!(
        outcome.message(),
        "invalid_id: 3 spans: the id of the trace or the span is missing or has another length: span \"good\"; \
         missing_time: 1 spans: start_time_unix_nano or end_time_unix_nano is not set: span \"good\"; \
         negative_duration: 1 spans: the span ends before it starts: span \"good\""
    );
    assert_eq!(door.losses(), [("invalid_id".into(), 3), ("missing_time".into(), 1), ("negative_duration".into(), 1)]);
    let received = door.received_spans();
    assert_eq!((received.received, received.stored, received.rejected), (6, 1, 5));
    let response: serde_json::Value = serde_json::from_slice(&outcome.response(Encoding::Json)).unwrap();
    assert_eq!(response["partialSuccess"]["rejectedSpans"], "5");
}

#[test]
fn a_service_is_named_as_a_job_is() {
    let door = Door::open();
    for (id, attributes) in
        [(1, vec![("service.namespace", "shop"), ("service.name", "cart")]), (2, vec![("host.name", "h")])]
    {
        let mut of = of_service("", vec![span(id, 0, SERVER, "op")]);
        let attributes = attributes.into_iter().map(|(key, value)| attribute(key, value)).collect();
        of.resource = Some(Resource { attributes, ..Resource::default() });
        door.spans(&request(vec![of])).unwrap();
    }
    let counted = door.counted();
    for service in ["shop/cart", "unknown_service"] {
        let line = format!(r#"requests_total{{kind="server", operation="op", service="{service}"}} 1"#);
        assert!(counted.contains(&line), "{counted:?}");
    }
}

#[test]
fn json_says_the_same() {
    let door = Door::open();
    let outcome = door.receiver.export_spans(Encoding::Json, Coding::Identity, SPANS_JSON.into()).unwrap();
    assert_eq!((outcome.counted, outcome.rejected()), (1, 1));
    assert!(outcome.message().starts_with("invalid_span: 1 spans: the span cannot be read: span \"bad\""));
    assert_eq!(
        door.counted(),
        [
            r#"duration_seconds{kind="server", operation="GET /x", service="a"} 1 in 0.25"#,
            r#"errors_total{kind="server", operation="GET /x", service="a"} 1"#,
            r#"requests_total{kind="server", operation="GET /x", service="a"} 1"#,
        ]
    );
}

#[test]
fn service_health_is_told_of_every_span_once_and_of_calls() {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let health = Arc::new(ServiceHealth::new(HealthOptions::default(), clock.clone()));
    let parts = ReceiverParts { clock, ..ReceiverParts::around(Arc::new(MemoryStorage::default())) };
    let receiver =
        Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts).unwrap().with_health(health.clone());
    for _ in 0..2 {
        receiver.export_spans(Encoding::Protobuf, Coding::Identity, shop().encode_to_vec().into()).unwrap();
    }
    health.aggregate_health();
    let cart = health.get("cart").unwrap();
    assert_eq!((cart.requests, cart.errors), (1, 1));
    let operations: Vec<_> = health.operations("checkout").into_iter().map(|it| it.operation.to_string()).collect();
    assert_eq!(operations, ["GET", "POST /orders"]);
    let edges: Vec<_> = health.edges().into_iter().map(|edge| format!("{} to {}", edge.caller, edge.callee)).collect();
    assert_eq!(edges, ["cart to redis", "checkout to cart"]);
}

#[test]
fn an_engine_that_forgot_its_refs_is_told_labels_again() {
    let door = Door::open();
    door.spans(&shop()).unwrap();
    door.engine.forgets.store(true, Ordering::SeqCst);
    let mut again = shop();
    for spans in again.resource_spans.iter_mut().flat_map(|of| &mut of.scope_spans) {
        spans.spans.iter_mut().for_each(|span| span.trace_id = vec![8; 16]);
    }
    assert_eq!(door.spans(&again).unwrap().counted, 4);
    let requests = r#"requests_total{kind="server", operation="POST /orders", service="checkout"} 2"#;
    assert!(door.counted().contains(&requests.to_owned()), "{:?}", door.counted());
}

#[test]
fn without_memory_a_request_is_to_come_again_and_leaves_nothing() {
    let door = Door::with(
        OtlpConfig::default(),
        OtlpLimits::default(),
        MemoryOptions::default(),
        Budget::root("process", 1 << 10),
    );
    let error = door.spans(&shop()).unwrap_err();
    assert!(matches!(error, ExportError::Budget(_)), "{error}");
    assert!(door.stored().is_empty());
    assert_eq!(door.held(), 0);
}
