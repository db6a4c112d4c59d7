//! Asking targets for their metrics, as Prometheus does.
//!
//! ```text
//!   scrape_configs ─► JobConfig ─► discovery ─► groups ─► relabel ─► targets
//!                                                                       │ one task each, its own phase
//!        ┌──────────────────────────────────────────────────────────────┘
//!        ▼
//!   fetch ─► content type ─► exposition parser ─► cache: text → series ─► SampleBatch ─► append
//!   (async, timeout, limits)  └──────────────── on a blocking pool ────────────────────────┘
//!                                               staleness markers, `up`, `scrape_*`
//! ```
//!
//! [`ScrapeManager`] owns all of it: [`apply`](ScrapeManager::apply) puts jobs in force and leaves those that did not change
//! alone; [`run`](ScrapeManager::run) works until it is told to stop and has then joined everything it began.
//!
//! ```
//! use kymo_ingest::scrape::{ScrapeConfig, ScrapeDefaults, resolve_all};
//!
//! let entry: ScrapeConfig = serde_json::from_str(
//!     r#"{"job_name": "node", "scrape_interval": "15s", "static_configs": [{"targets": ["localhost:9100"]}],
//!         "kubernetes_sd_configs": [{"role": "node"}]}"#,
//! )?;
//! let jobs = resolve_all(&ScrapeDefaults::default(), &[entry])?;
//! assert_eq!(jobs[0].timeout.as_ms(), 10_000);
//! assert_eq!(jobs[0].not_acted_on(), ["kubernetes_sd_configs"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rules that hold here: (1) a slow target delays nobody: each has its own task, and a scrape that is not done when
//! the next is due makes that one be skipped; (2) a scrape is stored whole or not at all; (3) what is stored of a target that
//! vanished ends with staleness markers, unless another target goes on with its series; (4) a reload cuts no scrape
//! short; a shutdown does.

mod blocking;
mod cache;
mod client;
mod config;
mod discovery;
mod error;
mod families;
mod histogram;
mod job;
mod jobs;
pub mod metrics;
mod moment;
mod negotiate;
mod relabel;
mod report;
mod schedule;
mod scraper;
mod store;
mod target;
#[cfg(test)]
mod tests;

pub use client::{BoxError, ClientFactory, ScrapeClient};
pub use config::{JobConfig, Limits, NotActedOn, ScrapeConfig, ScrapeConfigError, ScrapeDefaults, resolve_all};
pub use discovery::{DiscoveryConfig, DnsSdConfig, FileSdConfig, HttpSdConfig, TargetGroup};
pub use error::{ScrapeError, StoreError};
pub use jobs::{ApplyError, ScrapeManager, ScrapeParts, TargetMetadata};
pub use negotiate::{ContentTypeError, NameEscaping, NameValidation, ScrapeProtocol};

/// The source under which the loss ledger books what comes this way, staleness markers and the series about scrapes
/// included.
pub const SOURCE: &str = "scrape";
