//! What every error that crosses a crate can say of itself.

use std::time::Duration;

/// The kind of a failure, from which each surface derives its status (HTTP, gRPC, exit code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller sent something wrong; repeating it cannot help.
    Invalid,
    /// What was asked for is not there.
    NotFound,
    /// The request is larger than the named limit allows.
    TooLarge,
    /// A limit of the system was reached by this request alone.
    Limit,
    /// The system cannot take it now; the same request may succeed after the stated time.
    Unavailable {
        /// How long a client should wait.
        retry_after: Duration,
    },
    /// The deadline passed.
    Timeout,
    /// The caller went away or asked to stop.
    Cancelled,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// [`ErrorKind::Unavailable`] with the usual second.
    #[must_use]
    pub const fn unavailable() -> ErrorKind {
        ErrorKind::Unavailable { retry_after: Duration::from_secs(1) }
    }
}
