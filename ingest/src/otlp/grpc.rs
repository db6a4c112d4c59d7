//! OTLP over gRPC: `MetricsService/Export` and `TraceService/Export`.
//!
//! A unary call is one HTTP/2 request: five bytes of framing and a message, answered by the same and by trailers with the
//! status. That much is written here on hyper, because a gRPC library buffers and unpacks a message before any
//! code of ours could reserve its memory, and because body and compression are then the ones of [`http`](super::http).
//!
//! Every other method, the logs service among them, is answered `UNIMPLEMENTED`.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{BufMut, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::with_sources;
use super::request::{Answer, OtlpState, RequestError, Signal};
use super::status::{Code, RpcStatus};
use super::{Coding, Encoding, base64};

const METRICS_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const TRACES_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// A flag and the length of the message.
const FRAME_BYTES: usize = 5;
/// Connections served at once; more wait to be accepted. A named limit, as an OTLP exporter keeps one open.
const CONNECTIONS_MAX: usize = 1_024;
/// Calls at once per connection.
const STREAMS_MAX: u32 = 128;
/// A silent connection is asked for a sign of life so often, and closed if there is none in the time after.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long accepting pauses when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const APPLICATION_GRPC: &str = "application/grpc";

/// The gRPC service, for a server of HTTP/2 to serve.
pub fn grpc_service(state: OtlpState) -> Router {
    let method =
        |signal| post(async move |State(state): State<OtlpState>, request: Request| call(state, signal, request).await);
    let routes = Router::new().route(METRICS_PATH, method(Signal::Metrics)).route(TRACES_PATH, method(Signal::Traces));
    routes.with_state(state).fallback(async |request: Request| {
        let text = format!("{} is not implemented; only metrics and traces are taken", request.uri().path());
        only_trailers(&RpcStatus::new(Code::Unimplemented, text))
    })
}

/// Serves [`grpc_service`] on a listener until `stop` is cancelled and the calls in progress are answered.
///
/// # Errors
/// When the listener cannot be used at all.
pub async fn serve_grpc(listener: TcpListener, state: OtlpState, stop: CancellationToken) -> io::Result<()> {
    serve_http2(listener, grpc_service(state), stop).await
}

/// As [`serve_grpc`], of a service that has been given layers, such as authorization.
///
/// # Errors
/// When the listener cannot be used at all.
pub async fn serve_http2(listener: TcpListener, service: Router, stop: CancellationToken) -> io::Result<()> {
    let mut connections = JoinSet::new();
    'serving: loop {
        while connections.len() >= CONNECTIONS_MAX {
            tokio::select! {
                _ = connections.join_next() => {}
                () = stop.cancelled() => break 'serving,
            }
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, service.clone(), stop.clone()));
            }
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an OTLP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Whether accepting can never work again.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

async fn serve_connection(stream: TcpStream, service: Router, stop: CancellationToken) {
    // Answers are small and complete; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an OTLP connection broke");
    }
}

/// Why a call has no answer: of the protocol, or of what it carries.
enum CallError {
    Status(RpcStatus),
    Request(RequestError),
}

impl From<RequestError> for CallError {
    fn from(error: RequestError) -> CallError {
        CallError::Request(error)
    }
}

fn invalid(text: &str) -> CallError {
    CallError::Status(RpcStatus::new(Code::InvalidArgument, text))
}

async fn call(state: OtlpState, signal: Signal, request: Request) -> Response {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // `application/grpc`, with `+proto` or parameters; other formats of messages are not spoken.
    let format = content_type.strip_prefix(APPLICATION_GRPC).map(|rest| rest.split(';').next().unwrap_or_default());
    if !matches!(format, Some("" | "+proto")) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let (code, response) = match receive(&state, signal, request).await {
        Ok(taken) => {
            if !taken.told.is_empty() {
                tracing::debug!(rejected = taken.rejected, reasons = taken.told, "OTLP taken in part");
            }
            (Code::Ok, answer(&taken.response))
        }
        Err(CallError::Status(status)) => (status.code, only_trailers(&status)),
        Err(CallError::Request(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "OTLP refused");
            let status = RpcStatus::of(error.kind(), with_sources(&error));
            (status.code, only_trailers(&status))
        }
    };
    state.receiver.metrics.answered("grpc", code.number());
    response
}

async fn receive(state: &OtlpState, signal: Signal, request: Request) -> Result<Answer, CallError> {
    let coding = match request.headers().get(GRPC_ENCODING) {
        None => Some(Coding::Identity),
        Some(name) => name.to_str().ok().and_then(Coding::parse),
    };
    let Some(coding) = coding else {
        let text = format!("the message encoding must be one of {}", Coding::ACCEPTED);
        return Err(CallError::Status(RpcStatus::new(Code::Unimplemented, text)));
    };
    let (mut body, held) = state.read(signal, request.into_body(), None, FRAME_BYTES).await?;
    let Some(&[flag, a, b, c, d]) = body.first_chunk::<FRAME_BYTES>() else {
        return Err(invalid("the call carries no whole message"));
    };
    let message = body.split_off(FRAME_BYTES);
    if message.len() as u64 != u64::from(u32::from_be_bytes([a, b, c, d])) {
        return Err(invalid("the call must carry exactly one whole message"));
    }
    let coding = match flag {
        0 => Coding::Identity,
        1 if coding != Coding::Identity => coding,
        _ => return Err(invalid("the message is flagged as compressed, but grpc-encoding names no compression")),
    };
    Ok(state.export(signal, (Encoding::Protobuf, coding), message, held).await?)
}

/// One message and the trailers of success.
fn answer(message: &[u8]) -> Response {
    let mut framed = BytesMut::with_capacity(FRAME_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("an answer is far below 4 GiB"));
    framed.put_slice(message);
    let trailers = trailers(&RpcStatus::new(Code::Ok, ""));
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    head(response.headers_mut());
    response
}

/// A refusal: everything in the headers, no body.
fn only_trailers(status: &RpcStatus) -> Response {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = trailers(status);
    head(response.headers_mut());
    response
}

fn head(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_GRPC));
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(Coding::ACCEPTED));
}

fn trailers(status: &RpcStatus) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(GRPC_STATUS, HeaderValue::from_static(status.code.number()));
    if let (false, Ok(message)) = (status.message.is_empty(), HeaderValue::try_from(percent_encoded(&status.message))) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if status.retry_after.is_some()
        && let Ok(details) = HeaderValue::try_from(base64::encode(&status.encode(Encoding::Protobuf)))
    {
        headers.insert(GRPC_DETAILS, details);
    }
    headers
}

/// What is not printable ASCII, and `%` itself, as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
