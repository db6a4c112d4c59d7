//! `google.rpc.Status`: how every refusal is told, in HTTP bodies and in gRPC trailers.

use std::time::Duration;

use kymo_core::ErrorKind;
use prost::Message;

use super::Encoding;

/// Bytes of a message that are sent, so that an answer stays small whatever was wrong.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// gRPC's status codes, as far as they are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub(super) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// The number in decimal.
    pub(super) fn number(self) -> &'static str {
        match self {
            Code::Ok => "0",
            Code::InvalidArgument => "3",
            Code::NotFound => "5",
            Code::PermissionDenied => "7",
            Code::ResourceExhausted => "8",
            Code::Unimplemented => "12",
            Code::Internal => "13",
            Code::Unavailable => "14",
            Code::Unauthenticated => "16",
        }
    }

    /// What stands for a status of HTTP.
    pub(super) fn of_http(status: http::StatusCode) -> Code {
        match status.as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            405 => Code::Unimplemented,
            413 => Code::ResourceExhausted,
            429 | 502..=504 => Code::Unavailable,
            400..=499 => Code::InvalidArgument,
            _ => Code::Internal,
        }
    }

    /// Transient failures are `Unavailable`; clients take no other code of these for a reason to try again.
    pub(super) fn of(kind: ErrorKind) -> Code {
        match kind {
            ErrorKind::Invalid => Code::InvalidArgument,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::TooLarge | ErrorKind::Limit => Code::ResourceExhausted,
            ErrorKind::Unavailable { .. } | ErrorKind::Timeout | ErrorKind::Cancelled => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RpcStatus {
    pub(super) code: Code,
    pub(super) message: String,
    /// When to try again; only with [`Code::Unavailable`].
    pub(super) retry_after: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct WireStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<WireDuration>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct WireDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl RpcStatus {
    pub(super) fn new(code: Code, message: impl Into<String>) -> RpcStatus {
        let mut message = message.into();
        let cut = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|&at| message.is_char_boundary(at));
        message.truncate(cut.unwrap_or(0));
        RpcStatus { code, message, retry_after: None }
    }

    /// Of a failure.
    pub(super) fn of(kind: ErrorKind, message: String) -> RpcStatus {
        let retry_after = match kind {
            ErrorKind::Unavailable { retry_after } => Some(retry_after),
            ErrorKind::Timeout | ErrorKind::Cancelled => Some(Duration::from_secs(1)),
            _ => None,
        };
        RpcStatus { retry_after, ..RpcStatus::new(Code::of(kind), message) }
    }

    /// The encoded message, `RetryInfo` included.
    pub(super) fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let (code, seconds) = (self.code as i32, |delay: Duration| delay.as_secs());
        match encoding {
            Encoding::Protobuf => {
                let detail = |delay: Duration| {
                    let (seconds, nanos) = (seconds(delay) as i64, delay.subsec_nanos() as i32);
                    let info = RetryInfo { retry_delay: Some(WireDuration { seconds, nanos }) };
                    Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() }
                };
                let details = self.retry_after.map(detail).into_iter().collect();
                WireStatus { code, message: self.message.clone(), details }.encode_to_vec()
            }
            Encoding::Json => {
                let mut status = serde_json::json!({"code": code, "message": self.message});
                if let Some(delay) = self.retry_after {
                    let delay = format!("{}.{:03}s", seconds(delay), delay.subsec_millis());
                    status["details"] = serde_json::json!([{"@type": RETRY_INFO, "retryDelay": delay}]);
                }
                status.to_string().into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_codes_and_only_transient_ones_say_when_to_retry() {
        let unavailable = ErrorKind::Unavailable { retry_after: Duration::from_millis(1_500) };
        for (kind, code, retry_ms) in [
            (ErrorKind::Invalid, 3, None),
            (ErrorKind::NotFound, 5, None),
            (ErrorKind::TooLarge, 8, None),
            (ErrorKind::Limit, 8, None),
            (ErrorKind::Internal, 13, None),
            (ErrorKind::Timeout, 14, Some(1_000)),
            (unavailable, 14, Some(1_500)),
        ] {
            let status = RpcStatus::of(kind, String::new());
            let retry_ms_of = status.retry_after.map(|delay| delay.as_millis());
            assert_eq!((status.code as i32, retry_ms_of), (code, retry_ms), "{kind:?}");
            assert_eq!(status.code.number(), code.to_string());
        }
        let status = RpcStatus::of(unavailable, "later".into());
        let json: serde_json::Value = serde_json::from_slice(&status.encode(Encoding::Json)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"code": 14, "message": "later", "details": [{"@type": RETRY_INFO, "retryDelay": "1.500s"}]})
        );
        let wire = WireStatus::decode(&status.encode(Encoding::Protobuf)[..]).unwrap();
        let info = RetryInfo::decode(&wire.details[0].value[..]).unwrap();
        assert_eq!(info.retry_delay, Some(WireDuration { seconds: 1, nanos: 500_000_000 }));
    }

    #[test]
    fn an_endless_message_is_cut() {
        let status = RpcStatus::new(Code::InvalidArgument, "é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(status.message.len(), MESSAGE_BYTES_MAX);
    }
}
