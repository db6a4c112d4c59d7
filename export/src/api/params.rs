//! Parameters of a request: the query string and, for a POST, the form; and how each kind is read.
//!
//! Texts of refusals are those of Prometheus' `web/api/v1/api.go`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::{Method, header};
use kymo_core::storage::Tier;
use kymo_core::text::{parse_duration_ns, parse_float, parse_time_ms};
use kymo_core::{ErrorKind, Matcher};

use super::queue::Client;
use crate::peer::Peer;
use crate::status::ApiError;

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_SECOND: f64 = 1e9;
/// The type of forms that are read.
const FORM: &str = "application/x-www-form-urlencoded";

/// Names and values in the order Go sees them: the form before the query string; and who sent them.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>, Client);

impl Params {
    /// Reads a request's parameters; a body that is no form is left alone.
    pub(crate) async fn read(request: Request<Body>, form_bytes_max: usize) -> Result<Params, ApiError> {
        let (head, body) = request.into_parts();
        let mut params = Params(Vec::new(), head.extensions.get::<Peer>().map(|peer| peer.0.ip()));
        if head.method == Method::POST && is_form(&head.headers) {
            let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let form = axum::body::to_bytes(body, form_bytes_max).await;
            let form = form.map_err(|error| refused_form(&error, form_bytes_max, announced))?;
            params.add(&form);
        }
        params.add(head.uri.query().unwrap_or_default().as_bytes());
        Ok(params)
    }

    fn add(&mut self, encoded: &[u8]) {
        self.0.extend(form_urlencoded::parse(encoded).into_owned());
    }

    /// The first value of `name`; empty when there is none, which means the same everywhere.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Who sent the request.
    pub(crate) fn client(&self) -> Client {
        self.1
    }

    /// Whether `name` is given and `true`.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.first(name), "true" | "1")
    }

    /// Whether `name` is given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A moment that must be given.
    pub(crate) fn time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time_ms(self.first(name)).map_err(|error| ApiError::invalid_parameter(name, error))
    }

    /// A moment that may be left out.
    pub(crate) fn optional_time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.first(name) {
            "" => Ok(None),
            text => parse_time_ms(text).map(Some).map_err(|error| {
                ApiError::invalid_parameter(name, format_args!("invalid time value for '{name}': {error}"))
            }),
        }
    }

    /// `limit`: most entries of the answer, 0 for no limit.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.first("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let limit = parse_go_int(text).map_err(|reason| ApiError::invalid_parameter("limit", reason))?;
        usize::try_from(limit).map_err(|_| ApiError::invalid_parameter("limit", "limit must be non-negative"))
    }

    /// `step` in nanoseconds, above 0.
    pub(crate) fn step_ns(&self) -> Result<i64, ApiError> {
        let step = parse_api_duration_ns(self.first("step")).map_err(|e| ApiError::invalid_parameter("step", e))?;
        // Evaluation is in milliseconds: what rounds to none is as good as zero.
        if step < NS_PER_MS {
            return Err(ApiError::invalid_parameter(
                "step",
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        Ok(step)
    }

    /// `timeout`, at most `max`; `max` if it is not given. One that is not positive has passed already.
    pub(crate) fn timeout(&self, max: Duration) -> Result<Duration, ApiError> {
        match self.first("timeout") {
            "" => Ok(max),
            text => {
                let ns = parse_api_duration_ns(text).map_err(|e| ApiError::invalid_parameter("timeout", e))?;
                Ok(Duration::from_nanos(u64::try_from(ns).unwrap_or(0)).min(max))
            }
        }
    }

    /// `lookback_delta`; `None` for the backend's own.
    pub(crate) fn lookback(&self) -> Result<Option<Duration>, ApiError> {
        match self.first("lookback_delta") {
            "" => Ok(None),
            text => match parse_api_duration_ns(text) {
                Ok(ns) => Ok(u64::try_from(ns).ok().filter(|ns| *ns > 0).map(Duration::from_nanos)),
                Err(reason) => Err(ApiError::bad_data(format!("error parsing lookback delta duration: {reason}"))),
            },
        }
    }

    /// `tier`; `None` for the backend's choice, which is also `auto`.
    pub(crate) fn tier(&self) -> Result<Option<Tier>, ApiError> {
        match self.first("tier") {
            "" | "auto" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::invalid_parameter("tier", format_args!("expected raw, 5m, 1h or auto, got {text:?}"))
            }),
        }
    }

    /// All `match[]`, each a list of matchers of which one does not match the empty value.
    ///
    /// The reason is left bare: only `series` names the parameter in front of it, as Prometheus does.
    pub(crate) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, String> {
        let lists = self.all("match[]").map(super::selector::parse).collect::<Result<Vec<_>, _>>()?;
        if lists.iter().any(|list| list.iter().all(Matcher::matches_empty)) {
            return Err("match[] must contain at least one non-empty matcher".to_owned());
        }
        Ok(lists)
    }
}

fn is_form(headers: &http::HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
}

fn refused_form(error: &axum::Error, form_bytes_max: usize, announced: Option<&str>) -> ApiError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = cause {
        if at.is::<http_body_util::LengthLimitError>() {
            let need = announced.map(|length| format!(" of {length} bytes")).unwrap_or_default();
            let text = format!(
                "error parsing form values: the form{need} is longer than the limit of {form_bytes_max} bytes, which is \
                 fixed"
            );
            return ApiError::of_kind(ErrorKind::TooLarge, text);
        }
        cause = at.source();
    }
    ApiError::bad_data(format!("error parsing form values: {error}"))
}

/// Reads a duration as float seconds or as text like `1m30s`.
fn parse_api_duration_ns(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = parse_float(text) {
        let ns = seconds * NS_PER_SECOND;
        if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
            return Err(format!("cannot parse {} to a valid duration. It overflows int64", quoted(text)));
        }
        return Ok(ns as i64);
    }
    parse_duration_ns(text).map_err(|_| format!("cannot parse {} to a valid duration", quoted(text)))
}

/// Reads a decimal integer; the refusals are those of Go's `strconv.Atoi`.
pub(crate) fn parse_go_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {reason}", quoted(text))
    })
}

fn quoted(text: &str) -> String {
    kymo_core::text::QuotedText(text).to_string()
}
