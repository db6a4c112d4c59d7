//! OpenTelemetry's own SDKs as clients: that of Rust, that of Python over both transports, and that of JavaScript with JSON,
//! the latter two in both temporalities. Python needs its packages in `python3`, or in the interpreter that `KYMO_PYTHON`
//! names; JavaScript needs `node`, and its packages where `KYMO_NODE_MODULES` says; else the test is skipped and says so.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kymo_core::pool::ThreadPool;
use kymo_core::storage::ColumnValue;
use kymo_core::{Columns, MemoryStorage, MetricStorage, QueryContext, Selector};
use kymo_ingest::otlp::{OtlpConfig, OtlpLimits, OtlpState, Receiver, serve_grpc, standalone_routes};
use kymo_ingest::remote_write::ReceiverParts;
use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, MeterProvider};
use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Exit code of the scripts where the SDK is not installed.
const NOT_INSTALLED: i32 = 77;

fn skip(test: &str, reason: &str) {
    eprintln!("{test} is skipped: {reason}");
    if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: {reason}").unwrap();
    }
}

/// Series and values in the engine, and exemplars, without their times.
fn stored(engine: &MemoryStorage) -> Vec<String> {
    let (everything, ctx) = (Selector::everything(), QueryContext::unlimited());
    let set = engine.select(&everything, &ctx).unwrap();
    let (mut columns, mut lines) = (Columns::default(), Vec::new());
    for i in 0..set.len() {
        set.read(i, &mut columns).unwrap();
        // The SDK may export again when it shuts down, so the last value counts.
        if let Some((_, value)) = columns.iter().last() {
            let value = match value {
                ColumnValue::Float(value) => value.to_string(),
                ColumnValue::Stale => "stale".to_owned(),
                ColumnValue::Histogram(h) => format!("histogram count {} sum {} schema {}", h.count(), h.sum, h.schema),
            };
            lines.push(format!("{} {value}", set.labels(i)));
        }
    }
    for (labels, exemplars) in engine.exemplars(&everything, &ctx).unwrap() {
        lines.extend(exemplars.iter().map(|e| format!("{labels} # {} {}", e.labels, e.value)));
    }
    lines.sort();
    lines.dedup();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instruments_of_the_rust_sdk_are_stored_under_their_translated_names() {
    let pool = Arc::new(ThreadPool::start("ingest", 2, 16).unwrap());
    let engine = Arc::new(MemoryStorage::default());
    let parts = ReceiverParts::around(engine.clone());
    let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let state = OtlpState { receiver: Arc::new(receiver), pool };
    let server = tokio::spawn(serve_grpc(listener, state, stop.clone()));

    let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic();
    let exporter = exporter.with_endpoint(format!("http://{address}")).build().unwrap();
    let resource = opentelemetry_sdk::Resource::builder_empty()
        .with_attributes([KeyValue::new("service.name", "checkout"), KeyValue::new("host.name", "web-1")])
        .build();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource).build();
    let meter = provider.meter("sdk.rs");
    meter.u64_counter("http.requests").build().add(3, &[KeyValue::new("http.method", "GET")]);
    meter.i64_up_down_counter("queue.length").build().add(-2, &[]);
    let observe = |gauge: &dyn AsyncInstrument<f64>| gauge.observe(21.5, &[KeyValue::new("0k", true)]);
    let _gauge = meter.f64_observable_gauge("room.temperature").with_unit("Cel").with_callback(observe).build();
    let latency = meter.f64_histogram("latency").with_unit("s").with_boundaries(vec![0.1, 1.0]).build();
    for value in [0.05, 0.5, 5.0] {
        latency.record(value, &[]);
    }
    // Both wait for the exporter.
    let flushed = tokio::task::spawn_blocking(move || provider.force_flush().and_then(|()| provider.shutdown()));
    flushed.await.unwrap().unwrap();
    stop.cancel();
    server.await.unwrap().unwrap();
    assert_eq!(
        stored(&engine),
        [
            r#"http_requests_total{http_method="GET", job="checkout", otel_scope_name="sdk.rs"} 3"#,
            r#"latency_seconds_bucket{job="checkout", le="+Inf", otel_scope_name="sdk.rs"} 3"#,
            r#"latency_seconds_bucket{job="checkout", le="0.1", otel_scope_name="sdk.rs"} 1"#,
            r#"latency_seconds_bucket{job="checkout", le="1", otel_scope_name="sdk.rs"} 2"#,
            r#"latency_seconds_count{job="checkout", otel_scope_name="sdk.rs"} 3"#,
            r#"latency_seconds_sum{job="checkout", otel_scope_name="sdk.rs"} 5.55"#,
            r#"queue_length{job="checkout", otel_scope_name="sdk.rs"} -2"#,
            r#"room_temperature_celsius{job="checkout", key_0k="true", otel_scope_name="sdk.rs"} 21.5"#,
            r#"target_info{host_name="web-1", job="checkout"} 1"#,
        ]
    );
}

/// What came of a client's two rounds.
struct Ran {
    lines: Vec<String>,
    rejected: u64,
}

/// Serves a receiver of its own over `transport`, and runs `client` with its endpoint to the end; `None` where the client
/// or its SDK is not installed, which `skip` is told.
async fn served(transport: &str, signal: &str, client: impl FnOnce(&str) -> Command, test: &str) -> Option<Ran> {
    let pool = Arc::new(ThreadPool::start("ingest", 2, 16).unwrap());
    let engine = Arc::new(MemoryStorage::default());
    let parts = ReceiverParts::around(engine.clone());
    let ledger = parts.ledger.clone();
    let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts).unwrap();
    let state = OtlpState { receiver: Arc::new(receiver), pool };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let stopped = stop.clone().cancelled_owned();
    let server = match transport {
        "grpc" => tokio::spawn(serve_grpc(listener, state, stop.clone())),
        _ => {
            let serve = axum::serve(listener, standalone_routes(state)).with_graceful_shutdown(stopped);
            tokio::spawn(async { serve.await })
        }
    };
    let path = if transport == "grpc" { String::new() } else { format!("/v1/{signal}") };
    let mut command = client(&format!("http://{address}{path}"));
    let run = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
    let output = run.await.unwrap();
    stop.cancel();
    server.await.unwrap().unwrap();
    let output = match output {
        Ok(output) if output.status.code() == Some(NOT_INSTALLED) => {
            skip(test, String::from_utf8_lossy(&output.stdout).trim());
            return None;
        }
        Ok(output) => output,
        Err(error) => {
            skip(test, &format!("the interpreter cannot be run: {error}"));
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.trim().is_empty(), "{transport}: {errors}");
    let (_, received) = ledger.received()[0];
    Some(Ran { lines: stored(&engine), rejected: received.rejected })
}

/// Holds what is stored to what both scripts send, whose scope has the labels `scope`.
fn assert_both_rounds_are_stored(ran: &Ran, scope: &str, run: &str) {
    let target = r#"instance="i-1", job="shop/checkout""#;
    for expected in [
        format!(r#"http_requests_total{{http_method="GET", {target}, {scope}}} 6"#),
        format!("queue_length{{{target}, {scope}}} -4"),
        format!(r#"room_temperature_celsius{{{target}, key_0k="true", {scope}}} 21.5"#),
        format!(r#"latency_seconds_bucket{{{target}, le="0.1", {scope}}} 2"#),
        format!(r#"latency_seconds_bucket{{{target}, le="1", {scope}}} 4"#),
        format!(r#"latency_seconds_bucket{{{target}, le="+Inf", {scope}}} 6"#),
        format!("latency_seconds_count{{{target}, {scope}}} 6"),
        format!("latency_seconds_sum{{{target}, {scope}}} 11.125"),
    ] {
        assert!(ran.lines.contains(&expected), "{run}: no {expected} in\n{}", ran.lines.join("\n"));
    }
    for start in [
        format!("payload_size_bytes{{{target}, {scope}}} histogram count 6 sum 42 schema "),
        r#"target_info{host_name="web-1""#.to_owned(),
    ] {
        let found = ran.lines.iter().any(|line| line.starts_with(&start));
        assert!(found, "{run}: no {start} in\n{}", ran.lines.join("\n"));
    }
    assert_eq!(ran.rejected, 0, "{run}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instrument_of_the_python_sdk_is_stored_under_its_translated_name() {
    let python = std::env::var("KYMO_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/sdk.py");
    for (transport, compression, temporality) in [
        ("grpc", "none", "delta"),
        ("grpc", "gzip", "cumulative"),
        ("http", "none", "cumulative"),
        ("http", "gzip", "delta"),
    ] {
        let client = |endpoint: &str| {
            let mut command = Command::new(&python);
            command.args([script, transport, endpoint, compression, temporality]);
            command
        };
        let test = "sdk::every_instrument_of_the_python_sdk_is_stored_under_its_translated_name";
        let Some(ran) = served(transport, "metrics", client, test).await else { return };
        let run = format!("{transport} {compression} {temporality}");
        let scope = r#"otel_scope_edition="test", otel_scope_name="sdk.py", otel_scope_version="1.0""#;
        assert_both_rounds_are_stored(&ran, scope, &run);
        let exemplar = format!(
            r#"latency_seconds_bucket{{instance="i-1", job="shop/checkout", le="+Inf", {scope}}} # {} 5"#,
            r#"{span_id="eee19b7ec3c1b174", trace_id="5b8efff798038103d269b633813fc60c"}"#
        );
        assert!(ran.lines.contains(&exemplar), "{run}: no {exemplar} in\n{}", ran.lines.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instrument_of_the_javascript_sdk_is_stored_under_its_translated_name() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/sdk.js");
    for (compression, temporality) in [("none", "delta"), ("gzip", "cumulative")] {
        let client = |endpoint: &str| {
            let mut command = Command::new("node");
            if let Ok(modules) = std::env::var("KYMO_NODE_MODULES") {
                command.env("NODE_PATH", modules);
            }
            command.args([script, endpoint, compression, temporality]);
            command
        };
        let test = "sdk::every_instrument_of_the_javascript_sdk_is_stored_under_its_translated_name";
        let Some(ran) = served("http", "metrics", client, test).await else { return };
        let scope = r#"otel_scope_name="sdk.js", otel_scope_version="1.0""#;
        assert_both_rounds_are_stored(&ran, scope, &format!("{compression} {temporality}"));
    }
}

/// Holds what was counted to what the scripts of spans send: a call that was answered and one that failed.
fn assert_both_calls_are_counted(ran: &Ran, run: &str) {
    for (series, requests, errors) in [
        (r#"kind="client", operation="GET /cart/{id}", service="shop/checkout""#, 2, 1),
        (r#"kind="server", operation="GET /cart/{id}", service="shop/cart""#, 2, 1),
    ] {
        let lines = [
            format!("kymo_service_requests_total{{{series}}} {requests}"),
            format!("kymo_service_errors_total{{{series}}} {errors}"),
        ];
        for line in lines {
            assert!(ran.lines.contains(&line), "{run}: no {line} in\n{}", ran.lines.join("\n"));
        }
        let starts = [
            format!("kymo_service_duration_seconds{{{series}}} histogram count 2 "),
            format!("kymo_service_duration_seconds{{{series}}} # {{span_id="),
        ];
        for start in starts {
            let found = ran.lines.iter().any(|line| line.starts_with(&start));
            assert!(found, "{run}: no {start} in\n{}", ran.lines.join("\n"));
        }
    }
    let edge = r#"callee="shop/cart", caller="shop/checkout""#;
    for line in
        [format!("kymo_service_edge_requests_total{{{edge}}} 2"), format!("kymo_service_edge_errors_total{{{edge}}} 1")]
    {
        assert!(ran.lines.contains(&line), "{run}: no {line} in\n{}", ran.lines.join("\n"));
    }
    assert_eq!(ran.rejected, 0, "{run}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_the_python_sdk_are_counted() {
    let python = std::env::var("KYMO_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/spans.py");
    for (transport, compression) in [("grpc", "none"), ("grpc", "gzip"), ("http", "none"), ("http", "gzip")] {
        let client = |endpoint: &str| {
            let mut command = Command::new(&python);
            command.args([script, transport, endpoint, compression]);
            command
        };
        let test = "sdk::spans_of_the_python_sdk_are_counted";
        let Some(ran) = served(transport, "traces", client, test).await else { return };
        assert_both_calls_are_counted(&ran, &format!("{transport} {compression}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_the_javascript_sdk_are_counted() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/spans.js");
    for compression in ["none", "gzip"] {
        let client = |endpoint: &str| {
            let mut command = Command::new("node");
            if let Ok(modules) = std::env::var("KYMO_NODE_MODULES") {
                command.env("NODE_PATH", modules);
            }
            command.args([script, endpoint, compression]);
            command
        };
        let test = "sdk::spans_of_the_javascript_sdk_are_counted";
        let Some(ran) = served("http", "traces", client, test).await else { return };
        assert_both_calls_are_counted(&ran, compression);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_the_rust_sdk_are_counted() {
    let pool = Arc::new(ThreadPool::start("ingest", 2, 16).unwrap());
    let engine = Arc::new(MemoryStorage::default());
    let receiver =
        Receiver::new(OtlpConfig::default(), OtlpLimits::default(), ReceiverParts::around(engine.clone())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let state = OtlpState { receiver: Arc::new(receiver), pool };
    let server = tokio::spawn(serve_grpc(listener, state, stop.clone()));
    for (service, kind) in [("checkout", SpanKind::Client), ("cart", SpanKind::Server)] {
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
        let exporter = exporter.with_endpoint(format!("http://{address}")).build().unwrap();
        let resource = opentelemetry_sdk::Resource::builder_empty().with_service_name(service).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer("sdk.rs");
        for failed in [false, true] {
            let rpc = [KeyValue::new("rpc.service", "shop.Cart"), KeyValue::new("rpc.method", "Get")];
            let parent = tracer.start("outer");
            let context = Context::new().with_span(parent);
            let builder = tracer.span_builder("call").with_kind(kind.clone()).with_attributes(rpc);
            let mut span = builder.start_with_context(&tracer, &context);
            if failed {
                span.set_status(Status::error("no cart"));
            }
            span.end();
        }
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush().and_then(|()| provider.shutdown()));
        flushed.await.unwrap().unwrap();
    }
    stop.cancel();
    server.await.unwrap().unwrap();
    let lines = stored(&engine);
    for (service, kind) in [("checkout", "client"), ("cart", "server")] {
        let series = format!(r#"kind="{kind}", operation="shop.Cart/Get", service="{service}""#);
        for line in
            [format!("kymo_service_requests_total{{{series}}} 2"), format!("kymo_service_errors_total{{{series}}} 1")]
        {
            assert!(lines.contains(&line), "no {line} in\n{}", lines.join("\n"));
        }
        let internal =
            format!(r#"kymo_service_requests_total{{kind="internal", operation="outer", service="{service}"}} 2"#);
        assert!(lines.contains(&internal), "no {internal} in\n{}", lines.join("\n"));
    }
}
