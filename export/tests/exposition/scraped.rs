//! The example scraped by a real Prometheus, once in each format it can ask for, and its page checked by `promtool`.
//!
//! Needs the programs that `cargo xtask peers` unpacks; says so and does nothing where they are absent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peers;

/// Scrapes come in real time, a second apart, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
/// A job for each way in which Prometheus may ask.
const PROTOCOLS: [&str; 4] = ["PrometheusText0.0.4", "PrometheusText1.0.0", "OpenMetricsText1.0.0", "PrometheusProto"];

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example beside this test. `cargo test` builds examples, unless it is told to run one test target only: then it is
/// built here, as this test was.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap();
    let example = built.join(format!("examples/metrics_endpoint{}", std::env::consts::EXE_SUFFIX));
    if !example.exists() {
        let profile = match built.file_name().and_then(OsStr::to_str).unwrap() {
            "debug" => "dev",
            named => named,
        };
        let target = built.parent().unwrap();
        let cargo = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package=kymo-export", "--example=metrics_endpoint", "--profile", profile])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()
            .unwrap();
        assert!(cargo.success() && example.exists(), "the example cannot be built: {cargo}");
    }
    example
}

/// Body of a 200, read to the end of the connection.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// The values that Prometheus answers with, by the label `job`.
fn ask(prometheus: &str, query: &str) -> Vec<(String, f64)> {
    let Some(body) = get(prometheus, &format!("/api/v1/query?query={query}")) else { return Vec::new() };
    let answer: Value = serde_json::from_str(&body).unwrap();
    let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let row = |row: &Value| {
        let value = row["value"][1].as_str().unwrap().parse().unwrap();
        (row["metric"]["job"].as_str().unwrap_or_default().to_owned(), value)
    };
    result.iter().map(row).collect()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        thread::sleep(POLL);
    }
}

#[test]
fn a_real_prometheus_scrapes_the_example_in_every_format() {
    const TEST: &str = "a_real_prometheus_scrapes_the_example_in_every_format";
    let (prometheus, promtool) = match (peers::program("prometheus"), peers::program("promtool")) {
        (Ok(prometheus), Ok(promtool)) => (prometheus, promtool),
        (Err(reason), _) | (_, Err(reason)) => return peers::skip(TEST, &reason),
    };
    let mut program = Running(Command::new(example()).arg("0").stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics")).unwrap();

    let page = wait_for("a job of each kind", || {
        get(address, "/metrics").filter(|page| page.matches("example_jobs_total{").count() == 2)
    });
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success() && words.is_empty(), "{words}{page}");

    let folder = tempfile::tempdir().unwrap();
    let jobs: String = PROTOCOLS.map(|protocol| {
        format!(
            "- job_name: {protocol}\n  scrape_protocols: [{protocol}]\n  static_configs:\n  - targets: ['{address}']\n"
        )
    })
    .concat();
    let config = folder.path().join("prometheus.yml");
    fs::write(&config, format!("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{jobs}"))
        .unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let prometheus_address = format!("127.0.0.1:{port}");
    let server = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={prometheus_address}"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let _server = Running(server);

    // Two scrapes of each, so that what is counted is seen to rise.
    let rates = wait_for("two scrapes of each job", || {
        let found = ask(&prometheus_address, "sum(increase(example_jobs_total[1m]))by(job)");
        (found.len() == PROTOCOLS.len() && found.iter().all(|(_, rise)| *rise > 0.0)).then_some(found)
    });
    assert!(PROTOCOLS.iter().all(|protocol| rates.iter().any(|(job, _)| job == protocol)), "{rates:?}");
    for (query, wanted) in [
        ("up", 1.0),
        ("count(example_jobs_total)by(job)", 2.0),
        ("count(example_job_duration_seconds_bucket)by(job)", 12.0),
        ("count(process_resident_memory_bytes)by(job)", 1.0),
    ] {
        let found = ask(&prometheus_address, query);
        assert_eq!(found.len(), PROTOCOLS.len(), "{query}: {found:?}");
        assert!(found.iter().all(|(_, value)| *value == wanted), "{query}: {found:?}");
    }
}
