//! The Prometheus HTTP API v1 over a [`QueryBackend`].
//!
//! ```text
//! request ─▶ params (GET query and POST form) ─▶ pool thread: backend, then JSON ─▶ one body
//! ```
//!
//! 1. No seam is called on an async worker: backend and JSON writer run on the [`BlockingPool`], and a
//!    full pool answers 503. The exception is for a backend that allows it: a question that took less than a quarter of a
//!    millisecond when it was last asked is answered where it came in, with a deadline of a millisecond.
//! 2. A client that goes away cancels its query; a deadline is set from `timeout`, capped by the server's.
//! 3. An answer's bytes are reserved in the query budget before they are allocated, and given back when
//!    they are sent.
//!
//! What the parts say of themselves (`targets`, `status/config`, …) is [`status_routes`], over a
//! [`StatusSource`]; stopping and reloading is [`lifecycle_routes`].
//!
//! 4. Queries run in turns by client, are shown while they run, can be cancelled, and are logged with their cost.
//!
//! What there is, is described by `openapi.yaml`. `search/*` is off unless [`ApiOptions::search`] switches it on.

mod admin;
mod admin_state;
mod blocks;
mod body;
mod book;
mod brief;
mod cardinality;
mod catalog;
mod exemplars;
mod expression;
#[cfg(test)]
pub(crate) mod fake;
mod features;
mod federate;
mod fuzzy;
mod histogram;
mod lifecycle;
mod openapi;
mod params;
mod plan;
mod query;
mod query_status;
mod queue;
mod rules;
mod run;
mod scrape_pool;
mod search;
mod selector;
mod self_metrics;
mod server_status;
mod services;
mod status_facts;
mod target_metadata;
#[cfg(test)]
mod tests;
mod tsdb_status;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use kymo_core::query::EngineOptions;
use kymo_core::registry::FamilySnapshot;
use kymo_core::status::{StatusSource, StatusSources};
use kymo_core::{BlockingPool, Budget, Clock, LossLedger, MetricStorage, QueryBackend};
use kymo_query::parser::ParseOptions;

use book::QueryBook;
use brief::Brief;
use queue::QueryQueue;

pub use admin::{
    Admin, AdminAction, AdminFailure, CleanAction, CleanFigures, DeleteAction, DeleteFigures, DeleteMode,
    RetentionAction, RetentionAnswer, RetentionLoss, RetentionQuestion, SnapshotAction, admin_routes,
};
pub use admin_state::{StateValue, hex, state_routes};
pub use blocks::{BlockFacts, block_routes};
pub use book::QueryLog;
pub use lifecycle::{Lifecycle, lifecycle_routes};
use self_metrics::Families;
pub use self_metrics::self_metrics_routes;
pub use status_facts::{FactsState, status_routes};
pub use target_metadata::{TargetFamilies, target_metadata_routes};
pub use tsdb_status::cardinality;

pub(crate) use body::AnswerBuffers;
pub(crate) use params::Params;
pub(crate) use queue::{Asker, Place};
pub(crate) use run::run;

/// The Prometheus release whose API is spoken: what `status/buildinfo` answers as `version`, because
/// clients (Grafana) decide by it which requests they may send.
pub const API_VERSION: &str = "3.14.0";

/// What the routes work with; they share one.
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
    /// The storage behind the backend, if it is here: for remote read and `status/tsdb`.
    pub storage: Option<Arc<dyn MetricStorage>>,
    families: Families,
    buffers: AnswerBuffers,
    queue: QueryQueue,
    book: QueryBook,
    /// `None`: every question goes to the pool.
    brief: Option<Brief>,
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
        let options = ApiOptions::default();
        ApiState {
            queue: QueryQueue::new(options.queries_max, options.queries_waiting_max),
            book: QueryBook::new(clock.clone(), QueryLog::default()),
            backend,
            pool,
            ledger,
            clock,
            budget,
            readiness: Readiness::ready(),
            options: Arc::new(options),
            sources: Arc::new(StatusSources::new()),
            storage: None,
            families: Arc::new(Vec::new),
            buffers: AnswerBuffers::default(),
            brief: None,
        }
    }

    /// The same, answering on the spot what took less than a quarter of a millisecond when it was last asked. For a backend
    /// that answers from memory and files of its own: one that waits for others, or that drives an async runtime, must stay on
    /// the pool.
    #[must_use]
    pub fn answering_brief_ones_at_once(self) -> ApiState {
        ApiState { brief: Some(Brief::default()), ..self }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_options(self, options: ApiOptions) -> ApiState {
        let queue = QueryQueue::new(options.queries_max, options.queries_waiting_max);
        ApiState { queue, options: Arc::new(options), ..self }
    }

    /// The same with a log of queries.
    #[must_use]
    pub fn with_query_log(self, log: QueryLog) -> ApiState {
        ApiState { book: QueryBook::new(self.clock.clone(), log), ..self }
    }

    /// The same with the storage behind the backend.
    #[must_use]
    pub fn with_storage(self, storage: Arc<dyn MetricStorage>) -> ApiState {
        ApiState { storage: Some(storage), ..self }
    }

    /// The same with what the server counts about itself, for what `status/cardinality` tells of limits.
    #[must_use]
    pub fn with_families(self, families: impl Fn() -> Vec<FamilySnapshot> + Send + Sync + 'static) -> ApiState {
        ApiState { families: Arc::new(families), ..self }
    }

    /// The same with what the parts say of themselves.
    #[must_use]
    pub fn with_sources(self, sources: Arc<dyn StatusSource>) -> ApiState {
        ApiState { sources, ..self }
    }
}

/// What a handler is given.
pub(crate) type Shared = State<Arc<ApiState>>;

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
    /// Most queries that run at once. Prometheus' default.
    pub queries_max: usize,
    /// Most queries that wait for their turn.
    pub queries_waiting_max: usize,
    /// What expressions may contain, for what reads them without asking the backend.
    pub engine: EngineOptions,
    /// Whether names can be searched for, which is experimental in Prometheus.
    pub search: bool,
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
            queries_max: 20,
            queries_waiting_max: 256,
            engine: EngineOptions::default(),
            search: false,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl ApiOptions {
    fn parse_options(&self) -> ParseOptions {
        ParseOptions {
            experimental_functions: self.engine.experimental_functions,
            duration_expressions: self.engine.duration_expressions,
            extended_range_selectors: self.engine.extended_range_selectors,
            fill_modifiers: self.engine.fill_modifiers,
            ..ParseOptions::default()
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
pub fn routes(state: impl Into<Arc<ApiState>>) -> Router {
    // Whole paths and no nested router, which would take each request's path apart and be asked as a second one.
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/series", get(catalog::series).post(catalog::series))
        .route("/api/v1/labels", get(catalog::label_names).post(catalog::label_names))
        .route("/api/v1/label/{name}/values", get(catalog::label_values))
        .route("/api/v1/metadata", get(catalog::metadata))
        .route("/api/v1/query_exemplars", get(exemplars::query_exemplars).post(exemplars::query_exemplars))
        .route("/api/v1/format_query", get(expression::format_query).post(expression::format_query))
        .route("/api/v1/parse_query", get(expression::parse_query).post(expression::parse_query))
        .route("/api/v1/search/metric_names", get(search::metric_names).post(search::metric_names))
        .route("/api/v1/search/label_names", get(search::label_names).post(search::label_names))
        .route("/api/v1/search/label_values", get(search::label_values).post(search::label_values))
        .route("/api/v1/openapi.yaml", get(openapi::openapi))
        .route("/api/v1/features", get(features::features))
        .route("/api/v1/status/tsdb", get(tsdb_status::tsdb))
        .route("/api/v1/status/cardinality", get(cardinality::cardinality))
        .route("/api/v1/status/walreplay", get(tsdb_status::wal_replay))
        .route("/api/v1/status/queries", get(query_status::queries))
        .route("/api/v1/status/queries/{id}", delete(query_status::cancel))
        .route("/api/v1/status/queries/{id}/cancel", post(query_status::cancel))
        .route("/api/v1/status/buildinfo", get(server_status::build_info))
        .route("/api/v1/status/drops", get(server_status::drops))
        .route("/api/v1/services", get(services::list))
        .route("/api/v1/services/{name}", get(services::one))
        .route("/api/v1/services/{name}/edges", get(services::edges))
        .route("/api/v1/services/{name}/history", get(services::history))
        .route("/federate", get(federate::federate))
        .route("/-/healthy", get(server_status::healthy))
        .route("/-/ready", get(server_status::ready))
        .with_state(state.into())
}
