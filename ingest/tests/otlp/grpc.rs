//! `MetricsService/Export` and `TraceService/Export`: called by a client of another make over a socket, and byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use kymo_core::Budget;
use kymo_core::memory::MemoryOptions;
use kymo_core::pool::ThreadPool;
use kymo_ingest::otlp::{OtlpConfig, OtlpLimits, OtlpState, grpc_service, serve_grpc};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tower::ServiceExt;

use crate::protobuf::{everything, everything_stored, gauge, request_of};
use crate::support::{Door, gzip};
use crate::traces::{SERVER, of_service, request, shop, span};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A server on a free port, stopped and joined by [`Server::stop`].
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(state: OtlpState) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(serve_grpc(listener, state, stop.clone()));
        Server { address, stop, task }
    }

    async fn client(&self) -> MetricsServiceClient<Channel> {
        MetricsServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_make_is_served_in_every_compression() {
    let pool = Arc::new(ThreadPool::start("ingest", 2, 16).unwrap());
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let door = Door::open();
        let server = Server::start(OtlpState { receiver: door.receiver.clone(), pool: pool.clone() }).await;
        let mut client = server.client().await;
        if let Some(compression) = compression {
            client = client.send_compressed(compression).accept_compressed(compression);
        }
        let response = client.export(everything()).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None, "{compression:?}");
        assert_eq!(door.stored(), everything_stored(), "{compression:?}");
        // One connection takes many calls.
        let mut late = gauge("late", 1);
        let response = client.export(request_of(vec![late.clone(), gauge("", 1)])).await.unwrap().into_inner();
        assert_eq!(response.partial_success.unwrap().rejected_data_points, 1, "{compression:?}");
        late.name = "later".into();
        client.export(request_of(vec![late])).await.unwrap();
        assert!(door.stored().contains(&"later 1 @now".to_owned()));
        drop(client);
        server.stop().await;
        assert_eq!(door.held(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_a_client_of_another_make_are_counted_in_every_compression() {
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let door = Door::open();
        let server = Server::start(door.state()).await;
        let mut client = TraceServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
        if let Some(compression) = compression {
            client = client.send_compressed(compression).accept_compressed(compression);
        }
        let response = client.export(shop()).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None, "{compression:?}");
        let bad = request(vec![of_service(
            "a",
            vec![span(9, 0, SERVER, "op"), Span { trace_id: vec![], ..span(10, 0, SERVER, "op") }],
        )]);
        let partial = client.export(bad).await.unwrap().into_inner().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 1, "{partial:?}");
        assert!(partial.error_message.starts_with("invalid_id: 1 spans"), "{partial:?}");
        assert_eq!(door.received_spans().stored, 5);
        door.engine.full_disk.store(true, Ordering::SeqCst);
        let busy = client.export(request(vec![of_service("a", vec![span(11, 0, SERVER, "op")])])).await.unwrap_err();
        assert_eq!(busy.code(), Code::Unavailable, "{busy}");
        drop(client);
        server.stop().await;
        assert_eq!(door.held(), 0);
    }
}

#[tokio::test]
async fn logs_are_not_implemented() {
    let door = Door::open();
    let export = Request::post("/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    let request = export.header("content-type", "application/grpc").body(Body::from(framed(0, b""))).unwrap();
    let (status, headers, _) = call(&door, request).await;
    assert_eq!((status, headers["grpc-status"].to_str().unwrap()), (200, "12"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_for_calls_and_leaves_idle_connections_no_hold() {
    let door = Door::open();
    let server = Server::start(door.state()).await;
    let mut client = server.client().await;
    client.export(request_of(vec![gauge("m", 1)])).await.unwrap();
    // The client still holds its connection.
    server.stop().await;
    assert!(client.export(request_of(vec![gauge("m", 2)])).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_carry_the_code_that_tells_a_client_what_to_do() {
    let limits = OtlpLimits { body_bytes_max: 20_000, decompressed_bytes_max: 20_000, ..OtlpLimits::default() };
    let door = Door::with(OtlpConfig::default(), limits, MemoryOptions::default(), Budget::unlimited());
    let server = Server::start(door.state()).await;
    let mut client = server.client().await;
    let many = || request_of((0..1_000).map(|n| gauge(&format!("metric_{n}"), n)).collect());
    let plain = client.export(many()).await.unwrap_err();
    assert_eq!((plain.code(), plain.details()), (Code::ResourceExhausted, &b""[..]), "{plain}");
    let mut packed = client.clone().send_compressed(CompressionEncoding::Gzip);
    let unpacked = packed.export(many()).await.unwrap_err();
    assert_eq!((unpacked.code(), unpacked.details()), (Code::ResourceExhausted, &b""[..]), "{unpacked}");
    assert!(unpacked.message().contains("decompressed_bytes_max"), "{unpacked}");
    assert_eq!(door.losses(), [("too_large".to_owned(), 2)]);

    door.engine.full_disk.store(true, Ordering::SeqCst);
    let busy = client.export(request_of(vec![gauge("m", 1)])).await.unwrap_err();
    assert_eq!(busy.code(), Code::Unavailable, "{busy}");
    // google.rpc.Status { code: 14, message, details: [Any { RetryInfo { 1 s } }] }
    let details = busy.details();
    assert_eq!(details[..2], [0x08, 14]);
    assert!(details.ends_with(&[0x12, 4, 0x0a, 2, 0x08, 1]), "{details:?}");
    assert!(details.windows(41).any(|at| at == b"type.googleapis.com/google.rpc.RetryInfo\x12"), "{details:?}");
    drop((client, packed));
    server.stop().await;
    assert!(door.stored().is_empty());
}

/// What a call by hand was answered: HTTP status, headers and trailers together, and the message.
async fn call(door: &Door, request: Request<Body>) -> (u16, HeaderMap, Vec<u8>) {
    let response = grpc_service(door.state()).oneshot(request).await.unwrap();
    let (status, mut headers) = (response.status().as_u16(), response.headers().clone());
    let collected = response.into_body().collect().await.unwrap();
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (status, headers, collected.to_bytes().to_vec())
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[tokio::test]
async fn every_fault_of_a_call_has_its_status() {
    let good = request_of(vec![gauge("m", 1)]).encode_to_vec();
    let proto = "application/grpc";
    let two = [framed(0, &good), framed(0, &good)].concat();
    let long = [framed(0, &good), vec![0]].concat();
    let table = [
        ("plain", EXPORT, proto, None, framed(0, &good), 200, "0"),
        ("with a format", EXPORT, "application/grpc+proto", None, framed(0, &good), 200, "0"),
        ("gzip", EXPORT, proto, Some("gzip"), framed(1, &gzip(&good)), 200, "0"),
        ("gzip announced, not used", EXPORT, proto, Some("gzip"), framed(0, &good), 200, "0"),
        ("empty message", EXPORT, proto, None, framed(0, b""), 200, "0"),
        ("no message", EXPORT, proto, None, vec![], 200, "3"),
        ("half a frame", EXPORT, proto, None, vec![0, 0, 0], 200, "3"),
        ("short", EXPORT, proto, None, framed(0, &good)[..9].to_vec(), 200, "3"),
        ("long", EXPORT, proto, None, long, 200, "3"),
        ("two messages", EXPORT, proto, None, two, 200, "3"),
        ("compressed without saying how", EXPORT, proto, None, framed(1, &gzip(&good)), 200, "3"),
        ("not protobuf", EXPORT, proto, None, framed(0, b"\xff\xff"), 200, "3"),
        ("not gzip", EXPORT, proto, Some("gzip"), framed(1, &good), 200, "3"),
        ("unknown compression", EXPORT, proto, Some("snappy"), framed(1, &good), 200, "12"),
        ("logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export", proto, None, framed(0, &good), 200, "12"),
        ("JSON", EXPORT, "application/grpc+json", None, framed(0, b"{}"), 415, ""),
    ];
    for (what, path, content_type, encoding, body, http_status, grpc_status) in table {
        let door = Door::open();
        let mut request = Request::post(path).header("content-type", content_type).header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let (status, headers, message) = call(&door, request.body(Body::from(body)).unwrap()).await;
        let of = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!((status, of("grpc-status").as_str()), (http_status, grpc_status), "{what}: {headers:?}");
        if http_status == 200 {
            assert_eq!(
                (of("content-type").as_str(), of("grpc-accept-encoding").as_str()),
                (proto, "identity,gzip,zstd")
            );
        }
        let stored = usize::from(grpc_status == "0" && what != "empty message");
        assert_eq!(door.stored().len(), stored, "{what}");
        if grpc_status == "0" {
            assert_eq!(message, framed(0, b""), "{what}");
        } else {
            assert_eq!((message.len(), of("grpc-message").is_empty()), (0, http_status != 200), "{what}");
        }
        assert_eq!(door.held(), 0, "{what}");
    }
}

#[tokio::test]
async fn a_message_to_the_client_is_percent_encoded() {
    let door = Door::open();
    let request = Request::post("/100%25/%C3%A9").body(Body::empty()).unwrap();
    let (_, headers, _) = call(&door, request).await;
    let message = headers["grpc-message"].to_str().unwrap();
    assert_eq!(message, "/100%2525/%25C3%25A9 is not implemented; only metrics and traces are taken");
}
