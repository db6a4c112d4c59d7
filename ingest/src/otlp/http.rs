//! OTLP over HTTP: `POST /v1/metrics` and `POST /v1/traces`.
//!
//! | Answer | When |
//! |---|---|
//! | 200, `ExportMetricsServiceResponse`, `ExportTraceServiceResponse` | accepted; `partial_success` says what was refused, if anything |
//! | 400 | the body cannot be decoded |
//! | 404, 405, 415 | another path, method, content type or content encoding |
//! | 413 | larger than a limit, before or after decompression |
//! | 503 + `Retry-After` | no memory, no room in the queue, or the log cannot be written: send it again |
//!
//! Bodies are in the request's content type; those of 4xx and 5xx are `google.rpc.Status`, also where the server around the
//! routes refuses ([`refusals`]).

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};

use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};

use super::error::with_sources;
use super::request::{Answer, OtlpState, RequestError, Signal};
use super::status::{Code, RpcStatus};
use super::{Coding, Encoding};

/// The routes `/v1/metrics` and `/v1/traces`, for a server to merge or nest.
pub fn routes(state: OtlpState) -> Router {
    let method = |signal| {
        let handler =
            async move |State(state): State<OtlpState>, request: Request| export(state, signal, request).await;
        post(handler).fallback(async |headers: HeaderMap| {
            let status = RpcStatus::new(Code::Unimplemented, "only POST is allowed here");
            let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, &status, encoding(&headers));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            response
        })
    };
    let router =
        Router::new().route("/v1/metrics", method(Signal::Metrics)).route("/v1/traces", method(Signal::Traces));
    router.with_state(state)
}

/// All of a server that speaks nothing but OTLP: [`routes`], and an answer for every other path.
pub fn standalone_routes(state: OtlpState) -> Router {
    routes(state).fallback(async |request: Request| {
        let text = format!("{} is not here; metrics go to /v1/metrics, traces to /v1/traces", request.uri().path());
        refuse(StatusCode::NOT_FOUND, &RpcStatus::new(Code::NotFound, text), encoding(request.headers()))
    })
}

/// Bytes of a refusal's text that are read to be said again.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// Marks a refusal that has its form.
#[derive(Debug, Clone, Copy)]
struct Stated;

/// Whether a path is one of [`routes`], merged or nested below `/api/v1/otlp`.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/api/v1/otlp/")
}

/// Gives what a server around [`routes`] refuses the form of the routes' own refusals: a body longer than any may be, a missing
/// token, a server that is still starting, a fault. `headers` are the request's; status and headers of the answer stay as they
/// are.
pub async fn restate(headers: HeaderMap, response: Response) -> Response {
    let encoding = encoding(&headers);
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    if !is_refusal || response.extensions().get::<Stated>().is_some() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    let status = RpcStatus {
        retry_after: retry_after.map(Duration::from_secs),
        ..RpcStatus::new(Code::of_http(head.status), said(body, head.status).await)
    };
    let (stated, body) = refuse(head.status, &status, encoding).into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.extend(stated.headers);
    Response::from_parts(head, body)
}

/// The text of a refusal: the body, of the API's envelope the error in it, or else the status' name.
async fn said(body: Body, status: StatusCode) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        error: String,
    }
    let bytes = Limited::new(body, REFUSAL_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let bytes = bytes.unwrap_or_default();
    let text = match serde_json::from_slice::<Envelope>(&bytes) {
        Ok(envelope) => envelope.error,
        Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
    };
    if text.is_empty() { status.canonical_reason().unwrap_or_default().to_lowercase() } else { text }
}

/// The encoding a request has by its content type.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = content_type.split(';').next()?.trim();
    [Encoding::Protobuf, Encoding::Json].into_iter().find(|e| essence.eq_ignore_ascii_case(e.content_type()))
}

/// A refusal in the request's encoding; in JSON where that is unknown, for a person to read.
fn refuse(code: StatusCode, status: &RpcStatus, encoding: Option<Encoding>) -> Response {
    let encoding = encoding.unwrap_or(Encoding::Json);
    let mut response = (code, [(CONTENT_TYPE, encoding.content_type())], status.encode(encoding)).into_response();
    response.extensions_mut().insert(Stated);
    if let Some(delay) = status.retry_after {
        // Rounded up: zero would ask for a retry at once.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, seconds.max(1).into());
    }
    response
}

async fn export(state: OtlpState, signal: Signal, request: Request) -> Response {
    let response = answer(&state, signal, request).await;
    state.receiver.metrics.answered("http", response.status().as_str());
    response
}

async fn answer(state: &OtlpState, signal: Signal, request: Request) -> Response {
    let headers = request.headers();
    let Some(encoding) = encoding(headers) else {
        let text = "the content type must be application/x-protobuf or application/json";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &RpcStatus::new(Code::InvalidArgument, text), None);
    };
    let coding = match headers.get(CONTENT_ENCODING) {
        None => Some(Coding::Identity),
        Some(name) => name.to_str().ok().and_then(Coding::parse),
    };
    let Some(coding) = coding.filter(|_| headers.get_all(CONTENT_ENCODING).iter().count() <= 1) else {
        let text = format!("the content encoding must be one of {}", Coding::ACCEPTED);
        let status = RpcStatus::new(Code::InvalidArgument, text);
        let mut response = refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &status, Some(encoding));
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(Coding::ACCEPTED));
        return response;
    };
    match receive(state, signal, (encoding, coding), request).await {
        Ok(answer) => {
            if !answer.told.is_empty() {
                tracing::debug!(rejected = answer.rejected, reasons = answer.told, "OTLP taken in part");
            }
            ([(CONTENT_TYPE, encoding.content_type())], answer.response).into_response()
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "OTLP refused");
            let code = crate::status::status(error.kind()).0;
            refuse(code, &RpcStatus::of(error.kind(), with_sources(&error)), Some(encoding))
        }
    }
}

async fn receive(
    state: &OtlpState,
    signal: Signal,
    form: (Encoding, Coding),
    request: Request,
) -> Result<Answer, RequestError> {
    let claimed = request.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let (body, held) = state.read(signal, request.into_body(), claimed, 0).await?;
    state.export(signal, form, body, held).await
}
