//! OTLP metrics, and traces as metrics, receiving side, as opentelemetry-proto 1.11 defines them.
//!
//! ```text
//!   HTTP, gRPC ─► compression ─► wire | json ──► translate ──► append ─► outcome ─► answer, ledger
//!                                       visit    (known series,
//!                                                 names, labels)
//! ```
//!
//! Two drivers (`wire` of protobuf, `messages` of JSON) tell one listener what a request says (`visit`); `translate`
//! makes rows of it. Series that came before are known by the bytes of their attributes (`known`,
//! `series_cache`), so that a request of known series allocates nothing. A receiver of another signal
//! stands beside this one: it has `request`, `compression` and `status` to use, and its own listener, as `traces` has.
//!
//! [`Receiver`] is the whole of it without a network, synchronous; [`routes`] puts it behind `POST /v1/metrics` and
//! `POST /v1/traces`, and [`grpc_service`] behind `MetricsService/Export` and `TraceService/Export`.
//!
//! Rules that hold here: (1) a request is decoded whole before anything of it is appended, so one that cannot be decoded
//! leaves nothing behind; (2) a data point is refused alone, or its metric where the metric cannot be read, and the
//! rest is stored; (3) every data point of an accepted request is in the ledger exactly once; (4) memory is reserved
//! before it is taken, for a body as for what it unpacks to.
//!
//! Of a histogram's `min` and `max` nothing is kept unless [`OtlpConfig::keep_min_max`] is set. Delta points
//! are increments, added up by the engine. Exemplars of points that are stored are stored too, up to OpenMetrics' limit on their labels.

mod base64;
mod compression;
mod config;
#[cfg(test)]
mod drivers;
mod error;
mod exemplar;
mod grpc;
mod histogram;
mod http;
mod json;
mod known;
mod labels;
mod memory;
mod message;
mod messages;
pub mod metrics;
mod name;
#[cfg(any(test, feature = "fuzz"))]
mod oracle;
mod outcome;
mod preview;
mod receiver;
mod request;
mod status;
mod traces;
mod translate;
mod value;
mod visit;
mod wire;
mod writer;

pub use compression::Coding;
pub use config::{OtlpConfig, OtlpConfigError, OtlpLimits, TranslationStrategy};
pub use error::{ExportError, Reason};
pub use grpc::{grpc_service, serve_grpc, serve_http2};
pub use http::{is_path, restate, routes, standalone_routes};
#[cfg(feature = "fuzz")]
pub use oracle::assert_drivers_agree;
pub use outcome::{Outcome, Refusal};
pub use preview::{Preview, Written};
pub use receiver::{KNOWN_SERIES_BYTES_MAX, Receiver};
pub use request::OtlpState;
#[cfg(feature = "fuzz")]
pub use traces::assert_span_drivers_agree;
pub use traces::{GENERATION_MAX, OPERATIONS_PER_SERVICE_MAX, SERVICES_MAX, SUBJECTS_MAX, SpanOutcome, WAITING_MAX};

/// The source under which the loss ledger books metrics that come this way, in data points.
pub const SOURCE: &str = "otlp";
/// The same of spans, in spans.
pub const TRACES_SOURCE: &str = "otlp_traces";

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
