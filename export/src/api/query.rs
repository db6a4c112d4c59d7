//! `query` and `query_range`.

use axum::extract::{Request, State};
use axum::response::Response;
use kymo_core::query::{Grid, POINTS_MAX, StatsWanted};
use kymo_core::{ErrorKind, QueryRequest};

use super::body::over_budget;
use super::book::Asked;
use super::params::Params;
use super::run::run_query;
use super::{ApiState, Shared, write};
use crate::status::ApiError;

const NS_PER_MS: i64 = 1_000_000;

/// `GET` and `POST /api/v1/query`
pub(super) async fn instant(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let limit = params.limit()?;
    let at_ms = params.optional_time("time")?.unwrap_or_else(|| state.clock.now_ms());
    evaluate(&state, &params, limit, Grid::Instant { at_ms }, "/api/v1/query").await
}

/// `GET` and `POST /api/v1/query_range`
pub(super) async fn range(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let limit = params.limit()?;
    let grid = range_grid(&params)?;
    evaluate(&state, &params, limit, grid, "/api/v1/query_range").await
}

fn range_grid(params: &Params) -> Result<Grid, ApiError> {
    let start_ms = params.time("start")?;
    let end_ms = params.time("end")?;
    if end_ms < start_ms {
        return Err(ApiError::invalid_parameter("end", "end timestamp must not be before start time"));
    }
    let step_ns = params.step_ns()?;
    let intervals = (i128::from(end_ms) - i128::from(start_ms)) * i128::from(NS_PER_MS) / i128::from(step_ns);
    if intervals > i128::from(POINTS_MAX) {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok(Grid::Range { start_ms, end_ms, step_ms: step_ns / NS_PER_MS })
}

async fn evaluate(
    state: &ApiState,
    params: &Params,
    limit: usize,
    grid: Grid,
    path: &'static str,
) -> Result<Response, ApiError> {
    let timeout = params.timeout(state.options.timeout_max)?;
    let lookback = params.lookback()?;
    let text = params.first("query");
    let bytes_max = state.options.query_bytes_max;
    if text.len() > bytes_max {
        return Err(ApiError::of_kind(
            ErrorKind::TooLarge,
            format!(
                "invalid parameter \"query\": {} bytes are more than the limit of {bytes_max}, which is fixed",
                text.len()
            ),
        ));
    }
    let stats = match params.first("stats") {
        "" => StatsWanted::None,
        "all" => StatsWanted::PerStep,
        _ => StatsWanted::Totals,
    };
    // As VictoriaMetrics calls it: nothing that was answered before is taken over.
    let fresh = params.first("nocache") == "1";
    let (explain, explain_empty) = (params.is_true("explain"), params.is_true("explain_empty"));
    let tier = params.tier()?;
    let request =
        QueryRequest { lookback, limit, stats, fresh, explain, explain_empty, tier, ..QueryRequest::new(text, grid) };
    let asked = Asked { text: text.to_owned(), grid, client: params.client(), path };
    let (backend, buffers) = (state.backend.clone(), state.buffers.clone());
    let question = state.question((path, text, grid.steps(), fresh));
    run_query(state, timeout, asked, question, move |ctx| {
        let result = backend.query(&request, ctx)?;
        // Its columns are there until the last byte is written.
        let _columns = ctx.budget.try_reserve(result.bytes()).map_err(over_budget)?;
        let mut answer = buffers.answer(ctx)?;
        write::write_query(&mut answer, &result)?;
        Ok((answer, result.cost))
    })
    .await
    .map(|answer| answer.into_json())
}
