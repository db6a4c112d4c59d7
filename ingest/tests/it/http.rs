//! Every answer of `/api/v1/write`: status, headers, text, and what is in the engine and the ledger afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use kymo_core::Budget;
use kymo_core::ledger::Received;
use kymo_ingest::remote_write::RemoteWriteConfig;
use kymo_ingest::remote_write::handler::{RemoteWriteState, routes};
use prost::Message;
use tower::ServiceExt;

use crate::support::{Door, InlinePool, NOW_MS};
use crate::wire::{self, Symbols, body, series_v1, v1, v2};

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

struct Answer {
    status: u16,
    text: String,
    /// Samples, histograms, exemplars; `None` without the headers.
    written: Option<[u64; 3]>,
    retry_after: Option<String>,
}

async fn answer(response: Response<Body>) -> Answer {
    let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let kinds = ["samples", "histograms", "exemplars"];
    let written = kinds.map(|kind| header(&format!("X-Prometheus-Remote-Write-{kind}-Written")));
    let written = written.iter().all(Option::is_some).then(|| written.map(|w| w.unwrap().parse().unwrap()));
    let (status, retry_after) = (response.status().as_u16(), header("retry-after"));
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status, text, written, retry_after }
}

async fn send_with(door: &Door, pool: Arc<InlinePool>, request: Request<Body>) -> Answer {
    let state = RemoteWriteState { receiver: door.receiver.clone(), pool };
    answer(routes(state).oneshot(request).await.unwrap()).await
}

async fn post(door: &Door, content_type: &str, body: Vec<u8>) -> Answer {
    let request =
        Request::post("/api/v1/write").header("Content-Type", content_type).header("Content-Encoding", "snappy");
    send_with(door, Arc::default(), request.body(Body::from(body)).unwrap()).await
}

fn good_v1() -> v1::TimeSeries {
    series_v1(&[("__name__", "up"), ("job", "node")], &[(NOW_MS, 1.0)])
}

fn request_v1(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    body(&v1::WriteRequest { timeseries, metadata: vec![] })
}

const GOOD_V2: [(&str, &str); 2] = [("__name__", "up"), ("job", "node")];

#[tokio::test]
async fn what_is_written_whole_is_answered_204_without_a_body() {
    let door = Door::open();
    let first = post(&door, V1, request_v1(vec![good_v1()])).await;
    assert_eq!((first.status, first.text.as_str(), first.written), (204, "", None));

    let mut symbols = Symbols::default();
    let mut sent = symbols.series(&GOOD_V2, &[(NOW_MS + 1, f64::NAN)]);
    sent.samples[0].start_timestamp = NOW_MS - 5_000;
    sent.exemplars =
        vec![v2::Exemplar { labels_refs: symbols.refs(&[("trace_id", "abc")]), value: 2.0, timestamp: NOW_MS }];
    let histograms = v2::TimeSeries {
        labels_refs: symbols.refs(&[("__name__", "latency")]),
        histograms: vec![wire::histogram(NOW_MS)],
        metadata: Some(v2::Metadata { r#type: 3, help_ref: symbols.of("How long."), unit_ref: symbols.of("s") }),
        ..v2::TimeSeries::default()
    };
    let second = body(&symbols.request(vec![sent, histograms]));
    // Sent twice, as after a lost answer: written is what is there, not what is new.
    for _ in 0..2 {
        let answer = post(&door, V2, second.clone()).await;
        assert_eq!((answer.status, answer.text.as_str(), answer.written), (204, "", Some([1, 1, 1])));
    }
    assert_eq!(door.stored().len(), 4, "{:#?}", door.stored());
    let wanted = Received { received: 5, stored: 3, identical: 2, replaced: 0, rejected: 0 };
    assert_eq!(door.received(), wanted);
}

#[tokio::test]
async fn an_empty_request_is_written_whole() {
    for (content_type, written) in [(V1, None), (V2, Some([0, 0, 0]))] {
        let answer = post(&Door::open(), content_type, body(&v1::WriteRequest::default())).await;
        assert_eq!((answer.status, answer.written), (204, written));
    }
}

#[tokio::test]
async fn staleness_markers_and_special_values_are_samples() {
    let door = Door::open();
    let stale = f64::from_bits(kymo_core::histogram::STALE_NAN_BITS);
    let values = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, stale];
    let mut symbols = Symbols::default();
    let labels = [("__name__", "resource cpu.usage"), ("job name", "test\njob"), ("region", "🌍")];
    let samples: Vec<_> = values.iter().enumerate().map(|(n, v)| (NOW_MS + n as i64, *v)).collect();
    let floats = symbols.series(&labels, &samples);
    let stale_histogram = v2::TimeSeries {
        labels_refs: symbols.refs(&[("__name__", "h")]),
        histograms: vec![wire::Histogram { sum: stale, timestamp: NOW_MS, ..wire::Histogram::default() }],
        ..v2::TimeSeries::default()
    };
    let answer = post(&door, V2, body(&symbols.request(vec![floats, stale_histogram]))).await;
    assert_eq!((answer.status, answer.written), (204, Some([6, 1, 0])), "{}", answer.text);
    assert_eq!(door.stored().iter().filter(|line| line.ends_with("stale")).count(), 2);
}

/// A series beside a good one, and the reason that the answer and the ledger must name.
type BadSeries = (&'static str, v1::TimeSeries);

fn bad_series_v1() -> Vec<BadSeries> {
    let at = &[(NOW_MS, 1.0)];
    let bad_exemplar = v1::Exemplar {
        labels: vec![v1::Label { name: String::new(), value: "x".into() }],
        value: 1.0,
        timestamp: NOW_MS,
    };
    let invalid = |change: fn(&mut wire::Histogram)| {
        let mut histogram = wire::histogram(NOW_MS);
        change(&mut histogram);
        v1::TimeSeries { histograms: vec![histogram], ..series_v1(&[("__name__", "h")], &[]) }
    };
    vec![
        ("missing_name", series_v1(&[("job", "node")], at)),
        ("missing_name", series_v1(&[], at)),
        ("missing_name", series_v1(&[("__name__", ""), ("job", "node")], at)),
        ("empty_label_name", series_v1(&[("__name__", "a"), ("", "x")], at)),
        ("duplicate_label", series_v1(&[("__name__", "a"), ("x", "1"), ("x", "2")], at)),
        ("duplicate_label", series_v1(&[("x", "1"), ("__name__", "a"), ("x", "1")], at)),
        ("too_far_in_future", series_v1(&[("__name__", "a")], &[(NOW_MS + 600_001, 1.0)])),
        ("outside_retention", series_v1(&[("__name__", "a")], &[(NOW_MS - 86_400_001, 1.0)])),
        ("empty_label_name", v1::TimeSeries { exemplars: vec![bad_exemplar], ..series_v1(&[("__name__", "a")], &[]) }),
        ("invalid_histogram", invalid(|h| h.positive_deltas = vec![3, -4, 1])),
        ("invalid_histogram", invalid(|h| h.positive_deltas = vec![i64::MAX, 1, 1])),
        ("invalid_histogram", invalid(|h| h.positive_deltas.push(1))),
        ("invalid_histogram", invalid(|h| h.schema = 1_000)),
        ("invalid_histogram", invalid(|h| h.schema = 9)),
        ("invalid_histogram", invalid(|h| h.zero_count = Some(wire::ZeroCount::Float(1.0)))),
        ("invalid_histogram", invalid(|h| h.count = Some(wire::Count::Float(13.0)))),
        ("invalid_histogram", invalid(|h| h.positive_counts = vec![1.0])),
    ]
}

#[tokio::test]
async fn one_bad_series_of_a_1_0_request_is_named_and_all_others_are_kept() {
    for (reason, bad) in bad_series_v1() {
        let door = Door::open();
        let answer = post(&door, V1, request_v1(vec![good_v1(), bad.clone(), good_v1()])).await;
        assert_eq!((answer.status, answer.written), (400, None), "{bad:?}");
        assert!(answer.text.contains(reason), "{reason} should be in {:?}", answer.text);
        assert_eq!(door.stored().len(), 1, "{:#?}", door.stored());
        let samples = (bad.samples.len() + bad.histograms.len()) as u64;
        let wanted = Received { received: 2 + samples, stored: 1, identical: 1, replaced: 0, rejected: samples };
        assert_eq!(door.received(), wanted, "{bad:?}");
        let losses = if samples == 0 { vec![] } else { vec![(reason.to_owned(), samples)] };
        assert_eq!(door.losses(), losses);
    }
}

#[tokio::test]
async fn labels_out_of_order_are_sorted_in_1_0_and_refused_in_2_0() {
    let door = Door::open();
    let labels = [("zone", "x"), ("__name__", "up"), ("job", "node"), ("empty", "")];
    let answer = post(&door, V1, request_v1(vec![series_v1(&labels, &[(NOW_MS, 1.0)])])).await;
    assert_eq!(answer.status, 204);
    let stored = door.stored();
    assert!(
        stored.first().unwrap().starts_with(r#"[("__name__", "up"), ("job", "node"), ("zone", "x")]"#),
        "{stored:?}"
    );
    let mut symbols = Symbols::default();
    let series = symbols.series(&labels, &[(NOW_MS, 1.0)]);
    let answer = post(&door, V2, body(&symbols.request(vec![series]))).await;
    assert_eq!((answer.status, answer.written), (400, Some([0, 0, 0])));
    assert!(answer.text.contains("unsorted_labels"), "{}", answer.text);
}

#[tokio::test]
async fn one_bad_series_of_a_2_0_request_is_named_and_all_others_are_counted() {
    type Change = fn(&mut Symbols, &mut v2::TimeSeries);
    let table: [(&str, Change); 16] = [
        ("odd_label_refs", |_, s| s.labels_refs.push(1)),
        ("symbol_out_of_range", |_, s| s.labels_refs[1] = 9_999),
        ("symbol_out_of_range", |_, s| {
            s.metadata = Some(v2::Metadata { r#type: 1, help_ref: 9_999, unit_ref: 0 });
        }),
        ("missing_name", |_, s| s.labels_refs.clear()),
        ("missing_name", |symbols, s| s.labels_refs = symbols.refs(&[("a", "b")])),
        ("missing_name", |symbols, s| s.labels_refs = symbols.refs(&[("__name__", "")])),
        ("empty_label_name", |symbols, s| s.labels_refs = symbols.refs(&[("", "x"), ("__name__", "a")])),
        ("duplicate_label", |symbols, s| {
            s.labels_refs = symbols.refs(&[("__name__", "a"), ("b", "1"), ("b", "2")]);
        }),
        ("unsorted_labels", |symbols, s| {
            s.labels_refs = symbols.refs(&[("__name__", "a"), ("c", "1"), ("b", "2")]);
        }),
        ("mixed_series", |_, s| s.histograms.push(wire::histogram(NOW_MS))),
        ("empty_series", |_, s| s.samples.clear()),
        ("empty_series", |_, s| {
            s.samples.clear();
            // What generated code of other languages writes for a message without content.
            s.metadata = Some(v2::Metadata::default());
        }),
        ("too_far_in_future", |_, s| s.samples[0].timestamp += 600_001),
        ("exemplar_without_timestamp", |_, s| {
            s.samples.clear();
            s.exemplars.push(v2::Exemplar { labels_refs: vec![], value: 1.0, timestamp: 0 });
        }),
        ("odd_label_refs", |_, s| {
            s.samples.clear();
            s.exemplars.push(v2::Exemplar { labels_refs: vec![1], value: 1.0, timestamp: NOW_MS });
        }),
        ("symbol_out_of_range", |_, s| {
            s.samples.clear();
            s.exemplars.push(v2::Exemplar { labels_refs: vec![1, 9_999], value: 1.0, timestamp: NOW_MS });
        }),
    ];
    for (n, (reason, change)) in table.into_iter().enumerate() {
        let door = Door::open();
        let mut symbols = Symbols::default();
        let good = symbols.series(&GOOD_V2, &[(NOW_MS, 1.0), (NOW_MS + 1, 2.0)]);
        let mut bad = symbols.series(&[("__name__", "bad")], &[(NOW_MS, 1.0)]);
        change(&mut symbols, &mut bad);
        let refused = (bad.samples.len() + bad.histograms.len()) as u64;
        let answer = post(&door, V2, body(&symbols.request(vec![bad, good]))).await;
        assert_eq!((answer.status, answer.written), (400, Some([2, 0, 0])), "row {n}: {}", answer.text);
        assert!(answer.text.contains(reason), "row {n}: {reason} should be in {:?}", answer.text);
        assert_eq!(door.stored().len(), 2, "row {n}");
        assert_eq!((door.received().stored, door.received().rejected), (2, refused), "row {n}");
    }
}

#[tokio::test]
async fn exemplars_or_metadata_may_come_without_samples() {
    let door = Door::open();
    let mut symbols = Symbols::default();
    let mut exemplars = symbols.series(&[("__name__", "a")], &[]);
    exemplars.exemplars = vec![v2::Exemplar { labels_refs: vec![], value: 1.0, timestamp: NOW_MS - 7 }];
    let mut metadata = symbols.series(&[("__name__", "b_bucket"), ("le", "1.0")], &[]);
    metadata.metadata = Some(v2::Metadata { r#type: 3, help_ref: symbols.of("Help."), unit_ref: 0 });
    let answer = post(&door, V2, body(&symbols.request(vec![exemplars, metadata]))).await;
    assert_eq!((answer.status, answer.written), (204, Some([0, 0, 1])), "{}", answer.text);
    use kymo_core::{MetricStorage, QueryContext};
    let kept = door.engine.metadata(None, &QueryContext::unlimited()).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].0.as_str(), kept[0].1[0].help.as_str()), ("b", "Help."));
}

#[tokio::test]
async fn labels_that_are_not_utf8_refuse_their_series_alone() {
    let door = Door::open();
    let mut bytes = v1::WriteRequest { timeseries: vec![good_v1()], metadata: vec![] }.encode_to_vec();
    let mut bad =
        v1::WriteRequest { timeseries: vec![series_v1(&[("__name__", "XXXX")], &[(NOW_MS, 1.0)])], metadata: vec![] }
            .encode_to_vec();
    let at = bad.windows(4).position(|w| w == b"XXXX").unwrap();
    bad[at] = 0xff;
    bytes.extend_from_slice(&bad);
    let answer = post(&door, V1, wire::compress(&bytes)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("not_utf8"), "{}", answer.text);
    assert_eq!((door.stored().len(), door.losses()), (1, vec![("not_utf8".into(), 1)]));
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded_is_refused_whole_and_booked_once() {
    let good = v1::WriteRequest { timeseries: vec![good_v1()], metadata: vec![] }.encode_to_vec();
    let no_symbols = v2::Request {
        symbols: vec!["__name__".into(), "up".into()],
        timeseries: vec![v2::TimeSeries { labels_refs: vec![0, 1], ..v2::TimeSeries::default() }],
    };
    let table = [
        ("not snappy at all", V1, b"0123".to_vec(), 400, "bad_snappy"),
        ("an empty body", V1, vec![], 400, "bad_snappy"),
        (
            "snappy cut short",
            V1,
            {
                let mut b = wire::compress(&good);
                b.pop();
                b
            },
            400,
            "bad_snappy",
        ),
        ("protobuf cut short", V1, wire::compress(&good[..good.len() - 1]), 400, "bad_protobuf"),
        ("text", V2, wire::compress(b"up{} 1\n"), 400, "bad_protobuf"),
        ("a known field of the wrong type", V1, wire::compress(&[0x08, 0x01]), 400, "bad_protobuf"),
        ("symbols without the empty one", V2, body(&no_symbols), 400, "bad_symbols"),
        ("a claim of 4 GiB", V2, vec![0xff, 0xff, 0xff, 0xff, 0x0f], 413, "too_large"),
        ("a claim beyond 32 bits", V2, vec![0xff, 0xff, 0xff, 0xff, 0x7f], 400, "bad_snappy"),
    ];
    for (what, content_type, sent, status, reason) in table {
        let door = Door::open();
        let answer = post(&door, content_type, sent).await;
        let written = (content_type == V2).then_some([0, 0, 0]);
        assert_eq!((answer.status, answer.written), (status, written), "{what}: {}", answer.text);
        assert!(!answer.text.is_empty(), "{what}");
        assert!(door.stored().is_empty(), "{what}");
        assert_eq!(door.losses(), [(reason.to_owned(), 1)], "{what}");
    }
}

#[tokio::test]
async fn a_request_beyond_a_limit_is_answered_413_and_the_limit_is_named() {
    let many = request_v1((0..50).map(|_| good_v1()).collect());
    let unpacked = many.len() * 4;
    let mut symbols = Symbols::default();
    let wide = "x".repeat(1_000);
    let unfolding = (0..10).map(|n| symbols.series(&[("__name__", &wide), ("n", &n.to_string())], &[(NOW_MS, 1.0)]));
    let unfolding = unfolding.collect();
    let unfolding = body(&symbols.request(unfolding));
    let config = RemoteWriteConfig::default;
    let table = [
        ("compressed_bytes_max", V1, RemoteWriteConfig { compressed_bytes_max: many.len() - 1, ..config() }, &many),
        ("decompressed_bytes_max", V1, RemoteWriteConfig { decompressed_bytes_max: unpacked, ..config() }, &many),
        ("samples_max", V1, RemoteWriteConfig { samples_max: 49, ..config() }, &many),
        ("unfolded_bytes_max", V2, RemoteWriteConfig { unfolded_bytes_max: 9_000, ..config() }, &unfolding),
    ];
    for (limit, content_type, config, sent) in table {
        let door = Door::with(config, Budget::unlimited());
        let answer = post(&door, content_type, sent.clone()).await;
        assert_eq!(answer.status, 413, "{limit}");
        assert!(answer.text.contains(limit), "{limit} should be in {:?}", answer.text);
        assert_eq!((door.stored().len(), door.losses()), (0, vec![("too_large".into(), 1)]), "{limit}");
    }
    // The same of series that are known, one after the other as last time.
    let door = Door::with(RemoteWriteConfig { samples_max: 49, ..config() }, Budget::unlimited());
    let named = |n: i64| series_v1(&[("__name__", "up"), ("job", &(n % 25).to_string())], &[(NOW_MS + n / 25, 1.0)]);
    for (first, samples, status) in [(0, 25, 204), (25, 49, 204), (100, 50, 413)] {
        let answer = post(&door, V1, request_v1((first..first + samples).map(named).collect())).await;
        assert_eq!(answer.status, status, "{samples} from {first} on: {}", answer.text);
    }
    assert_eq!((door.stored().len(), door.losses()), (74, vec![("too_large".into(), 1)]));
    // The claim alone is enough, and so is a body without a claim.
    let door = Door::with(RemoteWriteConfig { compressed_bytes_max: 1_000, ..config() }, Budget::unlimited());
    let request = || Request::post("/api/v1/write").header("Content-Type", V1).header("Content-Encoding", "snappy");
    let claimed = request().header("Content-Length", "99999999999999").body(Body::empty()).unwrap();
    assert_eq!(send_with(&door, Arc::default(), claimed).await.status, 413);
    let endless = Body::new(http_body_util::Full::from(vec![0u8; 2_000]).boxed());
    assert_eq!(send_with(&door, Arc::default(), request().body(endless).unwrap()).await.status, 413);
}

#[tokio::test]
async fn one_series_with_too_many_label_bytes_is_refused_alone() {
    let config = RemoteWriteConfig { series_label_bytes_max: 500, ..RemoteWriteConfig::default() };
    let door = Door::with(config, Budget::unlimited());
    let mut symbols = Symbols::default();
    let wide = "x".repeat(1_000);
    let series =
        vec![symbols.series(&[("__name__", &wide)], &[(NOW_MS, 1.0)]), symbols.series(&GOOD_V2, &[(NOW_MS, 1.0)])];
    let answer = post(&door, V2, body(&symbols.request(series))).await;
    assert_eq!((answer.status, answer.written), (400, Some([1, 0, 0])));
    assert!(answer.text.contains("label_too_long") && answer.text.len() < 1_000, "{}", answer.text);
}

#[tokio::test]
async fn other_content_types_and_encodings_are_answered_415_without_written_headers() {
    let door = Door::open();
    let table = [
        (Some("application/json"), Some("snappy")),
        (Some("image/png"), Some("snappy")),
        (None, Some("snappy")),
        (Some("application/x-protobuf;proto=io.prometheus.write.v3.Request"), Some("snappy")),
        (Some(V1), Some("gzip")),
        (Some(V2), Some("deflate")),
        (Some(V2), Some("zstd")),
        (Some(V1), None),
    ];
    for (content_type, encoding) in table {
        // The version header is not asked.
        let mut request = Request::post("/api/v1/write").header("X-Prometheus-Remote-Write-Version", "2.0.0");
        for (name, value) in [("Content-Type", content_type), ("Content-Encoding", encoding)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(Body::from(request_v1(vec![good_v1()]))).unwrap();
        let answer = send_with(&door, Arc::default(), request).await;
        assert_eq!((answer.status, answer.written), (415, None), "{content_type:?} {encoding:?}");
        assert!(answer.text.contains("is not supported"), "{}", answer.text);
    }
    assert!(door.stored().is_empty());
}

#[tokio::test]
async fn other_methods_are_answered_405() {
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let request = Request::builder().method(method).uri("/api/v1/write").body(Body::empty()).unwrap();
        let state = RemoteWriteState { receiver: Door::open().receiver, pool: Arc::new(InlinePool::default()) };
        let response = routes(state).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()["allow"], "POST");
    }
}

#[tokio::test]
async fn what_may_succeed_later_is_answered_503_and_stored_when_it_comes_again() {
    let mut symbols = Symbols::default();
    let series = symbols.series(&GOOD_V2, &[(NOW_MS, 1.0)]);
    let unnamed = symbols.series(&[("job", "x")], &[(NOW_MS, 1.0)]);
    let sent = body(&symbols.request(vec![series, unnamed]));
    let request = || {
        let request = Request::post("/api/v1/write").header("Content-Type", V2).header("Content-Encoding", "snappy");
        request.body(Body::from(sent.clone())).unwrap()
    };
    let refused = |answer: &Answer| {
        let expected = (503, Some([0, 0, 0]), Some("1"));
        assert_eq!((answer.status, answer.written, answer.retry_after.as_deref()), expected, "{}", answer.text);
    };

    let door = Door::open();
    let pool = Arc::new(InlinePool::default());
    pool.full.store(true, Ordering::SeqCst);
    let answer = send_with(&door, pool.clone(), request()).await;
    refused(&answer);
    assert!(answer.text.contains("ingest") && answer.text.contains('7'), "{}", answer.text);

    pool.full.store(false, Ordering::SeqCst);
    door.engine.failures.lock().unwrap().push(true);
    refused(&send_with(&door, pool.clone(), request()).await);
    assert!(door.stored().is_empty());
    // Nothing is booked of what comes again, the invalid sample included.
    assert_eq!(door.received(), Received::default());

    let answer = send_with(&door, pool.clone(), request()).await;
    assert_eq!((answer.status, answer.written, door.stored().len()), (400, Some([1, 0, 0]), 1));
    assert_eq!(door.received(), Received { received: 2, stored: 1, rejected: 1, ..Received::default() });

    pool.panics.store(true, Ordering::SeqCst);
    assert_eq!(send_with(&door, pool, request()).await.status, 500);

    let poor = Door::with(RemoteWriteConfig::default(), Budget::root("process", 10));
    let answer = send_with(&poor, Arc::default(), request()).await;
    refused(&answer);
    assert!(answer.text.contains("process"), "the limit is named: {}", answer.text);
    assert_eq!(poor.received(), Received::default());
}

#[tokio::test]
async fn the_receiver_counts_what_it_answers() {
    let door = Door::open();
    let mut symbols = Symbols::default();
    let known = symbols.series(&GOOD_V2, &[(NOW_MS, 1.0)]);
    let unnamed = symbols.series(&[("job", "x")], &[(NOW_MS, 1.0), (NOW_MS + 1, 1.0)]);
    let sent = body(&symbols.request(vec![known, unnamed]));
    for _ in 0..2 {
        post(&door, V2, sent.clone()).await;
    }
    post(&door, V1, b"junk".to_vec()).await;
    post(&door, "text/plain", vec![]).await;
    let requests =
        |version, code| door.metric("kymo_remote_write_requests_total", &[("code", code), ("version", version)]);
    assert_eq!([requests("2.0", "400"), requests("1.0", "400"), requests("none", "415")], [2.0, 1.0, 1.0]);
    let elements = |outcome| {
        let labels = [("kind", "sample"), ("outcome", outcome), ("version", "2.0")];
        door.metric("kymo_remote_write_elements_total", &labels)
    };
    assert_eq!([elements("written"), elements("refused")], [2.0, 4.0]);
    let series = |cache| door.metric("kymo_remote_write_series_total", &[("cache", cache)]);
    assert_eq!([series("hit"), series("miss")], [1.0, 1.0]);
    let bytes = door.metric("kymo_remote_write_bytes_total", &[("form", "compressed")]);
    assert_eq!(bytes, (2 * sent.len() + 4) as f64);
    assert_eq!(door.metric("kymo_remote_write_cached_series", &[]), 1.0);
}

#[tokio::test]
async fn memory_is_given_back_after_every_kind_of_answer() {
    let root = Budget::root("process", 64 << 20);
    let door = Door::with(RemoteWriteConfig { scratch_max: 0, ..RemoteWriteConfig::default() }, root.clone());
    let bodies = [request_v1(vec![series_v1(&[("a", "b")], &[(NOW_MS, 1.0)])]), b"junk".to_vec(), vec![0]];
    for sent in bodies {
        post(&door, V1, sent).await;
        assert_eq!(root.used(), 0);
    }
}
