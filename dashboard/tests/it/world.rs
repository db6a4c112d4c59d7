//! A made world: answers by the text of the question, the same every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use kymo_core::health::{EdgeHealth, HealthStatus, HealthWindow, OperationHealth, OperationKind, ServiceHealthMetrics};
use kymo_core::ledger::{Loss, Received};
use kymo_core::query::{
    CatalogRequest, Grid, Listed, NodeCost, PlanNode, PointTimes, QueryError, QueryRequest, QueryResult, QueryValue,
    ResultSeries,
};
use kymo_core::status::{
    BuildInfo, CardinalityStatus, ContextFinding, ContextHold, ContextRequests, ContextState, ContextStatus,
    ContextWait, DoorStatus, LabelMap, QueriesStatus, QueryStatus, ServiceStatus, ServicesStatus, StatusError,
    StatusSource, TargetHealth, TargetStatus,
};
use kymo_core::{ErrorKind, Labels, QueryBackend, QueryContext};
use kymo_dashboard::terminal::{Options, Settings, Sources, ViewId};

pub(crate) const NOW: i64 = 1_763_700_000_000;

pub(crate) fn options(view: ViewId, size: (u16, u16)) -> Options {
    let settings = Settings { view, ..Settings::default() };
    Options { settings, source: "127.0.0.1:9911".to_owned(), no_color: false, unicode: true, now_ms: NOW, size }
}

#[derive(Default)]
pub(crate) struct World {
    /// Nobody answers.
    pub(crate) gone: AtomicBool,
    /// Services; 4 unless told.
    pub(crate) services: usize,
    /// The server judges the services.
    pub(crate) judges: bool,
}

pub(crate) fn sources(world: &Arc<World>) -> Sources {
    Sources { backend: world.clone(), status: world.clone() }
}

const SERVICES: [(&str, f64, f64, f64); 4] = [
    ("catalog", 57.0, 0.0, 0.004),
    ("checkout", 9.5, 0.085, 0.13),
    ("gateway", 79.0, 0.012, 0.021),
    ("payments", 6.4, 0.004, 0.41),
];

impl World {
    fn list(&self) -> Vec<(String, f64, f64, f64)> {
        match self.services {
            0 => SERVICES.iter().map(|(name, rate, errors, p95)| ((*name).to_owned(), *rate, *errors, *p95)).collect(),
            count => (0..count)
                .map(|n| {
                    (
                        format!("service-{n:04}"),
                        n as f64 / 3.0,
                        (n % 50) as f64 / 1_000.0,
                        0.01 + (n % 7) as f64 / 100.0,
                    )
                })
                .collect(),
        }
    }

    fn is_there(&self) -> Result<(), QueryError> {
        match self.gone.load(Ordering::SeqCst) {
            true => Err(QueryError::execute(
                ErrorKind::unavailable(),
                "cannot ask http://127.0.0.1:9911: connection refused",
            )),
            false => Ok(()),
        }
    }

    /// Labels and a level for each series of an expression.
    fn answers(&self, text: &str) -> Vec<(Vec<(&'static str, String)>, f64)> {
        let by = |label: &'static str, list: &[(&str, f64)]| {
            list.iter().map(|(name, value)| (vec![(label, (*name).to_owned())], *value)).collect::<Vec<_>>()
        };
        let one = |value: f64| vec![(Vec::new(), value)];
        let before = text.contains("offset 1h");
        if text.starts_with("count by (__name__)") {
            return by("__name__", &[("http_server_request_duration_seconds_bucket", 420.0), ("up", 4.0)]);
        }
        if text.contains("service_graph") {
            return match text.contains("sum by (client)") {
                true => by("client", &[("gateway", 6.1)]),
                false => by("server", &[("payments", 6.0), ("catalog", 24.0)]),
            };
        }
        if text.contains("http_route") && text.contains("request_duration") {
            let routes: [(&str, &str, [f64; 3]); 3] = [
                ("POST", "/orders", [6.0, 0.6, 0.14]),
                ("GET", "/orders/{id}", [3.5, 0.0, 0.018]),
                ("GET", "/healthz", [0.2, 0.0, 0.001]),
            ];
            let at = if text.contains("histogram_quantile") { 2 } else { usize::from(text.contains("5..")) };
            let labels = |method: &str, route: &str| {
                vec![("http_request_method", method.to_owned()), ("http_route", route.to_owned())]
            };
            return routes.iter().map(|(method, route, values)| (labels(method, route), values[at])).collect();
        }
        if text.contains("\"q\"") {
            return by("q", &[("p50", 0.043), ("p95", 0.13), ("p99", 0.286)]);
        }
        if text.contains("by (le)") {
            return [("0.01", 2.0), ("0.05", 5.0), ("0.1", 8.0), ("0.5", 9.4), ("+Inf", 9.5)]
                .iter()
                .map(|(le, count)| (vec![("le", (*le).to_owned())], *count))
                .collect();
        }
        if text.contains("request_duration") {
            let figure = |(name, rate, errors, p95): &(String, f64, f64, f64)| {
                let value = if text.contains("histogram_quantile(0.5") {
                    p95 / 3.0
                } else if text.contains("histogram_quantile(0.99") {
                    p95 * 2.2
                } else if text.contains("histogram_quantile") {
                    if before && name == "payments" { p95 / 4.3 } else { *p95 }
                } else if text.contains("5..") {
                    if before { rate * 0.001 } else { rate * errors }
                } else {
                    *rate
                };
                (vec![("job", name.clone())], value)
            };
            return self.list().iter().map(figure).collect();
        }
        match text {
            _ if text.contains("process_start_time") => {
                vec![(vec![("job", "checkout".to_owned()), ("instance", "checkout-1".to_owned())], 720.0)]
            }
            _ if text.contains("changes(up") => Vec::new(),
            _ if text.contains("by (mode)") => {
                by("mode", &[("iowait", 0.02), ("softirq", 0.01), ("system", 0.09), ("user", 0.27)])
            }
            _ if text.contains("by (use)") => by("use", &[("total", 8.4e9), ("used", 3.1e9)]),
            _ if text.contains("node_load") => {
                by("__name__", &[("node_load1", 1.2), ("node_load15", 0.8), ("node_load5", 1.0)])
            }
            _ if text.contains("by (way)") => by("way", &[("in", 1.4e6), ("out", 0.6e6)]),
            _ if text.contains("mountpoint") => by("mountpoint", &[("/", 0.62), ("/var", 0.81)]),
            _ if text.contains("node_cpu") => one(0.39),
            _ if text.contains("node_memory") => one(0.37),
            _ if text.contains("node_network") => one(2.0e6),
            _ if text.contains("kymo_storage_rows") => one(412.0),
            _ => {
                let labels = |job: &str| vec![("__name__", "up".to_owned()), ("job", job.to_owned())];
                vec![(labels("node"), 1.0), (labels("shop"), 0.6)]
            }
        }
    }
}

/// A level with a slow wave, and a gap in the second quarter of the first series.
fn series(number: usize, labels: Vec<(&'static str, String)>, level: f64, grid: Grid) -> ResultSeries {
    let wave = |time: i64| 1.0 + 0.2 * ((time as f64 / 300_000.0) + number as f64).sin();
    let times: Vec<i64> = (0..grid.steps())
        .filter(|step| grid.steps() == 1 || number > 0 || !(grid.steps() / 4..grid.steps() * 3 / 8).contains(step))
        .map(|step| grid.time_ms(step))
        .collect();
    let floats = times.iter().map(|time| if grid.steps() == 1 { level } else { level * wave(*time) }).collect();
    ResultSeries { labels: Labels::from_pairs(labels), times: PointTimes::Own(times), floats, histograms: Vec::new() }
}

impl QueryBackend for World {
    fn query(&self, request: &QueryRequest, _: &QueryContext) -> Result<QueryResult, QueryError> {
        self.is_there()?;
        if let Some(at) = request.text.find("wrong") {
            return Err(QueryError::parse("unexpected identifier \"wrong\"", Some((at as u32, at as u32 + 5))));
        }
        if request.text.contains("\"event\"") {
            let began = ResultSeries {
                labels: Labels::from_pairs([("event", "start"), ("job", "checkout")]),
                times: PointTimes::Own(vec![NOW]),
                floats: vec![(NOW / 1_000 - 400) as f64],
                histograms: Vec::new(),
            };
            return Ok(QueryResult { value: QueryValue::Matrix(vec![began]), ..QueryResult::default() });
        }
        let list: Vec<ResultSeries> = self
            .answers(&request.text)
            .into_iter()
            .enumerate()
            .map(|(number, (labels, level))| series(number, labels, level, request.grid))
            .collect();
        let value = match request.grid {
            Grid::Instant { .. } => QueryValue::Vector(list),
            Grid::Range { .. } => QueryValue::Matrix(list),
        };
        let actual = NodeCost { series: 2, samples: 482, bytes: 900, memory_bytes: 4_096 };
        let time = std::time::Duration::from_micros(310);
        let leaf = PlanNode { operation: "select up".to_owned(), actual, time, ..PlanNode::default() };
        let plan = PlanNode { operation: "project".to_owned(), inputs: vec![leaf], ..PlanNode::default() };
        Ok(QueryResult { value, plan: request.explain.then_some(plan), ..QueryResult::default() })
    }

    fn series(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        Ok(Listed { items: Vec::new(), annotations: Default::default() })
    }

    fn label_names(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        let items = ["__name__", "instance", "job", "mode"].map(str::to_owned).to_vec();
        Ok(Listed { items, annotations: Default::default() })
    }

    fn label_values(&self, name: &str, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        self.is_there()?;
        let items: &[&str] = match name {
            "__name__" => &[
                "http_server_request_duration_seconds_bucket",
                "http_server_request_duration_seconds_count",
                "http_server_request_duration_seconds_sum",
                "node_cpu_seconds_total",
                "node_memory_MemAvailable_bytes",
                "node_network_receive_bytes_total",
                "process_resident_memory_bytes",
                "up",
            ],
            _ => &["node", "shop"],
        };
        Ok(Listed { items: items.iter().map(|item| (*item).to_owned()).collect(), annotations: Default::default() })
    }

    fn metadata(&self, _: Option<&str>, _: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
        let one = |name: &str, family_type: FamilyType, unit: &str, help: &str| {
            (name.to_owned(), vec![Metadata { family_type, unit: unit.to_owned(), help: help.to_owned() }])
        };
        Ok(vec![
            one(
                "http_server_request_duration_seconds",
                FamilyType::Histogram,
                "seconds",
                "Duration of HTTP server requests.",
            ),
            one("node_cpu_seconds", FamilyType::Counter, "seconds", "Seconds the CPUs spent in each mode."),
            one(
                "node_memory_MemAvailable_bytes",
                FamilyType::Gauge,
                "bytes",
                "Memory that can be had without swapping.",
            ),
        ])
    }

    fn exemplars(
        &self,
        _: &str,
        _: i64,
        end_ms: i64,
        _: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let one = |value: f64, ago: i64, id: &str| Exemplar {
            labels: Labels::from_pairs([("trace_id", id)]),
            value,
            time_ms: end_ms - ago,
        };
        let list = vec![
            one(0.41, 61_000, "4bf92f3577b34da6a3ce929d0e0e4736"),
            one(1.9, 15_000, "0af7651916cd43dd8448eb211c80319c"),
        ];
        Ok(vec![(Labels::empty(), list)])
    }
}

impl World {
    fn windows(rate: f64, error_ratio: f64, p95: f64) -> Vec<HealthWindow> {
        let window = |window_ms: i64| {
            let requests = (rate * window_ms as f64 / 1e3) as u64;
            let errors = (requests as f64 * error_ratio) as u64;
            let (p50, p95, p99) = (Some(p95 / 3.0), Some(p95), Some(p95 * 2.2));
            HealthWindow { window_ms, requests, errors, rate, error_ratio, p50, p95, p99 }
        };
        [60_000, 300_000, 900_000, 3_600_000].map(window).to_vec()
    }

    /// As a server judges: the slowest is sick although PromQL alone would not say so.
    fn judged((name, rate, error_ratio, p95): &(String, f64, f64, f64)) -> ServiceStatus {
        let (status, reason) = match name.as_str() {
            "checkout" => (HealthStatus::Unhealthy, "errors 8.5 % of requests in the last minute, limit 5 %"),
            "payments" => (HealthStatus::Degraded, "p99 902 ms, 2.4 × its own last hour"),
            "gateway" => (HealthStatus::Unknown, "9 requests in the last hour, 20 are needed"),
            _ => (HealthStatus::Healthy, ""),
        };
        let health = ServiceHealthMetrics {
            requests: 40_000,
            errors: 3_100,
            rate: *rate,
            error_ratio: *error_ratio,
            p50: Some(p95 / 3.0),
            p95: Some(*p95),
            p99: Some(p95 * 2.2),
            windows: World::windows(*rate, *error_ratio, *p95),
            usual_p99: Some(p95 / 1.1),
            last_seen_ms: NOW - 1_000,
            status,
            status_since_ms: NOW - 300_000,
            reason: reason.to_owned(),
        };
        ServiceStatus { name: name.clone(), health, operations: Vec::new() }
    }

    fn edges() -> Vec<EdgeHealth> {
        let edge = |caller: &str, callee: &str, rate: f64| EdgeHealth {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            requests: 9_000,
            errors: 12,
            windows: World::windows(rate, 0.001, 0.05),
        };
        vec![edge("checkout", "catalog", 22.0), edge("checkout", "payments", 5.5), edge("gateway", "checkout", 9.4)]
    }

    fn told<T>(&self, facts: T) -> Result<T, StatusError> {
        match self.is_there() {
            Ok(()) => Ok(facts),
            Err(error) => Err(StatusError { part: "server".to_owned(), source: Box::new(error) }),
        }
    }
}

impl StatusSource for World {
    fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
        let one = |pool: &str, instance: &str, health: TargetHealth, error: &str| TargetStatus {
            pool: pool.to_owned(),
            url: format!("http://{instance}/metrics"),
            labels: LabelMap::from([("instance".to_owned(), instance.to_owned()), ("job".to_owned(), pool.to_owned())]),
            health,
            last_error: error.to_owned(),
            last_scrape_ms: Some(NOW - 4_200),
            last_scrape_seconds: 0.0123,
            interval_ms: 15_000,
            timeout_ms: 10_000,
            ..TargetStatus::default()
        };
        self.told(vec![
            one("node", "10.0.0.7:9100", TargetHealth::Up, ""),
            one("shop", "10.0.0.8:8080", TargetHealth::Up, ""),
            one("shop", "10.0.0.9:8080", TargetHealth::Down, "connection refused"),
        ])
    }

    fn drops(&self) -> Result<Vec<Loss>, StatusError> {
        let one = |source: &str, reason: &str, count: u64, ago: i64, example: &str| Loss {
            source: source.to_owned(),
            reason: reason.to_owned(),
            count,
            last_ms: NOW - ago,
            example: example.to_owned(),
        };
        self.told(vec![
            one("otlp", "too_far_in_future", 31, 9_000, "stock_items{job=\"warehouse\"} at 2025-11-21T05:40:00Z"),
            one("remote_write", "bad_snappy", 2, 86_400_000, "byte 3 of 512"),
        ])
    }

    fn received(&self) -> Result<Vec<DoorStatus>, StatusError> {
        let one = |source: &str, received: u64, stored: u64, rejected: u64| DoorStatus {
            source: source.to_owned(),
            received: Received { received, stored, rejected, identical: received - stored - rejected, replaced: 0 },
        };
        self.told(vec![
            one("otlp", 812_031, 812_000, 31),
            one("remote_write", 1_204, 1_100, 2),
            one("scrape", 91_000, 91_000, 0),
        ])
    }

    fn contexts(&self) -> Result<Vec<ContextStatus>, StatusError> {
        let one = |path: &str, state: ContextState, wait: Option<(&str, &str)>, hold: Option<&str>| ContextStatus {
            path: path.to_owned(),
            state,
            started_ms: NOW - 310_000,
            tasks: 1,
            waiting_for: wait.map(|(what, _)| what.to_owned()).unwrap_or_default(),
            waits: wait
                .map(|(what, by)| ContextWait {
                    what: what.to_owned(),
                    waited_ms: 309_800,
                    is_stuck: matches!(state, ContextState::Stuck | ContextState::Deadlocked),
                    held_by: if by.is_empty() { Vec::new() } else { vec![by.to_owned()] },
                })
                .into_iter()
                .collect(),
            holds: hold
                .map(|lock| ContextHold { lock: lock.to_owned(), held_ms: 310_000, waiting: 1 })
                .into_iter()
                .collect(),
            requests: (path == "shop.web").then_some(ContextRequests {
                since_start: 3_310,
                last_hour: 3_310,
                last_minute: 660,
                last_second: 11,
            }),
            ..ContextStatus::default()
        };
        self.told(vec![
            one("shop", ContextState::Running, None, None),
            one("shop.orders", ContextState::Running, None, None),
            one("shop.orders.reserve", ContextState::Deadlocked, Some(("ledger", "shop.orders.settle")), Some("stock")),
            one("shop.orders.settle", ContextState::Deadlocked, Some(("stock", "shop.orders.reserve")), Some("ledger")),
            one("shop.payments", ContextState::Running, None, None),
            one("shop.payments.charge-8812", ContextState::Stuck, Some(("answer of the bank", "")), None),
            one("shop.web", ContextState::Running, None, None),
        ])
    }

    fn context_findings(&self) -> Result<Vec<ContextFinding>, StatusError> {
        self.told(vec![
            ContextFinding {
                text: "deadlock:\n  shop.orders.reserve waits for mutex \"ledger\" (5m9s), which shop.orders.settle holds\n  \
                       shop.orders.settle waits for mutex \"stock\" (5m9s), which shop.orders.reserve holds"
                    .to_owned(),
                is_cycle: true,
                contexts: vec!["shop.orders.reserve".to_owned(), "shop.orders.settle".to_owned()],
            },
            ContextFinding {
                text: "shop.payments.charge-8812 is stuck on \"answer of the bank\" 5m9s".to_owned(),
                is_cycle: false,
                contexts: vec!["shop.payments.charge-8812".to_owned()],
            },
        ])
    }

    fn cardinality(&self) -> Result<Option<CardinalityStatus>, StatusError> {
        let list = |list: &[(&str, u64)]| list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        self.told(Some(CardinalityStatus {
            series: 15_920,
            label_pairs: 2_310,
            series_by_metric: list(&[
                ("http_server_request_duration_seconds_bucket", 9_100),
                ("node_cpu_seconds_total", 64),
                ("up", 4),
            ]),
            values_by_label: list(&[("path", 1_204), ("instance", 41), ("le", 22)]),
            bytes_by_label: list(&[("path", 90_112), ("instance", 2_048)]),
            series_by_pair: list(&[("job=shop", 12_800), ("job=node", 1_900)]),
        }))
    }

    fn queries(&self) -> Result<Option<QueriesStatus>, StatusError> {
        let one = |id: u64, text: &str, seconds: f64, is_running: bool| QueryStatus {
            id,
            text: text.to_owned(),
            client: "10.0.0.5".to_owned(),
            is_running,
            seconds,
            samples: if is_running { 0 } else { 1_200_000 },
            memory_bytes: if is_running { 0 } else { 31_457_280 },
            ..QueryStatus::default()
        };
        self.told(Some(QueriesStatus {
            running: vec![
                one(912, "sum by (path) (rate(http_requests_total[5m]))", 0.4, true),
                one(913, "up", 0.01, false),
            ],
            slowest: vec![one(12, "topk(10, count by (path) ({__name__=~\".+\"}))", 3.1, false)],
            running_max: 20,
            waiting: 1,
            memory_bytes: 4_194_304,
            memory_limit_bytes: 1_073_741_824,
        }))
    }

    fn services(&self) -> Result<Option<ServicesStatus>, StatusError> {
        if !self.judges {
            return self.told(None);
        }
        let services = self.list().iter().map(World::judged).collect();
        self.told(Some(ServicesStatus { services, edges: World::edges() }))
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, StatusError> {
        let found = self.list().into_iter().find(|(known, ..)| self.judges && known == name);
        let operation = |operation: &str, kind: OperationKind, rate: f64, error_ratio: f64| OperationHealth {
            operation: operation.to_owned(),
            kind,
            windows: World::windows(rate, error_ratio, 0.14),
            ..OperationHealth::default()
        };
        self.told(found.map(|service| {
            let operations = vec![
                operation("GET /orders/{id}", OperationKind::Server, 3.5, 0.0),
                operation("POST /orders", OperationKind::Server, 6.0, 0.1),
                operation("SELECT orders", OperationKind::Client, 9.5, 0.0),
            ];
            ServiceStatus { operations, ..World::judged(&service) }
        }))
    }

    fn service_edges(&self, name: &str) -> Result<Vec<EdgeHealth>, StatusError> {
        let of = |edge: &EdgeHealth| self.judges && (edge.caller == name || edge.callee == name);
        self.told(World::edges().into_iter().filter(of).collect())
    }

    fn build_info(&self) -> Result<Option<BuildInfo>, StatusError> {
        self.told(Some(BuildInfo::default()))
    }
}
