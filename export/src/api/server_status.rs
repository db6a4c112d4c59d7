//! What the server says of itself: build, losses, health.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::{API_VERSION, Shared};

/// `GET /api/v1/status/buildinfo`
///
/// `features` stays absent: Grafana takes a server that lists any for Mimir, and asks for its ruler.
pub(super) async fn build_info(State(state): Shared) -> Json<Value> {
    Json(json!({"status": "success", "data": {
        "version": API_VERSION,
        "revision": format!("kymo-{}", state.options.program_version),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }}))
}

/// `GET /api/v1/status/drops`: what came in by each door, and what of it was refused and why.
pub(super) async fn drops(State(state): Shared) -> Json<Value> {
    let received: Map<String, Value> =
        state.ledger.received().into_iter().map(|(source, totals)| (source.to_owned(), json!(totals))).collect();
    Json(json!({"status": "success", "data": {"received": received, "losses": state.ledger.losses()}}))
}

/// `GET` and `HEAD /-/healthy`: the process serves.
pub(super) async fn healthy() -> &'static str {
    "Kymo is Healthy.\n"
}

/// `GET` and `HEAD /-/ready`: it takes traffic.
pub(super) async fn ready(State(state): Shared) -> Response {
    if state.readiness.is_ready() {
        return "Kymo is Ready.\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "Kymo is not Ready.\n").into_response()
}
