//! `search/metric_names`, `search/label_names` and `search/label_values`: names found by what somebody began to type,
//! as lines of JSON. Experimental in Prometheus, and off unless switched on, as there.
//!
//! | Line | What |
//! |---|---|
//! | `{"results":[…]}` | up to `batch_size` results; one line even if there are none |
//! | `{"status":"success","has_more":…}` | the last |

use std::cmp::Ordering;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use kymo_core::query::{CatalogRequest, Listed, QueryError};
use kymo_core::text::{QuotedText, parse_time_ms};
use kymo_core::{ErrorKind, METRIC_NAME, Matcher, QueryBackend, QueryContext};

use super::body::Answer;
use super::fuzzy::{Algorithm, Terms};
use super::params::{Params, parse_go_int};
use super::{ApiState, Shared, run, write};
use crate::status::ApiError;

/// Results, and results of a line, unless asked otherwise.
const RESULTS: usize = 100;
/// How far back names are looked for unless asked otherwise.
const LOOKED_BACK_MS: i64 = 60 * 60 * 1000;
/// Names compared between two looks at whether the client is still there.
const NAMES_PER_CHECK: usize = 256;
/// Keys and punctuation of a result, and its type.
const RESULT_BYTES: usize = 128;

/// `GET` and `POST /api/v1/search/metric_names`
pub(super) async fn metric_names(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    search(state, request, "metric_names", |_| Ok(Field::ValuesOf(METRIC_NAME.to_owned()))).await
}

/// `GET` and `POST /api/v1/search/label_names`
pub(super) async fn label_names(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    search(state, request, "label_names", |_| Ok(Field::Names)).await
}

/// `GET` and `POST /api/v1/search/label_values`
pub(super) async fn label_values(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    search(state, request, "label_values", |params| match params.first("label") {
        "" => Err(ApiError::bad_data("missing required parameter \"label\"")),
        label => Ok(Field::ValuesOf(label.to_owned())),
    })
    .await
}

/// Which texts are searched.
enum Field {
    Names,
    ValuesOf(String),
}

impl Field {
    fn list(
        &self,
        backend: &dyn QueryBackend,
        what: &CatalogRequest,
        ctx: &QueryContext,
    ) -> Result<Listed<String>, QueryError> {
        match self {
            Field::Names => backend.label_names(what, ctx),
            Field::ValuesOf(label) => backend.label_values(label, what, ctx),
        }
    }
}

/// What comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Rising,
    Falling,
    Score,
}

/// A search as it was asked for.
struct Search {
    terms: Terms,
    order: Order,
    matchers: Vec<Vec<Matcher>>,
    start_ms: i64,
    end_ms: i64,
    limit: usize,
    batch: usize,
    with_score: bool,
    with_metadata: bool,
}

impl Search {
    fn of(params: &Params, now_ms: i64, page: &str) -> Result<Search, ApiError> {
        let time = |name: &str, default| match params.first(name) {
            "" => Ok(default),
            text => parse_time_ms(text)
                .map_err(|error| ApiError::bad_data(format!("invalid time value for '{name}': {error}"))),
        };
        let (start_ms, end_ms) = (time("start", now_ms.saturating_sub(LOOKED_BACK_MS))?, time("end", now_ms)?);
        let matchers = params.matchers().map_err(ApiError::bad_data)?;
        let threshold = match params.first("fuzz_threshold") {
            "" => 0,
            text => parse_go_int(text).ok().filter(|threshold| (0..=100).contains(threshold)).ok_or_else(|| {
                ApiError::bad_data(format!("invalid fuzz_threshold {}: must be 0-100", QuotedText(text)))
            })?,
        };
        let algorithm = match params.first("fuzz_alg") {
            "" => Algorithm::default(),
            name => Algorithm::named(name).ok_or_else(|| {
                let text = "must be one of [subsequence jarowinkler]";
                ApiError::bad_data(format!("unsupported fuzz_alg {}: {text}", QuotedText(name)))
            })?,
        };
        let minds_case = boolean(params, "case_sensitive", true)?;
        let with_score = boolean(params, "include_score", false)?;
        let terms: Vec<String> = params.all("search[]").map(str::to_owned).collect();
        let order = order(params, page, terms.is_empty())?;
        let limit = count(params, "limit")?;
        let batch = count(params, "batch_size")?;
        let with_metadata = page == "metric_names" && boolean(params, "include_metadata", false)?;
        let terms = Terms::new(terms, algorithm, threshold as f64 / 100.0, minds_case);
        Ok(Search { terms, order, matchers, start_ms, end_ms, limit, batch, with_score, with_metadata })
    }

    /// Names and scores in order, and whether there are more.
    fn found(&self, names: Vec<String>, ctx: &QueryContext) -> Result<(Vec<(String, f64)>, bool), ApiError> {
        let mut found = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            if number % NAMES_PER_CHECK == 0 {
                ctx.check().map_err(|error| ApiError::from(QueryError::from(error)))?;
            }
            if let Some(score) = self.terms.score(&name) {
                found.push((name, score));
            }
        }
        found.sort_unstable_by(|(a, of_a), (b, of_b)| match self.order {
            Order::Rising => a.cmp(b),
            Order::Falling => b.cmp(a),
            Order::Score => of_b.partial_cmp(of_a).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b)),
        });
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        Ok((found, has_more))
    }
}

/// A boolean as Go reads it.
fn boolean(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.first(name) {
        "" => Ok(default),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        text => Err(ApiError::bad_data(format!("invalid {name} {}: must be boolean", QuotedText(text)))),
    }
}

/// A number of results; 0 is as good as none.
fn count(params: &Params, name: &str) -> Result<usize, ApiError> {
    match params.first(name) {
        "" => Ok(RESULTS),
        text => match parse_go_int(text).ok().and_then(|count| usize::try_from(count).ok()) {
            Some(0) => Ok(RESULTS),
            Some(count) => Ok(count),
            None => {
                let text = format!("invalid {name} {}: must be non-negative integer", QuotedText(text));
                Err(ApiError::bad_data(text))
            }
        },
    }
}

fn order(params: &Params, page: &str, nothing_searched: bool) -> Result<Order, ApiError> {
    let (by, direction) = (params.first("sort_by"), params.first("sort_dir"));
    let refused = |text: String| Err(ApiError::bad_data(text));
    match (by, direction) {
        ("", direction) if !direction.is_empty() => {
            return refused("sort_dir is only valid when sort_by is set".to_owned());
        }
        ("score", direction) if !direction.is_empty() => {
            return refused("sort_dir is not supported for sort_by=score".to_owned());
        }
        (_, "" | "asc" | "dsc") => {}
        (_, other) => {
            return refused(format!("invalid sort_dir {}: must be \"asc\" or \"dsc\"", QuotedText(other)));
        }
    }
    match by {
        "score" if nothing_searched => refused("sort_by=score requires search[] to be set".to_owned()),
        "score" => Ok(Order::Score),
        "alpha" if direction == "dsc" => Ok(Order::Falling),
        "" | "alpha" => Ok(Order::Rising),
        other => refused(format!("invalid sort_by {} for {page}: must be \"alpha\" or \"score\"", QuotedText(other))),
    }
}

async fn search(
    state: Arc<ApiState>,
    request: Request,
    page: &str,
    field: impl FnOnce(&Params) -> Result<Field, ApiError>,
) -> Result<Response, ApiError> {
    if !state.options.search {
        return Err(ApiError::of_kind(ErrorKind::unavailable(), "search API disabled"));
    }
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let search = Search::of(&params, state.clock.now_ms(), page)?;
    let field = field(&params)?;
    let (backend, buffers) = (state.backend.clone(), state.buffers.clone());
    run(&state, state.options.timeout_max, move |ctx| {
        let (start_ms, end_ms) = (Some(search.start_ms), Some(search.end_ms));
        let what = CatalogRequest { matchers: search.matchers.clone(), start_ms, end_ms, limit: 0 };
        let listed = field.list(&*backend, &what, ctx).map_err(super::catalog::catalog_error)?;
        let bytes = listed.items.iter().map(|name| (name.len() + 64) as u64).sum();
        let _kept = ctx.budget.try_reserve(bytes).map_err(super::body::over_budget)?;
        let (found, has_more) = search.found(listed.items, ctx)?;
        let mut answer = buffers.answer(ctx)?;
        // A line without results tells that there are none.
        let mut batches: Vec<&[(String, f64)]> = found.chunks(search.batch).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for batch in batches {
            write_batch(&mut answer, batch, &search, &*backend, ctx)?;
        }
        answer.reserve(64)?;
        let last = format!("{{\"status\":\"success\",\"has_more\":{has_more}}}\n");
        answer.bytes.extend_from_slice(last.as_bytes());
        Ok(answer)
    })
    .await
    .map(|answer| answer.into_response_of("application/x-ndjson; charset=utf-8"))
}

fn write_batch(
    out: &mut Answer,
    batch: &[(String, f64)],
    search: &Search,
    backend: &dyn QueryBackend,
    ctx: &QueryContext,
) -> Result<(), ApiError> {
    out.reserve(RESULT_BYTES)?;
    out.bytes.extend_from_slice(br#"{"results":["#);
    for (number, (name, score)) in batch.iter().enumerate() {
        out.bytes.extend_from_slice(if number == 0 { br#"{"name":"# } else { br#",{"name":"# });
        write::write_text(out, name)?;
        out.reserve(RESULT_BYTES)?;
        if search.with_score {
            out.bytes.extend_from_slice(format!(",\"score\":{score}").as_bytes());
        }
        if search.with_metadata {
            let families = backend.metadata(Some(name), ctx).map_err(super::catalog::catalog_error)?;
            let newest = families.iter().find(|(family, _)| family == name).and_then(|(_, all)| all.first());
            if let Some(newest) = newest {
                let parts = [("type", newest.family_type.as_str()), ("help", &newest.help), ("unit", &newest.unit)];
                for (key, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
                    out.bytes.extend_from_slice(format!(",\"{key}\":").as_bytes());
                    write::write_text(out, text)?;
                    out.reserve(RESULT_BYTES)?;
                }
            }
        }
        out.bytes.push(b'}');
    }
    out.reserve(RESULT_BYTES)?;
    out.bytes.extend_from_slice(b"]}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use kymo_core::SelectError;

    use super::super::fake::{self, FakeBackend, get, post, state};
    use super::super::{ApiOptions, routes};
    use super::*;

    fn router(is_on: bool) -> Router {
        let backend = FakeBackend::new(|_, _| Err(QueryError::from(SelectError::Cancelled)));
        fake::fill(&backend.storage);
        routes(state(backend).with_options(ApiOptions { search: is_on, ..ApiOptions::default() }))
    }

    /// The samples of the fake are old: all of its time is searched.
    const ALL: &str = "start=0&end=100";

    #[tokio::test]
    async fn it_is_off_unless_switched_on() {
        for page in ["metric_names", "label_names", "label_values"] {
            let (status, body) = get(&router(false), &format!("/api/v1/search/{page}")).await;
            let wanted = r#"{"status":"error","errorType":"unavailable","error":"search API disabled"}"#;
            assert_eq!((status, body.as_str()), (503, wanted));
        }
    }

    #[tokio::test]
    async fn names_are_found_ranked_and_cut_in_lines() {
        let router = router(true);
        let end = |has_more: bool| format!("{{\"status\":\"success\",\"has_more\":{has_more}}}\n");
        for (path, form, lines, has_more) in [
            ("metric_names", "", "{\"results\":[{\"name\":\"down\"},{\"name\":\"up\"}]}\n", false),
            (
                "metric_names",
                "sort_by=alpha&sort_dir=dsc",
                "{\"results\":[{\"name\":\"up\"},{\"name\":\"down\"}]}\n",
                false,
            ),
            ("metric_names", "limit=1", "{\"results\":[{\"name\":\"down\"}]}\n", true),
            (
                "metric_names",
                "batch_size=1",
                "{\"results\":[{\"name\":\"down\"}]}\n{\"results\":[{\"name\":\"up\"}]}\n",
                false,
            ),
            ("metric_names", "search[]=nothing", "{\"results\":[]}\n", false),
            (
                "metric_names",
                "search[]=u&search[]=dw&sort_by=score&include_score=true&include_metadata=1",
                "{\"results\":[{\"name\":\"up\",\"score\":1,\"type\":\"gauge\",\"help\":\"is it \\\"up\\\"?\",\"unit\":\"s\"},\
                 {\"name\":\"down\",\"score\":0.40625,\"type\":\"unknown\"}]}\n",
                false,
            ),
            ("label_names", "search[]=JOB&case_sensitive=false", "{\"results\":[{\"name\":\"job\"}]}\n", false),
            ("label_values", "label=job&match[]=up", "{\"results\":[{\"name\":\"a\"},{\"name\":\"b\"}]}\n", false),
        ] {
            let form = format!("{ALL}&{form}");
            let wanted = (200, format!("{lines}{}", end(has_more)));
            assert_eq!(get(&router, &format!("/api/v1/search/{path}?{form}")).await, wanted, "{path} {form}");
            assert_eq!(post(&router, &format!("/api/v1/search/{path}"), &form).await, wanted, "{path} {form}");
        }
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_in_the_words_of_prometheus() {
        let router = router(true);
        for (page, form, wanted) in [
            ("label_values", "", r#"missing required parameter \"label\""#),
            ("label_names", "start=x", r#"invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#),
            ("label_names", "match[]={}", "match[] must contain at least one non-empty matcher"),
            ("label_names", "fuzz_threshold=101", r#"invalid fuzz_threshold \"101\": must be 0-100"#),
            ("label_names", "fuzz_alg=x", r#"unsupported fuzz_alg \"x\": must be one of [subsequence jarowinkler]"#),
            ("label_names", "case_sensitive=maybe", r#"invalid case_sensitive \"maybe\": must be boolean"#),
            ("label_names", "sort_dir=asc", "sort_dir is only valid when sort_by is set"),
            ("label_names", "sort_by=score&sort_dir=asc", "sort_dir is not supported for sort_by=score"),
            ("label_names", "sort_by=alpha&sort_dir=up", r#"invalid sort_dir \"up\": must be \"asc\" or \"dsc\""#),
            ("label_names", "sort_by=score", "sort_by=score requires search[] to be set"),
            ("label_names", "sort_by=x", r#"invalid sort_by \"x\" for label_names: must be \"alpha\" or \"score\""#),
            ("label_names", "limit=-1", r#"invalid limit \"-1\": must be non-negative integer"#),
            ("label_names", "batch_size=x", r#"invalid batch_size \"x\": must be non-negative integer"#),
        ] {
            let (status, body) = get(&router, &format!("/api/v1/search/{page}?{form}")).await;
            let wanted = format!(r#"{{"status":"error","errorType":"bad_data","error":"{wanted}"}}"#);
            assert_eq!((status, body), (400, wanted), "{page} {form}");
        }
    }
}
