//! Next to the real one: Prometheus and Kymo read one `prometheus.yml`, scrape the same targets, and are asked the same
//! questions about the same moment.
//!
//! They look at a target at different instants, so a question says how much alike its answers must be: to the bit where
//! the target stands still, within a tolerance where it moves.
//!
//! Needs the servers that `cargo xtask peers` unpacks, named by `KYMO_PEERS`; says so and does nothing where they are
//! absent. `KYMO_SCRAPE_PEER_SECONDS` sets how much data is waited for, at least the widest window asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, wait_for, wait_until};
use crate::remote_write::now_ms;

const TEST: &str = "a_prometheus_file_is_scraped_as_prometheus_scrapes_it";
/// Data waited for when the environment names no other span.
const SECONDS: u64 = 30;
/// The widest window about values that move: less data would be another number of scrapes for each.
const WINDOW_SECONDS: u64 = 20;
/// Data comes in real time; a machine that is busy may take this many times longer.
const PATIENCE: u32 = 4;
/// Samples of the last moment may still be on their way; questions are about one this many seconds ago.
const SETTLED_SECONDS: i64 = 3;
/// Differences below this are none: a quiet machine has loads near zero, of which no share is left.
const ABSOLUTE: f64 = 0.2;

/// How much alike two answers must be. All have equal label sets.
#[derive(Clone, Copy)]
enum Alike {
    /// Equal bits, or both not a number.
    Values,
    /// Within this share of the greater one.
    Within(f64),
    /// Values are not compared: they differ from look to look.
    Labels,
}
use Alike::{Labels, Values, Within};

const QUESTIONS: [(&str, Alike); 61] = [
    // What each scrape says of itself.
    ("up", Values),
    ("sum by (job) (up)", Values),
    ("min_over_time(up[20s])", Values),
    ("count_over_time(up[20s])", Within(0.15)),
    ("time() - timestamp(up) < bool 4", Values),
    ("scrape_samples_scraped", Values),
    ("scrape_samples_post_metric_relabeling", Values),
    ("scrape_series_added", Values),
    ("sum_over_time(scrape_series_added{job=~\"page|open\"}[5m])", Values),
    ("scrape_duration_seconds", Labels),
    ("{__name__=~\"scrape_.+\"}", Labels),
    ("absent(up{job=\"nothing\"})", Values),
    // All series of each target.
    ("{job=\"page\", __name__!~\"scrape_.+|page_bumps_total\"}", Values),
    ("{job=\"open\", __name__!~\"scrape_.+\"}", Values),
    ("count by (__name__) ({job=\"node\", __name__!~\"node_(arp|filesystem|network)_.+\"})", Values),
    ("count by (__name__) ({job=\"prometheus\"})", Values),
    ("count by (__name__) ({job=\"alertmanager\"})", Values),
    ("{job=\"prometheus\"}", Labels),
    ("{job=\"alertmanager\"}", Labels),
    // Every type of metric.
    ("page_requests_total", Values),
    ("page_temperature_celsius", Values),
    ("page_temperature_celsius > 0", Values),
    ("changes(page_temperature_celsius[20s])", Values),
    ("page_latency_seconds_bucket", Values),
    ("sum by (le) (page_latency_seconds_bucket)", Values),
    ("histogram_quantile(0.9, page_latency_seconds_bucket)", Values),
    ("histogram_quantile(0.5, sum by (le) (page_latency_seconds_bucket))", Values),
    ("page_latency_seconds_sum / page_latency_seconds_count", Values),
    ("page_size_bytes{quantile=\"1.0\"}", Values),
    ("page_size_bytes", Values),
    ("page_untyped", Values),
    ("count_values(\"value\", page_special)", Values),
    ("{\"page.dotted\"}", Values),
    ("page_twice", Values),
    ("page_stamped", Values),
    ("time() - timestamp(page_stamped) < bool 4", Values),
    ("absent(page_dropped_total)", Values),
    ("count by (renamed) (page_relabelled)", Values),
    ("rate(page_bumps_total[20s])", Within(0.15)),
    ("max_over_time(rate(page_bumps_total[10s])[10s:1s])", Within(0.25)),
    ("target_info", Values),
    ("open_jobs_total * on (job, instance) group_left (version) target_info", Values),
    // The three programs.
    ("{__name__=~\".+_build_info\"}", Values),
    ("{__name__=~\".+_info\"}", Values),
    ("process_start_time_seconds", Values),
    ("process_max_fds", Values),
    ("prometheus_config_last_reload_successful", Values),
    ("alertmanager_notifications_total", Values),
    ("count by (le) (prometheus_http_request_duration_seconds_bucket{handler=\"/metrics\"})", Values),
    (
        "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket{handler=\"/metrics\"}[20s]))",
        Labels,
    ),
    ("increase(promhttp_metric_handler_requests_total{job=\"node\", code=\"200\"}[20s])", Within(0.15)),
    ("avg_over_time(process_resident_memory_bytes[20s])", Within(0.25)),
    // The machine.
    ("node_uname_info", Values),
    ("up * on (job, instance) group_left (nodename) node_uname_info", Values),
    ("node_memory_MemTotal_bytes", Values),
    ("node_filesystem_size_bytes{mountpoint=\"/\"}", Values),
    ("node_scrape_collector_success", Values),
    ("count(count by (cpu) (node_cpu_seconds_total))", Values),
    ("sum(rate(node_cpu_seconds_total[20s]))", Within(0.15)),
    ("avg_over_time(node_load1[20s])", Within(0.25)),
    ("avg_over_time(node_memory_MemAvailable_bytes[20s])", Within(0.15)),
];

/// What the page shows besides the counter that moves and the sample with a time, in the text format.
const PAGE: &str = r#"# HELP page_requests_total Requests\nby path, a \\ in its help.
# TYPE page_requests_total counter
page_requests_total{path="/",code="200"} 1027
page_requests_total{path="/a\\b\"c\nd",code="500"} 3
page_requests_total{path="/größe/🦀",code="200",empty=""} 4
# TYPE page_temperature_celsius gauge
page_temperature_celsius{place="inside"} 21.5
page_temperature_celsius{place="outside"} -3.25e0
# TYPE page_latency_seconds histogram
page_latency_seconds_bucket{path="/",le="0.10"} 5
page_latency_seconds_bucket{path="/",le="1"} 8
page_latency_seconds_bucket{path="/",le="1e3"} 9
page_latency_seconds_bucket{path="/",le="+Inf"} 10
page_latency_seconds_sum{path="/"} 4711.25
page_latency_seconds_count{path="/"} 10
# TYPE page_size_bytes summary
page_size_bytes{quantile="0.50"} 128
page_size_bytes{quantile="1"} 4096
page_size_bytes_sum 81920
page_size_bytes_count 160
# TYPE page_untyped untyped
page_untyped 7
page_typeless 8
# TYPE page_special gauge
page_special{kind="nan"} NaN
page_special{kind="up"} +Inf
page_special{kind="down"} -Inf
page_special{kind="zero"} -0
page_special{kind="tiny"} 4.9e-324
# TYPE "page.dotted" gauge
{"page.dotted","a.b"="c d"} 1
page_dropped_total 1
page_relabelled{original="value-7"} 1
page_clash{job="mine",instance="here"} 1
page_twice 1
page_twice 2
"#;

/// The same place in OpenMetrics, with the types that the other format lacks.
const OPEN: &str = r#"# TYPE target info
target_info{version="1.2.3",region="here"} 1
# TYPE open_jobs counter
# UNIT open_jobs jobs
# HELP open_jobs Jobs \"done\".
open_jobs_total{queue="a"} 17 # {trace_id="4bf92f3577b34da6"} 1 1600000000.5
open_jobs_created{queue="a"} 1600000000.25
# TYPE open_depth gauge
open_depth 3
# TYPE open_wait_seconds histogram
open_wait_seconds_bucket{le="1"} 2 # {trace_id="00f067aa0ba902b7"} 0.5
open_wait_seconds_bucket{le="+Inf"} 3
open_wait_seconds_sum 12.5
open_wait_seconds_count 3
# TYPE open_held_bytes gaugehistogram
open_held_bytes_bucket{le="1024"} 4
open_held_bytes_bucket{le="+Inf"} 6
open_held_bytes_gsum 5000
open_held_bytes_gcount 6
# TYPE open_size_bytes summary
open_size_bytes{quantile="0.9"} 99
open_size_bytes_sum 1000
open_size_bytes_count 20
# TYPE open_state stateset
open_state{open_state="idle"} 1
open_state{open_state="busy"} 0
# TYPE open_any unknown
open_any 5
# EOF
"#;

#[test]
fn a_prometheus_file_is_scraped_as_prometheus_scrapes_it() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(reason) => return skip(TEST, &reason),
    };
    let page = Page::start(0);
    let (port, counters) = (page.port, page.counters.clone());
    let pair = Pair::start(&peers, port);
    let seconds = std::env::var("KYMO_SCRAPE_PEER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let seconds = seconds.max(WINDOW_SECONDS);

    let at = pair.wait_for_data(seconds, &counters);
    pair.compare(&QUESTIONS, at);
    pair.compare_targets();
    pair.compare_metadata();

    // The counter stands still now; both must come to its last value.
    let last = counters.bumps.load(Ordering::Relaxed) as f64;
    pair.wait_for_both("the counter's last value", |values| Some(values.get("{}")? == &last), "sum(page_bumps_total)");

    drop(page);
    // Who gives a sample its time also says when it is over: such a series gets no staleness marker.
    let gone = "{job=~\"page|open\", __name__!~\"up|scrape_.+|page_stamped\"}";
    let down = "up{job=~\"page|open\"}";
    pair.wait_for_both("the target to be down", |up| Some(up.len() == 2 && up.values().all(|up| *up == 0.0)), down);
    let at = pair.wait_for_both("its series to be stale", |series| Some(series.is_empty()), gone);
    let quiet = [
        (down, Values),
        ("page_stamped", Values),
        ("{job=~\"page|open\"}", Labels),
        ("scrape_samples_scraped{job!=\"prometheus\"}", Values),
        ("scrape_samples_post_metric_relabeling{job!=\"prometheus\"}", Values),
        ("scrape_series_added{job=~\"page|open\"}", Values),
        ("absent(page_requests_total)", Values),
        ("last_over_time(page_requests_total[5m])", Values),
    ];
    pair.compare(&quiet, at);
    pair.compare_targets();

    // A program started again counts from zero, here from one.
    let page = wait_for("the page's port to be free", || Page::try_start(port));
    page.counters.bumps.store(1, Ordering::Relaxed);
    pair.wait_for_both("the target to be back", |up| Some(up.len() == 2 && up.values().all(|up| *up == 1.0)), down);
    let at =
        pair.wait_for_both("its series to be back", |bumps| Some(bumps.get("{}")? == &1.0), "sum(page_bumps_total)");
    let back = [
        (down, Values),
        ("{job=~\"page|open\", __name__!~\"scrape_.+\"}", Values),
        ("scrape_samples_scraped{job!=\"prometheus\"}", Values),
        ("resets(page_bumps_total[5m])", Values),
        ("min_over_time(up{job=~\"page|open\"}[5m])", Values),
        ("sum_over_time(scrape_series_added{job=~\"page|open\"}[5m])", Values),
    ];
    pair.compare(&back, at);
    pair.compare_targets();
}

/// Programs of the table that `cargo xtask peers` writes.
struct Peers {
    prometheus: PathBuf,
    alertmanager: Vec<String>,
    node_exporter: PathBuf,
}

/// Where Debian's Alertmanager, unlike its authors', reads its templates; unpacked elsewhere it does not start.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";

impl Peers {
    fn find() -> Result<Peers, String> {
        let file = std::env::var("KYMO_PEERS").map_err(|_| "KYMO_PEERS names no table of peers".to_owned())?;
        let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        let program = |name: &str| match table[name]["path"].as_str() {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(format!("no {name}: {}", table[name]["missing"].as_str().unwrap_or("not in the table"))),
        };
        let version = table["prometheus"]["version"].as_str().unwrap_or("unknown");
        if version.starts_with("2.") {
            return Err(format!("Prometheus {version} keeps the bounds of buckets as they are written"));
        }
        Ok(Peers {
            prometheus: program("prometheus")?,
            alertmanager: with_templates(&program("prometheus-alertmanager")?)?,
            node_exporter: program("prometheus-node-exporter")?,
        })
    }
}

/// The command that runs Alertmanager with its templates in their place: by itself where they are, else in a mount
/// namespace of its own that shows them there.
fn with_templates(program: &Path) -> Result<Vec<String>, String> {
    let program = program.display().to_string();
    let unpacked = program.strip_suffix("/usr/bin/prometheus-alertmanager").map(|root| format!("{root}{TEMPLATES}"));
    let unpacked = match unpacked {
        Some(folder) if !Path::new(TEMPLATES).exists() && Path::new(&folder).exists() => folder,
        _ => return Ok(vec![program]),
    };
    let script = format!(
        "mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus && ln -s \"$0\" {TEMPLATES} && exec \"$@\""
    );
    let shown = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, &unpacked].map(str::to_owned);
    let tried = Command::new(&shown[0]).args(&shown[1..]).arg("true").output();
    match tried {
        Ok(tried) if tried.status.success() => Ok(shown.into_iter().chain([program]).collect()),
        _ => Err(format!("no prometheus-alertmanager: {TEMPLATES} is absent and cannot be shown to it")),
    }
}

fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: {reason}").unwrap();
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn start(folder: &Path, name: &str, command: &mut Command) -> Running {
        let log = File::create(folder.join(format!("{name}.log"))).unwrap();
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Prometheus and a Kymo with equal files, and what they scrape besides the page.
struct Pair {
    kymo: Server,
    prometheus_port: u16,
    _programs: [Running; 3],
    folder: TempDir,
}

impl Pair {
    fn start(peers: &Peers, page_port: u16) -> Pair {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        let [prometheus_port, alertmanager_port, node_port] = free_ports();
        let file = prometheus_file(prometheus_port, alertmanager_port, node_port, page_port);
        let (theirs, ours) = (path.join("theirs.yml"), path.join("prometheus.yml"));
        fs::write(&theirs, &file).unwrap();
        fs::copy(&theirs, &ours).unwrap();
        let routes = path.join("alertmanager.yml");
        fs::write(&routes, "route:\n  receiver: nobody\nreceivers:\n- name: nobody\n").unwrap();

        let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
        let mut node = Command::new(&peers.node_exporter);
        node.arg(listen(node_port));
        let mut alertmanager = Command::new(&peers.alertmanager[0]);
        alertmanager
            .args(&peers.alertmanager[1..])
            .args([listen(alertmanager_port), "--cluster.listen-address=".to_owned()])
            .arg(format!("--config.file={}", routes.display()))
            .arg(format!("--storage.path={}", path.join("alertmanager").display()));
        let mut prometheus = Command::new(&peers.prometheus);
        prometheus
            .arg(listen(prometheus_port))
            .arg(format!("--config.file={}", theirs.display()))
            .arg(format!("--storage.tsdb.path={}", path.join("tsdb").display()));
        let programs = [
            Running::start(path, "node_exporter", &mut node),
            Running::start(path, "alertmanager", &mut alertmanager),
            Running::start(path, "prometheus", &mut prometheus),
        ];
        for port in [node_port, alertmanager_port, prometheus_port] {
            let ready = || http::get(port, "/metrics").is_ok_and(|answer| answer.status == 200).then_some(());
            wait_for(&format!("a peer to listen on {port}"), ready);
        }
        let flags = ["--config", ours.to_str().unwrap(), "--otlp-grpc", "off", "--otlp-http", "off"];
        let kymo = Server::start_with(path, &flags);
        // Prometheus counts questions by their kind: one of each now, and its own series are the same ones from then on.
        for target in ["/api/v1/query?query=up", "/api/v1/targets", "/api/v1/scrape_pools"] {
            assert_eq!(http::get(prometheus_port, target).unwrap().status, 200, "{target}");
        }
        Pair { kymo, prometheus_port, _programs: programs, folder }
    }

    /// Ours first.
    fn ask(&self, expression: &str, at: i64) -> Result<[BTreeMap<String, f64>; 2], String> {
        let target = format!("/api/v1/query?query={}&time={at}", http::encoded(expression));
        let ask = |port: u16| {
            let answer = http::get(port, &target).map_err(|error| error.to_string())?;
            match answer.status {
                200 => values(&answer.json()["data"]).ok_or_else(|| format!("no vector: {}", answer.body)),
                status => Err(format!("{status}: {}", answer.body)),
            }
        };
        Ok([
            ask(self.kymo.port).map_err(|error| format!("Kymo: {error}"))?,
            ask(self.prometheus_port).map_err(|error| format!("Prometheus: {error}"))?,
        ])
    }

    /// Waits until both have `seconds` without a failed scrape, bumping the page's counter all the while; gives a moment,
    /// in seconds, at which they have.
    fn wait_for_data(&self, seconds: u64, counters: &Counters) -> i64 {
        let deadline = Duration::from_secs(seconds) * PATIENCE;
        let scrapes = 2 * (seconds + SETTLED_SECONDS.unsigned_abs());
        // Asked only when there can be enough: questions take time from scrapes, and are counted by Prometheus.
        wait_until(&format!("{scrapes} scrapes of the page"), deadline, || {
            counters.bumps.fetch_add(1, Ordering::Relaxed);
            (counters.scrapes.load(Ordering::Relaxed) >= scrapes).then_some(())
        });
        self.targets_must_be_up();
        let expression = format!("min_over_time(up[{seconds}s]) and (up offset {seconds}s)");
        wait_until(&format!("{seconds} s of data"), deadline, || {
            counters.bumps.fetch_add(1, Ordering::Relaxed);
            let at = now_ms() / 1000 - SETTLED_SECONDS;
            let answers = self.ask(&expression, at).ok()?;
            answers.iter().all(|up| up.len() == 5 && up.values().all(|up| *up == 1.0)).then_some(at)
        })
    }

    /// A target that either cannot read would be waited for in vain.
    fn targets_must_be_up(&self) {
        for port in [self.kymo.port, self.prometheus_port] {
            let data = http::get(port, "/api/v1/targets?state=active").unwrap().json()["data"].clone();
            let targets = data["activeTargets"].as_array().unwrap();
            let down: Vec<&Value> = targets.iter().filter(|target| target["health"] != "up").collect();
            assert!(down.is_empty(), "by port {port}, Kymo's is {}: {down:#?}", self.kymo.port);
        }
    }

    /// Waits until the answers of both at one moment are as `is` wants them; gives that moment, in seconds.
    fn wait_for_both(&self, what: &str, is: impl Fn(&BTreeMap<String, f64>) -> Option<bool>, expression: &str) -> i64 {
        wait_for(what, || {
            let at = now_ms() / 1000;
            let answers = self.ask(expression, at).ok()?;
            answers.iter().all(|answer| is(answer) == Some(true)).then_some(at)
        })
    }

    /// Fails with all differences at once: one cause shows in many answers.
    fn compare(&self, questions: &[(&str, Alike)], at: i64) {
        let mut differences = Vec::new();
        for (expression, alike) in questions {
            let [ours, theirs] = match self.ask(expression, at) {
                Ok(answers) => answers,
                Err(error) => {
                    differences.push(format!("{expression}: {error}"));
                    continue;
                }
            };
            if theirs.is_empty() {
                differences.push(format!("{expression}: Prometheus answers nothing"));
            }
            let absent = theirs.keys().filter(|labels| !ours.contains_key(*labels));
            differences.extend(absent.map(|labels| format!("{expression}: {labels} is not here")));
            for (labels, ours) in &ours {
                match theirs.get(labels) {
                    None => differences.push(format!("{expression}: {labels} is not there")),
                    Some(theirs) if alike.holds(*ours, *theirs) => {}
                    Some(theirs) => differences.push(format!("{expression}: {labels}: {ours} here, {theirs} there")),
                }
            }
        }
        let (count, folder) = (differences.len(), self.folder.path().display());
        assert!(differences.is_empty(), "{count} differences at {at}, logs in {folder}: {differences:#?}");
    }

    /// The lists of targets, once their healths are equal: each server learns of a failed scrape by its own.
    fn compare_targets(&self) {
        let told = |port: u16| {
            let data = http::get(port, "/api/v1/targets?state=active").ok()?.json()["data"].clone();
            let mut targets: Vec<Value> = data["activeTargets"].as_array()?.iter().map(identity).collect();
            targets.sort_by_key(|target| target["scrapePool"].to_string());
            Some(targets)
        };
        let mut last = None;
        let health = |targets: &[Value]| targets.iter().map(|target| target["health"].clone()).collect::<Vec<_>>();
        wait_for("equal healths of the targets", || {
            let (ours, theirs) = (told(self.kymo.port)?, told(self.prometheus_port)?);
            let equal = health(&ours) == health(&theirs);
            last = Some((ours, theirs));
            equal.then_some(())
        });
        let (ours, theirs) = last.unwrap();
        assert_eq!(theirs.len(), 5, "{theirs:#?}");
        assert_eq!(ours, theirs);
        for path in ["/api/v1/targets?state=dropped", "/api/v1/scrape_pools"] {
            let told = |port: u16| http::get(port, path).unwrap().json()["data"].clone();
            assert_eq!(told(self.kymo.port), told(self.prometheus_port), "{path}");
        }
    }

    /// Type, unit and help of all families of all targets.
    fn compare_metadata(&self) {
        let told = |port: u16| {
            let data = http::get(port, "/api/v1/targets/metadata").unwrap().json()["data"].clone();
            let families = data.as_array().unwrap().iter();
            families.map(|family| format!("{} {family}", family["target"]["job"])).collect::<BTreeSet<String>>()
        };
        let (ours, theirs) = (told(self.kymo.port), told(self.prometheus_port));
        let differences: Vec<&String> = ours.symmetric_difference(&theirs).collect();
        assert!(differences.is_empty(), "{} here, {} there: {differences:#?}", ours.len(), theirs.len());
        for job in ["alertmanager", "node", "open", "page", "prometheus"] {
            assert!(theirs.iter().any(|family| family.starts_with(&format!("\"{job}\""))), "nothing of {job}");
        }
    }
}

impl Alike {
    fn holds(self, ours: f64, theirs: f64) -> bool {
        match self {
            Values => ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
            Within(share) => (ours - theirs).abs() <= (share * ours.abs().max(theirs.abs())).max(ABSOLUTE),
            Labels => true,
        }
    }
}

/// One file for both, with sections that Kymo leaves to others, and relabelling on both sides of the scrape.
fn prometheus_file(prometheus: u16, alertmanager: u16, node: u16, page: u16) -> String {
    format!(
        r#"# As copied from the machine next door.
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 15s
  external_labels:
    site: test
alerting:
  alertmanagers:
  - static_configs:
    - targets: ['127.0.0.1:{alertmanager}']
scrape_configs:
- job_name: prometheus
  static_configs:
  - targets: ['127.0.0.1:{prometheus}']
- job_name: alertmanager
  static_configs:
  - targets: ['127.0.0.1:{alertmanager}']
- job_name: node
  static_configs:
  - targets: ['127.0.0.1:{node}']
    labels:
      rack: r1
  relabel_configs:
  - source_labels: [__address__]
    regex: '(.+):\d+'
    target_label: host
    replacement: 'host-$1'
- job_name: page
  static_configs:
  - targets: ['127.0.0.1:{page}', '127.0.0.2:{page}']
  relabel_configs:
  - source_labels: [__address__]
    regex: '127\.0\.0\.2:.+'
    action: drop
  metric_relabel_configs:
  - source_labels: [__name__]
    regex: page_dropped_.+
    action: drop
  - source_labels: [original]
    regex: value-(.+)
    target_label: renamed
  - regex: original
    action: labeldrop
- job_name: open
  metrics_path: /open
  honor_labels: true
  params:
    kind: [all, 'every one']
  static_configs:
  - targets: ['127.0.0.1:{page}']
"#
    )
}

/// What of a target does not depend on when it was scraped last.
fn identity(target: &Value) -> Value {
    const KEYS: [&str; 7] =
        ["discoveredLabels", "labels", "scrapePool", "scrapeUrl", "health", "scrapeInterval", "scrapeTimeout"];
    let mut identity: serde_json::Map<String, Value> =
        KEYS.iter().map(|key| ((*key).to_owned(), target[key].clone())).collect();
    identity.insert("failed".to_owned(), json!(target["lastError"] != ""));
    identity.into()
}

/// Labels and value of each element of an instant vector.
fn values(data: &Value) -> Option<BTreeMap<String, f64>> {
    data["result"]
        .as_array()?
        .iter()
        .map(|element| Some((element["metric"].to_string(), element["value"][1].as_str()?.parse().ok()?)))
        .collect()
}

/// Ports that were free a moment ago, all different.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[derive(Default)]
struct Counters {
    /// What `page_bumps_total` shows.
    bumps: AtomicU64,
    /// Times that the text page was given.
    scrapes: AtomicU64,
}

/// A server of `/metrics` in text and `/open` in OpenMetrics. Stops listening when dropped.
struct Page {
    port: u16,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Page {
    fn start(port: u16) -> Page {
        Page::try_start(port).unwrap()
    }

    /// `None` when another one has the port.
    fn try_start(port: u16) -> Option<Page> {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        let port = listener.local_addr().unwrap().port();
        let (counters, stop) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let (shown, stopped) = (counters.clone(), stop.clone());
        let server = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Whoever asked may be gone.
                let _ = stream.and_then(|stream| answer(stream, &shown));
            }
        });
        Some(Page { port, counters, stop, server: Some(server) })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the server, which then drops its listener.
        let woken = TcpStream::connect(("127.0.0.1", self.port));
        if let (Ok(_), Some(server)) = (woken, self.server.take()) {
            let _ = server.join();
        }
    }
}

fn answer(mut stream: TcpStream, counters: &Counters) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut head = BufReader::new(stream.try_clone()?).lines();
    let request = head.next().transpose()?.unwrap_or_default();
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    let (status, kind, body) = if request.starts_with("GET /metrics ") {
        counters.scrapes.fetch_add(1, Ordering::Relaxed);
        let bumps = counters.bumps.load(Ordering::Relaxed);
        let now = now_ms();
        let body = format!("{PAGE}# TYPE page_bumps_total counter\npage_bumps_total {bumps}\npage_stamped 5 {now}\n");
        ("200 OK", "text/plain; version=0.0.4; charset=utf-8", body)
    } else if request.starts_with("GET /open?kind=all&kind=every+one ") {
        ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", OPEN.to_owned())
    } else {
        ("404 Not Found", "text/plain", String::new())
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
