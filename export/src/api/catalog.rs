//! `series`, `labels`, `label/<name>/values` and `metadata`: what there is, without samples.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use kymo_core::query::{Annotations, CatalogRequest, Listed, QueryError};
use kymo_core::{ErrorKind, Metadata, QueryBackend, QueryContext};

use super::body::Answer;
use super::brief::Question;
use super::params::Params;
use super::run::run_known;
use super::{ApiState, Shared, run, write};
use crate::label_name;
use crate::status::ApiError;

/// `GET` and `POST /api/v1/series`
pub(super) async fn series(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    if !params.has("match[]") {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let mut what = catalog_range(&params)?;
    what.matchers = params.matchers().map_err(|reason| ApiError::invalid_parameter("match[]", reason))?;
    let question = question(&state, &params, "series", "");
    list(&state, question, move |backend, ctx| backend.series(&what, ctx), write::write_labels).await
}

/// `GET` and `POST /api/v1/labels`
pub(super) async fn label_names(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let what = catalog_request(&params)?;
    let question = question(&state, &params, "labels", "");
    let ask = move |backend: &dyn QueryBackend, ctx: &QueryContext| backend.label_names(&what, ctx);
    list(&state, question, ask, |out, name| write::write_text(out, name)).await
}

/// `GET /api/v1/label/<name>/values`
pub(super) async fn label_values(
    State(state): Shared,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let name = label_name::unescape(&name);
    let what = catalog_request(&params)?;
    let question = question(&state, &params, "values", &name);
    let (backend, buffers) = (state.backend.clone(), state.buffers.clone());
    run_known(&state, state.options.timeout_max, question, move |ctx| {
        let mut answer = buffers.answer(ctx)?;
        write::write_data_texts(&mut answer, |visit| {
            backend.visit_label_values(&name, &what, ctx, visit).map_err(catalog_error)
        })?;
        Ok(answer)
    })
    .await
    .map(Answer::into_json)
}

/// What is asked for, whatever the time.
fn question(state: &ApiState, params: &Params, list: &str, name: &str) -> Question {
    let selectors: Vec<&str> = params.all("match[]").collect();
    state.question((list, name, selectors))
}

fn catalog_range(params: &Params) -> Result<CatalogRequest, ApiError> {
    let limit = params.limit()?;
    let start_ms = params.optional_time("start")?;
    let end_ms = params.optional_time("end")?;
    Ok(CatalogRequest { matchers: Vec::new(), start_ms, end_ms, limit })
}

fn catalog_request(params: &Params) -> Result<CatalogRequest, ApiError> {
    let mut what = catalog_range(params)?;
    what.matchers = params.matchers().map_err(ApiError::bad_data)?;
    Ok(what)
}

async fn list<T: 'static>(
    state: &ApiState,
    question: Question,
    ask: impl Fn(&dyn QueryBackend, &QueryContext) -> Result<Listed<T>, QueryError> + Send + 'static,
    write: impl Fn(&mut Answer, &T) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (backend, buffers) = (state.backend.clone(), state.buffers.clone());
    run_known(state, state.options.timeout_max, question, move |ctx| {
        let listed = ask(&*backend, ctx).map_err(catalog_error)?;
        let mut answer = buffers.answer(ctx)?;
        write::write_data_list(&mut answer, &listed.items, &listed.annotations, &write)?;
        Ok(answer)
    })
    .await
    .map(Answer::into_json)
}

/// There is no `query` parameter here to blame, whatever the backend found.
pub(super) fn catalog_error(error: QueryError) -> ApiError {
    match error.kind {
        ErrorKind::Invalid => ApiError::bad_data(error.message),
        kind => ApiError::of_kind(kind, error.message),
    }
}

/// `GET /api/v1/metadata`
pub(super) async fn metadata(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let families_max = count(&params, "limit")?;
    let entries_max = count(&params, "limit_per_metric")?;
    let family = Some(params.first("metric").to_owned()).filter(|name| !name.is_empty());
    let (backend, buffers) = (state.backend.clone(), state.buffers.clone());
    run(&state, state.options.timeout_max, move |ctx| {
        let mut families = backend.metadata(family.as_deref(), ctx).map_err(catalog_error)?;
        families.truncate(families_max);
        let mut answer = buffers.answer(ctx)?;
        write_families(&mut answer, &families, entries_max)?;
        Ok(answer)
    })
    .await
    .map(Answer::into_json)
}

/// A limit that is off when absent or negative; 0 is a limit here.
pub(super) fn count(params: &Params, name: &str) -> Result<usize, ApiError> {
    match params.first(name) {
        "" => Ok(usize::MAX),
        text => match super::params::parse_go_int(text) {
            Ok(limit) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
        },
    }
}

fn write_families(out: &mut Answer, families: &[(String, Vec<Metadata>)], entries_max: usize) -> Result<(), ApiError> {
    // `write_text` leaves room for the few bytes between texts.
    out.reserve(64)?;
    out.bytes.extend_from_slice(br#"{"status":"success","data":{"#);
    for (number, (family, versions)) in families.iter().enumerate() {
        if number > 0 {
            out.bytes.push(b',');
        }
        write::write_text(out, family)?;
        out.bytes.extend_from_slice(b":[");
        for (number, metadata) in versions.iter().take(entries_max).enumerate() {
            out.bytes.extend_from_slice(if number == 0 { br#"{"type":"# } else { br#",{"type":"# });
            write::write_text(out, metadata.family_type.as_str())?;
            out.bytes.extend_from_slice(br#","unit":"#);
            write::write_text(out, &metadata.unit)?;
            out.bytes.extend_from_slice(br#","help":"#);
            write::write_text(out, &metadata.help)?;
            out.bytes.push(b'}');
        }
        out.bytes.push(b']');
    }
    out.bytes.push(b'}');
    write::write_end(out, &Annotations::default())
}
