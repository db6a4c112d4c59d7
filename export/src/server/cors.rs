//! Cross-origin headers as Prometheus sends them.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use kymo_core::{MatchOp, Matcher};

/// Which origins may read answers.
#[derive(Debug, Clone, Default)]
pub enum CorsOrigins {
    /// Every page (Prometheus' default, `web.cors.origin=".*"`).
    #[default]
    Any,
    /// Origins that the expression matches as a whole.
    Matching(Box<Matcher>),
    /// No page of another origin: no headers are sent at all.
    None,
}

impl CorsOrigins {
    /// Origins that match a regular expression as a whole.
    ///
    /// # Errors
    /// When the expression is not one.
    pub fn matching(expression: &str) -> Result<CorsOrigins, kymo_core::matcher::MatcherError> {
        Ok(CorsOrigins::Matching(Box::new(Matcher::new("origin", MatchOp::Regex, expression)?)))
    }

    fn write(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let allowed = match self {
            CorsOrigins::None => return,
            CorsOrigins::Any => Some(HeaderValue::from_static("*")),
            CorsOrigins::Matching(matcher) => {
                origin.to_str().is_ok_and(|text| matcher.matches(text)).then(|| origin.clone())
            }
        };
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Accept, Authorization, Content-Type, Origin"),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(allowed) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }
}

/// Answers every `OPTIONS` with 204, before any token is asked for: a browser's preflight has none.
pub(super) async fn answer<F: Future<Output = Response>>(
    origins: &CorsOrigins,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response =
        if request.method() == Method::OPTIONS { StatusCode::NO_CONTENT.into_response() } else { next(request).await };
    if let Some(origin) = origin {
        origins.write(&origin, response.headers_mut());
    }
    response
}
