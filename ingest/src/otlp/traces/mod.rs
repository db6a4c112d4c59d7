//! Spans become metrics: they are counted and not stored.
//!
//! ```text
//!   wire | messages ──► gather ──► spans ──► append
//!         visit        (meaning)  (seen, subject, links,
//!                                  tally)
//! ```
//!
//! | Series | Of |
//! |---|---|
//! | `kymo_service_requests_total`, `kymo_service_errors_total`, `kymo_service_duration_seconds` | `service`, `operation`, `kind` |
//! | `kymo_service_edge_requests_total`, `kymo_service_edge_errors_total`, `kymo_service_edge_duration_seconds` | `caller`, `callee` |
//!
//! All are increments; durations are native histograms with exemplars. What a span means is in `meaning`, limits are in
//! `subject`.

mod gather;
mod links;
mod meaning;
mod messages;
#[cfg(any(test, feature = "fuzz"))]
mod oracle;
mod outcome;
mod seen;
mod spans;
mod subject;
mod tally;
mod visit;
mod wire;

pub use links::WAITING_MAX;
#[cfg(feature = "fuzz")]
pub use oracle::assert_span_drivers_agree;
pub use outcome::SpanOutcome;
pub use seen::GENERATION_MAX;
pub(super) use spans::Spans;
pub use subject::{OPERATIONS_PER_SERVICE_MAX, SERVICES_MAX, SUBJECTS_MAX};
