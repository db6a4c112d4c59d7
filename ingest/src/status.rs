//! What an error becomes in HTTP.

use http::StatusCode;
use kymo_core::ErrorKind;

/// The status of an error of this kind, and the seconds for `Retry-After`.
///
/// Senders of remote write give up on every 4xx, so only what repeating cannot help becomes one; never 429, which
/// Prometheus drops on by default.
pub(crate) fn status(kind: ErrorKind) -> (StatusCode, Option<u64>) {
    match kind {
        ErrorKind::Invalid | ErrorKind::Limit => (StatusCode::BAD_REQUEST, None),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, None),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
        ErrorKind::Unavailable { retry_after } => {
            // Rounded up: zero would ask for a retry at once.
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            (StatusCode::SERVICE_UNAVAILABLE, Some(seconds.max(1)))
        }
        ErrorKind::Timeout | ErrorKind::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_kind_of_error_becomes_429_and_unavailable_always_says_when() {
        let unavailable = |ms| ErrorKind::Unavailable { retry_after: Duration::from_millis(ms) };
        let table = [
            (ErrorKind::Invalid, 400, None),
            (ErrorKind::NotFound, 404, None),
            (ErrorKind::TooLarge, 413, None),
            (ErrorKind::Limit, 400, None),
            (unavailable(0), 503, Some(1)),
            (unavailable(1_500), 503, Some(2)),
            (ErrorKind::Timeout, 503, Some(1)),
            (ErrorKind::Cancelled, 503, Some(1)),
            (ErrorKind::Internal, 500, None),
        ];
        for (kind, code, retry_after) in table {
            let (status, seconds) = status(kind);
            assert_eq!((status.as_u16(), seconds), (code, retry_after), "{kind:?}");
        }
    }
}
