//! What stands around every route.
//!
//! It is one service and not a layer per task: a router boxes each of its layers and clones them with every request, which cost
//! more than what they did. What has nothing to do for a request (no body, no origin, nothing to compress) is passed by.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::compression::{Compression, CompressionLevel};
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::timeout::{DeadlineBody, RequestBodyDeadlineLayer};

use super::{BearerTokens, Routes, ServerOptions, auth, cors, limit};

/// The routes of a [`Server`](super::Server), with everything around them.
#[derive(Debug, Clone)]
pub(super) struct Around<S> {
    routes: S,
    options: Arc<ServerOptions>,
}

impl<S: Routes> Around<S> {
    pub(super) fn new(routes: S, options: ServerOptions) -> Around<S> {
        Around { routes, options: Arc::new(options) }
    }

    async fn answer(self, request: Request) -> Response {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return self.across_origins(request).await;
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let peer = request.extensions().get::<crate::peer::Peer>().copied();
        let started = Instant::now();
        let response = self.across_origins(request).await;
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

    async fn across_origins(self, request: Request) -> Response {
        let options = self.options.clone();
        cors::answer(&options.cors, request, |request| self.compressed(request)).await
    }

    /// Answers are made in one piece and read at once: level 1 costs a third of the default's time.
    async fn compressed(self, request: Request) -> Response {
        if !request.headers().contains_key(header::ACCEPT_ENCODING) {
            let mut response = self.refused(request).await;
            let coded = [header::CONTENT_ENCODING, header::CONTENT_RANGE];
            if !coded.iter().any(|name| response.headers().contains_key(name))
                && DefaultPredicate::new().should_compress(&response)
            {
                // To another client the same would be sent compressed.
                response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
            }
            return response;
        }
        let inner = service_fn(move |request| {
            let around = self.clone();
            async move { Ok::<_, Infallible>(around.refused(request).await) }
        });
        let compression = Compression::new(inner).gzip(true).zstd(true).quality(CompressionLevel::Fastest);
        match compression.oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// Gives refusals the form that their routes have for them.
    async fn refused(self, request: Request) -> Response {
        match self.options.refusals {
            Some(refusals) if (refusals.concern)(request.uri().path()) => {
                let headers = request.headers().clone();
                (refusals.restate)(headers, self.let_in(request).await).await
            }
            _ => self.let_in(request).await,
        }
    }

    async fn let_in(self, request: Request) -> Response {
        let options = self.options.clone();
        auth::check(&options.tokens, request, |request| self.shielded(request)).await
    }

    async fn shielded(self, request: Request) -> Response {
        let mut answering = pin!(self.bounded(request));
        std::future::poll_fn(|cx| {
            // What was being answered is given up with its state, so nothing broken is seen again.
            let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx)));
            polled.unwrap_or_else(|cause| Poll::Ready(panicked(&*cause)))
        })
        .await
    }

    async fn bounded(self, request: Request) -> Response {
        let Around { routes, options } = self;
        if request.body().is_end_stream() {
            return routes.oneshot(request).await.unwrap_or_else(|never| match never {});
        }
        // axum's own limit of 2 MB would come on top of ours.
        let routes = DefaultBodyLimit::disable().layer(routes);
        let request = request.map(|body| Body::new(DeadlineBody::new(options.body_timeout, body)));
        limit::body(options.body_bytes_max, request, |request| async {
            routes.oneshot(request).await.unwrap_or_else(|never| match never {})
        })
        .await
    }
}

impl<S: Routes> Service<Request> for Around<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let around = self.clone();
        Box::pin(async move { Ok(around.answer(request).await) })
    }
}

/// Wraps a router that something other than a [`Server`](super::Server) serves, a gRPC service say: the tokens of
/// `options` are asked for, and a body that is not there in time is given up. A gRPC client takes the 401 for
/// `UNAUTHENTICATED`.
pub fn guard(router: Router, options: &ServerOptions) -> Router {
    router
        .layer(RequestBodyDeadlineLayer::new(options.body_timeout))
        .layer(from_fn_with_state(options.tokens.clone(), checked))
}

async fn checked(State(tokens): State<BearerTokens>, request: Request, next: Next) -> Response {
    auth::check(&tokens, request, |request| next.run(request)).await
}

/// Lets the routes of `router` take gzip and zstd bodies, at most `bytes_max` both as sent and unpacked.
///
/// Two limits are needed: a small body may unpack to a large one, and a large zstd body of skippable
/// frames unpacks to nothing. Not for remote write, whose snappy is part of its protocol.
pub fn decompress(router: Router, bytes_max: usize) -> Router {
    router
        .layer(from_fn_with_state(bytes_max, limited))
        .layer(RequestDecompressionLayer::new().gzip(true).zstd(true))
        .layer(from_fn_with_state(bytes_max, limited))
}

async fn limited(State(bytes_max): State<usize>, request: Request, next: Next) -> Response {
    limit::body(bytes_max, request, |request| next.run(request)).await
}

/// In the API's envelope: most clients here read no other shape.
const FAULT: &str =
    r#"{"status":"error","errorType":"internal","error":"the request failed on a fault of the server"}"#;

fn panicked(cause: &(dyn Any + Send)) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("not a text"), "a request failed on a fault of the server");
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "application/json")], FAULT).into_response()
}
