//! `query_exemplars`: traced observations of the series an expression names.

use axum::extract::{Request, State};
use axum::response::Response;
use kymo_core::text::{write_float_json, write_timestamp_seconds};
use kymo_core::{ErrorKind, Exemplar, Labels};

use super::body::Answer;
use super::params::Params;
use super::{Shared, run, write};
use crate::status::ApiError;

/// Most bytes of an exemplar beside its labels: keys, a float and a timestamp.
const EXEMPLAR_BYTES_MAX: usize = 128;

/// `GET` and `POST /api/v1/query_exemplars`
pub(super) async fn query_exemplars(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let start_ms = params.optional_time("start")?.unwrap_or(i64::MIN);
    let end_ms = params.optional_time("end")?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let text = params.first("query").to_owned();
    let (backend, buffers) = (state.backend.clone(), state.buffers.clone());
    run(&state, state.options.timeout_max, move |ctx| {
        let found = backend.exemplars(&text, start_ms, end_ms, ctx).map_err(|error| match error.kind {
            ErrorKind::Invalid => ApiError::bad_data(error.message),
            kind => ApiError::of_kind(kind, error.message),
        })?;
        let mut answer = buffers.answer(ctx)?;
        write::write_data_list(&mut answer, &found, &Default::default(), write_series)?;
        Ok(answer)
    })
    .await
    .map(Answer::into_json)
}

fn write_series(out: &mut Answer, (labels, exemplars): &(Labels, Vec<Exemplar>)) -> Result<(), ApiError> {
    out.reserve(EXEMPLAR_BYTES_MAX)?;
    out.bytes.extend_from_slice(br#"{"seriesLabels":"#);
    write::write_labels(out, labels)?;
    out.reserve(EXEMPLAR_BYTES_MAX)?;
    out.bytes.extend_from_slice(br#","exemplars":["#);
    for (number, exemplar) in exemplars.iter().enumerate() {
        out.reserve(EXEMPLAR_BYTES_MAX)?;
        out.bytes.extend_from_slice(if number == 0 { br#"{"labels":"# } else { br#",{"labels":"# });
        write::write_labels(out, &exemplar.labels)?;
        out.reserve(EXEMPLAR_BYTES_MAX)?;
        out.bytes.extend_from_slice(br#","value":""#);
        write_float_json(&mut out.bytes, exemplar.value);
        out.bytes.extend_from_slice(br#"","timestamp":"#);
        write_timestamp_seconds(&mut out.bytes, exemplar.time_ms);
        out.bytes.push(b'}');
    }
    out.reserve(2)?;
    out.bytes.extend_from_slice(b"]}");
    Ok(())
}
