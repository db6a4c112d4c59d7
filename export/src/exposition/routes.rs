//! `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, header};

use super::{Exposition, Format};

/// `GET` and `HEAD` of `/metrics`, in the format that the request's `Accept` asks for.
///
/// Pages are made on the async thread: reading a value is one load, and a page of ten thousand series takes milliseconds.
pub fn routes(exposition: impl Into<Exposition>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(exposition.into())
}

async fn metrics(State(exposition): State<Exposition>, headers: HeaderMap) -> impl IntoResponse {
    let ranges: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::negotiate(&ranges.join(","));
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], exposition.render(format))
}
