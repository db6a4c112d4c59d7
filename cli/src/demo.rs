//! `kymo demo`: a server with made services and a program with made trouble, and the screen on both.
//!
//! The server is this program again, as `kymo serve`, with a data directory that goes away with it. Three services, a
//! scrape target that is gone and this host come in as from anywhere: the services by OTLP, an hour and a half of history
//! first. The contexts are those of this process, where two tasks really wait for each other.

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kymo_context::{Context, ContextFacts, Watch, WatchOptions};
use kymo_core::config::HttpClientConfig;
use kymo_core::random::{Random, SeededRandom};
use kymo_core::{Clock, SystemClock};
use kymo_dashboard::terminal::ViewId;
use kymo_export::client::{HttpClient, http_client};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::top::{leave_open, plain_options, server};

/// How often a request is sent to a server that is busy, and how long after each time.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// How far back the made services go: an hour to compare with, and a little.
const HISTORY_MS: i64 = 90 * 60_000;
/// Distance of points.
const STEP_MS: i64 = 15_000;
/// Points of the history in one request.
const POINTS_PER_REQUEST: i64 = 40;
/// How long the server may take to begin.
const START: Duration = Duration::from_secs(20);
/// When the trouble began, before now.
const TROUBLE_MS: i64 = 12 * 60_000;

/// Show the terminal with made services, in believable trouble
///
/// Starts a server of its own on a free port with a temporary data directory, fills it, and opens kymo top on it. Nothing
/// is left when it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo demo
  kymo demo --serve-only")]
pub(crate) struct DemoArgs {
    /// Only keep the server filled, and print its address, for a kymo top elsewhere; until it is interrupted
    #[arg(long)]
    serve_only: bool,
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let folder = std::env::temp_dir().join(format!("kymo-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::because(format_args!("cannot make {}", folder.display()), &error))?;
    let folder = Folder(folder);
    let serving = Serving::start(&folder.0)?;
    let clock = Arc::new(SystemClock::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kymo-demo")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the async threads", &error))?;
    let mut feed = Feed::new(&serving.url)?;
    runtime.block_on(feed.send_history(clock.now_ms()))?;
    let tree = Context::new("shop");
    let watch = Watch::start(&tree, WatchOptions::default())
        .map_err(|error| Failure::because("cannot start the thread that watches", &error))?;
    runtime.spawn(feed.go_on(clock.clone()));
    runtime.spawn(work(tree.clone()));
    let done = match args.serve_only {
        true => runtime.block_on(async {
            crate::output::print(&format!("{}\n", serving.url))?;
            // Until it is interrupted; a terminal that cannot say so ends it as well.
            let _ = tokio::signal::ctrl_c().await;
            Ok(ExitCode::SUCCESS)
        }),
        false => {
            let opened = server(&serving.url, None, clock, &[Arc::new(ContextFacts(tree))])?;
            leave_open(plain_options(&opened, ViewId::Overview), None, &opened, None)
        }
    };
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop((watch, serving, folder));
    done
}

/// Removed with everything in it.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that ends with this process.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn start(folder: &Path) -> Result<Serving, Failure> {
        let config = folder.join("kymo.yaml");
        // Nobody answers at the discard port: a target that is down.
        let text = "global: {scrape_interval: 15s}\nscrape_configs:\n- job_name: warehouse\n  static_configs:\n  - \
                    targets: ['127.0.0.1:9']\n";
        let ports = folder.join("ports.json");
        let failed = |error: std::io::Error| Failure::because("cannot start the server", &error);
        std::fs::write(&config, text).map_err(failed)?;
        let log = std::fs::File::create(folder.join("serve.log")).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--otlp-grpc", "off", "--otlp-http", "off"])
            .args(["--collect", "host,self", "--sync", "never"])
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let mut serving = Serving { child, url: String::new() };
        let began = Instant::now();
        while serving.url.is_empty() {
            let port = std::fs::read(&ports).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(port) = port.and_then(|ports| ports["http"].as_u64()) {
                serving.url = format!("http://127.0.0.1:{port}");
            } else if let Ok(Some(status)) = serving.child.try_wait() {
                let log = std::fs::read_to_string(folder.join("serve.log")).unwrap_or_default();
                return Err(Failure::new(format!("the server ended at once ({status}): {}", log.trim())));
            } else if began.elapsed() > START {
                return Err(Failure::new(format!("the server has not begun for {START:?}")));
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(serving)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Its data goes away: there is nothing to end in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An operation of a made service.
struct Operation {
    service: &'static str,
    method: &'static str,
    route: &'static str,
    /// Requests each second.
    rate: f64,
    /// Median latency, seconds.
    median: f64,
    /// Share of failures, before the trouble and in it.
    failing: (f64, f64),
    /// How many times slower the trouble makes it.
    slower: f64,
}

const fn operation(
    service: &'static str,
    method: &'static str,
    route: &'static str,
    rate: f64,
    median: f64,
) -> Operation {
    Operation { service, method, route, rate, median, failing: (0.001, 0.001), slower: 1.0 }
}

/// The payments wait for their bank, and the checkout for the payments.
const OPERATIONS: [Operation; 9] = [
    operation("gateway", "GET", "/", 42.0, 0.006),
    operation("gateway", "GET", "/products/{id}", 31.0, 0.011),
    Operation { failing: (0.002, 0.012), slower: 1.4, ..operation("gateway", "POST", "/checkout", 6.0, 0.09) },
    operation("catalog", "GET", "/products", 24.0, 0.004),
    operation("catalog", "GET", "/products/{id}", 33.0, 0.003),
    Operation { failing: (0.002, 0.085), slower: 1.8, ..operation("checkout", "POST", "/orders", 6.0, 0.07) },
    operation("checkout", "GET", "/orders/{id}", 3.5, 0.012),
    Operation { failing: (0.004, 0.03), slower: 4.5, ..operation("payments", "POST", "/charge", 6.0, 0.05) },
    operation("payments", "POST", "/refund", 0.4, 0.08),
];

/// Who calls whom, each second.
const CALLS: [(&str, &str, f64); 4] = [
    ("gateway", "catalog", 33.0),
    ("gateway", "checkout", 6.0),
    ("checkout", "payments", 6.0),
    ("checkout", "catalog", 24.0),
];

/// The scale of the exponential histograms: each bucket is 2^(1/8) as wide as the one before.
const SCALE: i32 = 3;

/// Running totals of one operation and outcome.
#[derive(Default, Clone)]
struct Totals {
    count: u64,
    sum: f64,
    buckets: std::collections::BTreeMap<i32, u64>,
    exemplar: Option<(f64, i64)>,
}

/// Makes requests up and sends them.
struct Feed {
    client: HttpClient,
    url: String,
    random: SeededRandom,
    start_ms: i64,
    /// The newest point sent.
    newest_ms: i64,
    trouble_ms: i64,
    /// By operation: those that went well, and those that failed.
    totals: Vec<[Totals; 2]>,
    calls: Vec<f64>,
}

impl Feed {
    fn new(url: &str) -> Result<Feed, Failure> {
        let client = http_client(&HttpClientConfig::default())
            .map_err(|error| Failure::because("cannot ask the server", &error))?;
        Ok(Feed {
            client,
            url: format!("{url}/api/v1/otlp/v1/metrics"),
            random: SeededRandom::new(7),
            start_ms: 0,
            newest_ms: 0,
            trouble_ms: 0,
            totals: vec![Default::default(); OPERATIONS.len()],
            calls: vec![0.0; CALLS.len()],
        })
    }

    async fn send_history(&mut self, now_ms: i64) -> Result<(), Failure> {
        self.start_ms = (now_ms - HISTORY_MS) / STEP_MS * STEP_MS;
        self.newest_ms = self.start_ms;
        self.trouble_ms = now_ms - TROUBLE_MS;
        while self.newest_ms + STEP_MS <= now_ms {
            let until = (self.newest_ms + POINTS_PER_REQUEST * STEP_MS).min(now_ms);
            self.send_until(until).await?;
        }
        Ok(())
    }

    /// Goes on for ever; a server that is away for a while gets what it missed.
    async fn go_on(mut self, clock: Arc<dyn Clock>) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            if let Err(failure) = self.send_until(clock.now_ms()).await {
                tracing::debug!(what = failure.what(), "the made services could not be sent");
            }
        }
    }

    async fn send_until(&mut self, until_ms: i64) -> Result<(), Failure> {
        let mut points = vec![[Vec::new(), Vec::new()]; OPERATIONS.len()];
        let mut calls = vec![Vec::new(); CALLS.len()];
        while self.newest_ms + STEP_MS <= until_ms {
            self.newest_ms += STEP_MS;
            self.step();
            for (number, operation) in OPERATIONS.iter().enumerate() {
                for failed in [0, 1] {
                    points[number][failed].push(self.point(number, failed == 1, operation));
                }
            }
            for (number, (client, server, _)) in CALLS.iter().enumerate() {
                calls[number].push(json!({
                    "startTimeUnixNano": nanos(self.start_ms), "timeUnixNano": nanos(self.newest_ms),
                    "asDouble": self.calls[number].floor(),
                    "attributes": [attribute("client", client), attribute("server", server)],
                }));
            }
        }
        let mut resources = Vec::new();
        for service in ["gateway", "catalog", "checkout", "payments"] {
            let of_service = OPERATIONS.iter().zip(&points).filter(|(operation, _)| operation.service == service);
            let all: Vec<Value> = of_service.flat_map(|(_, points)| points.iter().flatten().cloned()).collect();
            resources.push(resource(
                service,
                json!({
                    "name": "http.server.request.duration", "unit": "s",
                    "description": "Duration of HTTP server requests.",
                    "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": all},
                }),
            ));
        }
        let all: Vec<Value> = calls.into_iter().flatten().collect();
        resources.push(resource(
            "traces",
            json!({
                "name": "traces_service_graph_request_total",
                "description": "Calls between services.",
                "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": all},
            }),
        ));
        // A clock that is wrong: the server refuses it, and says so.
        let early = json!({"timeUnixNano": nanos(self.newest_ms + 3_600_000), "asDouble": 1.0});
        resources.push(resource("warehouse", json!({"name": "stock.items", "gauge": {"dataPoints": [early]}})));
        let body = json!({"resourceMetrics": resources}).to_string();
        let failed = |error: &dyn std::error::Error| Failure::because("cannot send the made services", error);
        let address = || self.url.parse().map_err(|_| Failure::new("the server's address is none"));
        // A server that is busy says so, and is asked again as every sender would.
        let mut tries = 1;
        loop {
            let answer = self.client.post(address()?, "application/json", body.clone().into_bytes()).await;
            let status = answer.map_err(|error| failed(&error))?.status();
            match status.as_u16() {
                200..300 => return Ok(()),
                503 if tries < TRIES => tokio::time::sleep(PAUSE).await,
                _ => return Err(Failure::new(format!("the server refused the made services: {status}"))),
            }
            tries += 1;
        }
    }

    /// What happened in one step.
    fn step(&mut self) {
        let in_trouble = self.newest_ms >= self.trouble_ms;
        let seconds = STEP_MS as f64 / 1e3;
        // A slow wave, as visitors come and go.
        let wave = 1.0 + 0.25 * (self.newest_ms as f64 / 1_500_000.0 * std::f64::consts::TAU).sin();
        for (operation, totals) in OPERATIONS.iter().zip(&mut self.totals) {
            let count = (operation.rate * wave * seconds * (0.9 + 0.2 * self.random.next_f64())) as u64;
            let (failing, slower) = match in_trouble {
                true => (operation.failing.1, operation.slower),
                false => (operation.failing.0, 1.0),
            };
            for _ in 0..count {
                // The sum of some uniform numbers is near enough to a bell, and its power to latencies.
                let bell: f64 = (0..6).map(|_| self.random.next_f64()).sum::<f64>() - 3.0;
                let tail = if self.random.next_f64() < 0.02 { 6.0 } else { 1.0 };
                let took = operation.median * slower * tail * (bell * 0.8).exp();
                let failed = self.random.next_f64() < failing;
                let totals = &mut totals[usize::from(failed)];
                totals.count += 1;
                totals.sum += took;
                let index = (took.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1;
                *totals.buckets.entry(index).or_default() += 1;
                if tail > 1.0 {
                    totals.exemplar = Some((took, self.newest_ms));
                }
            }
        }
        for ((_, _, rate), total) in CALLS.iter().zip(&mut self.calls) {
            *total += rate * wave * seconds;
        }
    }

    fn point(&mut self, number: usize, failed: bool, operation: &Operation) -> Value {
        let trace: String =
            (0..4).map(|_| format!("{:08x}", (self.random.next_f64() * f64::from(u32::MAX)) as u32)).collect();
        let totals = &mut self.totals[number][usize::from(failed)];
        let offset = totals.buckets.keys().next().copied().unwrap_or(0);
        let last = totals.buckets.keys().next_back().copied().unwrap_or(0);
        let counts: Vec<String> =
            (offset..=last).map(|index| totals.buckets.get(&index).copied().unwrap_or(0).to_string()).collect();
        let exemplars: Vec<Value> = totals
            .exemplar
            .take()
            .map(|(took, time_ms)| {
                json!({"asDouble": took, "timeUnixNano": nanos(time_ms), "traceId": trace, "spanId": &trace[..16]})
            })
            .into_iter()
            .collect();
        let code = if failed { "503" } else { "200" };
        json!({
            "startTimeUnixNano": nanos(self.start_ms), "timeUnixNano": nanos(self.newest_ms),
            "count": totals.count.to_string(), "sum": totals.sum, "scale": SCALE, "zeroCount": "0",
            "positive": {"offset": offset, "bucketCounts": counts},
            "attributes": [
                attribute("http.request.method", operation.method), attribute("http.route", operation.route),
                attribute("http.response.status_code", code),
            ],
            "exemplars": exemplars,
        })
    }
}

fn nanos(time_ms: i64) -> String {
    format!("{time_ms}000000")
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn resource(service: &str, metric: Value) -> Value {
    json!({
        "resource": {"attributes": [attribute("service.name", service), attribute("service.instance.id", "demo-1")]},
        "scopeMetrics": [{"scope": {"name": "kymo.demo"}, "metrics": [metric]}],
    })
}

/// The contexts of a shop: requests that come and go, one that waits for its bank, and two that wait for each other.
async fn work(tree: Arc<Context>) {
    let orders = tree.child("orders").begin();
    let (stock, ledger) = (orders.mutex("stock", ()), orders.mutex("ledger", ()));
    let (stock, ledger) = (Arc::new(stock), Arc::new(ledger));
    let locks = [("reserve", stock.clone(), ledger.clone()), ("settle", ledger, stock)];
    let mut stuck = Vec::new();
    for (name, first, second) in locks {
        stuck.push(orders.spawn_child(name, move |_| async move {
            let _held = first.lock().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _never = second.lock().await;
        }));
    }
    let bank = tree.child("payments").begin();
    stuck.push(bank.spawn_child("charge-8812", move |context| async move {
        context.waiting_on("answer of the bank", std::future::pending::<()>()).await;
    }));
    let web = tree.child("web").begin();
    loop {
        for route in ["GET-products", "POST-orders"] {
            let request = web.child(route).begin();
            request.persist();
            let pause = tokio::time::sleep(Duration::from_millis(90));
            request.run(request.waiting_on("catalog", pause)).await;
            request.complete_with_status(true, "200");
        }
    }
}
