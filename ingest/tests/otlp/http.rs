//! Every answer of `POST /v1/metrics` and `POST /v1/traces`: status, headers, body, and what is in the engine and the ledger afterwards.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use axum::middleware::{Next, from_fn};
use http_body_util::BodyExt;
use hyper::body::Frame;
use kymo_core::Budget;
use kymo_core::memory::MemoryOptions;
use kymo_core::metric::MetricType;
use kymo_ingest::otlp::{OtlpConfig, OtlpLimits, is_path, restate, routes, standalone_routes};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::protobuf::{everything, everything_json, everything_stored, gauge, request_of};
use crate::support::{Door, gzip, metrics};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

struct Answer {
    status: u16,
    content_type: String,
    retry_after: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    async fn of(response: Response<Body>) -> Answer {
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (content_type, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        Answer { status, content_type, retry_after, body }
    }

    /// Code and message of a refusal.
    fn refusal(&self) -> (i64, String) {
        match self.content_type.as_str() {
            PROTOBUF => {
                let status = RpcStatus::decode(&self.body[..]).unwrap();
                (status.code.into(), status.message)
            }
            JSON => {
                let status: Value = serde_json::from_slice(&self.body).unwrap();
                (status["code"].as_i64().unwrap(), status["message"].as_str().unwrap().to_owned())
            }
            other => panic!("a refusal in {other:?}"),
        }
    }
}

async fn send(door: &Door, request: Request<Body>) -> Answer {
    Answer::of(standalone_routes(door.state()).oneshot(request).await.unwrap()).await
}

async fn post(door: &Door, content_type: &str, encoding: Option<&str>, body: impl Into<Body>) -> Answer {
    let mut request = Request::post("/v1/metrics").header("content-type", content_type);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    send(door, request.body(body.into()).unwrap()).await
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

#[tokio::test]
async fn a_full_success_is_an_encoded_response_without_partial_success() {
    let (protobuf, json) = (everything().encode_to_vec(), everything_json().into_bytes());
    for (content_type, plain, empty) in [
        (PROTOBUF, protobuf.clone(), &b""[..]),
        (JSON, json.clone(), b"{}"),
        ("application/json; charset=utf-8", json, b"{}"),
        ("Application/X-Protobuf", protobuf, b""),
    ] {
        for (encoding, body) in [
            (None, plain.clone()),
            (Some("identity"), plain.clone()),
            (Some("gzip"), gzip(&plain)),
            (Some("zstd"), zstd(&plain)),
        ] {
            let door = Door::open();
            let answer = post(&door, content_type, encoding, body).await;
            let spelled = if content_type.to_ascii_lowercase().contains("json") { JSON } else { PROTOBUF };
            assert_eq!((answer.status, answer.content_type.as_str()), (200, spelled), "{content_type} {encoding:?}");
            assert_eq!(answer.body, empty, "{content_type} {encoding:?}");
            assert_eq!(door.stored(), everything_stored(), "{content_type} {encoding:?}");
            assert_eq!((door.received().stored, door.received().received), (6, 6));
        }
    }
}

#[tokio::test]
async fn an_empty_request_is_a_success() {
    for (content_type, body) in [(PROTOBUF, ""), (JSON, "{}"), (JSON, r#"{"resourceMetrics":null,"later":[1]}"#)] {
        let answer = post(&Door::open(), content_type, None, body).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (200, content_type), "{body}");
    }
}

#[tokio::test]
async fn a_partial_success_counts_points_and_says_why() {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let door = Door::open();
    let mut vague = crate::protobuf::metric("requests", Data::Sum(Default::default()));
    let Some(Data::Gauge(points)) = gauge("x", 1).data else { unreachable!() };
    if let Some(Data::Sum(sum)) = &mut vague.data {
        sum.aggregation_temporality = 0;
        sum.data_points = [points.data_points.clone(), points.data_points].concat();
    }
    let answer = post(&door, PROTOBUF, None, request_of(vec![vague, gauge("kept", 1)]).encode_to_vec()).await;
    assert_eq!(answer.status, 200);
    let partial = ExportMetricsServiceResponse::decode(&answer.body[..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 2);
    assert_eq!(
        partial.error_message,
        "unspecified_temporality: 2 data points: the aggregation temporality is not specified: metric \"requests\""
    );
    assert_eq!(door.stored(), ["kept 1 @now"]);

    let bad = r#"{"name":"bad","gauge":{"dataPoints":[{"asInt":"seven"},{},{}]}}"#;
    let good = r#"{"name":"good","gauge":{"dataPoints":[{"timeUnixNano":"1760000000000000000","asInt":"7"}]}}"#;
    let answer = post(&door, JSON, None, metrics(&format!("{bad},{good}"))).await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let expected = json!({"partialSuccess": {
        "rejectedDataPoints": "3",
        "errorMessage": "invalid_metric: 3 data points: the metric cannot be read: metric \"bad\"",
    }});
    assert_eq!((answer.status, body), (200, expected));
    assert_eq!(door.stored(), ["good 7 @now", "kept 1 @now"]);
    let received = door.received();
    assert_eq!((received.received, received.stored, received.rejected), (7, 2, 5));
    assert_eq!(door.losses(), [("invalid_metric".to_owned(), 3), ("unspecified_temporality".to_owned(), 2)]);
}

#[tokio::test]
async fn what_cannot_be_decoded_is_400_and_leaves_nothing_behind() {
    let whole = everything().encode_to_vec();
    let text = everything_json();
    let mut nested = br#"{"resourceMetrics":"#.to_vec();
    nested.extend([b'['; 100_000]);
    let cases: Vec<(&str, Option<&str>, Vec<u8>, &str)> = vec![
        (PROTOBUF, None, whole[..whole.len() - 1].to_vec(), "bad_protobuf"),
        (PROTOBUF, None, b"\xff\xff\xff\xff".to_vec(), "bad_protobuf"),
        // A resource that is a number.
        (PROTOBUF, None, vec![0x0a, 2, 0x08, 1], "bad_protobuf"),
        (JSON, None, text.as_bytes()[..text.len() - 1].to_vec(), "bad_json"),
        (JSON, None, text.clone().into_bytes().into_iter().chain(*b"]").collect(), "bad_json"),
        (JSON, None, vec![], "bad_json"),
        (JSON, None, b"[]".to_vec(), "bad_json"),
        (JSON, None, b"\xff".to_vec(), "bad_json"),
        (JSON, None, br#"{"resourceMetrics":{}}"#.to_vec(), "bad_json"),
        (JSON, None, br#"{"resourceMetrics":[{"resource":{"attributes":7}}]}"#.to_vec(), "bad_json"),
        (JSON, None, nested, "bad_json"),
        (PROTOBUF, Some("gzip"), whole.clone(), "bad_compression"),
        (PROTOBUF, Some("gzip"), gzip(&whole)[..40].to_vec(), "bad_compression"),
        (PROTOBUF, Some("zstd"), gzip(&whole), "bad_compression"),
    ];
    for (content_type, encoding, body, reason) in cases {
        let door = Door::open();
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = post(&door, content_type, encoding, body).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (400, content_type), "{shown}");
        let (code, message) = answer.refusal();
        assert!(
            code == 3 && message.starts_with("cannot decode the body") || message.starts_with("cannot decompress"),
            "{message}"
        );
        assert_eq!(answer.retry_after, None);
        assert!(door.stored().is_empty(), "{shown}");
        assert_eq!(door.losses(), [(reason.to_owned(), 1)], "{shown}");
        assert_eq!(door.held(), 0, "{shown}");
    }
}

#[tokio::test]
async fn limits_hold_before_and_after_decompression() {
    let limits = OtlpLimits { body_bytes_max: 12_000, decompressed_bytes_max: 20_000, ..OtlpLimits::default() };
    let door = Door::with(OtlpConfig::default(), limits, MemoryOptions::default(), Budget::unlimited());
    let zeros = vec![0; 1 << 20];
    for (encoding, body, limit) in [
        (None, zeros[..12_001].to_vec(), "body_bytes_max"),
        (Some("gzip"), gzip(&zeros), "decompressed_bytes_max"),
        (Some("zstd"), zstd(&zeros), "decompressed_bytes_max"),
        // Frames that are skipped never become output; only the limit outside stops them.
        (Some("zstd"), [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4].repeat(1_001), "body_bytes_max"),
    ] {
        // A length is not needed to see that it is too much.
        for known_length in [true, false] {
            let body = match known_length {
                true => Body::from(body.clone()),
                false => Body::new(Chunks(body.chunks(1_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect())),
            };
            let answer = post(&door, JSON, encoding, body).await;
            assert_eq!((answer.status, answer.retry_after.clone()), (413, None), "{encoding:?}");
            let (code, message) = answer.refusal();
            assert!(code == 8 && message.contains(limit), "{code} {message}");
        }
    }
    assert_eq!(door.losses(), [("too_large".to_owned(), 8)]);
}

/// A body that comes in pieces, without saying how long it is.
struct Chunks(VecDeque<Result<Bytes, std::io::Error>>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| chunk.map(Frame::data)))
    }
}

#[tokio::test]
async fn other_methods_types_and_paths_are_refused_in_the_requests_encoding() {
    let door = Door::open();
    let request = |method: &str, path: &str, content_type: Option<&str>, encoding: Option<&str>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        request.body(Body::empty()).unwrap()
    };
    for (request, status, code, content_type) in [
        (request("GET", "/v1/metrics", None, None), 405, 12, JSON),
        (request("PUT", "/v1/metrics", Some(PROTOBUF), None), 405, 12, PROTOBUF),
        (request("POST", "/v1/metrics", None, None), 415, 3, JSON),
        (request("POST", "/v1/metrics", Some("text/plain"), None), 415, 3, JSON),
        (request("POST", "/v1/metrics", Some("application/x-protobufs"), None), 415, 3, JSON),
        (request("POST", "/v1/metrics", Some(PROTOBUF), Some("br")), 415, 3, PROTOBUF),
        (request("POST", "/v1/metrics", Some(JSON), Some("gzip, gzip")), 415, 3, JSON),
        (request("POST", "/v1/logs", Some(PROTOBUF), None), 404, 5, PROTOBUF),
        (request("POST", "/v1/logs", Some(JSON), None), 404, 5, JSON),
        (request("GET", "/v1/traces", None, None), 405, 12, JSON),
        (request("POST", "/v1/traces", Some("text/plain"), None), 415, 3, JSON),
        (request("POST", "/v1/traces", Some(PROTOBUF), Some("br")), 415, 3, PROTOBUF),
        (request("POST", "/v1/traces/", Some(PROTOBUF), None), 404, 5, PROTOBUF),
        (request("GET", "/", None, None), 404, 5, JSON),
    ] {
        let shown = format!("{request:?}");
        let answer = send(&door, request).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (status, content_type), "{shown}");
        assert_eq!(answer.refusal().0, code, "{shown}");
    }
    let answer = standalone_routes(door.state()).oneshot(request("GET", "/v1/metrics", None, None)).await.unwrap();
    assert_eq!(answer.headers()["allow"], "POST");
    assert_eq!(door.received(), Default::default());
}

/// A server has limits and tokens of its own, and knows nothing of OTLP.
/// `router` as a server has it that gives refusals their form.
fn restated(router: Router) -> Router {
    router.layer(from_fn(async |request: Request<Body>, next: Next| {
        let (concerns, headers) = (is_path(request.uri().path()), request.headers().clone());
        let response = next.run(request).await;
        if concerns { restate(headers, response).await } else { response }
    }))
}

#[tokio::test]
async fn what_stands_around_the_routes_refuses_in_the_requests_encoding_too() {
    let envelope = r#"{"status":"error","errorType":"internal","error":"a fault"}"#;
    let around = Router::new().fallback(async move |request: Request<Body>| {
        let said = |status: u16, body: &'static str| {
            Response::builder().status(status).header("retry-after", "7").body(Body::from(body)).unwrap()
        };
        match request.headers()["refuse"].to_str().unwrap() {
            "413" => said(413, "too long\n"),
            "401" => said(401, "Unauthorized\n"),
            "503" => said(503, "not ready yet\n"),
            "500" => said(500, envelope),
            "502" => said(502, ""),
            _ => said(200, "taken"),
        }
    });
    let router = restated(around);
    let ask = async |path: &str, content_type: &str, refuse: &str| {
        let request = Request::post(path).header("content-type", content_type).header("refuse", refuse);
        Answer::of(router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()).await
    };
    for (refuse, code, says) in [
        ("413", 8, "too long"),
        ("401", 16, "Unauthorized"),
        ("503", 14, "not ready yet"),
        ("500", 13, "a fault"),
        ("502", 14, "bad gateway"),
    ] {
        for (path, content_type) in
            [("/v1/metrics", PROTOBUF), ("/api/v1/otlp/v1/traces", JSON), ("/v1/logs", PROTOBUF)]
        {
            let answer = ask(path, content_type, refuse).await;
            assert_eq!((answer.status.to_string().as_str(), answer.content_type.as_str()), (refuse, content_type));
            assert_eq!(answer.refusal(), (code, says.to_owned()), "{path}");
            assert_eq!(answer.retry_after.as_deref(), Some("7"), "headers stay");
        }
        assert_eq!(ask("/api/v1/query", JSON, refuse).await.content_type, "", "what others ask is none of this");
    }
    assert_eq!(ask("/v1/metrics", PROTOBUF, "no").await.body, b"taken");
    // The routes' own refusals are as they were.
    let door = Door::open();
    let own = restated(standalone_routes(door.state()));
    let request = Request::post("/v1/metrics").header("content-type", "text/plain").body(Body::empty()).unwrap();
    let answer = Answer::of(own.oneshot(request).await.unwrap()).await;
    assert_eq!((answer.status, answer.refusal().0), (415, 3));
}

#[tokio::test]
async fn the_route_can_be_nested() {
    let door = Door::open();
    let nested = Router::new().nest("/api/v1/otlp", routes(door.state()));
    let request = Request::post("/api/v1/otlp/v1/metrics")
        .header("content-type", PROTOBUF)
        .body(Body::from(request_of(vec![gauge("m", 1)]).encode_to_vec()));
    let response = nested.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(door.stored(), ["m 1 @now"]);
}

#[tokio::test]
async fn what_may_succeed_later_is_503_and_books_no_loss() {
    let body = request_of(vec![gauge("m", 1)]).encode_to_vec();
    let full_disk = Door::open();
    full_disk.engine.full_disk.store(true, Ordering::SeqCst);
    let full_queue = Door::open();
    full_queue.pool.full.store(true, Ordering::SeqCst);
    let no_memory =
        Door::with(OtlpConfig::default(), OtlpLimits::default(), MemoryOptions::default(), Budget::root("process", 10));
    for (door, says) in [
        (&full_disk, "the write-ahead log could not be written"),
        (&full_queue, r#"the "ingest" pool is full"#),
        (&no_memory, r#"memory limit "process""#),
    ] {
        for content_type in [PROTOBUF, JSON] {
            let sent = if content_type == JSON { metrics("").into_bytes() } else { body.clone() };
            // Nothing to append is no use for a disk.
            if content_type == JSON && says.contains("log") {
                continue;
            }
            let answer = post(door, content_type, None, sent).await;
            assert_eq!((answer.status, answer.content_type.as_str()), (503, content_type), "{says}");
            assert_eq!(answer.retry_after.as_deref(), Some("1"), "{says}");
            let (code, message) = answer.refusal();
            assert!(code == 14 && message.contains(says), "{code} {message}");
        }
        assert_eq!((door.losses(), door.received()), (vec![], Default::default()), "{says}");
        assert_eq!(door.held(), 0, "{says}");
    }
    full_disk.engine.full_disk.store(false, Ordering::SeqCst);
    assert_eq!(post(&full_disk, PROTOBUF, None, body).await.status, 200);
    assert_eq!(full_disk.stored(), ["m 1 @now"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up_and_its_memory_given_back() {
    /// Begins, and never ends.
    struct Stalled(Option<Bytes>);
    impl HttpBody for Stalled {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }
    let door = Door::open();
    let body = Body::new(Stalled(Some(Bytes::from_static(b"{"))));
    let answer = post(&door, JSON, None, body).await;
    assert_eq!((answer.status, answer.refusal().0), (503, 14));
    assert_eq!(door.held(), 0);
}

#[tokio::test]
async fn requests_points_and_bytes_are_counted() {
    let door = Door::open();
    let body = request_of(vec![gauge("m", 1), gauge("", 1)]).encode_to_vec();
    post(&door, PROTOBUF, Some("gzip"), gzip(&body)).await;
    post(&door, JSON, None, "{").await;
    let mut lines = Vec::new();
    for family in door.registry.snapshot() {
        for series in family.series {
            if let MetricType::Counter { value, .. } = series.value {
                lines.push(format!("{}{:?} {value}", family.name, series.labels));
            }
        }
    }
    let compressed = gzip(&body).len() + 1;
    let decompressed = body.len() + 1;
    let text = lines.join("\n");
    for expected in [
        "kymo_otlp_requests_total[(\"code\", \"200\"), (\"transport\", \"http\")] 1".to_owned(),
        "kymo_otlp_requests_total[(\"code\", \"400\"), (\"transport\", \"http\")] 1".to_owned(),
        format!("kymo_otlp_bytes_total[(\"form\", \"compressed\")] {compressed}"),
        format!("kymo_otlp_bytes_total[(\"form\", \"decompressed\")] {decompressed}"),
        "kymo_otlp_points_total[(\"encoding\", \"protobuf\"), (\"outcome\", \"written\")] 1".to_owned(),
        "kymo_otlp_points_total[(\"encoding\", \"protobuf\"), (\"outcome\", \"rejected\")] 1".to_owned(),
    ] {
        assert!(text.contains(&expected), "no {expected} in\n{text}");
    }
}

#[tokio::test]
async fn a_job_that_is_lost_is_500() {
    let door = Door::open();
    door.pool.panics.store(true, Ordering::SeqCst);
    let answer = post(&door, PROTOBUF, None, request_of(vec![gauge("m", 1)]).encode_to_vec()).await;
    assert_eq!((answer.status, answer.refusal().0), (500, 13));
    assert_eq!(door.held(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400() {
    let door = Door::open();
    let chunks = [Ok(Bytes::from_static(&[0x0a])), Err(std::io::ErrorKind::ConnectionReset.into())];
    let answer = post(&door, PROTOBUF, None, Body::new(Chunks(chunks.into()))).await;
    assert_eq!((answer.status, answer.refusal().0), (400, 3));
    assert_eq!(door.held(), 0);
}
