//! Every way for samples to come into Kymo from outside.
//!
//! ```text
//!   remote write 1.0, 2.0 ──► remote_write ──────────┐
//!   OTLP over HTTP, gRPC  ──► otlp ──────────────────┤
//!   targets ◄── discovery ──► exposition ──► scrape ─┤
//!   /proc, /sys, Registry ──► collect ───────────────┤
//!   files, a Prometheus'  ──► import ────────────────┴► SampleBatch ──► MetricStorage
//! ```
//!
//! Wire shapes stop here: each way in turns its messages into a [`SampleBatch`](kymo_core::SampleBatch) once, appends it to the
//! engine it was given, and books the result in the [`LossLedger`](kymo_core::LossLedger).
//!
//! [`remote_write::Receiver`] is synchronous and knows no HTTP; with feature `http` (on by default)
//! [`remote_write::handler::routes`] gives the routes for a server to merge. So does [`otlp`], with feature `otlp`.
//! [`scrape::ScrapeManager`], with feature `scrape`, asks targets by itself; [`exposition`] reads what they answer.
//! `collect`, with feature `collect` and on Linux, tells what the machine and the process themselves show, and `services` how
//! the services do whose requests are told.

#[cfg(all(feature = "collect", target_os = "linux"))]
pub mod collect;
pub mod exposition;
#[cfg(feature = "import")]
pub mod import;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod proto;
pub mod remote_write;
#[cfg(feature = "scrape")]
pub mod scrape;
mod series_cache;
#[cfg(all(feature = "collect", target_os = "linux"))]
pub mod services;
#[cfg(feature = "http")]
mod status;

pub use proto::ProtoError;
