//! `status/tsdb` and `status/walreplay`: how much there is, and where most of it lies.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use foldhash::HashMap;
use kymo_core::status::CardinalityStatus;
use kymo_core::{ErrorKind, METRIC_NAME, MetricStorage, QueryContext, SelectError};
use serde_json::{Value, json};

use super::params::{Params, parse_go_int};
use super::{ApiState, Shared, run};
use crate::status::ApiError;

/// Entries of each list unless asked otherwise.
const LIMIT: usize = 10;
const LIMIT_MAX: usize = 10_000;
/// How far back a series counts as alive: Prometheus' head spans as much.
const HEAD_MS: i64 = 3 * 60 * 60 * 1000;

/// `GET /api/v1/status/tsdb?limit=…`
///
/// Counts are of series with a sample in the last three hours. Reads all their labels.
pub(super) async fn tsdb(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let limit = limit(params.first("limit"))?;
    let storage = state.storage()?;
    run(&state, state.options.timeout_max, move |ctx| shown(&*storage, limit, ctx))
        .await
        .map(|data| axum::Json(json!({"status": "success", "data": data})).into_response())
}

pub(super) fn limit(text: &str) -> Result<usize, ApiError> {
    if text.is_empty() {
        return Ok(LIMIT);
    }
    let limit = parse_go_int(text).ok().and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?;
    if limit > LIMIT_MAX {
        return Err(ApiError::invalid_parameter("limit", format_args!("limit must not exceed {LIMIT_MAX}")));
    }
    Ok(limit)
}

/// Where most series lie of those with a sample since `since_ms`; at most `limit` entries in each list.
///
/// Reads the labels of all of them.
///
/// # Errors
/// [`SelectError`] as the storage gives it, and where the caller's budget, deadline or cancellation ends the work.
pub fn cardinality(
    storage: &dyn MetricStorage,
    since_ms: i64,
    limit: usize,
    ctx: &QueryContext,
) -> Result<CardinalityStatus, SelectError> {
    let (mut series, mut labels) = (0, HashMap::<String, Values>::default());
    let (mut reserved, mut visited) = (ctx.budget.try_reserve(0)?, Ok(()));
    storage.visit_series(&[], &[(since_ms, i64::MAX)], ctx, &mut |of_series, _| {
        series += 1;
        for (name, value) in of_series.iter() {
            let of_name = match labels.get_mut(name) {
                Some(of_name) => of_name,
                None => labels.entry(name.to_owned()).or_default(),
            };
            of_name.bytes += [name, value].map(packed_bytes).iter().sum::<u64>();
            match of_name.series.get_mut(value) {
                Some(series) => *series += 1,
                None if visited.is_ok() => {
                    visited = reserved.grow(2 * (value.len() + 64) as u64);
                    of_name.series.insert(value.to_owned(), 1);
                }
                None => {}
            }
        }
    })?;
    visited?;
    let label_pairs = labels.values().map(|of| of.series.len() as u64).sum();
    let counts = |of: fn(&Values) -> u64| labels.iter().map(move |(name, values)| ((name.as_str(), None), of(values)));
    let metrics = labels.get(METRIC_NAME).into_iter().flat_map(|values| &values.series);
    let pairs = labels.iter().flat_map(|(name, values)| values.series.iter().map(move |value| (name, value)));
    Ok(CardinalityStatus {
        series,
        label_pairs,
        series_by_metric: top(metrics.map(|(name, count)| ((name.as_str(), None), *count)), limit),
        values_by_label: top(counts(|values| values.series.len() as u64), limit),
        bytes_by_label: top(counts(|values| values.bytes), limit),
        series_by_pair: top(pairs.map(|(name, (value, count))| ((name.as_str(), Some(value.as_str())), *count)), limit),
    })
}

/// What a text takes in the labels of one series as Prometheus packs them: its length goes before it.
fn packed_bytes(text: &str) -> u64 {
    let len = text.len() as u64;
    if len < 255 { 1 + len } else { 4 + len }
}

/// As Prometheus shows it.
fn shown(storage: &dyn MetricStorage, limit: usize, ctx: &QueryContext) -> Result<Value, ApiError> {
    let refused = |error: SelectError| ApiError::of_kind(error.kind(), error.to_string());
    let since_ms = ctx.clock.now_ms().saturating_sub(HEAD_MS);
    let found = cardinality(storage, since_ms, limit, ctx).map_err(refused)?;
    let statistics = storage.statistics();
    let list = |list: &[(String, u64)]| -> Value {
        list.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    Ok(json!({
        "headStats": {
            "numSeries": statistics.active_series,
            "numLabelPairs": found.label_pairs,
            "chunkCount": 0,
            "minTime": statistics.min_time_ms.unwrap_or(i64::MAX),
            "maxTime": statistics.max_time_ms.unwrap_or(i64::MIN),
        },
        "seriesCountByMetricName": list(&found.series_by_metric),
        "labelValueCountByLabelName": list(&found.values_by_label),
        "memoryInBytesByLabelName": list(&found.bytes_by_label),
        "seriesCountByLabelValuePair": list(&found.series_by_pair),
    }))
}

#[derive(Default)]
struct Values {
    /// Series with each value.
    series: HashMap<String, u64>,
    /// Of the name and the value in each series.
    bytes: u64,
}

/// A label, or a label and a value.
type Name<'a> = (&'a str, Option<&'a str>);

fn text<'a>((label, value): Name<'a>) -> impl Iterator<Item = u8> + 'a {
    let value = value.into_iter().flat_map(|value| std::iter::once(b'=').chain(value.bytes()));
    label.bytes().chain(value)
}

/// The largest counts, of equal ones in the order of their texts.
fn top<'a>(counts: impl Iterator<Item = (Name<'a>, u64)>, limit: usize) -> Vec<(String, u64)> {
    let mut counts: Vec<(Name<'a>, u64)> = counts.collect();
    let before = |a: &(Name<'_>, u64), b: &(Name<'_>, u64)| b.1.cmp(&a.1).then_with(|| text(a.0).cmp(text(b.0)));
    if limit < counts.len() {
        // Of a million few are shown.
        counts.select_nth_unstable_by(limit, before);
        counts.truncate(limit);
    }
    counts.sort_by(before);
    let shown = |(label, value): Name<'_>| value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"));
    counts.into_iter().map(|(name, count)| (shown(name), count)).collect()
}

/// `GET /api/v1/status/walreplay`: it is over before this is asked; while it lasts, a server answers without the API.
pub(super) async fn wal_replay() -> Response {
    axum::Json(json!({"status": "success", "data": {"min": 0, "max": 0, "current": 0}})).into_response()
}

impl ApiState {
    /// The storage, for what a [`QueryBackend`](kymo_core::QueryBackend) does not tell.
    pub(crate) fn storage(&self) -> Result<std::sync::Arc<dyn MetricStorage>, ApiError> {
        let nothing = || ApiError::of_kind(ErrorKind::unavailable(), "this server has no storage of its own");
        self.storage.clone().ok_or_else(nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeBackend, NOW_MS, get, state};
    use super::super::routes;
    use super::*;

    #[tokio::test]
    async fn the_largest_names_labels_and_pairs_are_told() {
        let storage = std::sync::Arc::new(kymo_core::MemoryStorage::default());
        let mut batch = kymo_core::SampleBatch::new();
        for (name, job) in [("up", "a"), ("up", "b"), ("down", "a")] {
            let labels = kymo_core::Labels::from_pairs([("__name__", name), ("job", job)]);
            batch.push_float(&labels, NOW_MS - 1_000, 1.0);
        }
        storage.append(&batch).unwrap();
        let state = ApiState { storage: Some(storage), ..state(FakeBackend::new(|_, _| Ok(Default::default()))) };
        let router = routes(state);
        let (status, body) = get(&router, "/api/v1/status/tsdb?limit=1").await;
        assert_eq!(status, 200, "{body}");
        let data = &serde_json::from_str::<Value>(&body).unwrap()["data"];
        assert_eq!((&data["headStats"]["numSeries"], &data["headStats"]["numLabelPairs"]), (&json!(3), &json!(4)));
        assert_eq!(data["seriesCountByMetricName"], json!([{"name": "up", "value": 2}]));
        assert_eq!(data["labelValueCountByLabelName"], json!([{"name": "__name__", "value": 2}]));
        assert_eq!(data["memoryInBytesByLabelName"], json!([{"name": "__name__", "value": 38}]));
        assert_eq!(data["seriesCountByLabelValuePair"], json!([{"name": "__name__=up", "value": 2}]));
        for (bad, text) in [("0", "limit must be a positive number"), ("10001", "limit must not exceed 10000")] {
            let (status, body) = get(&router, &format!("/api/v1/status/tsdb?limit={bad}")).await;
            assert!(status == 400 && body.contains(text), "{body}");
        }
    }
}
