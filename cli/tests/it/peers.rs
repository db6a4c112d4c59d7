//! Against the real ones: Prometheus scrapes node_exporter and itself and remote-writes here; then both are asked the
//! same questions about the same moment.
//!
//! Needs the servers that `cargo xtask peers` unpacks, named by `KYMO_PEERS`; says so and does nothing where they are
//! absent. `KYMO_PEER_SECONDS` sets how much data is waited for.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, run, wait_for, wait_until};

/// Data waited for when the environment names no other span. The widest window asked about is a minute.
const SECONDS: u64 = 75;
/// Data comes in real time; a machine that is busy may take this many times longer.
const PATIENCE: u32 = 4;
/// Largest relative difference of two answers.
const TOLERANCE: f64 = 1e-9;

/// What is asked of both.
const EXPRESSIONS: [&str; 14] = [
    "sum by (mode) (rate(node_cpu_seconds_total[1m]))",
    "up",
    "count by (__name__) ({job=\"node\"})",
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "topk(3, node_filesystem_size_bytes)",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[1m])))",
    "avg_over_time(node_load1[1m])",
    "max_over_time(rate(process_cpu_seconds_total[30s])[1m:5s])",
    "sum without (cpu, mode) (increase(node_cpu_seconds_total{mode!=\"idle\"}[1m]))",
    "node_cpu_seconds_total offset 10s",
    "quantile by (job) (0.5, scrape_duration_seconds)",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\") * on (job) group_left () count by (job) (up)",
    "deriv(process_resident_memory_bytes[1m])",
    "absent(nothing_of_this_name)",
];

#[test]
fn answers_about_a_real_prometheus_are_its_own_by_remote_write_1_and_2() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(reason) => return skip("answers_about_a_real_prometheus_are_its_own_by_remote_write_1_and_2", &reason),
    };
    let folder = TempDir::new().unwrap();
    let exporter_port = free_port();
    let exporter = Command::new(&peers.node_exporter)
        .arg(format!("--web.listen-address=127.0.0.1:{exporter_port}"))
        .stdout(log(folder.path(), "node_exporter.log"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _exporter = Running(exporter);

    let pairs: Vec<Pair> = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"]
        .into_iter()
        .map(|message| Pair::start(&peers, folder.path(), message, exporter_port))
        .collect();
    let seconds = std::env::var("KYMO_PEER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    for pair in &pairs {
        let at = pair.wait_for_data(seconds);
        for expression in EXPRESSIONS {
            pair.compare(expression, at);
        }
        pair.ask_promtool(&peers, at);
        pair.ask_prometheus_with_kymo(at);
    }
}

/// Programs of the table that `cargo xtask peers` writes.
pub(crate) struct Peers {
    pub(crate) prometheus: PathBuf,
    pub(crate) promtool: PathBuf,
    node_exporter: PathBuf,
}

impl Peers {
    pub(crate) fn find() -> Result<Peers, String> {
        let file = std::env::var("KYMO_PEERS").map_err(|_| "KYMO_PEERS names no table of peers".to_owned())?;
        let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        let program = |name: &str| match table[name]["path"].as_str() {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(format!("no {name}: {}", table[name]["missing"].as_str().unwrap_or("not in the table"))),
        };
        let version = table["prometheus"]["version"].as_str().unwrap_or("unknown");
        if version.starts_with("2.") {
            return Err(format!("Prometheus {version} still counts the left end of a window"));
        }
        Ok(Peers {
            prometheus: program("prometheus")?,
            promtool: program("promtool")?,
            node_exporter: program("prometheus-node-exporter")?,
        })
    }
}

pub(crate) fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: {reason}").unwrap();
    }
}

/// A child that does not outlive its test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Prometheus and the Kymo it writes to.
struct Pair {
    kymo: Server,
    prometheus_port: u16,
    message: &'static str,
    folder: PathBuf,
    _prometheus: Running,
}

impl Pair {
    fn start(peers: &Peers, folder: &Path, message: &'static str, exporter_port: u16) -> Pair {
        let folder = folder.join(message);
        fs::create_dir(&folder).unwrap();
        // Everything it has is compared: it must not make series of the health of services from what it is sent.
        let own = folder.join("kymo.yml");
        fs::write(&own, "service_health: {metrics_interval: 0s}\n").unwrap();
        let kymo = Server::start_with(&folder, &["--config", own.to_str().unwrap()]);
        let port = free_port();
        let config = folder.join("prometheus.yml");
        let kymo_port = kymo.port;
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n\
             scrape_configs:\n\
             - job_name: prometheus\n  static_configs:\n  - targets: ['127.0.0.1:{port}']\n\
             - job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter_port}']\n\
             remote_write:\n\
             - url: http://127.0.0.1:{kymo_port}/api/v1/write\n  protobuf_message: {message}\n"
        );
        fs::write(&config, text).unwrap();
        let prometheus = Command::new(&peers.prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log(&folder, "prometheus.log"))
            .spawn()
            .unwrap();
        Pair { kymo, prometheus_port: port, message, folder, _prometheus: Running(prometheus) }
    }

    fn ask(&self, port: u16, expression: &str, at: i64) -> Result<Value, String> {
        let target = format!("/api/v1/query?query={}&time={at}", http::encoded(expression));
        let answer = http::get(port, &target).map_err(|error| error.to_string())?;
        match answer.status {
            200 => Ok(answer.json()["data"].clone()),
            status => Err(format!("{status}: {}", answer.body)),
        }
    }

    /// Waits until Kymo has `seconds` of both jobs, and then until it has what Prometheus has of that moment; gives the
    /// moment, in seconds.
    fn wait_for_data(&self, seconds: u64) -> i64 {
        let deadline = Duration::from_secs(seconds) * PATIENCE;
        let newest = wait_until(&format!("{seconds} s of data by {}", self.message), deadline, || {
            let now = crate::remote_write::now_ms() / 1000;
            let spans = self.ask(
                self.kymo.port,
                "max by (job) (timestamp(up)) - min by (job) (min_over_time(timestamp(up)[1h:1s]))",
                now,
            );
            let spans = values(&spans.ok()?)?;
            let long_enough = spans.len() == 2 && spans.values().all(|span| *span >= seconds as f64);
            long_enough.then_some(now)
        });
        // A moment that is over: all samples up to it are here when those of the last minute are, bit for bit.
        let at = newest - 5;
        wait_for("Kymo to have what Prometheus has", || {
            let everything = "{job=~\".+\"}[1m]";
            let theirs = samples(&self.ask(self.prometheus_port, everything, at).ok()?)?;
            let ours = samples(&self.ask(self.kymo.port, everything, at).ok()?)?;
            (!theirs.is_empty() && ours == theirs).then_some(at)
        })
    }

    fn compare(&self, expression: &str, at: i64) {
        let context = format!("{expression} at {at} by {}, logs in {}", self.message, self.folder.display());
        let theirs =
            self.ask(self.prometheus_port, expression, at).unwrap_or_else(|error| panic!("{context}: {error}"));
        let ours = self.ask(self.kymo.port, expression, at).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(ours["resultType"], theirs["resultType"], "{context}");
        let (ours, theirs) = (values(&ours).unwrap(), values(&theirs).unwrap());
        assert!(!theirs.is_empty(), "{context}: Prometheus answers nothing");
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{context}");
        for (labels, theirs) in &theirs {
            let ours = ours[labels];
            let scale = theirs.abs().max(f64::MIN_POSITIVE);
            let same = ours.to_bits() == theirs.to_bits() || (ours - theirs).abs() <= scale * TOLERANCE;
            let both_nan = ours.is_nan() && theirs.is_nan();
            assert!(same || both_nan, "{context}: {labels}: {ours} here, {theirs} there");
        }
    }

    /// The tool's own questions, put to both.
    fn ask_promtool(&self, peers: &Peers, at: i64) {
        let (time, start, end) = (format!("--time={at}"), format!("--start={}", at - 30), format!("--end={at}"));
        let questions: [(&[&str], &[&str]); 4] = [
            (&["instant", &time], &["sum by (job) (up)"]),
            (&["range", &start, &end, "--step=5s"], &["sum by (job) (up)"]),
            (&["series", "--match=up", &start, &end], &[]),
            (&["labels", &start, &end], &["job"]),
        ];
        for (before, after) in questions {
            let ask = |url: String| {
                let output =
                    Command::new(&peers.promtool).arg("query").args(before).arg(url).args(after).output().unwrap();
                assert!(output.status.success(), "{before:?}: {output:?}");
                let mut lines: Vec<String> =
                    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let (ours, theirs) = (ask(self.kymo.url()), ask(self.prometheus_url()));
            assert_eq!(ours, theirs, "promtool query {before:?} {after:?} by {}", self.message);
            assert!(theirs.iter().any(|line| line.contains("node")), "{before:?}: {theirs:?}");
        }
    }

    /// `kymo query` is as good a client of Prometheus as of Kymo.
    fn ask_prometheus_with_kymo(&self, at: i64) {
        let (url, at_text) = (self.prometheus_url(), at.to_string());
        for expression in EXPRESSIONS {
            let said = run(["query", expression, "--server", &url, "--time", &at_text, "--output", "json"]);
            assert_eq!(said.status, 0, "{said:?}");
            let ours: Value = serde_json::from_str(&said.out).unwrap();
            assert_eq!(ours, self.ask(self.prometheus_port, expression, at).unwrap(), "{expression}");
        }
        let said = run(["query", "sum(up", "--server", &url]);
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.err.contains("expression:1:") && said.err.contains('^'), "{said:?}");
    }

    fn prometheus_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.prometheus_port)
    }
}

/// Labels and value of each element of an instant vector.
fn values(data: &Value) -> Option<BTreeMap<String, f64>> {
    data["result"]
        .as_array()?
        .iter()
        .map(|element| Some((element["metric"].to_string(), element["value"][1].as_str()?.parse().ok()?)))
        .collect()
}

/// Labels and samples of each element of a range vector, in text.
fn samples(data: &Value) -> Option<BTreeMap<String, String>> {
    let elements = data["result"].as_array()?.iter();
    Some(elements.map(|element| (element["metric"].to_string(), element["values"].to_string())).collect())
}

/// A port that was free a moment ago. Prometheus cannot tell which one it picked by itself.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn log(folder: &Path, name: &str) -> File {
    File::create(folder.join(name)).unwrap()
}
