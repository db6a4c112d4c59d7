//! Increments sent to the real program through real HTTP, which is killed while they come.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, run, wait_for};
use crate::remote_write::now_ms;

const WRITERS: u64 = 3;
const KILLS: u64 = 20;
/// Requests acknowledged between two kills, at least.
const ACKNOWLEDGED: u64 = 6;
/// An interval of a writer; its first begins so long ago that they never meet the clock.
const INTERVAL_MS: i64 = 100;
const BEGAN_AGO_MS: i64 = 3_600_000;

/// What the writers share with whoever kills.
struct World {
    port: AtomicU16,
    acknowledged: AtomicU64,
    is_over: AtomicBool,
    began_ms: i64,
}

/// What was acknowledged to one writer.
#[derive(Default)]
struct Told {
    count: u64,
    observations: u64,
    above: u64,
    sum: f64,
    cumulative: u64,
}

fn nanos(ms: i64) -> String {
    (ms * 1_000_000).to_string()
}

/// Interval `number` of `writer`: a counter, both kinds of histograms, and a cumulative counter, all of one identity.
fn request(writer: u64, number: u64, began_ms: i64, told: &mut Told) -> Vec<u8> {
    let start_ms = began_ms + number as i64 * INTERVAL_MS;
    let (start, end) = (nanos(start_ms), nanos(start_ms + INTERVAL_MS));
    let (count, below, above) = (number % 7 + writer, number % 3, number % 5 + 1);
    let sum = (below + 4 * above) as f64;
    told.count += count;
    told.observations += below + above;
    told.above += above;
    told.sum += sum;
    told.cumulative += count;
    let times = json!({"startTimeUnixNano": start, "timeUnixNano": end});
    let point = |more: Value| {
        let mut point = times.clone();
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([point])
    };
    let mut cumulative = point(json!({"asInt": told.cumulative}));
    cumulative[0]["startTimeUnixNano"] = json!(nanos(began_ms - 1 - writer as i64));
    let observed = below + above;
    let metrics = json!([
        {"name": "requests", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
            "dataPoints": point(json!({"asInt": count}))}},
        {"name": "explicit", "histogram": {"aggregationTemporality": 1, "dataPoints": point(json!({"count": observed,
            "sum": sum, "bucketCounts": [below, above], "explicitBounds": [2]}))}},
        {"name": "exponential", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": point(json!({
            "count": observed, "sum": sum, "scale": 0, "zeroCount": 0,
            "positive": {"offset": -1, "bucketCounts": [below, 0, above]}}))}},
        {"name": "cumulative", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": cumulative}},
    ]);
    let host = json!({"key": "host.name", "value": {"stringValue": format!("web-{writer}")}});
    let service = json!({"key": "service.name", "value": {"stringValue": "shop"}});
    let resource = json!({"resource": {"attributes": [service, host]}, "scopeMetrics": [{"metrics": metrics}]});
    json!({"resourceMetrics": [resource]}).to_string().into_bytes()
}

/// Sends interval by interval, each until it is acknowledged.
fn write(writer: u64, world: &World) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        if world.is_over.load(Ordering::SeqCst) {
            break;
        }
        let body = request(writer, number, world.began_ms, &mut told);
        wait_for("an acknowledgement", || {
            let port = world.port.load(Ordering::SeqCst);
            let headers = [("Content-Type", "application/json")];
            let answer = http::send(port, "POST", "/api/v1/otlp/v1/metrics", &headers, &body).ok()?;
            // 503 is said while the server starts.
            if answer.status == 503 {
                return None;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
            // At most that the points were told before.
            let rejected = &answer.json()["partialSuccess"]["rejectedDataPoints"];
            assert!(rejected.is_null() || rejected == "0", "{answer:?}");
            Some(())
        });
        world.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    told
}

fn value(server: &Server, query: &str) -> f64 {
    let answer = http::get(server.port, &format!("/api/v1/query?query={}", http::encoded(query))).unwrap().json();
    let result = &answer["data"]["result"];
    assert_eq!(result.as_array().map(Vec::len), Some(1), "{query}: {answer}");
    result[0]["value"][1].as_str().unwrap().parse().unwrap()
}

#[test]
fn increments_of_three_writers_are_exact_through_twenty_kills() {
    let folder = TempDir::new().unwrap();
    let mut server = Some(Server::start(&folder));
    let world = World {
        port: AtomicU16::new(server.as_ref().unwrap().port),
        acknowledged: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        began_ms: now_ms() - BEGAN_AGO_MS,
    };
    let told: Vec<Told> = thread::scope(|scope| {
        let world = &world;
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer, world))).collect();
        for _ in 0..KILLS {
            let enough = world.acknowledged.load(Ordering::SeqCst) + ACKNOWLEDGED;
            wait_for("acknowledgements", || (world.acknowledged.load(Ordering::SeqCst) >= enough).then_some(()));
            server.take().unwrap().kill();
            let next = Server::start(&folder);
            world.port.store(next.port, Ordering::SeqCst);
            server = Some(next);
        }
        world.is_over.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let server = server.unwrap();
    let sum = |of: fn(&Told) -> f64| told.iter().map(of).sum::<f64>();
    let observations = sum(|t| t.observations as f64);
    for (query, expected) in [
        ("last_over_time(requests_total[2h])", sum(|t| t.count as f64)),
        ("last_over_time(cumulative_total[2h])", sum(|t| t.cumulative as f64)),
        ("last_over_time(explicit_count[2h])", observations),
        ("last_over_time(explicit_sum[2h])", sum(|t| t.sum)),
        ("last_over_time(explicit_bucket{le=\"+Inf\"}[2h])", observations),
        ("last_over_time(explicit_bucket{le=\"2\"}[2h])", observations - sum(|t| t.above as f64)),
        ("histogram_count(last_over_time(exponential[2h]))", observations),
        ("histogram_sum(last_over_time(exponential[2h]))", sum(|t| t.sum)),
        ("resets(requests_total[2h]) + resets(cumulative_total[2h]) + resets(exponential[2h])", 0.0),
    ] {
        assert_eq!(value(&server, query), expected, "{query}");
    }
}

#[test]
fn a_preview_shows_names_and_labels_by_the_rules_of_a_file() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sent = file("request.json", &request(1, 1, now_ms(), &mut Told::default()));
    let said = run(["otlp", "preview", &sent]);
    assert_eq!(said.status, 0, "{said:?}");
    for line in [
        r#"increment  requests_total{job="shop"}"#,
        r#"total      cumulative_total{job="shop"}"#,
        r#"increment  explicit_bucket{job="shop", le="2"}"#,
        r#"sample     target_info{host_name="web-1", job="shop"}"#,
        "counter    requests_total",
        "8 series, 0 points refused",
    ] {
        assert!(said.out.lines().any(|found| found.trim_end() == line), "no {line} in\n{}", said.out);
    }
    let rules = "otlp:\n  promote_resource_attributes: [host.name]\n  translation_strategy: NoTranslation\n";
    let config = file("kymo.yml", rules.as_bytes());
    let said = run(["otlp", "preview", "--config", &config, "--output", "json", &sent]);
    let shown: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let labels = json!({"__name__": "requests", "host.name": "web-1", "job": "shop"});
    let expected = json!({"labels": labels, "written": "increment"});
    assert!(shown["series"].as_array().unwrap().contains(&expected), "{shown:#}");
    let empty = run(["otlp", "preview", &file("spans", br#"{"resourceSpans":[{}]}"#)]);
    assert!(empty.status == 0 && empty.out.contains("the request has no data point"), "{empty:?}");
    let refused = run(["otlp", "preview", &file("bad", b"{")]);
    assert!(refused.status == 1 && refused.err.contains("would be refused"), "{refused:?}");
}

/// Limits, tokens and readiness are the server's and not the receiver's; whoever sends OTLP is told in its own form anyway.
#[test]
fn refusals_of_the_server_itself_have_the_form_of_otlp() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let server = Server::start_with(folder.path(), &["--auth-token-file", token.to_str().unwrap()]);
    let ports = [(server.port, "/api/v1/otlp/v1/"), (server.port_of("otlp_http").unwrap(), "/v1/")];
    for (port, prefix) in ports {
        for signal in ["metrics", "traces"] {
            let path = format!("{prefix}{signal}");
            let ask = |authorization: &str, announced: usize| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                     Authorization: Bearer {authorization}\r\nContent-Length: {announced}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
                http::read(&mut stream).unwrap()
            };
            for (answer, status, code) in [(ask("guess", 2), 401, 16), (ask("secret", 65 << 20), 413, 8)] {
                assert_eq!(answer.status, status, "{path}: {answer:?}");
                assert_eq!(answer.header("content-type"), Some("application/json"), "{path}: {answer:?}");
                assert_eq!(answer.json()["code"], code, "{path}: {answer:?}");
                assert!(answer.json()["message"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {answer:?}");
            }
        }
        // There are no logs, whichever way one asks.
        let headers = [("Content-Type", "application/json"), ("Authorization", "Bearer secret")];
        let answer = http::send(port, "POST", &format!("{prefix}logs"), &headers, b"{}").unwrap();
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!(5)), "{answer:?}");
    }
}
