//! `status/queries`: what runs, what was slow, and ending a query by its number.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use kymo_core::ErrorKind;
use serde_json::{Value, json};

use super::Shared;
use crate::status::ApiError;

/// `GET /api/v1/status/queries`
pub(super) async fn queries(State(state): Shared) -> Json<Value> {
    let (running, slowest) = state.book.shown();
    let (places, waiting) = state.queue.lengths();
    let options = &state.options;
    Json(json!({"status": "success", "data": {
        "running": running,
        "slowest": slowest,
        "concurrency": {"running": places, "limit": options.queries_max},
        "queue": {"waiting": waiting, "limit": options.queries_waiting_max},
        "memory": {"bytes": state.budget.used(), "limit": state.budget.limit()},
    }}))
}

/// `DELETE /api/v1/status/queries/ID` and `POST /api/v1/status/queries/ID/cancel`
///
/// The query's own client gets `canceled`.
pub(super) async fn cancel(State(state): Shared, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let number = id.parse().ok().filter(|number| state.book.cancel(*number));
    match number {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(ApiError::of_kind(ErrorKind::NotFound, format!("no query {id} is running"))),
    }
}
