//! `/federate`: the newest sample of each selected series as a page to scrape.
//!
//! Text format 0.0.4 with the samples' own timestamps, families sorted by name, each with the type `untyped`, as
//! Prometheus writes them. Native histograms have no form there and are left out. What shows is what an instant
//! query shows: nothing that is stale or older than the lookback. The server's external labels are added to series that do
//! not have them, and an empty `instance` to those that have none, so that the scraper adds none of its own.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use kymo_core::query::{DEFAULT_LOOKBACK, Grid, PointValue, QueryRequest, QueryValue, ResultSeries};
use kymo_core::status::LabelMap;
use kymo_core::text::{write_escaped_label_value, write_float_general};
use kymo_core::{ErrorKind, Labels, METRIC_NAME, QueryBackend, QueryContext};

use super::body::Answer;
use super::params::Params;
use super::{ApiState, Shared, run, selector};
use crate::label_name;
use crate::status::ApiError;

const INSTANCE: &str = "instance";
/// Most bytes of a line beside its labels: the type line's words, a float, a timestamp.
const LINE_BYTES_MAX: usize = 128;

/// `GET /federate`
///
/// A refusal is a line of text: who asks is a scraper.
pub(super) async fn federate(State(state): Shared, request: Request) -> Response {
    match page(&state, request).await {
        Ok(page) => page,
        Err(error) => (error.status(), format!("{}\n", error.message())).into_response(),
    }
}

async fn page(state: &ApiState, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let selectors: Vec<String> = params.all("match[]").map(str::to_owned).collect();
    for text in &selectors {
        selector::parse(text).map_err(ApiError::bad_data)?;
    }
    let mut external =
        state.sources.external_labels().map_err(|error| ApiError::of_kind(error.kind(), error.to_string()))?;
    external.get_or_insert_default().entry(INSTANCE.to_owned()).or_default();
    let external = external.unwrap_or_default();
    let (backend, buffers, at_ms) = (state.backend.clone(), state.buffers.clone(), state.clock.now_ms());
    run(state, state.options.timeout_max, move |ctx| {
        let mut newest = Vec::new();
        for text in &selectors {
            newest.append(&mut newest_of(&*backend, text, at_ms, ctx)?);
        }
        newest.sort_by(|a, b| (a.0.metric_name(), &a.0).cmp(&(b.0.metric_name(), &b.0)));
        newest.dedup_by(|a, b| a.0 == b.0);
        let mut answer = buffers.answer(ctx)?;
        write_page(&mut answer, &newest, &external)?;
        Ok(answer)
    })
    .await
    .map(|answer| {
        let mut response = answer.into_json().into_response();
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        response
    })
}

/// Series, time and value of what an instant query of `selector` shows, with the samples' own times.
fn newest_of(
    backend: &dyn QueryBackend,
    selector: &str,
    at_ms: i64,
    ctx: &QueryContext,
) -> Result<Vec<(Labels, i64, f64)>, ApiError> {
    let ask = |text: String| -> Result<Vec<ResultSeries>, ApiError> {
        let request = QueryRequest::new(text, Grid::Instant { at_ms });
        let result = backend.query(&request, ctx).map_err(|error| match error.kind {
            ErrorKind::Invalid => ApiError::bad_data(error.message),
            kind => ApiError::of_kind(kind, error.message),
        })?;
        Ok(match result.value {
            QueryValue::Vector(series) | QueryValue::Matrix(series) => series,
            QueryValue::Scalar { .. } | QueryValue::String { .. } => Vec::new(),
        })
    };
    // An instant query says which series live, its window when their newest sample was.
    let mut live: Vec<Labels> = ask(selector.to_owned())?.into_iter().map(|series| series.labels).collect();
    live.sort_unstable();
    let window = ask(format!("{selector}[{}s]", DEFAULT_LOOKBACK.as_secs()))?;
    let newest = |series: ResultSeries| match series.points().last()? {
        (time_ms, PointValue::Float(value)) => Some((series.labels.clone(), time_ms, value)),
        (_, PointValue::Histogram(_)) => None,
    };
    Ok(window.into_iter().filter(|series| live.binary_search(&series.labels).is_ok()).filter_map(newest).collect())
}

fn write_page(out: &mut Answer, newest: &[(Labels, i64, f64)], external: &LabelMap) -> Result<(), ApiError> {
    let mut family = None;
    let external_len: usize = external.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    for (labels, time_ms, value) in newest {
        // A series without a name has no family.
        let Some(name) = labels.metric_name().map(label_name::escape) else { continue };
        out.reserve(LINE_BYTES_MAX + 2 * name.len() + 6 * (labels.as_ref().packed().len() + external_len))?;
        if family.as_deref() != Some(&*name) {
            out.bytes.extend_from_slice(format!("# TYPE {name} untyped\n").as_bytes());
            family = Some(name.to_string());
        }
        out.bytes.extend_from_slice(name.as_bytes());
        let mut separator = b'{';
        let added = external.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let added = added.filter(|(name, _)| labels.get(name).is_none());
        for (label, text) in labels.iter().filter(|(label, _)| *label != METRIC_NAME).chain(added) {
            out.bytes.push(separator);
            separator = b',';
            out.bytes.extend_from_slice(label_name::escape(label).as_bytes());
            out.bytes.extend_from_slice(b"=\"");
            write_escaped_label_value(&mut out.bytes, text);
            out.bytes.push(b'"');
        }
        if separator == b',' {
            out.bytes.push(b'}');
        }
        out.bytes.push(b' ');
        write_float_general(&mut out.bytes, *value);
        out.bytes.extend_from_slice(format!(" {time_ms}\n").as_bytes());
    }
    Ok(())
}
