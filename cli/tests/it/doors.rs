//! Every way in but remote write, as the server composes them: scraping, OTLP, reload.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::PROMETHEUS;
use crate::http;
use crate::peers::{Peers, skip};
use crate::process::{Server, wait_for};
use crate::remote_write::now_ms;

/// A target that says `answer 42` to everyone, until the test process ends.
fn target() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            // A request's head ends with an empty line.
            let whole = head.any(|line| line.is_ok_and(|line| line.is_empty()));
            let body = "# TYPE answer gauge\nanswer 42\n";
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            // Whoever asked may be gone.
            let _ = whole && write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").is_ok();
        }
    });
    port
}

/// The value of an instant query of one series.
fn value(server: &Server, query: &str) -> Option<String> {
    let answer = http::get(server.port, &format!("/api/v1/query?query={}", http::encoded(query))).ok()?.json();
    Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
}

fn wait_for_value(server: &Server, query: &str, expected: &str) {
    wait_for(query, || value(server, query).filter(|found| found == expected));
}

fn data(server: &Server, path: &str) -> Value {
    let answer = http::get(server.port, path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["data"].clone()
}

struct Configured {
    _folder: TempDir,
    path: PathBuf,
    server: Server,
}

fn configured(text: &str, flags: &[&str]) -> Configured {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, text).unwrap();
    let flags: Vec<&str> = ["--config", path.to_str().unwrap()].iter().chain(flags).copied().collect();
    let server = Server::start_with(folder.path(), &flags);
    Configured { _folder: folder, path, server }
}

fn job(name: &str, port: u16) -> String {
    format!("  - job_name: {name}\n    scrape_interval: 1s\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")
}

#[test]
fn a_file_is_acted_on_and_the_start_says_what_is_left_out() {
    let configured = configured(PROMETHEUS, &[]);
    let out = configured.server.out();
    assert!(out.contains(&format!("config      {}: 2 scrape jobs\n", configured.path.display())), "{out}");
    let named: Vec<&str> = out.lines().filter_map(|line| line.trim().strip_prefix("not served")).collect();
    assert_eq!(named.len(), 3, "{out}");
    for what in ["alerting", "remote_write", "consul_sd_configs"] {
        assert!(named.iter().any(|line| line.trim().starts_with(what)), "{what} is not in\n{out}");
    }
    let yaml = data(&configured.server, "/api/v1/status/config");
    assert!(yaml["yaml"].as_str().unwrap().contains("job_name: prometheus"), "{yaml}");
    let flags = data(&configured.server, "/api/v1/status/flags");
    assert_eq!((&flags["retention"], &flags["collect"]), (&json!("30d"), &json!("none")), "{flags}");
    let runtime = data(&configured.server, "/api/v1/status/runtimeinfo");
    assert_eq!((&runtime["reloadConfigSuccess"], &runtime["storageRetention"]), (&json!(true), &json!("30d")));
}

#[test]
fn metrics_have_a_listener_of_their_own_where_the_file_asks_for_one() {
    let Configured { server, _folder, .. } = configured("metrics: {port: 0, path: /own}\n", &[]);
    let port = server.port_of("metrics").unwrap();
    assert!(server.out().contains(&format!("metrics     http://127.0.0.1:{port}\n")), "{}", server.out());
    let answer = http::get(port, "/own").unwrap();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for metric in ["\nprocess_cpu_usage ", "\nprocess_memory_bytes ", "\nkymo_storage_"] {
        assert!(answer.body.contains(metric), "{metric:?} is not in\n{}", answer.body);
    }
    // Nothing else is told there.
    assert_eq!(http::get(port, "/api/v1/query?query=up").unwrap().status, 404);
    assert!(server.terminate().success());

    let Configured { server, _folder, .. } = configured("metrics: {enabled: false}\n", &[]);
    assert_eq!(server.port_of("metrics"), None);
    assert!(server.err().contains("Metrics endpoint disabled"), "{}", server.err());
    assert_eq!(http::get(server.port, "/metrics").unwrap().status, 200);
}

/// What a program says that gets `page` on its standard input, or why it did not like it.
fn said_of(page: &str, command: &mut Command) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success(), "{words}\n{page}");
    words
}

/// Nothing of it is a slip to those who read it: `promtool check metrics` lints the text, and the parser of Prometheus' Python
/// client, which is the reference of OpenMetrics, reads the other.
#[test]
fn the_servers_own_page_is_clean_to_promtool_and_to_the_reference_parser() {
    const TEST: &str = "the_servers_own_page_is_clean_to_promtool_and_to_the_reference_parser";
    const SCRIPT: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
print(sum(len(family.samples) for family in read(sys.stdin.buffer.read().decode('utf-8'))))";
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(reason) => return skip(TEST, &reason),
    };
    let Ok(python) = std::env::var("KYMO_PYTHON") else { return skip(TEST, "KYMO_PYTHON names no interpreter") };
    let target = target();
    let text = format!("metrics: {{port: 0}}\nscrape_configs:\n{}", job("one", target));
    let Configured { server, _folder, .. } = configured(&text, &[]);
    // Something of scrapes, of requests and of queries is counted.
    wait_for_value(&server, "answer{job=\"one\"}", "42");
    for port in [server.port, server.port_of("metrics").unwrap()] {
        let page = http::get(port, "/metrics").unwrap();
        assert_eq!(said_of(&page.body, Command::new(&peers.promtool).args(["check", "metrics"])), "");
        let accept = ("Accept", "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8");
        let page = http::send(port, "GET", "/metrics", &[accept], &[]).unwrap();
        assert!(page.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        let samples = page.body.lines().filter(|line| !line.starts_with('#')).count();
        assert!(samples > 100, "{}", page.body);
        assert_eq!(said_of(&page.body, Command::new(&python).args(["-c", SCRIPT])).trim(), samples.to_string());
    }
    assert!(server.terminate().success());
}

#[test]
fn targets_are_scraped_and_told() {
    let port = target();
    let Configured { server, _folder, .. } = configured(&format!("scrape_configs:\n{}", job("one", port)), &[]);
    wait_for_value(&server, "answer{job=\"one\"}", "42");
    wait_for_value(&server, "up{job=\"one\"}", "1");
    let target = wait_for("the target", || {
        let targets = data(&server, "/api/v1/targets");
        Some(targets["activeTargets"][0].clone()).filter(|target| target["health"] == "up")
    });
    assert_eq!(target["scrapeUrl"], format!("http://127.0.0.1:{port}/metrics"), "{target}");
    assert_eq!((&target["scrapePool"], &target["scrapeInterval"]), (&json!("one"), &json!("1s")), "{target}");
    assert_eq!(data(&server, "/api/v1/scrape_pools"), json!({"scrapePools": ["one"]}));
    let metadata = data(&server, "/api/v1/targets/metadata?metric=answer&match_target=%7Bjob%3D%22one%22%7D");
    let labels = json!({"instance": format!("127.0.0.1:{port}"), "job": "one"});
    assert_eq!(metadata, json!([{"target": labels, "type": "gauge", "help": "", "unit": ""}]));
    assert!(server.terminate().success());
}

#[test]
fn settings_come_from_the_file_and_flags_win() {
    let text = "kymo: {retention: 9d, sync: always, memory_limit: 256MiB, collect: [host], data_dir: never-made}";
    let Configured { server, path, _folder } = configured(text, &["--retention", "8d"]);
    let out = server.out();
    for expected in ["kept        8d\n", "sync        always", "memory      at most 256.0 MiB"] {
        assert!(out.contains(expected), "{expected:?} is not in\n{out}");
    }
    assert!(!path.with_file_name("never-made").exists(), "the flag names another directory");
    assert_eq!(data(&server, "/api/v1/status/flags")["collect"], "host");
}

#[test]
fn a_reload_puts_a_good_file_in_force_and_keeps_the_old_one_before_a_bad_one() {
    let port = target();
    let text = format!("scrape_configs:\n{}", job("one", port));
    let Configured { server, path, _folder } = configured(&text, &["--enable-lifecycle"]);
    let metric = |name: &str| {
        let page = http::get(server.port, "/metrics").unwrap().body;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    };
    let reload = || http::send(server.port, "POST", "/-/reload", &[], &[]).unwrap();
    assert_eq!(metric("kymo_config_last_reload_successful").as_deref(), Some("1"));

    fs::write(&path, format!("{text}{}", job("two", port))).unwrap();
    let answer = reload();
    assert_eq!(answer.status, 200, "{answer:?}");
    wait_for_value(&server, "up{job=\"two\"}", "1");
    wait_for_value(&server, "up{job=\"one\"}", "1");

    fs::write(&path, "scrape_configs:\n  - job_nam: one\n").unwrap();
    let refused = reload();
    assert_eq!(refused.status, 500, "{refused:?}");
    let expected = format!("failed to reload config: {}:2:5: unknown key \"job_nam\"", path.display());
    assert!(refused.body.starts_with(&expected), "{refused:?}");
    assert_eq!(metric("kymo_config_last_reload_successful").as_deref(), Some("0"));
    let runtime = data(&server, "/api/v1/status/runtimeinfo");
    assert_eq!(runtime["reloadConfigSuccess"], false, "{runtime}");
    assert_eq!(data(&server, "/api/v1/scrape_pools"), json!({"scrapePools": ["one", "two"]}));

    fs::write(&path, format!("scrape_configs:\n{}", job("three", port))).unwrap();
    server.signal("HUP");
    wait_for_value(&server, "up{job=\"three\"}", "1");
    assert_eq!(metric("kymo_config_last_reload_successful").as_deref(), Some("1"));
    // What is scraped no longer is marked stale.
    wait_for("the end of job one", || value(&server, "up{job=\"one\"}").is_none().then_some(()));

    let answer = http::send(server.port, "POST", "/-/quit", &[], &[]).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut server = server;
    assert!(server.wait().success());
}

#[test]
fn nobody_reloads_or_stops_a_server_over_http_unasked() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    for path in ["/-/reload", "/-/quit"] {
        assert_eq!(http::send(server.port, "POST", path, &[], &[]).unwrap().status, 403, "{path}");
    }
    // Without a file there is nothing to read again, and a hangup ends nothing.
    server.signal("HUP");
    assert_eq!(http::get(server.port, "/-/ready").unwrap().status, 200);
    assert!(server.terminate().success());
}

#[test]
fn a_bad_file_starts_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bad.yml");
    fs::write(&path, "scrape_configs:\n  - job_nam: one\n").unwrap();
    let said = crate::process::run(["serve", "--config", path.to_str().unwrap()]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains(&format!("{}:2:5", path.display())) && said.err.contains("job_name"), "{said:?}");
}

fn otlp(name: &str) -> String {
    let nanos = format!("{}000000", now_ms());
    let point = json!({"timeUnixNano": nanos, "asDouble": 7.5});
    let metric = json!({"name": name, "gauge": {"dataPoints": [point]}});
    json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).to_string()
}

#[test]
fn otlp_is_taken_on_its_own_ports_and_on_the_main_one() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let (grpc, own) = (server.port_of("otlp_grpc").unwrap(), server.port_of("otlp_http").unwrap());
    let headers = [("Content-Type", "application/json")];
    for (port, path, name) in [(own, "/v1/metrics", "own"), (server.port, "/api/v1/otlp/v1/metrics", "main")] {
        let sent = http::send(port, "POST", path, &headers, otlp(name).as_bytes()).unwrap();
        assert_eq!((sent.status, &*sent.body), (200, "{}"), "{name}: {sent:?}");
        assert_eq!(value(&server, name).as_deref(), Some("7.5"));
    }
    assert_eq!(http::get(own, "/api/v1/query?query=own").unwrap().status, 404, "only OTLP is spoken there");
    assert!(TcpStream::connect(("127.0.0.1", grpc)).is_ok());
    assert!(server.terminate().success());
}

#[test]
fn a_token_is_asked_of_otlp_too() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    fs::write(&file, "secret\n").unwrap();
    let server = Server::start_with(folder.path(), &["--auth-token-file", file.to_str().unwrap()]);
    let own = server.port_of("otlp_http").unwrap();
    let send =
        |headers: &[(&str, &str)]| http::send(own, "POST", "/v1/metrics", headers, otlp("x").as_bytes()).unwrap();
    assert_eq!(send(&[("Content-Type", "application/json")]).status, 401);
    let with_token = [("Content-Type", "application/json"), ("Authorization", "Bearer secret")];
    assert_eq!(send(&with_token).status, 200);
}

#[test]
fn without_a_file_the_host_and_the_server_itself_are_watched() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--collect", "host,self"]);
    assert!(server.out().contains("collecting  host,self\n"), "{}", server.out());
    for query in ["node_memory_MemTotal_bytes > bool 0", "up{job=\"host\"}", "up{job=\"kymo\"}"] {
        wait_for_value(&server, query, "1");
    }
    wait_for_value(&server, "kymo_config_last_reload_successful{job=\"kymo\"}", "1");
    let page = http::get(server.port, "/metrics").unwrap().body;
    for metric in
        ["process_cpu_seconds_total", "kymo_otlp_", "kymo_remote_write_", "kymo_collect_rounds_total", "kymo_config_"]
    {
        assert!(page.contains(&format!("\n# TYPE {metric}")), "{metric} is not in\n{page}");
    }
    assert!(server.terminate().success());
}

#[test]
fn with_a_file_only_what_it_asks_for_is_watched() {
    let Configured { server, _folder, .. } = configured("scrape_configs: []", &[]);
    assert!(!server.out().contains("collecting"), "{}", server.out());
    assert_eq!(data(&server, "/api/v1/status/flags")["collect"], "none");
}

#[test]
fn a_target_behind_the_proxy_of_the_environment_is_scraped_through_it() {
    // It answers whatever it is asked, as a proxy that knows where `target.test` is.
    let proxy = format!("http://127.0.0.1:{}", target());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("prometheus.yml");
    let job = job("far", 80).replace("127.0.0.1", "target.test") + "    proxy_from_environment: true\n";
    fs::write(&path, format!("scrape_configs:\n{job}")).unwrap();
    let flags = ["--config", path.to_str().unwrap()];
    let server = Server::start_in(folder.path(), &flags, ("HTTP_PROXY", proxy.as_ref()));
    wait_for_value(&server, "answer{instance=\"target.test:80\"}", "42");
}
