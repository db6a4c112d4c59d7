//! `POST /api/v1/read`: raw samples for other servers, over Prometheus' remote-read protocol.
//!
//! ```text
//! snappy(ReadRequest) ─▶ select per query ─┬─▶ SAMPLES: one snappy(ReadResponse)
//!                                          └─▶ STREAMED_XOR_CHUNKS: a frame per series, as it is read
//! ```
//!
//! The first response type of the request that is known is the one answered; a request that names none gets SAMPLES.
//! External labels are added to series that do not have them, and a matcher that asks for exactly such a label asks the
//! storage for series without it, as Prometheus does. Samples are as stored, staleness markers included.
//!
//! 1. A streamed answer is made as fast as its client reads: a few frames are ready, and no more is read from storage.
//! 2. Everything that is held for an answer is reserved in the query budget first.
//! 3. After the first frame an error can only cut the answer short, which clients notice by the missing end.

mod chunk;
mod stream;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{StatusCode, header};
use kymo_core::status::LabelMap;
use kymo_core::storage::ColumnValue;
use kymo_core::{Columns, ErrorKind, Labels, Matcher, MetricStorage, QueryContext, SelectError, Selector, SeriesSet};
use prost::Message;

use crate::api::{ApiState, Asker, Shared};
use crate::peer::Peer;
use crate::status::ApiError;

use wire::{QueryResult, ReadRequest, ReadResponse, TimeSeries};

/// Longest request, as sent and unpacked. Prometheus sends a few hundred bytes for each selector of a query.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Most samples of an answer of type SAMPLES: Prometheus' default of `--storage.remote.read-sample-limit`.
const SAMPLES_MAX: usize = 50_000_000;
const SAMPLES: i32 = 0;
const STREAMED_XOR_CHUNKS: i32 = 1;

/// The route, over the storage of `state`.
pub fn routes(state: impl Into<Arc<ApiState>>) -> Router {
    Router::new().route("/api/v1/read", post(read)).with_state(state.into())
}

/// A refusal: the protocol has no envelope, only a status and a text.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1 + "\n").into_response()
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Refused {
        Refused(error.status(), error.message().to_owned())
    }
}

impl From<SelectError> for Refused {
    fn from(error: SelectError) -> Refused {
        ApiError::of_kind(error.kind(), error.to_string()).into()
    }
}

impl From<kymo_core::BudgetExceeded> for Refused {
    fn from(error: kymo_core::BudgetExceeded) -> Refused {
        ApiError::of_kind(ErrorKind::Limit, error.to_string()).into()
    }
}

fn bad_request(reason: impl std::fmt::Display) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason.to_string())
}

/// What was asked, checked.
struct Asked {
    selectors: Vec<Selector>,
    is_streamed: bool,
    external: LabelMap,
}

async fn read(State(state): Shared, request: Request) -> Result<Response, Refused> {
    let client = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let body = axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX).await.map_err(|error| {
        bad_request(format_args!("cannot read the request, which may have {REQUEST_BYTES_MAX} bytes: {error}"))
    })?;
    let external = state.sources.external_labels();
    let external = external.map_err(|error| ApiError::of_kind(error.kind(), error.to_string()))?.unwrap_or_default();
    let asked = decode(&body, external)?;
    let storage = state.storage()?;
    let place = state.place(Asker { client, is_range: true }).await?;
    if asked.is_streamed {
        let stream = stream::start(&state, storage, asked, place).await?;
        let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        return Ok(([(header::CONTENT_TYPE, kind)], axum::body::Body::new(stream)).into_response());
    }
    let answer = crate::api::run(&state, state.options.timeout_max, move |ctx| {
        let _place = place;
        // A refusal is no failure of the pool, and has no envelope.
        Ok(samples(&*storage, &asked, ctx))
    });
    let bytes = answer.await??;
    let headers = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
    Ok((headers, bytes).into_response())
}

fn decode(body: &[u8], external: LabelMap) -> Result<Asked, Refused> {
    let length = snap::raw::decompress_len(body).map_err(bad_request)?;
    if length > REQUEST_BYTES_MAX {
        return Err(bad_request(format_args!(
            "{length} bytes of request are more than the limit of {REQUEST_BYTES_MAX}"
        )));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(body).map_err(bad_request)?;
    let request = ReadRequest::decode(&*bytes).map_err(bad_request)?;
    let accepted = &request.accepted_response_types;
    let known = accepted.iter().copied().find(|kind| [SAMPLES, STREAMED_XOR_CHUNKS].contains(kind));
    if !accepted.is_empty() && known.is_none() {
        return Err(bad_request(format_args!(
            "server does not support any of the requested response types: {accepted:?}; supported: [SAMPLES \
             STREAMED_XOR_CHUNKS]"
        )));
    }
    let selectors = request.queries.iter().map(|query| selector(query, &external)).collect::<Result<_, Refused>>()?;
    Ok(Asked { selectors, is_streamed: known == Some(STREAMED_XOR_CHUNKS), external })
}

fn selector(query: &wire::Query, external: &LabelMap) -> Result<Selector, Refused> {
    let matcher = |sent: &wire::LabelMatcher| {
        let op = wire::operator(sent.kind).ok_or_else(|| bad_request("invalid matcher type"))?;
        let is_external = op == kymo_core::MatchOp::Equal && external.get(&sent.name) == Some(&sent.value);
        let value = if is_external { String::new() } else { sent.value.clone() };
        Matcher::new(sent.name.clone(), op, value).map_err(bad_request)
    };
    let matchers = query.matchers.iter().map(matcher).collect::<Result<Vec<_>, Refused>>()?;
    // Both ends of a request are inclusive.
    Ok(Selector::new(matchers, query.start_timestamp_ms.saturating_sub(1), query.end_timestamp_ms))
}

/// Labels of a series with the external ones that it does not have.
fn merged(labels: &Labels, external: &LabelMap) -> Vec<wire::Label> {
    let added = external.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let added = added.filter(|(name, value)| !value.is_empty() && labels.get(name).is_none());
    let label = |(name, value): (&str, &str)| wire::Label { name: name.to_owned(), value: value.to_owned() };
    let mut all: Vec<wire::Label> = labels.iter().chain(added).map(label).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn select(storage: &dyn MetricStorage, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
    storage.select(what, ctx)
}

/// The whole answer of type SAMPLES.
fn samples(storage: &dyn MetricStorage, asked: &Asked, ctx: &QueryContext) -> Result<Bytes, Refused> {
    let mut reserved = ctx.budget.try_reserve(0)?;
    let (mut response, mut columns, mut count) = (ReadResponse::default(), Columns::default(), 0usize);
    for selector in &asked.selectors {
        let set = select(storage, selector, ctx)?;
        let mut result = QueryResult::default();
        for index in 0..set.len() {
            ctx.check()?;
            set.read(index, &mut columns)?;
            if columns.times.is_empty() {
                continue;
            }
            count += columns.times.len();
            if count > SAMPLES_MAX {
                return Err(bad_request(format_args!("exceeded sample limit ({SAMPLES_MAX})")));
            }
            let labels = set.labels(index);
            let histograms: usize = columns.histograms.iter().map(|histogram| 2 * histogram.bytes()).sum();
            // Samples as structs, as a message and compressed.
            let more = 3 * (16 * columns.times.len() + labels.as_ref().packed().len() + 64) + histograms;
            reserved.grow(more as u64)?;
            let mut series = TimeSeries { labels: merged(&labels, &asked.external), ..TimeSeries::default() };
            for (time_ms, value) in columns.iter() {
                match value {
                    ColumnValue::Float(value) => series.samples.push(wire::Sample { value, timestamp: time_ms }),
                    ColumnValue::Stale => {
                        let value = kymo_core::histogram::stale_nan();
                        series.samples.push(wire::Sample { value, timestamp: time_ms });
                    }
                    ColumnValue::Histogram(histogram) => series.histograms.push(wire::histogram(time_ms, histogram)),
                }
            }
            result.timeseries.push(series);
        }
        response.results.push(result);
    }
    let message = response.encode_to_vec();
    drop(response);
    let packed = snap::raw::Encoder::new()
        .compress_vec(&message)
        .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer cannot be packed: {error}")))?;
    // Given back when the answer has been sent.
    Ok(Bytes::from_owner(Held { bytes: packed, _reserved: reserved }))
}

/// Bytes with the memory they are counted for.
struct Held {
    bytes: Vec<u8>,
    _reserved: kymo_core::Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
