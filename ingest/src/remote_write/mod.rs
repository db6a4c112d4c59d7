//! Prometheus remote write, versions 1.0 and 2.0-rc.4, receiving side.
//!
//! ```text
//!   body ─► snappy ─► v1 | v2 ─► rows ─► append ─► outcome ─► status, headers, ledger
//!                       │  ▲                │
//!             label bytes  refs             new refs, unknown refs
//!                       ▼  │                ▼
//!                      cache of known series
//! ```
//!
//! [`Receiver`] is the whole of it without HTTP, synchronous; [`handler`] puts it behind `/api/v1/write`.
//!
//! Rules that hold here: (1) a request is decoded whole before anything of it is appended, so one that cannot
//! be decoded leaves nothing behind; (2) what is valid in a request is stored, whatever stands beside it; (3) anything
//! not stored makes the answer an error; (4) a sample is in the ledger exactly once, unless its sender is
//! told to send it again.

mod config;
mod error;
#[cfg(feature = "http")]
pub mod handler;
mod histogram;
mod meter;
mod naming;
#[cfg(feature = "http")]
mod negotiate;
mod outcome;
mod receiver;
mod rows;
mod snappy;
mod v1;
mod v2;

pub use config::{BODY_BYTES_CAP, RemoteWriteConfig};
pub use error::{Reason, WriteError};
pub use outcome::{Outcome, Refusal, Written};
pub use receiver::{Receiver, ReceiverParts};

/// The source under which the loss ledger books what comes this way.
pub const SOURCE: &str = "remote_write";

/// Which message a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Remote write 1.0: `prometheus.WriteRequest`.
    V1,
    /// Remote write 2.0: `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The full name of the version's message, as the content type gives it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Version::V1 => "prometheus.WriteRequest",
            Version::V2 => "io.prometheus.write.v2.Request",
        }
    }
}
