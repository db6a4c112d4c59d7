//! What the screen asks, and of whom.
//!
//! State never asks by itself: it names its questions as effects, and somebody else answers them with [`Ask::answer`],
//! on whatever thread may wait.

use std::sync::Arc;

use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::health::EdgeHealth;
use kymo_core::ledger::Loss;
use kymo_core::query::{CatalogRequest, QueryError, QueryRequest, QueryResult};
use kymo_core::status::{
    BuildInfo, CardinalityStatus, ContextFinding, ContextStatus, DoorStatus, QueriesStatus, RuntimeInfo, ServiceStatus,
    ServicesStatus, StatusError, StatusSource, TargetStatus,
};
use kymo_core::{ErrorKind, Labels, METRIC_NAME, Matcher, QueryBackend, QueryContext};

/// Most names that are fetched for completion and the metrics browser.
const NAMES_MAX: usize = 20_000;
/// Most values of a label that are fetched for completion.
const VALUES_MAX: usize = 500;

/// Who is asked: what answers PromQL, and what tells facts.
#[derive(Clone)]
pub struct Sources {
    /// Answers expressions.
    pub backend: Arc<dyn QueryBackend>,
    /// Tells targets, drops, contexts and the like.
    pub status: Arc<dyn StatusSource>,
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// An expression.
    Query(QueryRequest),
    /// Exemplars of an expression's selectors.
    Exemplars {
        /// The expression.
        text: String,
        /// From, ms since the Unix epoch, inclusive.
        start_ms: i64,
        /// To, inclusive.
        end_ms: i64,
    },
    /// Names of metrics with samples since then.
    Names {
        /// Milliseconds since the Unix epoch.
        since_ms: i64,
    },
    /// Names of labels; of one metric if it is named.
    LabelNames {
        /// The metric.
        metric: Option<String>,
    },
    /// Values of a label; of one metric if it is named.
    LabelValues {
        /// The label.
        name: String,
        /// The metric.
        metric: Option<String>,
    },
    /// Type, unit and help of every family.
    Metadata,
    /// Scrape targets.
    Targets,
    /// What came in, and what was refused.
    Drops,
    /// The tree of contexts.
    Contexts,
    /// Where most series lie.
    Cardinality,
    /// Queries that run or were slow.
    Queries,
    /// How the services do, and who calls whom.
    Services,
    /// How one service does, with its operations.
    Service {
        /// Its name.
        name: String,
    },
    /// Who calls a service, and whom it calls.
    ServiceEdges {
        /// Its name.
        name: String,
    },
    /// Who answers; also the question that finds out whether a lost server is back.
    About,
}

/// What was answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Ask::Query`].
    Query(QueryResult),
    /// To [`Ask::Exemplars`].
    Exemplars(Vec<(Labels, Vec<Exemplar>)>),
    /// To [`Ask::Names`], [`Ask::LabelNames`] and [`Ask::LabelValues`], sorted.
    Texts(Vec<String>),
    /// To [`Ask::Metadata`].
    Metadata(Vec<(String, Vec<Metadata>)>),
    /// To [`Ask::Targets`].
    Targets(Vec<TargetStatus>),
    /// To [`Ask::Drops`].
    Drops(Vec<DoorStatus>, Vec<Loss>),
    /// To [`Ask::Contexts`].
    Contexts(Vec<ContextStatus>, Vec<ContextFinding>),
    /// To [`Ask::Cardinality`].
    Cardinality(Option<CardinalityStatus>),
    /// To [`Ask::Queries`].
    Queries(Option<QueriesStatus>),
    /// To [`Ask::Services`].
    Services(Option<ServicesStatus>),
    /// To [`Ask::Service`].
    Service(Option<ServiceStatus>),
    /// To [`Ask::ServiceEdges`].
    ServiceEdges(Vec<EdgeHealth>),
    /// To [`Ask::About`].
    About(Option<BuildInfo>, Option<RuntimeInfo>),
}

impl Ask {
    /// Asks and waits.
    ///
    /// # Errors
    /// [`QueryError`] as the backend gives it; where facts cannot be had, one of kind `Unavailable`.
    pub fn answer(&self, sources: &Sources, ctx: &QueryContext) -> Result<Answer, QueryError> {
        let Sources { backend, status } = sources;
        let of_metric = |metric: &Option<String>| CatalogRequest {
            matchers: metric.iter().map(|name| vec![Matcher::equal(METRIC_NAME, name.as_str())]).collect(),
            ..CatalogRequest::default()
        };
        match self {
            Ask::Query(request) => backend.query(request, ctx).map(Answer::Query),
            Ask::Exemplars { text, start_ms, end_ms } => {
                backend.exemplars(text, *start_ms, *end_ms, ctx).map(Answer::Exemplars)
            }
            Ask::Names { since_ms } => {
                let what = CatalogRequest { start_ms: Some(*since_ms), limit: NAMES_MAX, ..CatalogRequest::default() };
                backend.label_values(METRIC_NAME, &what, ctx).map(|listed| Answer::Texts(listed.items))
            }
            Ask::LabelNames { metric } => {
                backend.label_names(&of_metric(metric), ctx).map(|listed| Answer::Texts(listed.items))
            }
            Ask::LabelValues { name, metric } => {
                let what = CatalogRequest { limit: VALUES_MAX, ..of_metric(metric) };
                backend.label_values(name, &what, ctx).map(|listed| Answer::Texts(listed.items))
            }
            Ask::Metadata => backend.metadata(None, ctx).map(Answer::Metadata),
            Ask::Targets => status.targets().map(Answer::Targets).map_err(fact_error),
            Ask::Drops => {
                let received = status.received().map_err(fact_error)?;
                status.drops().map(|losses| Answer::Drops(received, losses)).map_err(fact_error)
            }
            Ask::Contexts => {
                let contexts = status.contexts().map_err(fact_error)?;
                status.context_findings().map(|found| Answer::Contexts(contexts, found)).map_err(fact_error)
            }
            Ask::Cardinality => status.cardinality().map(Answer::Cardinality).map_err(fact_error),
            Ask::Services => status.services().map(Answer::Services).map_err(fact_error),
            Ask::Service { name } => status.service(name).map(Answer::Service).map_err(fact_error),
            Ask::ServiceEdges { name } => status.service_edges(name).map(Answer::ServiceEdges).map_err(fact_error),
            Ask::Queries => status.queries().map(Answer::Queries).map_err(fact_error),
            Ask::About => {
                let build = status.build_info().map_err(fact_error)?;
                status.runtime_info().map(|runtime| Answer::About(build, runtime)).map_err(fact_error)
            }
        }
    }
}

/// A failure to get facts, with its causes.
fn fact_error(error: StatusError) -> QueryError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    QueryError::execute(ErrorKind::unavailable(), text)
}
