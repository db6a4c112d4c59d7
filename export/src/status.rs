//! What a failure becomes on the HTTP surface: the one mapping of error kinds, and the API's envelope.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use kymo_core::ErrorKind;
use kymo_core::query::{QueryError, QueryPhase};

use crate::json;

/// The `errorType` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorType {
    Timeout,
    Canceled,
    Execution,
    BadData,
    Internal,
    NotFound,
    Unavailable,
}

impl ErrorType {
    fn as_str(self) -> &'static str {
        match self {
            ErrorType::Timeout => "timeout",
            ErrorType::Canceled => "canceled",
            ErrorType::Execution => "execution",
            ErrorType::BadData => "bad_data",
            ErrorType::Internal => "internal",
            ErrorType::NotFound => "not_found",
            ErrorType::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            // 499: the client closed the request; not in any RFC, but what Prometheus answers.
            ErrorType::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ErrorType::Timeout | ErrorType::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorType::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorType::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// A failure on its way to a client of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    error_type: ErrorType,
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

/// What sets the time that a query may take.
const SETTING: &str = "(the parameter timeout sets it, up to --query-timeout)";

impl ApiError {
    fn new(error_type: ErrorType, message: impl Into<String>) -> ApiError {
        ApiError { error_type, status: error_type.status(), message: message.into(), retry_after: None }
    }

    /// A fault of ours.
    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorType::Internal, message)
    }

    /// An error of `kind` that was found while doing what was asked, not in how it was asked.
    pub(crate) fn of_kind(kind: ErrorKind, message: impl Into<String>) -> ApiError {
        let error_type = match kind {
            ErrorKind::Invalid | ErrorKind::Limit => ErrorType::Execution,
            ErrorKind::NotFound => ErrorType::NotFound,
            ErrorKind::TooLarge => ErrorType::BadData,
            ErrorKind::Unavailable { .. } => ErrorType::Unavailable,
            ErrorKind::Timeout => ErrorType::Timeout,
            ErrorKind::Cancelled => ErrorType::Canceled,
            _ => ErrorType::Internal,
        };
        let mut error = ApiError::new(error_type, message);
        match kind {
            ErrorKind::TooLarge => error.status = StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unavailable { retry_after } => error.retry_after = Some(retry_after),
            _ => {}
        }
        error
    }

    /// What is asked for is known, and not built.
    pub(crate) fn not_implemented(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::NOT_IMPLEMENTED, ..ApiError::new(ErrorType::Unavailable, message) }
    }

    /// The request itself is wrong.
    pub(crate) fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorType::BadData, message)
    }

    /// One parameter is wrong.
    pub(crate) fn invalid_parameter(name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    /// The same; an end for want of time names how much there was and what sets it, behind Prometheus' words.
    pub(crate) fn with_time_limit(mut self, timeout: Duration) -> ApiError {
        // A server that was asked in turn may have said so already.
        if self.error_type == ErrorType::Timeout && !self.message.ends_with(SETTING) {
            let text = format!(": more was needed than {timeout:?}, which is the limit {SETTING}");
            self.message.push_str(&text);
        }
        self
    }

    /// The status it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it ran out of time.
    pub(crate) fn is_timeout(&self) -> bool {
        self.error_type == ErrorType::Timeout
    }

    /// The text for the client.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        match (error.kind, error.phase) {
            (ErrorKind::Invalid, QueryPhase::Parse) => ApiError::invalid_parameter("query", error.message),
            (kind, _) => ApiError::of_kind(kind, error.message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(64 + self.message.len());
        body.extend_from_slice(br#"{"status":"error","errorType":""#);
        body.extend_from_slice(self.error_type.as_str().as_bytes());
        body.extend_from_slice(br#"","error":"#);
        json::write_string(&mut body, &self.message);
        body.push(b'}');
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up, so that "now" is never said.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_type_and_status() {
        let rows = [
            (
                QueryError::parse("1:3: parse error: x", None),
                400,
                "bad_data",
                r#"invalid parameter \"query\": 1:3: parse error: x"#,
            ),
            (QueryError::execute(ErrorKind::Invalid, "x"), 422, "execution", "x"),
            (QueryError::execute(ErrorKind::Limit, "x"), 422, "execution", "x"),
            (QueryError::execute(ErrorKind::NotFound, "x"), 404, "not_found", "x"),
            (QueryError::execute(ErrorKind::TooLarge, "x"), 413, "bad_data", "x"),
            (QueryError::execute(ErrorKind::unavailable(), "x"), 503, "unavailable", "x"),
            (QueryError::execute(ErrorKind::Timeout, "x"), 503, "timeout", "x"),
            (QueryError::execute(ErrorKind::Cancelled, "x"), 499, "canceled", "x"),
            (QueryError::execute(ErrorKind::Internal, "x"), 500, "internal", "x"),
        ];
        for (error, status, error_type, message) in rows {
            let kind = error.kind;
            let api = ApiError::from(error);
            assert_eq!((api.status.as_u16(), api.error_type.as_str()), (status, error_type), "{kind:?}");
            assert_eq!(api.message().replace('"', "\\\""), message);
            let waits = api.into_response().headers().get(header::RETRY_AFTER).map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(waits.as_deref(), (error_type == "unavailable").then_some("1"));
        }
    }
}
