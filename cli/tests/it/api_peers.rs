//! The HTTP API beside the real one: Prometheus and Kymo get the same samples by remote write, then the same requests; and
//! a Prometheus without data of its own reads Kymo's by remote read.
//!
//! Needs the servers that `cargo xtask peers` unpacks, named by `KYMO_PEERS`; says so and does nothing where they are
//! absent.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer, encoded};
use crate::process::{Server, wait_for};
use crate::remote_write::{Request, now_ms};

/// How much alike two answers must be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Alike {
    /// Equal status, and equal as JSON or text.
    Same,
    /// Equal status, and JSON of one shape: equal keys and types.
    Shape,
    /// Equal status, and of an error its type: the text is the server's own.
    Status,
    /// They differ, for this reason.
    Differ(&'static str),
}
use Alike::{Differ, Same, Shape, Status};

const NEWER_TREE: &str = "3.14 tells of every selector whether it is anchored or smoothed, 3.5 knows neither";
const DOCUMENTED_STATUS: &str = "unavailable is 503 as the API's documentation says; the program answers 500";
/// Largest relative difference of two values.
const TOLERANCE: f64 = 1e-9;

/// Requests to both: method, target below the root, form. `START`, `END` and `NOW` stand for times of the data.
const REQUESTS: &[(&str, &str, &str, Alike)] = &[
    // Queries.
    ("GET", "/api/v1/query?query=up&time=END", "", Same),
    ("POST", "/api/v1/query", "query=up&time=END", Same),
    ("POST", "/api/v1/query?time=END", "query=up", Same),
    ("GET", "/api/v1/query?query=1%2B1&time=END", "", Same),
    ("GET", "/api/v1/query?query=%22text%22&time=END", "", Same),
    ("GET", "/api/v1/query?query=up[1m]&time=END", "", Same),
    ("GET", "/api/v1/query?query=latency&time=END", "", Same),
    ("GET", "/api/v1/query?query=none&time=END", "", Same),
    ("GET", "/api/v1/query?query=up&time=END&limit=1", "", Same),
    ("GET", "/api/v1/query?query=up&time=END&timeout=10s", "", Same),
    ("GET", "/api/v1/query?query=up&time=AFTER&lookback_delta=10s", "", Same),
    ("GET", "/api/v1/query?query=up&time=AFTER&lookback_delta=10m", "", Same),
    ("GET", "/api/v1/query?query=up&time=END&stats=true", "", Shape),
    ("GET", "/api/v1/query?query=up&time=END&stats=all", "", Shape),
    ("GET", "/api/v1/query?query=rate(up[5m])&time=END", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START&end=END&step=30", "", Same),
    ("POST", "/api/v1/query_range", "query=up&start=START&end=END&step=30s", Same),
    ("GET", "/api/v1/query_range?query=latency&start=START&end=END&step=30", "", Same),
    ("GET", "/api/v1/query_range?query=1&start=START&end=END&step=60.5", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START&end=END&step=30&limit=1", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START&end=END&step=30&stats=all", "", Shape),
    // Refusals.
    ("GET", "/api/v1/query", "", Same),
    ("GET", "/api/v1/query?query=", "", Same),
    ("GET", "/api/v1/query?query=sum(up", "", Same),
    ("GET", "/api/v1/query?query=up&time=x", "", Same),
    ("GET", "/api/v1/query?query=up&timeout=x", "", Same),
    ("GET", "/api/v1/query?query=up&limit=x", "", Same),
    ("GET", "/api/v1/query?query=up&limit=-1", "", Same),
    ("GET", "/api/v1/query?query=up&lookback_delta=x", "", Same),
    ("GET", "/api/v1/query?query=up%20and%20on(a)%20group_left%20up", "", Same),
    ("GET", "/api/v1/query?query=label_replace(up,%22a%22,%22b%22,%22c%22,%22(%22)", "", Same),
    ("GET", "/api/v1/query?query=up%20*%20on()%20up&time=END", "", Status),
    ("GET", "/api/v1/query_range?query=up", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START&end=END", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START&end=END&step=0", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=START&end=END&step=x", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=END&end=START&step=1", "", Same),
    ("GET", "/api/v1/query_range?query=up&start=0&end=END&step=1", "", Same),
    ("GET", "/api/v1/query_range?query=up[1m]&start=START&end=END&step=30", "", Same),
    ("GET", "/api/v1/nothing", "", Status),
    // The catalogue.
    ("GET", "/api/v1/series?match[]=up", "", Same),
    ("POST", "/api/v1/series", "match[]=up&match[]=latency", Same),
    (
        "GET",
        "/api/v1/series?match[]={__name__=~%22.%2B%22}&limit=1",
        "",
        Differ("a list that is cut keeps the first in the order of labels here, the first that were stored there"),
    ),
    ("GET", "/api/v1/series", "", Same),
    ("GET", "/api/v1/series?match[]={}", "", Same),
    ("GET", "/api/v1/series?match[]=up{", "", Same),
    ("GET", "/api/v1/series?match[]=up&start=x", "", Same),
    ("GET", "/api/v1/series?match[]=up&start=START&end=END", "", Same),
    ("GET", "/api/v1/labels", "", Same),
    ("POST", "/api/v1/labels", "match[]=latency", Same),
    ("GET", "/api/v1/labels?limit=1", "", Same),
    ("GET", "/api/v1/labels?limit=x", "", Same),
    ("GET", "/api/v1/labels?match[]={}", "", Same),
    ("GET", "/api/v1/label/job/values", "", Same),
    ("GET", "/api/v1/label/__name__/values?match[]=up", "", Same),
    ("GET", "/api/v1/label/U__a_2e_b/values", "", Same),
    ("GET", "/api/v1/label/none/values", "", Same),
    ("GET", "/api/v1/metadata", "", Same),
    ("GET", "/api/v1/metadata?limit=x", "", Same),
    ("GET", "/api/v1/query_exemplars?query=up&start=START&end=END", "", Same),
    ("GET", "/api/v1/query_exemplars?query=sum(&start=START&end=END", "", Same),
    ("GET", "/api/v1/query_exemplars?query=up&start=END&end=START", "", Same),
    // Expressions.
    ("GET", "/api/v1/format_query?query=sum(rate(up[5m]))by(job)/2", "", Same),
    ("POST", "/api/v1/format_query", "query=up%2Bon(job)up", Same),
    ("GET", "/api/v1/format_query?query=sum(", "", Same),
    ("GET", "/api/v1/format_query", "", Same),
    ("GET", "/api/v1/parse_query?query=sum(rate(up{job=%22a%22}[5m]))by(job)/2", "", Differ(NEWER_TREE)),
    ("POST", "/api/v1/parse_query", "query=up+offset+5m", Differ(NEWER_TREE)),
    ("POST", "/api/v1/parse_query", "query=-(1+%2B+scalar(vector(2)))", Same),
    ("GET", "/api/v1/parse_query?query=sum(", "", Same),
    // Targets, rules, alerts.
    ("GET", "/api/v1/targets", "", Same),
    ("GET", "/api/v1/targets?state=active", "", Same),
    ("GET", "/api/v1/targets/metadata", "", Same),
    ("GET", "/api/v1/scrape_pools", "", Same),
    ("GET", "/api/v1/rules", "", Same),
    ("GET", "/api/v1/rules?type=alert", "", Same),
    ("GET", "/api/v1/rules?type=x", "", Same),
    ("GET", "/api/v1/rules?group_limit=x", "", Same),
    ("GET", "/api/v1/rules?group_limit=0", "", Same),
    ("GET", "/api/v1/rules?group_next_token=x", "", Same),
    ("GET", "/api/v1/rules?exclude_alerts=x", "", Same),
    ("GET", "/api/v1/rules?match[]={", "", Same),
    ("GET", "/api/v1/alerts", "", Same),
    ("GET", "/api/v1/alertmanagers", "", Same),
    // What the server says of itself.
    ("GET", "/api/v1/status/config", "", Shape),
    ("GET", "/api/v1/status/buildinfo", "", Shape),
    ("GET", "/api/v1/status/runtimeinfo", "", Shape),
    ("GET", "/api/v1/status/flags", "", Status),
    ("GET", "/api/v1/status/tsdb", "", Shape),
    ("GET", "/api/v1/status/tsdb?limit=1", "", Shape),
    ("GET", "/api/v1/status/tsdb?limit=0", "", Same),
    ("GET", "/api/v1/status/walreplay", "", Shape),
    ("GET", "/api/v1/notifications", "", Same),
    ("GET", "/-/healthy", "", Status),
    ("GET", "/-/ready", "", Status),
    // What Grafana's data source asks for: its health, the builder, panels, the explorer, the list of alerts.
    ("POST", "/api/v1/query", "query=1%2B1&time=END", Same),
    ("POST", "/api/v1/query", "query=up&time=END.5", Same),
    ("POST", "/api/v1/query_range", "query=up&start=START&end=END&step=15", Same),
    ("POST", "/api/v1/query_range", "query=sum+by+(job)+(rate(up%5B1m0s%5D))&start=START&end=END&step=0.5", Same),
    ("POST", "/api/v1/query_range", "query=up&start=START.123&end=END.456&step=30.000", Same),
    ("POST", "/api/v1/query_range", "query=histogram_quantile(0.9,latency)&start=START&end=END&step=1m0s", Same),
    ("POST", "/api/v1/query_range", "query=ALERTS%7Balertstate=%22firing%22%7D&start=START&end=END&step=60s", Same),
    ("POST", "/api/v1/query_exemplars", "query=up&start=START&end=END", Same),
    ("POST", "/api/v1/query_exemplars", "query=sum(rate(up%5B1m%5D))%20%2F%20latency&start=START&end=END.9", Same),
    ("POST", "/api/v1/labels", "start=START&end=END&limit=40000", Same),
    ("POST", "/api/v1/labels", "start=START&end=END&limit=40000&match[]=up%7Bjob=%22api%22%7D", Same),
    ("GET", "/api/v1/label/__name__/values?start=START&end=END&limit=40000", "", Same),
    ("GET", "/api/v1/label/job/values?start=START&end=END&limit=40000&match[]=up", "", Same),
    ("GET", "/api/v1/label/job/values?start=START&end=END&match[]={__name__=%22up%22}&match[]=latency", "", Same),
    ("GET", "/api/v1/label/U__a_2e_b/values?start=START&end=END&match[]={%22dotted%22}", "", Same),
    ("POST", "/api/v1/series", "start=START&end=END&limit=40000&match[]=up", Same),
    ("POST", "/api/v1/series", "match[]=%7B%22a.b%22=%22c%22%7D&start=START&end=END", Same),
    ("GET", "/api/v1/metadata?limit=40000", "", Same),
    ("GET", "/api/v1/metadata?metric=none&limit_per_metric=1", "", Same),
    ("GET", "/api/v1/rules?type=alert&limit_alerts=16&group_limit=40", "", Same),
    ("GET", "/api/v1/alerts?x=y", "", Same),
    ("POST", "/api/v1/format_query", "query=sum(rate(up%5B5m%5D))by(job)", Same),
    ("PUT", "/api/v1/query?query=up", "", Status),
    ("DELETE", "/api/v1/labels", "", Status),
    // Switched off.
    ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up", "", Differ(DOCUMENTED_STATUS)),
    ("PUT", "/api/v1/admin/tsdb/clean_tombstones", "", Differ(DOCUMENTED_STATUS)),
    ("POST", "/api/v1/admin/tsdb/snapshot", "", Differ(DOCUMENTED_STATUS)),
    // The other doors.
    ("GET", "/federate?match[]=up", "", Same),
    ("GET", "/federate?match[]=up{", "", Status),
    ("POST", "/api/v1/read", "", Status),
];

/// The same samples for both: counters of two jobs, a name that is not a legacy one, a native histogram.
fn write(ports: [u16; 2], end_ms: i64) {
    let times = |step: i64| (0..40).rev().map(move |n| end_ms - n * step);
    let mut request = Request::default();
    for (job, factor) in [("api", 1.5), ("node", 2.0)] {
        let points: Vec<(i64, f64)> = times(15_000).zip(1..).map(|(time, n)| (time, f64::from(n) * factor)).collect();
        request = request.floats(&[("__name__", "up"), ("instance", "a:1"), ("job", job)], &points);
        request = request.exemplar("4bf92f3577b34da6", end_ms - 30_000, factor);
    }
    request = request.floats(&[("__name__", "dotted"), ("a.b", "c")], &[(end_ms, 1e9)]);
    for (time_ms, n) in times(15_000).zip(1i64..) {
        let counts = [n, 2 * n, if n % 7 == 0 { 0 } else { n / 3 }];
        request = request.histogram(&[("__name__", "latency"), ("job", "api")], time_ms, n as f64 * 3.25, &counts);
    }
    for port in ports {
        let answer = request.send(port);
        assert_eq!(answer.status, 204, "{answer:?}");
    }
}

struct Prometheus {
    port: u16,
    _child: Running,
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, config: &str, flags: &[&str]) -> Prometheus {
        fs::create_dir_all(folder).unwrap();
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Prometheus { port, _child: Running(child) };
        wait_for("Prometheus", || http::get(port, "/-/ready").ok().filter(|answer| answer.status == 200));
        prometheus
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn prometheus(test: &str) -> Option<PathBuf> {
    let found = || -> Result<PathBuf, String> {
        let file = std::env::var("KYMO_PEERS").map_err(|_| "KYMO_PEERS names no table of peers".to_owned())?;
        let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        let version = table["prometheus"]["version"].as_str().unwrap_or("unknown");
        match table["prometheus"]["path"].as_str() {
            Some(_) if version.starts_with("2.") => Err(format!("Prometheus {version} has another API")),
            Some(path) => Ok(PathBuf::from(path)),
            None => Err("no prometheus in the table".to_owned()),
        }
    };
    match found() {
        Ok(path) => Some(path),
        Err(reason) => {
            println!("SKIPPED {test}: {reason}");
            if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
                let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
                writeln!(log, "{test}: {reason}").unwrap();
            }
            None
        }
    }
}

fn ask(port: u16, method: &str, target: &str, form: &str) -> Answer {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    http::send(port, method, target, if form.is_empty() { &[] } else { &headers }, form.as_bytes()).unwrap()
}

/// JSON with every value replaced by its type, and every list by its first element's.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Null => Value::Null,
    }
}

/// What of an answer must be alike.
fn seen(answer: &Answer, alike: Alike) -> String {
    let json: Option<Value> = serde_json::from_str(&answer.body).ok();
    let body = match (alike, json) {
        (Status, Some(json)) => json["errorType"].to_string(),
        (Status, None) => String::new(),
        (Shape, Some(json)) => shape(&json).to_string(),
        (_, Some(json)) => json.to_string(),
        (_, None) => answer.body.clone(),
    };
    let kind = answer.header("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let kind = if alike == Status { "" } else { kind };
    format!("{} {kind} {body}", answer.status)
}

/// Equal, but for the last digits of numbers in text.
fn are_close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| are_close(a, b)))
        }
        (Value::String(a), Value::String(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
            _ => a == b,
        },
        _ => a == b,
    }
}

#[test]
fn every_endpoint_answers_as_prometheus_does() {
    let Some(program) = prometheus("every_endpoint_answers_as_prometheus_does") else { return };
    let folder = TempDir::new().unwrap();
    let kymo = Server::start_with(folder.path(), &[]);
    let flags = [
        "--web.enable-remote-write-receiver",
        "--enable-feature=native-histograms,promql-per-step-stats,exemplar-storage",
    ];
    let theirs = Prometheus::start(&program, &folder.path().join("theirs"), "global: {}\n", &flags);
    let end_ms = now_ms() / 15_000 * 15_000;
    write([kymo.port, theirs.port], end_ms);
    let seconds = |ms: i64| (ms / 1000).to_string();
    let dated = |text: &str| {
        text.replace("START", &seconds(end_ms - 300_000))
            .replace("AFTER", &seconds(end_ms + 60_000))
            .replace("END", &seconds(end_ms))
    };
    let mut faults = Vec::new();
    for (method, target, form, alike) in REQUESTS {
        let (target, form) = (dated(target), dated(form));
        let target = target.replace('[', "%5B").replace(']', "%5D").replace('{', "%7B").replace('}', "%7D");
        let [ours, theirs] = [kymo.port, theirs.port].map(|port| ask(port, method, &target, &form));
        let [ours, theirs] = [&ours, &theirs].map(|answer| seen(answer, *alike));
        let is_as_told = match alike {
            Differ(_) => ours != theirs,
            _ => ours == theirs,
        };
        if !is_as_told {
            faults.push(format!("{method} {target} {form} ({alike:?})\n   here: {ours}\n  there: {theirs}"));
        }
    }
    assert!(faults.is_empty(), "{} of {} differ:\n{}", faults.len(), REQUESTS.len(), faults.join("\n"));

    // The same series are counted alike, in whatever order those of equal counts stand.
    let [ours, theirs] = [kymo.port, theirs.port].map(|port| {
        let data = http::get(port, "/api/v1/status/tsdb?limit=10000").unwrap().json()["data"].clone();
        let head = ["numSeries", "numLabelPairs", "minTime", "maxTime"].map(|name| data["headStats"][name].to_string());
        let lists = [
            "seriesCountByMetricName",
            "labelValueCountByLabelName",
            "memoryInBytesByLabelName",
            "seriesCountByLabelValuePair",
        ];
        let list = |name: &str| {
            let mut list: Vec<String> = data[name].as_array().unwrap().iter().map(Value::to_string).collect();
            list.sort_unstable();
            list
        };
        (head, lists.map(list))
    });
    assert!(theirs.1.iter().all(|list| !list.is_empty()), "{theirs:?}");
    assert_eq!(ours, theirs, "status/tsdb");
}

#[test]
fn a_prometheus_without_data_reads_ours() {
    let Some(program) = prometheus("a_prometheus_without_data_reads_ours") else { return };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kymo.yml");
    fs::write(&file, "global: {external_labels: {region: eu}}\n").unwrap();
    let kymo = Server::start_with(folder.path(), &["--config", file.to_str().unwrap()]);
    let end_ms = now_ms() / 15_000 * 15_000;
    write([kymo.port, kymo.port], end_ms);
    let config = format!("remote_read:\n- url: http://127.0.0.1:{}/api/v1/read\n  read_recent: true\n", kymo.port);
    let reader =
        Prometheus::start(&program, &folder.path().join("reader"), &config, &["--enable-feature=native-histograms"]);
    for (expression, elements) in [
        ("up", 2),
        ("latency", 1),
        ("rate(up[2m])", 2),
        ("histogram_quantile(0.9, rate(latency[5m]))", 1),
        ("histogram_count(latency)", 1),
        ("count_over_time({__name__=~\".+\"}[20m])", 4),
        ("{\"a.b\"=\"c\"}", 1),
        ("up{job!=\"node\"}", 1),
    ] {
        let target = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step=15",
            encoded(expression),
            (end_ms - 300_000) / 1000,
            end_ms / 1000
        );
        let result = |port: u16| {
            let answer = http::get(port, &target).unwrap();
            assert_eq!(answer.status, 200, "{expression}: {answer:?}");
            let mut result = answer.json()["data"]["result"].clone();
            for series in result.as_array_mut().unwrap() {
                series["metric"].as_object_mut().unwrap().remove("region");
            }
            result
        };
        let (ours, theirs) = (result(kymo.port), result(reader.port));
        assert_eq!(theirs.as_array().map(Vec::len), Some(elements), "{expression}: {theirs}");
        assert!(are_close(&theirs, &ours), "{expression}\n   here: {ours}\n  there: {theirs}");
    }
    // What left the server has its external labels.
    let labels = http::get(reader.port, &format!("/api/v1/query?query=up&time={}", end_ms / 1000)).unwrap();
    assert_eq!(labels.json()["data"]["result"][0]["metric"]["region"], "eu", "{labels:?}");
}
