//! Queries as an operator meets them: shown, cancelled, logged, explained, and not in each other's way.

use std::fs;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer, encoded};
use crate::process::{Server, run, wait_for};
use crate::remote_write::{Request, now_ms};

/// Seconds of work over no data at all, in pieces that each fit the memory of a query.
fn heavy() -> String {
    let parts: Vec<String> = (0..400).map(|n| format!("sum_over_time(vector(1)[30m:1ms] offset {n}ms)")).collect();
    parts.join(" + ")
}

fn range(port: u16, query: &str) -> Answer {
    let form = format!("query={}&start=1700000000&end=1700000060&step=30", encoded(query));
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    http::send(port, "POST", "/api/v1/query_range", &headers, form.as_bytes()).unwrap()
}

fn queries(server: &Server) -> Value {
    http::get(server.port, "/api/v1/status/queries").unwrap().json()["data"].clone()
}

/// Numbers of the queries that run or wait.
fn ids(server: &Server) -> Vec<u64> {
    queries(server)["running"].as_array().unwrap().iter().map(|query| query["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_small_query_is_answered_beside_a_heavy_load_which_can_be_cancelled() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--query-concurrency", "4", "--query-queue", "3"]);
    let port = server.port;
    let load: Vec<_> = (0..6).map(|_| thread::spawn(move || range(port, &heavy()))).collect();
    let waiting = wait_for("three queries to run and three to wait", || {
        let status = queries(&server);
        (status["queue"]["waiting"] == 3).then_some(status)
    });
    assert_eq!(waiting["concurrency"], serde_json::json!({"running": 3, "limit": 4}), "{waiting}");
    assert!(waiting["running"][0]["query"].as_str().unwrap().starts_with("sum_over_time"), "{waiting}");

    // A place is kept for others, and a single value is of another asker than a chart.
    let small = http::get(port, "/api/v1/query?query=1%2B1").unwrap();
    assert!(small.status == 200 && small.body.contains("\"2\""), "{small:?}");
    // Nobody else may wait.
    let refused = range(port, "1");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("--query-concurrency and --query-queue"), "{refused:?}");

    assert_eq!(http::send(port, "DELETE", "/api/v1/status/queries/999", &[], b"").unwrap().status, 404);
    for (number, id) in ids(&server).into_iter().enumerate() {
        let (method, path) = if number % 2 == 0 { ("DELETE", "") } else { ("POST", "/cancel") };
        let answer = http::send(port, method, &format!("/api/v1/status/queries/{id}{path}"), &[], b"").unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    for query in load {
        let answer = query.join().unwrap();
        assert_eq!((answer.status, &answer.json()["errorType"]), (499, &Value::from("canceled")), "{answer:?}");
    }
    let slowest = &queries(&server)["slowest"];
    assert!(slowest[0]["error"].as_str().unwrap().contains("canceled"), "{slowest}");
}

#[test]
fn every_query_is_logged_with_its_cost_and_the_log_can_be_rotated() {
    let folder = TempDir::new().unwrap();
    let (log, config) = (folder.path().join("queries.log"), folder.path().join("kymo.yml"));
    fs::write(&config, "global: {query_log_file: queries.log}\n").unwrap();
    let flags = ["--config", config.to_str().unwrap(), "--enable-lifecycle"];
    let server = Server::start_with(folder.path(), &flags);
    let now = now_ms();
    let sent = Request::default().floats(&[("__name__", "up")], &[(now - 1_000, 1.0), (now, 2.0)]).send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
    assert_eq!(http::get(server.port, "/api/v1/query?query=sum_over_time(up[1m])").unwrap().status, 200);
    assert_eq!(http::get(server.port, "/api/v1/query?query=sum(").unwrap().status, 400);
    let lines = |path: &std::path::Path| -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let logged = lines(&log);
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert_eq!(logged[0]["params"]["query"], "sum_over_time(up[1m])");
    let cost = &logged[0]["cost"];
    assert_eq!((&cost["series"], &cost["samples"]), (&Value::from(1), &Value::from(2)), "{logged:?}");
    assert!(cost["seconds"].as_f64().unwrap() > 0.0, "{logged:?}");
    assert_eq!(logged[0]["httpRequest"]["clientIP"], "127.0.0.1");
    assert!(logged[1]["error"].as_str().unwrap().contains("unclosed left parenthesis"), "{logged:?}");

    let kept = folder.path().join("queries.log.1");
    fs::rename(&log, &kept).unwrap();
    assert_eq!(http::send(server.port, "POST", "/-/reload", &[], b"").unwrap().status, 200);
    assert_eq!(http::get(server.port, "/api/v1/query?query=1").unwrap().status, 200);
    assert_eq!((lines(&kept).len(), lines(&log).len()), (2, 1));
}

#[test]
fn a_plan_is_shown_as_a_tree_with_what_was_expected_and_found() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let now = now_ms();
    let mut request = Request::default();
    for job in ["a", "b"] {
        let points: Vec<(i64, f64)> = (0..20).map(|n| (now - n * 1_000, n as f64)).collect();
        request = request.floats(&[("__name__", "up"), ("job", job)], &points);
    }
    assert_eq!(request.send(server.port).status, 204);
    let said = run(["query", "--explain", "sum(rate(up[1m])) / 2", "--server", &server.url()]);
    assert_eq!(said.status, 0, "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("PLAN") && lines[0].ends_with("TIME"), "{}", said.out);
    assert!(lines.iter().any(|line| line.contains("└─ ") || line.contains("├─ ")), "{}", said.out);
    let read = lines.iter().find(|line| line.contains("raw")).unwrap_or_else(|| panic!("{}", said.out));
    assert!(read.contains("→ 2") && read.contains("→ 40"), "{read}");
    let target = format!("/api/v1/query?explain=true&query={}", encoded("sum(rate(up[1m])) / 2"));
    let plan = &http::get(server.port, &target).unwrap().json()["data"]["explain"];
    assert!(plan["operation"].is_string() && plan["inputs"].is_array(), "{plan}");
    let mut leaf = plan;
    while let Some(input) = leaf["inputs"].get(0) {
        leaf = input;
    }
    for when in ["estimated", "actual"] {
        let cost = &leaf[when];
        assert!(cost["series"] == 2 && cost["samples"] == 40, "{when}: {leaf}");
        assert!(cost["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{when}: {leaf}");
    }
}

#[test]
fn parts_of_promql_are_switched_on_by_their_names() {
    let folder = TempDir::new().unwrap();
    let flags = ["--enable-feature", "promql-experimental-functions,promql-extended-range-selectors"];
    let server = Server::start_with(folder.path(), &flags);
    for query in ["mad_over_time(up[5m])", "rate(up[5m] anchored)"] {
        for path in ["query", "format_query"] {
            let answer = http::get(server.port, &format!("/api/v1/{path}?query={}", encoded(query))).unwrap();
            assert_eq!(answer.status, 200, "{query}: {answer:?}");
        }
    }
    let said = run(["serve", "--enable-feature", "promql-nothing"]);
    assert!(said.status == 2 && said.err.contains("promql-experimental-functions"), "{said:?}");
}

#[test]
fn pages_of_other_origins_read_answers_only_as_they_may() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--cors-origin", "https://.*\\.example\\.org"]);
    let allowed = |origin: &str| {
        let answer = http::send(server.port, "OPTIONS", "/api/v1/query", &[("Origin", origin)], b"").unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed("https://a.example.org").as_deref(), Some("https://a.example.org"));
    assert_eq!(allowed("https://example.com"), None);
}
