//! The Prometheus HTTP API v1 over a [`QueryBackend`].
//!
//! ```text
//! request ─▶ params (GET query and POST form) ─▶ pool thread: backend, then JSON ─▶ one body
//! ```
//!
//! 1. No seam is called on an async worker: backend and JSON writer run on the [`BlockingPool`], and a
//!    full pool answers 503.
//! 2. A client that goes away cancels its query; a deadline is set from `timeout`, capped by the server's.
//! 3. An answer's bytes are reserved in the query budget before they are allocated, and given back when
//!    they are sent.
//!
//! What the parts say of themselves (`targets`, `status/config`, …) is [`status_routes`], over a
//! [`StatusSource`](kymo_core::status::StatusSource); stopping and reloading is [`lifecycle_routes`].
//!
//! Deliberately absent for now: `format_query`, `parse_query`, `rules`, `alerts`: they answer 404, which
//! clients take as "not here".

mod body;
mod catalog;
mod exemplars;
#[cfg(test)]
pub(crate) mod fake;
mod federate;
mod histogram;
mod lifecycle;
mod params;
mod query;
mod run;
mod selector;
mod server_status;
mod status_facts;
mod target_metadata;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use kymo_core::status::{StatusSource, StatusSources};
use kymo_core::{BlockingPool, Budget, Clock, LossLedger, QueryBackend};

pub use lifecycle::{Lifecycle, lifecycle_routes};
pub use status_facts::{FactsState, status_routes};
pub use target_metadata::{TargetFamilies, target_metadata_routes};

pub(crate) use body::AnswerBuffers;
pub(crate) use params::Params;
pub(crate) use run::run;

/// The Prometheus release whose API is spoken: what `status/buildinfo` answers as `version`, because
/// clients (Grafana) decide by it which requests they may send.
pub const API_VERSION: &str = "3.14.0";

/// What the routes work with. Cloning shares everything.
#[derive(Clone)]
pub struct ApiState {
    /// Answers the questions.
    pub backend: Arc<dyn QueryBackend>,
    /// Where they are answered.
    pub pool: Arc<dyn BlockingPool>,
    /// What was refused at the ways in; shown by `status/drops`.
    pub ledger: Arc<LossLedger>,
    /// Server time (a missing `time`) and deadlines.
    pub clock: Arc<dyn Clock>,
    /// Memory of all queries together, their answers included.
    pub budget: Budget,
    /// Whether `/-/ready` says so.
    pub readiness: Readiness,
    /// Limits.
    pub options: Arc<ApiOptions>,
    /// What the parts say of themselves.
    pub sources: Arc<dyn StatusSource>,
    buffers: AnswerBuffers,
}

impl ApiState {
    /// A state with default options that is ready at once.
    #[must_use]
    pub fn new(
        backend: Arc<dyn QueryBackend>,
        pool: Arc<dyn BlockingPool>,
        ledger: Arc<LossLedger>,
        clock: Arc<dyn Clock>,
        budget: Budget,
    ) -> ApiState {
        ApiState {
            backend,
            pool,
            ledger,
            clock,
            budget,
            readiness: Readiness::ready(),
            options: Arc::new(ApiOptions::default()),
            sources: Arc::new(StatusSources::new()),
            buffers: AnswerBuffers::default(),
        }
    }

    /// The same with what the parts say of themselves.
    #[must_use]
    pub fn with_sources(self, sources: Arc<dyn StatusSource>) -> ApiState {
        ApiState { sources, ..self }
    }
}

/// Limits of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiOptions {
    /// Time a query may take when it names no `timeout`, and the most it may ask for. Prometheus' default.
    pub timeout_max: Duration,
    /// Longest query text in bytes.
    pub query_bytes_max: usize,
    /// Longest POST form in bytes. Go's limit for forms, which clients of Prometheus live with.
    pub form_bytes_max: usize,
    /// Most memory of one query, its answer included, in bytes.
    pub query_memory_max: u64,
    /// Version of the running program, shown as `revision` and on the page.
    pub program_version: String,
}

impl Default for ApiOptions {
    fn default() -> ApiOptions {
        ApiOptions {
            timeout_max: Duration::from_secs(120),
            query_bytes_max: 1 << 20,
            form_bytes_max: 10 << 20,
            query_memory_max: 1 << 30,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Whether the process takes traffic. Clones share it.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Takes traffic.
    #[must_use]
    pub fn ready() -> Readiness {
        Readiness(Arc::new(AtomicBool::new(true)))
    }

    /// Does not take traffic yet.
    #[must_use]
    pub fn starting() -> Readiness {
        Readiness(Arc::new(AtomicBool::new(false)))
    }

    /// Says whether traffic is taken from now on: after replay, and not during drain.
    pub fn set(&self, ready: bool) {
        // Relaxed: the flag publishes nothing.
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether traffic is taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The routes below `/api/v1`, `/federate`, and `/-/healthy` and `/-/ready`.
pub fn routes(state: ApiState) -> Router {
    let v1 = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/series", get(catalog::series).post(catalog::series))
        .route("/labels", get(catalog::label_names).post(catalog::label_names))
        .route("/label/{name}/values", get(catalog::label_values))
        .route("/metadata", get(catalog::metadata))
        .route("/query_exemplars", get(exemplars::query_exemplars).post(exemplars::query_exemplars))
        .route("/status/buildinfo", get(server_status::build_info))
        .route("/status/drops", get(server_status::drops));
    Router::new()
        .nest("/api/v1", v1)
        .route("/federate", get(federate::federate))
        .route("/-/healthy", get(server_status::healthy))
        .route("/-/ready", get(server_status::ready))
        .with_state(state)
}
