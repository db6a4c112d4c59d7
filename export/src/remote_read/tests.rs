//! Requests over an in-memory store.

use std::sync::Arc;

use axum::body::Body;
use http::Request as HttpRequest;
use http_body_util::BodyExt;
use kymo_core::status::{StatusError, StatusSource};
use kymo_core::{MemoryStorage, SampleBatch};
use tower::ServiceExt;

use super::*;
use crate::api::fake::{FakeBackend, NOW_MS, custom_histogram, histogram, state};
use wire::{ChunkedReadResponse, LabelMatcher, Query};

struct External;

impl StatusSource for External {
    fn external_labels(&self) -> Result<Option<LabelMap>, StatusError> {
        let labels = [("region", "eu"), ("job", "outer")];
        Ok(Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()))
    }
}

fn router() -> Router {
    let storage = Arc::new(MemoryStorage::default());
    let mut batch = SampleBatch::new();
    let up = |job: &str| Labels::from_pairs([("__name__", "up"), ("job", job)]);
    for step in 0..300 {
        batch.push_float(&up("a"), NOW_MS - 600_000 + step * 1_000, step as f64);
    }
    batch.push_float(&up(""), NOW_MS - 2_000, 1.0);
    batch.push_stale(&up(""), NOW_MS - 1_000);
    let latency = Labels::from_pairs([("__name__", "latency")]);
    batch.push_histogram(&latency, NOW_MS - 3_000, histogram());
    batch.push_histogram(&latency, NOW_MS - 2_000, histogram());
    batch.push_histogram(&latency, NOW_MS - 1_000, custom_histogram());
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    let state = state(FakeBackend::new(|_, _| Ok(Default::default())));
    routes(state.with_storage(storage).with_sources(Arc::new(External)))
}

fn query(matchers: &[(i32, &str, &str)]) -> Query {
    let matchers = matchers.iter().map(|(kind, name, value)| LabelMatcher {
        kind: *kind,
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    Query { start_timestamp_ms: NOW_MS - 600_000, end_timestamp_ms: NOW_MS, matchers: matchers.collect() }
}

async fn send(body: Vec<u8>) -> (u16, String, Vec<u8>) {
    let request = HttpRequest::post("/api/v1/read").body(Body::from(body)).unwrap();
    let answer = router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    (status, kind, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn ask(queries: Vec<Query>, accepted: &[i32]) -> (u16, String, Vec<u8>) {
    let request = ReadRequest { queries, accepted_response_types: accepted.to_vec() };
    send(snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()).await
}

fn shown(labels: &[wire::Label]) -> String {
    labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn samples_come_with_external_labels_and_markers() {
    let (status, kind, body) = ask(vec![query(&[(0, "__name__", "up"), (0, "job", "outer")])], &[]).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-protobuf"));
    let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let response = ReadResponse::decode(&*message).unwrap();
    let series = &response.results[0].timeseries;
    assert_eq!(series.len(), 1);
    assert_eq!(shown(&series[0].labels), "__name__=up job=outer region=eu");
    assert_eq!(series[0].samples[0], wire::Sample { value: 1.0, timestamp: NOW_MS - 2_000 });
    assert!(kymo_core::histogram::is_stale_nan(series[0].samples[1].value));
}

#[tokio::test]
async fn histograms_come_whole() {
    let (_, _, body) = ask(vec![query(&[(2, "__name__", "lat.*")]), query(&[(0, "__name__", "none")])], &[7, 0]).await;
    let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let response = ReadResponse::decode(&*message).unwrap();
    assert_eq!((response.results.len(), response.results[1].timeseries.len()), (2, 0));
    let histograms = &response.results[0].timeseries[0].histograms;
    assert_eq!(histograms.len(), 3);
    assert_eq!((histograms[0].count_int, &*histograms[0].positive_deltas), (Some(9), &[2, -2, 3][..]));
    assert_eq!((histograms[2].schema, histograms[2].count_float), (-53, Some(4.5)));
    assert_eq!(histograms[2].custom_values, [0.5, 1.0]);
}

#[tokio::test]
async fn chunks_come_in_frames_as_the_first_known_type_says() {
    let (status, kind, body) = ask(
        vec![query(&[(0, "__name__", "up"), (0, "job", "a")]), query(&[(1, "__name__", "up")])],
        &[STREAMED_XOR_CHUNKS, SAMPLES],
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(kind, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    let mut rest = &body[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).unwrap();
        let (sum, message) = (u32::from_be_bytes(rest[..4].try_into().unwrap()), &rest[4..4 + length]);
        assert_eq!(sum, crc32c::crc32c(message));
        frames.push(ChunkedReadResponse::decode(message).unwrap());
        rest = &rest[4 + length..];
    }
    assert_eq!(frames.len(), 2);
    let floats = &frames[0].chunked_series[0];
    assert_eq!(shown(&floats.labels), "__name__=up job=a region=eu");
    let shape: Vec<(i32, u8)> = floats.chunks.iter().map(|chunk| (chunk.kind, chunk.data[1])).collect();
    assert_eq!(shape, [(chunk::XOR, 120), (chunk::XOR, 120), (chunk::XOR, 60)]);
    assert_eq!(floats.chunks[1].min_time_ms, floats.chunks[0].max_time_ms + 1_000);
    let latency = &frames[1];
    let shape: Vec<(i32, u8)> =
        latency.chunked_series[0].chunks.iter().map(|chunk| (chunk.kind, chunk.data[1])).collect();
    assert_eq!((latency.query_index, shape), (1, vec![(chunk::HISTOGRAM, 2), (chunk::FLOAT_HISTOGRAM, 1)]));
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    assert_eq!(send(b"nonsense".to_vec()).await.0, 400);
    // A length of a gigabyte is not believed.
    assert_eq!(send(vec![0x80, 0x80, 0x80, 0x80, 0x04, 0]).await.0, 400);
    let (status, _, body) = ask(vec![query(&[])], &[9]).await;
    let text = String::from_utf8(body).unwrap();
    assert!(status == 400 && text.starts_with("server does not support any of the requested response types"), "{text}");
    for (kind, value) in [(9, "x"), (2, "(")] {
        assert_eq!(ask(vec![query(&[(kind, "job", value)])], &[]).await.0, 400);
    }
    assert_eq!(send(vec![0; REQUEST_BYTES_MAX + 1]).await.0, 400);
}
