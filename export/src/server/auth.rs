//! Which requests need a token.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::BearerTokens;

/// Paths that answer without a token: probes have none.
const OPEN_PATHS: [&str; 2] = ["/-/healthy", "/-/ready"];

pub(super) async fn check<F: Future<Output = Response>>(
    tokens: &BearerTokens,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    if tokens.is_open() || OPEN_PATHS.contains(&request.uri().path()) || tokens.accept(request.headers()) {
        return next(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "Unauthorized\n").into_response()
}
