//! `POST /api/v1/write`.
//!
//! | Answer | When |
//! |---|---|
//! | 204, empty | everything was written |
//! | 400 | something was not written and never will be; the rest was. Also a body that cannot be decoded: nothing was |
//! | 405 | another method than POST |
//! | 413 | larger than a limit, before or after decompression |
//! | 415 | another content type or encoding |
//! | 503 + `Retry-After` | no memory, no room in the queue, or the log cannot be written: send it again |
//!
//! Answers to 2.0 requests say in `X-Prometheus-Remote-Write-{Samples,Histograms,Exemplars}-Written` how much was
//! written, whatever the status.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use kymo_core::pool::{BlockingPool, PoolFull};
use kymo_core::{ErrorKind, Reservation};
use tokio::sync::oneshot;

use super::negotiate::negotiate;
use super::{Outcome, Receiver, Version, WriteError, Written};
use crate::status::status;

/// How much of a claimed content length is allocated before the bytes are there.
const TRUSTED_LENGTH_BYTES: usize = 256 << 10;

/// What the route needs.
#[derive(Clone)]
pub struct RemoteWriteState {
    /// Takes the bodies.
    pub receiver: Arc<Receiver>,
    /// Where decoding and appending run; full means 503.
    pub pool: Arc<dyn BlockingPool>,
}

/// The route `/api/v1/write`.
pub fn routes(state: RemoteWriteState) -> Router {
    Router::new().route("/api/v1/write", post(write)).with_state(state)
}

/// Why a request has no outcome.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    PoolFull(#[from] PoolFull),
    #[error("the body ended early")]
    Body(#[source] axum::Error),
    #[error("the request was given up because of a fault in the server")]
    Lost,
}

impl RequestError {
    fn kind(&self) -> ErrorKind {
        match self {
            RequestError::Write(error) => error.kind(),
            RequestError::PoolFull(error) => error.kind(),
            RequestError::Body(_) => ErrorKind::Invalid,
            RequestError::Lost => ErrorKind::Internal,
        }
    }
}

async fn write(State(state): State<RemoteWriteState>, request: Request) -> Response {
    let receiver = state.receiver.clone();
    let version = negotiate(request.headers());
    let response = match &version {
        Ok(version) => match receive(state, *version, request).await {
            Ok(outcome) => answer(&outcome, *version),
            Err(error) => refuse(&error, *version),
        },
        Err(error) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{error}\n")).into_response(),
    };
    receiver.metrics.answered(version.ok(), response.status());
    response
}

fn answer(outcome: &Outcome, version: Version) -> Response {
    let mut response = if outcome.is_complete() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        tracing::debug!(%outcome, "remote write stored in part");
        (StatusCode::BAD_REQUEST, outcome.to_string()).into_response()
    };
    say_written(response.headers_mut(), version, outcome.written);
    response
}

fn refuse(error: &RequestError, version: Version) -> Response {
    tracing::debug!(error = error as &dyn std::error::Error, "remote write refused");
    let (code, retry_after) = status(error.kind());
    let mut response = (code, with_sources(error)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    let written = if let RequestError::Write(error) = error { error.written() } else { Written::default() };
    say_written(response.headers_mut(), version, written);
    response
}

async fn receive(state: RemoteWriteState, version: Version, request: Request) -> Result<Outcome, RequestError> {
    let claimed = request.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    let collected = collect(request.into_body(), claimed, &state.receiver).await;
    let (body, held) = collected.inspect_err(|error| {
        if let RequestError::Write(error) = error {
            state.receiver.book_failure(error);
        }
    })?;
    let (reply, answer) = oneshot::channel();
    let receiver = state.receiver;
    state.pool.try_execute(Box::new(move || {
        // Nobody listens any more if the client has gone; the samples are stored all the same.
        let _ = reply.send(receiver.write(version, &body));
        drop(held);
    }))?;
    // The job drops its end without an answer only when it panics.
    Ok(answer.await.map_err(|_| RequestError::Lost)??)
}

/// Reads a body, reserving its bytes before they are kept, up to the limit.
async fn collect(
    mut body: Body,
    claimed: Option<u64>,
    receiver: &Receiver,
) -> Result<(Vec<u8>, Reservation), RequestError> {
    let max = receiver.config().compressed_bytes_max;
    let check = |found: u64| match found > max as u64 {
        true => Err(WriteError::TooLarge { limit: "compressed_bytes_max", max: max as u64, found }),
        false => Ok(()),
    };
    let claimed = claimed.unwrap_or(0);
    check(claimed)?;
    let trusted = usize::try_from(claimed).unwrap_or(max).min(TRUSTED_LENGTH_BYTES);
    let mut held = receiver.budget().try_reserve(trusted as u64).map_err(WriteError::from)?;
    let mut bytes = Vec::with_capacity(trusted);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(RequestError::Body)?.into_data() else { continue };
        let len = bytes.len() + data.len();
        check(len as u64)?;
        if len as u64 > held.bytes() {
            // As much as the vector will grow to, so that it grows in few steps.
            let grown = len.max(2 * bytes.capacity()).min(max);
            held.grow(grown as u64 - held.bytes()).map_err(WriteError::from)?;
            bytes.reserve_exact(grown - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

fn say_written(headers: &mut HeaderMap, version: Version, written: Written) {
    if version == Version::V2 {
        let mut say = |name: &'static str, count: u64| headers.insert(name, HeaderValue::from(count));
        say("x-prometheus-remote-write-samples-written", written.samples);
        say("x-prometheus-remote-write-histograms-written", written.histograms);
        say("x-prometheus-remote-write-exemplars-written", written.exemplars);
    }
}

/// An error with its causes, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text.push('\n');
    text
}
