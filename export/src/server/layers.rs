//! What stands around every route.

use std::any::Any;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::timeout::RequestBodyDeadlineLayer;

use super::{ServerOptions, auth, cors, limit};

/// Wraps a router for a [`Server`](super::Server). Layers are added from the inside out.
pub(super) fn around(router: Router, options: &ServerOptions) -> Router {
    let router = router
        // axum's own limit of 2 MB would come on top of ours.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(options.body_bytes_max, limit::body))
        .layer(RequestBodyDeadlineLayer::new(options.body_timeout))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(options.tokens.clone(), auth::check));
    let router = match options.refusals {
        Some(refusals) => refusals(router),
        None => router,
    };
    router
        // Answers are made in one piece and read at once: level 1 costs a third of the default's time.
        .layer(CompressionLayer::new().gzip(true).zstd(true).quality(CompressionLevel::Fastest))
        .layer(from_fn_with_state(options.cors.clone(), cors::answer))
        .layer(from_fn(log))
}

/// Wraps a router that something other than a [`Server`](super::Server) serves, a gRPC service say: the tokens of
/// `options` are asked for, and a body that is not there in time is given up. A gRPC client takes the 401 for
/// `UNAUTHENTICATED`.
pub fn guard(router: Router, options: &ServerOptions) -> Router {
    router
        .layer(RequestBodyDeadlineLayer::new(options.body_timeout))
        .layer(from_fn_with_state(options.tokens.clone(), auth::check))
}

/// Lets the routes of `router` take gzip and zstd bodies, at most `bytes_max` both as sent and unpacked.
///
/// Two limits are needed: a small body may unpack to a large one, and a large zstd body of skippable
/// frames unpacks to nothing. Not for remote write, whose snappy is part of its protocol.
pub fn decompress(router: Router, bytes_max: usize) -> Router {
    router
        .layer(from_fn_with_state(bytes_max, limit::body))
        .layer(RequestDecompressionLayer::new().gzip(true).zstd(true))
        .layer(from_fn_with_state(bytes_max, limit::body))
}

/// In the API's envelope: most clients here read no other shape.
const FAULT: &str =
    r#"{"status":"error","errorType":"internal","error":"the request failed on a fault of the server"}"#;

fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("not a text"), "a request failed on a fault of the server");
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "application/json")], FAULT).into_response()
}

async fn log(request: Request, next: Next) -> Response {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return next.run(request).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = request.extensions().get::<crate::peer::Peer>().copied();
    let started = Instant::now();
    let response = next.run(request).await;
    tracing::debug!(
        %method,
        path,
        status = response.status().as_u16(),
        peer = peer.map(|p| tracing::field::display(p.0)),
        micros = started.elapsed().as_micros() as u64,
        "request"
    );
    response
}
