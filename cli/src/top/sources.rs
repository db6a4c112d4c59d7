//! Whom the screen asks: a server, a data directory that is only read, or one program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kymo_context::Status;
use kymo_core::batch::Metadata;
use kymo_core::ledger::{Loss, RECEIVED, REFUSED, Received};
use kymo_core::query::{CatalogRequest, Listed, QueryError, QueryRequest, QueryResult};
use kymo_core::status::{
    BuildInfo, CardinalityStatus, ContextFinding, ContextStatus, DoorStatus, StatusError, StatusSource, StatusSources,
    TargetHealth, TargetStatus,
};
use kymo_core::storage::RunKind;
use kymo_core::{
    Clock, Columns, ErrorKind, Labels, METRIC_NAME, Matcher, MetricStorage, QueryBackend, QueryContext, SelectError,
    Selector, SystemClock,
};
use kymo_dashboard::terminal::Sources;
use kymo_export::api::cardinality;
use kymo_export::client::{ClientError, ClientOptions, PrometheusClient};
use kymo_ingest::collect::CollectorOptions;
use kymo_storage::fs::{OverlayFs, RealFs};
use kymo_storage::{Engine, Options};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::query::{Moment, bearer};
use crate::serve::refused;
use crate::status::{of_socket, socket_of};

/// Longest wait for a server; a screen should rather say that nothing comes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How far back from its newest sample a data directory is asked for targets, as PromQL looks back.
const LOOKBACK_MS: i64 = 5 * 60_000;
/// How far back its series count as alive, as a server says of its own.
const HEAD_MS: i64 = 3 * 3_600_000;
/// Entries of each list of series.
const CARDINALITY_ENTRIES: usize = 100;
/// Where the tree of contexts is, below the API.
const CONTEXTS: &[&str] = &["status", "contexts"];

/// Who is asked, on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// Address of the server
    #[arg(long, env = "KYMO_SERVER", hide_env_values = true, value_name = "URL")]
    #[arg(default_value = "http://127.0.0.1:9911")]
    pub(crate) server: String,
    /// Read this data directory, which no server has open; nothing in it is changed
    #[arg(long, value_name = "DIR", conflicts_with = "attach")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Look into one program: its process id, or the path of its socket
    #[arg(long, value_name = "PID|SOCKET")]
    pub(crate) attach: Option<String>,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) auth_token_file: Option<PathBuf>,
}

/// Who answers.
pub(crate) struct Opened {
    pub(crate) sources: Sources,
    /// For the foot of the screen.
    pub(crate) name: String,
    /// There is no PromQL, only a tree of contexts.
    pub(crate) only_contexts: bool,
    pub(crate) clock: Arc<dyn Clock>,
    /// Drives a client's connections.
    _runtime: Option<Runtime>,
}

impl Asked {
    /// Connects to nothing yet, but opens a data directory.
    pub(crate) fn open(&self, at: Option<Moment>) -> Result<Opened, Failure> {
        let clock = |newest_ms: Option<i64>| -> Arc<dyn Clock> {
            let system = SystemClock::new();
            let now_ms = system.now_ms();
            let wanted = at.map(|at| at.resolve(now_ms)).or(newest_ms).unwrap_or(now_ms);
            Arc::new(Shifted { by_ms: wanted - now_ms, system })
        };
        if let Some(dir) = &self.data_dir {
            return directory(dir, clock);
        }
        if let Some(target) = &self.attach {
            return program(target, clock(None));
        }
        server(&self.server, self.auth_token_file.as_deref(), clock(None), &[])
    }
}

/// A server, and parts of this process beside it.
pub(crate) fn server(
    url: &str,
    token_file: Option<&Path>,
    clock: Arc<dyn Clock>,
    beside: &[Arc<dyn StatusSource>],
) -> Result<Opened, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the async threads", &error))?;
    let mut options = ClientOptions::new(url);
    options.timeout = TIMEOUT;
    options.http.authorization = token_file.map(bearer).transpose()?;
    let client = PrometheusClient::new(options, runtime.handle().clone()).map_err(|error| match &error {
        ClientError::Url { .. } => {
            Failure::usage(error.to_string()).hint("give --server a URL like http://127.0.0.1:9911")
        }
        _ => Failure::because("cannot ask the server", &error),
    })?;
    let client = Arc::new(client);
    let mut status = StatusSources::new();
    status.push(client.clone());
    status.push(Arc::new(Tree::new({
        let client = client.clone();
        move || client.fact::<Status>(CONTEXTS, &[])
    })));
    beside.iter().cloned().for_each(|part| status.push(part));
    let name = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let sources = Sources { backend: client, status: Arc::new(status) };
    Ok(Opened { sources, name, only_contexts: false, clock, _runtime: Some(runtime) })
}

fn directory(dir: &Path, clock: impl FnOnce(Option<i64>) -> Arc<dyn Clock>) -> Result<Opened, Failure> {
    if !dir.join("MANIFEST").is_file() {
        return Err(Failure::new(format!("{} is no data directory", dir.display()))
            .hint("name one that kymo serve has written with --data-dir"));
    }
    // What the engine writes while it opens stays in memory; and nothing is too old to be shown.
    let fs = Arc::new(OverlayFs::over(Arc::new(RealFs)));
    let options = Options { retention: kymo_storage::RetentionPolicy::of_age(None), ..Options::default() };
    let (engine, _) = Engine::open(fs, dir, options).map_err(|error| refused(dir, &error))?;
    let newest_ms = engine.statistics().max_time_ms;
    let engine = Arc::new(engine);
    let clock = clock(newest_ms);
    let status = Arc::new(Stored { engine: engine.clone(), clock: clock.clone() });
    let sources = Sources { backend: Arc::new(kymo_query::Engine::new(engine)), status };
    let name = format!("{} (read only)", dir.display());
    Ok(Opened { sources, name, only_contexts: false, clock, _runtime: None })
}

/// What a data directory tells of the server that wrote it: its series, and targets and drops by what was stored of them.
struct Stored {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
}

impl Stored {
    fn failed(source: SelectError) -> StatusError {
        StatusError { part: "data directory".to_owned(), source: Box::new(source) }
    }

    /// Each series of a metric of the server itself that was alive when it stored of itself last, with all its samples. That
    /// may have been some time before the newest sample of others.
    fn whole(&self, metric: &str) -> Result<Whole, SelectError> {
        let selector = Selector::new(
            vec![Matcher::equal(METRIC_NAME, metric), Matcher::equal("job", CollectorOptions::own().job)],
            i64::MIN,
            self.clock.now_ms(),
        );
        let set = self.engine.select(&selector, &QueryContext::unlimited())?;
        let (mut found, mut columns): (Whole, _) = (Vec::new(), Columns::default());
        for index in 0..set.len() {
            set.read(index, &mut columns)?;
            let (mut times, mut floats) = (columns.times.iter().copied(), columns.floats.iter().copied());
            let mut samples = Vec::with_capacity(columns.floats.len());
            for run in &columns.runs {
                let times = times.by_ref().take(run.len);
                match run.kind {
                    RunKind::Float => samples.extend(times.zip(floats.by_ref())),
                    RunKind::Histogram | RunKind::Stale => times.for_each(drop),
                }
            }
            found.push((set.labels(index).to_owned(), samples));
        }
        let newest_ms = found.iter().filter_map(|(_, samples)| samples.last()).map(|(time_ms, _)| *time_ms).max();
        let since_ms = newest_ms.unwrap_or_default() - LOOKBACK_MS;
        found.retain(|(_, samples)| samples.last().is_some_and(|(time_ms, _)| *time_ms >= since_ms));
        Ok(found)
    }

    /// The newest value of each series of a metric in the last minutes, with its time.
    fn newest(&self, metric: &str) -> Result<Vec<(Labels, i64, f64)>, SelectError> {
        let now_ms = self.clock.now_ms();
        let selector = Selector::new(vec![Matcher::equal(METRIC_NAME, metric)], now_ms - LOOKBACK_MS, now_ms);
        let set = self.engine.select(&selector, &QueryContext::unlimited())?;
        let (mut found, mut columns) = (Vec::new(), Columns::default());
        for index in 0..set.len() {
            set.read(index, &mut columns)?;
            // A series that ended says nothing of now.
            let is_alive = columns.runs.last().is_some_and(|run| run.kind == RunKind::Float);
            if let (true, Some(time_ms), Some(value)) = (is_alive, columns.times.last(), columns.floats.last()) {
                found.push((set.labels(index).to_owned(), *time_ms, *value));
            }
        }
        Ok(found)
    }
}

/// Series with their samples.
type Whole = Vec<(Labels, Vec<(i64, f64)>)>;

impl StatusSource for Stored {
    fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
        let took = self.newest("scrape_duration_seconds").map_err(Self::failed)?;
        let target = |(labels, time_ms, value): (Labels, i64, f64)| {
            let of = |label: &str| labels.get(label).unwrap_or_default().to_owned();
            let is_same =
                |other: &Labels| ["job", "instance"].iter().all(|label| other.get(label) == labels.get(label));
            let seconds = took.iter().find(|(other, _, _)| is_same(other)).map(|(_, _, seconds)| *seconds);
            let pairs = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
            TargetStatus {
                pool: of("job"),
                url: of("instance"),
                labels: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                health: if value == 0.0 { TargetHealth::Down } else { TargetHealth::Up },
                last_scrape_ms: Some(time_ms),
                last_scrape_seconds: seconds.unwrap_or_default(),
                ..TargetStatus::default()
            }
        };
        Ok(self.newest("up").map_err(Self::failed)?.into_iter().map(target).collect())
    }

    fn received(&self) -> Result<Vec<DoorStatus>, StatusError> {
        let mut doors: BTreeMap<String, Received> = BTreeMap::new();
        for (labels, samples) in self.whole(RECEIVED.name).map_err(Self::failed)? {
            let (Some(source), Some((_, value))) = (labels.get("source"), samples.last()) else { continue };
            let (door, count) = (doors.entry(source.to_owned()).or_default(), *value as u64);
            door.received += count;
            match labels.get("outcome") {
                Some("stored") => door.stored += count,
                Some("identical") => door.identical += count,
                Some("replaced") => door.replaced += count,
                _ => door.rejected += count,
            }
        }
        Ok(doors.into_iter().map(|(source, received)| DoorStatus { source, received }).collect())
    }

    /// As the server counted them since it started last; the example is not stored.
    fn drops(&self) -> Result<Vec<Loss>, StatusError> {
        let of = |labels: &Labels, label: &str| labels.get(label).unwrap_or_default().to_owned();
        let loss = |(labels, samples): (Labels, Vec<(i64, f64)>)| {
            let (_, count) = *samples.last()?;
            // The newest sample that is not the one before it: its count grew, or began, just then.
            let grown = samples.windows(2).rev().find(|pair| pair[1].1 != pair[0].1).map(|pair| pair[1].0);
            let last_ms = grown.or_else(|| samples.first().map(|(time_ms, _)| *time_ms))?;
            let (source, reason) = (of(&labels, "source"), of(&labels, "reason"));
            Some(Loss { source, reason, count: count as u64, last_ms, example: String::new() })
        };
        Ok(self.whole(REFUSED.name).map_err(Self::failed)?.into_iter().filter_map(loss).collect())
    }

    fn cardinality(&self) -> Result<Option<CardinalityStatus>, StatusError> {
        let since_ms = self.clock.now_ms() - HEAD_MS;
        let found = cardinality(&*self.engine, since_ms, CARDINALITY_ENTRIES, &QueryContext::unlimited());
        found.map(Some).map_err(Self::failed)
    }
}

fn program(target: &str, clock: Arc<dyn Clock>) -> Result<Opened, Failure> {
    let socket = match target.parse::<u32>() {
        Ok(pid) => socket_of(pid)?,
        Err(_) => PathBuf::from(target),
    };
    // A mistake is said now, and not on the screen.
    of_socket(&socket)?;
    let name = format!("process {target}");
    let part = socket.display().to_string();
    let tree = Tree::new(move || {
        let asked = of_socket(&socket);
        asked.map(Some).map_err(|failure| StatusError { part: part.clone(), source: failure.what().into() })
    });
    let sources = Sources { backend: Arc::new(NoPromql), status: Arc::new(tree) };
    Ok(Opened { sources, name, only_contexts: true, clock, _runtime: None })
}

/// The system's clock, at another time.
struct Shifted {
    system: SystemClock,
    by_ms: i64,
}

impl Clock for Shifted {
    fn now_ms(&self) -> i64 {
        self.system.now_ms() + self.by_ms
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

/// Reads a tree, or says that there is none.
type ReadTree = Box<dyn Fn() -> Result<Option<Status>, StatusError> + Send + Sync>;

/// The tree of contexts of another process. Contexts and findings of one round come from one reading.
struct Tree {
    read: ReadTree,
    /// Of the reading that `contexts` made last.
    findings: Mutex<Vec<ContextFinding>>,
}

impl Tree {
    fn new(read: impl Fn() -> Result<Option<Status>, StatusError> + Send + Sync + 'static) -> Tree {
        Tree { read: Box::new(read), findings: Mutex::default() }
    }
}

impl StatusSource for Tree {
    fn contexts(&self) -> Result<Vec<ContextStatus>, StatusError> {
        let Some(status) = (self.read)()? else { return Ok(Vec::new()) };
        *self.findings.lock().unwrap_or_else(PoisonError::into_inner) = status.finding_facts();
        Ok(status.facts())
    }

    fn context_findings(&self) -> Result<Vec<ContextFinding>, StatusError> {
        Ok(self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Only whether there is an answer.
    fn build_info(&self) -> Result<Option<BuildInfo>, StatusError> {
        (self.read)().map(|_| None)
    }
}

/// A program that was attached to answers no expressions.
struct NoPromql;

fn nothing<T>() -> Result<T, QueryError> {
    let text = "one attached program answers no PromQL: look at its contexts, or name a server with --server";
    Err(QueryError::execute(ErrorKind::NotFound, text))
}

impl QueryBackend for NoPromql {
    fn query(&self, _: &QueryRequest, _: &QueryContext) -> Result<QueryResult, QueryError> {
        nothing()
    }

    fn series(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        nothing()
    }

    fn label_names(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        nothing()
    }

    fn label_values(&self, _: &str, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        nothing()
    }

    fn metadata(&self, _: Option<&str>, _: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
        nothing()
    }
}
