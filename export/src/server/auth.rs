//! Which requests need a token.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::BearerTokens;

/// Paths that answer without a token: probes have none.
const OPEN_PATHS: [&str; 2] = ["/-/healthy", "/-/ready"];

pub(super) async fn check(State(tokens): State<BearerTokens>, request: Request, next: Next) -> Response {
    if tokens.is_open() || OPEN_PATHS.contains(&request.uri().path()) || tokens.accept(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "Unauthorized\n").into_response()
}
