//! OTLP metrics, receiving side, as opentelemetry-proto 1.11 defines them.
//!
//! ```text
//!   HTTP, gRPC ─► compression ─► protobuf | JSON ─► translate ─► append ─► outcome ─► answer, ledger
//!                                                (names, labels,
//!                                                 buckets, markers)
//! ```
//!
//! [`Receiver`] is the whole of it without a network, synchronous; [`routes`] puts it behind `POST /v1/metrics`, and
//! [`grpc_service`] behind `MetricsService/Export`.
//!
//! Rules that hold here: (1) a request is decoded whole before anything of it is appended, so one that cannot be decoded
//! leaves nothing behind; (2) a data point is refused alone, or its metric where the metric cannot be read, and the
//! rest is stored; (3) every data point of an accepted request is in the ledger exactly once; (4) memory is reserved
//! before it is taken, for a body as for what it unpacks to.
//!
//! Of a histogram's `min` and `max` nothing is kept unless [`OtlpConfig::keep_min_max`] is set. Delta temporality is
//! refused for now. Exemplars of points that are stored are stored too, up to OpenMetrics' limit on their labels.

mod base64;
mod compression;
mod config;
mod error;
mod exemplar;
mod grpc;
mod histogram;
mod http;
mod json;
mod labels;
mod memory;
mod message;
pub mod metrics;
mod name;
mod outcome;
mod receiver;
mod request;
mod status;
mod translate;
mod value;

pub use compression::Coding;
pub use config::{OtlpConfig, OtlpConfigError, OtlpLimits, TranslationStrategy};
pub use error::{ExportError, Reason};
pub use grpc::{grpc_service, serve_grpc, serve_http2};
pub use http::{routes, standalone_routes};
pub use outcome::{Outcome, Refusal};
pub use receiver::Receiver;
pub use request::OtlpState;

/// The source under which the loss ledger books what comes this way, in data points.
pub const SOURCE: &str = "otlp";

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP's JSON.
    Json,
}

impl Encoding {
    /// The content type of requests and answers.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}
