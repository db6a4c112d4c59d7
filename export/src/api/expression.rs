//! `format_query` and `parse_query`: an expression laid out, and as a tree. Nothing is evaluated.

use axum::extract::{Request, State};
use axum::response::Response;
use kymo_query::parser::{ParseError, format, parse};

use super::params::Params;
use super::{Shared, run, write};
use crate::json::write_string;
use crate::status::ApiError;

/// What stands around the data.
const FRAME_BYTES: usize = 64;

/// `GET` and `POST /api/v1/format_query`
pub(super) async fn format_query(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let text = params.first("query").to_owned();
    let (buffers, options) = (state.buffers.clone(), state.options.parse_options());
    run(&state, state.options.timeout_max, move |ctx| {
        let formatted = format(&text, &options).map_err(|error| refused(&error))?;
        let mut answer = buffers.answer(ctx)?;
        answer.reserve(FRAME_BYTES)?;
        answer.bytes.extend_from_slice(br#"{"status":"success","data":"#);
        write::write_text(&mut answer, &formatted)?;
        answer.bytes.push(b'}');
        Ok(answer)
    })
    .await
    .map(|answer| answer.into_json())
}

/// `GET` and `POST /api/v1/parse_query`
pub(super) async fn parse_query(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let text = params.first("query").to_owned();
    let (buffers, options) = (state.buffers.clone(), state.options.parse_options());
    run(&state, state.options.timeout_max, move |ctx| {
        let ast = parse(&text, &options).map_err(|error| refused(&error))?;
        let mut tree = Vec::new();
        ast.write_json(&mut tree, write_string);
        let mut answer = buffers.answer(ctx)?;
        answer.reserve(FRAME_BYTES + tree.len())?;
        answer.bytes.extend_from_slice(br#"{"status":"success","data":"#);
        answer.bytes.extend_from_slice(&tree);
        answer.bytes.push(b'}');
        Ok(answer)
    })
    .await
    .map(|answer| answer.into_json())
}

fn refused(error: &ParseError) -> ApiError {
    ApiError::invalid_parameter("query", error)
}
