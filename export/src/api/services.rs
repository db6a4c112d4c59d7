//! How the services do.
//!
//! | Path below `/api/v1` | Answer |
//! |---|---|
//! | `services?windows=…` | every service with its figures, all of one moment, and who calls whom |
//! | `services/{name}` | one, with its operations |
//! | `services/{name}/edges` | who calls it, and whom it calls |
//! | `services/{name}/history?start=…&end=…&step=…` | its figures over the last minute, as they were stored |

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use kymo_core::matcher::MatchOp;
use kymo_core::query::POINTS_MAX;
use kymo_core::status::{ServicesStatus, StatusError};
use kymo_core::storage::ColumnValue;
use kymo_core::{Columns, ErrorKind, METRIC_NAME, Matcher, MetricStorage, QueryContext, Selector};
use serde::Serialize;
use serde_json::json;

use super::params::Params;
use super::{Shared, run};
use crate::status::ApiError;

/// How far back a history goes unless asked otherwise.
const HISTORY_MS: i64 = 3_600_000;
/// The window whose figures a history has.
const WINDOW: &str = "1m";

fn answer(data: impl Serialize) -> Response {
    Json(json!({"status": "success", "data": data})).into_response()
}

fn unavailable(error: StatusError) -> ApiError {
    ApiError::of_kind(error.kind(), error.to_string())
}

fn unknown(name: &str) -> ApiError {
    ApiError::of_kind(ErrorKind::NotFound, format!("no requests to a service {name:?} are known"))
}

/// `GET /api/v1/services?windows=…`
pub(super) async fn list(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let windows = match params.first("windows") {
        "" => usize::MAX,
        text => text.parse().map_err(|_| ApiError::invalid_parameter("windows", "expected a number"))?,
    };
    let sources = state.sources.clone();
    // Operations and edges are read under locks that are held for a moment: not on an async thread.
    let services = run(&state, state.options.timeout_max, move |_| sources.services().map_err(unavailable)).await?;
    let mut services = services.unwrap_or_default();
    services.services.iter_mut().for_each(|service| service.health.windows.truncate(windows));
    services.edges.iter_mut().for_each(|edge| edge.windows.truncate(windows));
    // As text at once: a tree of values of all services would be several times as large.
    Ok(Json(Listed { data: services, status: "success" }).into_response())
}

#[derive(Serialize)]
struct Listed {
    data: ServicesStatus,
    status: &'static str,
}

/// `GET /api/v1/services/{name}`
pub(super) async fn one(State(state): Shared, Path(name): Path<String>) -> Result<Response, ApiError> {
    let sources = state.sources.clone();
    let found = run(&state, state.options.timeout_max, move |_| {
        sources.service(&name).map_err(unavailable)?.ok_or_else(|| unknown(&name))
    });
    Ok(answer(found.await?))
}

/// `GET /api/v1/services/{name}/edges`
pub(super) async fn edges(State(state): Shared, Path(name): Path<String>) -> Result<Response, ApiError> {
    let sources = state.sources.clone();
    let found = run(&state, state.options.timeout_max, move |_| {
        let all = sources.service_edges(&name).map_err(unavailable)?;
        let calls: Vec<_> = all.iter().filter(|edge| edge.caller == name).collect();
        let called_by: Vec<_> = all.iter().filter(|edge| edge.callee == name).collect();
        // A database, say, is called and tells nothing itself.
        if all.is_empty() && sources.service(&name).map_err(unavailable)?.is_none() {
            return Err(unknown(&name));
        }
        Ok(json!({"called_by": called_by, "calls": calls}))
    });
    Ok(answer(found.await?))
}

/// A service at one moment of its past.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Point {
    /// Milliseconds since the Unix epoch.
    time_ms: i64,
    /// Requests per second.
    rate: Option<f64>,
    /// Errors per request.
    error_ratio: Option<f64>,
    /// Quantiles of latency, seconds.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    /// As in `kymo_service_status`.
    status: Option<u8>,
}

/// `GET /api/v1/services/{name}/history?start=…&end=…&step=…`
pub(super) async fn history(
    State(state): Shared,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let end_ms = params.optional_time("end")?.unwrap_or_else(|| state.clock.now_ms());
    let start_ms = params.optional_time("start")?.unwrap_or(end_ms.saturating_sub(HISTORY_MS));
    if end_ms < start_ms {
        return Err(ApiError::invalid_parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = if params.has("step") { (params.step_ns()? / 1_000_000).max(1) } else { 1 };
    let storage = state.storage()?;
    let points =
        run(&state, state.options.timeout_max, move |ctx| points(&*storage, &name, (start_ms, end_ms), step_ms, ctx));
    Ok(answer(points.await?))
}

/// Figures of every step, the newest in it; times rise.
fn points(
    storage: &dyn MetricStorage,
    service: &str,
    (start_ms, end_ms): (i64, i64),
    step_ms: i64,
    ctx: &QueryContext,
) -> Result<Vec<Point>, ApiError> {
    let refused = |error: kymo_core::SelectError| ApiError::of_kind(error.kind(), error.to_string());
    let names = "kymo_service_(request_rate|error_ratio|latency_seconds|status)";
    let names =
        Matcher::new(METRIC_NAME, MatchOp::Regex, names).map_err(|error| ApiError::internal(error.to_string()))?;
    let what = vec![names, Matcher::equal("service", service)];
    let set = storage.select(&Selector::new(what, start_ms.saturating_sub(1), end_ms), ctx).map_err(refused)?;
    let mut columns = Columns::default();
    let mut steps: BTreeMap<i64, Point> = BTreeMap::new();
    for at in 0..set.len() {
        let labels = set.labels(at);
        if labels.get("window").is_some_and(|window| window != WINDOW) {
            continue;
        }
        set.read(at, &mut columns).map_err(refused)?;
        for (time_ms, value) in columns.iter() {
            let ColumnValue::Float(value) = value else { continue };
            let point = steps.entry(time_ms.div_euclid(step_ms)).or_default();
            point.time_ms = point.time_ms.max(time_ms);
            match (labels.metric_name().unwrap_or_default(), labels.get("quantile")) {
                ("kymo_service_request_rate", _) => point.rate = Some(value),
                ("kymo_service_error_ratio", _) => point.error_ratio = Some(value),
                ("kymo_service_status", _) => point.status = Some(value as u8),
                (_, Some("0.5")) => point.p50 = Some(value),
                (_, Some("0.95")) => point.p95 = Some(value),
                (_, Some("0.99")) => point.p99 = Some(value),
                _ => {}
            }
        }
        if steps.len() as i128 > i128::from(POINTS_MAX) {
            let text = format!("more than {POINTS_MAX} points: ask for a longer step, or a shorter time");
            return Err(ApiError::bad_data(text));
        }
    }
    Ok(steps.into_values().collect())
}
