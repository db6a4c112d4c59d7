//! Questions as parameters.

use kymo_core::query::{CatalogRequest, Grid, QueryRequest, StatsWanted};
use kymo_core::text::{write_label_name, write_quoted, write_timestamp_seconds};
use kymo_core::{Matcher, QueryContext};

pub(super) type Params = Vec<(&'static str, String)>;

/// The endpoint below `/api/v1` and its parameters.
pub(super) fn query(request: &QueryRequest, ctx: &QueryContext) -> (&'static str, Params) {
    let mut params = vec![("query", request.text.clone())];
    let path = match request.grid {
        Grid::Instant { at_ms } => {
            params.push(("time", seconds(at_ms)));
            "query"
        }
        Grid::Range { start_ms, end_ms, step_ms } => {
            params.extend([("start", seconds(start_ms)), ("end", seconds(end_ms)), ("step", seconds(step_ms))]);
            "query_range"
        }
    };
    if let Some(lookback) = request.lookback {
        params.push(("lookback_delta", lookback.as_secs_f64().to_string()));
    }
    params.extend(request.tier.map(|tier| ("tier", tier.as_str().to_owned())));
    if request.limit > 0 {
        params.push(("limit", request.limit.to_string()));
    }
    match request.stats {
        StatsWanted::None => {}
        StatsWanted::Totals => params.push(("stats", "true".to_owned())),
        StatsWanted::PerStep => params.push(("stats", "all".to_owned())),
    }
    // Servers that do not know them take no notice.
    params.extend(request.explain.then(|| ("explain", "true".to_owned())));
    params.extend(request.explain_empty.then(|| ("explain_empty", "true".to_owned())));
    if let Some(deadline) = ctx.deadline {
        let left = deadline.saturating_sub(ctx.clock.monotonic());
        params.push(("timeout", left.as_secs_f64().to_string()));
    }
    (path, params)
}

pub(super) fn catalog(what: &CatalogRequest) -> Params {
    let mut params: Params = what.matchers.iter().map(|list| ("match[]", selector(list))).collect();
    params.extend(what.start_ms.map(|ms| ("start", seconds(ms))));
    params.extend(what.end_ms.map(|ms| ("end", seconds(ms))));
    if what.limit > 0 {
        params.push(("limit", what.limit.to_string()));
    }
    params
}

/// The extremes of time stand for no bound.
pub(super) fn exemplars(text: &str, start_ms: i64, end_ms: i64) -> Params {
    let mut params = vec![("query", text.to_owned())];
    params.extend((start_ms != i64::MIN).then(|| ("start", seconds(start_ms))));
    params.extend((end_ms != i64::MAX).then(|| ("end", seconds(end_ms))));
    params
}

/// `{__name__="up",job=~"a|b"}`
fn selector(matchers: &[Matcher]) -> String {
    let mut text = String::from("{");
    for (number, matcher) in matchers.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        write_label_name(&mut text, matcher.name());
        text.push_str(matcher.op().as_str());
        write_quoted(&mut text, matcher.value());
    }
    text.push('}');
    text
}

fn seconds(ms: i64) -> String {
    let mut text = String::new();
    write_timestamp_seconds(&mut text, ms);
    text
}
