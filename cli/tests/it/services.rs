//! Three services behind the real doors of the real program; one is made slow, and the program says so, and why.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;
use crate::process::{DEADLINE, Server, kymo, run, wait_for, wait_until};
use crate::remote_write::now_ms;

/// Callers before those whom they call.
const SERVICES: [&str; 3] = ["gateway", "checkout", "payments"];
/// The one that is made slow.
const SLOW: &str = "payments";
/// How long the services were well before, and how often they were asked.
const BEFORE_MINUTES: i64 = 50;
const REQUESTS_PER_MINUTE: u64 = 30;
/// Between two sendings of what happens now.
const PAUSE: Duration = Duration::from_millis(500);

fn nanos(ms: i64) -> String {
    format!("{ms}000000")
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Counts of one service since it began: quick requests, and slow ones.
type Counted = [[u64; 2]; SERVICES.len()];

/// Cumulative exponential histograms of all services at one moment. Bucket 0 is at 1 s, so −8 × 8 at 4 ms and 8 at 2 s.
fn metrics(counted: &Counted, began_ms: i64, time_ms: i64) -> Vec<u8> {
    let resources: Vec<Value> = SERVICES
        .iter()
        .zip(counted)
        .map(|(service, [quick, slow])| {
            let mut counts = vec![0; 73];
            (counts[0], counts[72]) = (*quick, *slow);
            let point = json!({
                "startTimeUnixNano": nanos(began_ms), "timeUnixNano": nanos(time_ms),
                "count": quick + slow, "sum": 1e9, "scale": 3, "zeroCount": 0,
                "positive": {"offset": -64, "bucketCounts": counts},
                "attributes": [attribute("http.request.method", "POST"), attribute("http.route", "/buy"),
                    attribute("http.response.status_code", "200")],
            });
            let metric = json!({"name": "http.server.request.duration", "unit": "s",
                "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]}});
            json!({"resource": {"attributes": [attribute("service.name", service)]},
                "scopeMetrics": [{"metrics": [metric]}]})
        })
        .collect();
    json!({"resourceMetrics": resources}).to_string().into_bytes()
}

/// One request through all services, each asked by the one before; `took` is of the last.
fn spans(trace: u64, end_ms: i64, took_ms: i64) -> Vec<Value> {
    let id = |number: u64| format!("{:016x}", trace * 8 + number + 1);
    let span = |number: u64, kind: u64, parent: Option<u64>, took_ms: i64| {
        json!({
            "traceId": format!("{:032x}", trace + 1), "spanId": id(number),
            "parentSpanId": parent.map(id).unwrap_or_default(), "name": "POST /buy", "kind": kind,
            "startTimeUnixNano": nanos(end_ms - took_ms), "endTimeUnixNano": nanos(end_ms),
            "attributes": [attribute("http.request.method", "POST"), attribute("http.route", "/buy"),
                {"key": "http.response.status_code", "value": {"intValue": "200"}}],
        })
    };
    let mut resources = Vec::new();
    for (number, service) in (0..).zip(SERVICES) {
        let is_last = service == SLOW;
        let server =
            span(2 * number, 2, number.checked_sub(1).map(|caller| 2 * caller + 1), if is_last { took_ms } else { 5 });
        let mut of_service = vec![server];
        if !is_last {
            of_service.push(span(2 * number + 1, 3, Some(2 * number), 5));
        }
        resources.push(json!({"resource": {"attributes": [attribute("service.name", service)]},
            "scopeSpans": [{"spans": of_service}]}));
    }
    resources
}

fn send_spans(port: u16, resources: &[Value]) {
    send(port, "/api/v1/otlp/v1/traces", json!({"resourceSpans": resources}).to_string().as_bytes());
}

fn send(port: u16, path: &str, body: &[u8]) {
    let answer = http::send(port, "POST", path, &[("Content-Type", "application/json")], body).unwrap();
    assert_eq!((answer.status, answer.body.contains("partialSuccess")), (200, false), "{answer:?}");
}

/// What the server says of a service; `None` while it knows nothing of it.
fn service(port: u16, name: &str) -> Option<Value> {
    let answer = http::get(port, &format!("/api/v1/services/{name}")).unwrap();
    match answer.status {
        404 => None,
        status => {
            assert_eq!(status, 200, "{answer:?}");
            Some(answer.json()["data"].clone())
        }
    }
}

/// Requests in the last hour.
fn last_hour(service: &Value) -> u64 {
    service["windows"][3]["requests"].as_u64().unwrap_or_default()
}

fn is_slow_by_its_last_hour(service: &Value) -> bool {
    let reasons = service["reason"].as_str().unwrap_or_default();
    let is_told = |reason: &str| reason.starts_with("p99 ") && reason.ends_with(" × its own last hour");
    service["status"] == "unhealthy" && reasons.split("; ").any(is_told)
}

/// Waits until all services are well, then sends what makes one slow until the server says so.
fn turn(port: u16, mut send_now: impl FnMut(bool)) {
    wait_for("the hour before", || {
        send_now(false);
        std::thread::sleep(PAUSE);
        let all = SERVICES.map(|name| service(port, name));
        let least = BEFORE_MINUTES as u64 * REQUESTS_PER_MINUTE / 2;
        let is_well =
            |one: &Option<Value>| one.as_ref().is_some_and(|one| one["status"] == "healthy" && last_hour(one) > least);
        all.iter().all(is_well).then_some(())
    });
    let began = Instant::now();
    let slow = wait_for("the slow service", || {
        send_now(true);
        std::thread::sleep(PAUSE);
        service(port, SLOW).filter(is_slow_by_its_last_hour)
    });
    assert!(slow["p99"].as_f64().is_some_and(|p99| p99 > 1.0), "{slow} after {:?}", began.elapsed());
    for name in SERVICES.into_iter().filter(|name| *name != SLOW) {
        assert_eq!(service(port, name).unwrap()["status"], "healthy", "{name}");
    }
}

/// What `kymo top` and PromQL show of it.
fn assert_shown(server: &Server) {
    wait_for("the reason on the screen", || {
        let screen = run(["top", "--once", "--view", "services", "--server", &server.url(), "--width", "160"]);
        let line = screen.out.lines().find(|line| line.contains(SLOW))?;
        line.contains("its own last hour").then_some(())
    });
    let text = format!("kymo_service_status{{service=\"{SLOW}\"}} == 3");
    wait_for("the status in PromQL", || {
        let answer = http::get(server.port, &format!("/api/v1/query?query={}", http::encoded(&text))).unwrap().json();
        (!answer["data"]["result"].as_array().unwrap().is_empty()).then_some(())
    });
    wait_for("the status in its history", || {
        let history = http::get(server.port, &format!("/api/v1/services/{SLOW}/history")).unwrap().json();
        let newest = history["data"].as_array()?.last()?.clone();
        (newest["status"] == 3 && newest["p99"].as_f64() > Some(1.0)).then_some(())
    });
}

#[test]
fn service_turns_when_its_metrics_say_it_is_slow_and_is_known_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let port = server.port;
    let began_ms = now_ms() - (BEFORE_MINUTES + 1) * 60_000;
    let mut counted = Counted::default();
    for minute in 1..=BEFORE_MINUTES {
        counted.iter_mut().for_each(|[quick, _]| *quick += REQUESTS_PER_MINUTE);
        send(port, "/api/v1/otlp/v1/metrics", &metrics(&counted, began_ms, began_ms + minute * 60_000));
    }
    turn(port, |is_slow| {
        for (name, [quick, slow]) in SERVICES.iter().zip(&mut counted) {
            *(if is_slow && *name == SLOW { slow } else { quick }) += 20;
        }
        send(port, "/api/v1/otlp/v1/metrics", &metrics(&counted, began_ms, now_ms()));
    });
    assert_shown(&server);
    let before = service(port, SLOW).unwrap();
    assert_eq!(before["operations"][0]["operation"], "POST /buy");
    server.kill();
    let server = Server::start(&folder);
    let after = wait_for("the health of before", || {
        let found = service(server.port, SLOW)?;
        (last_hour(&found) >= last_hour(&before) * 9 / 10).then_some(found)
    });
    assert!(is_slow_by_its_last_hour(&after), "{after}");
    assert!(after["requests"].as_u64() <= Some(counted[2].iter().sum()), "no request counts twice: {after}");
}

#[test]
fn traced_service_turns_when_it_is_slow_and_its_callers_are_known() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let port = server.port;
    let mut trace = 0;
    let mut next = |end_ms: i64, took_ms: i64| {
        trace += 1;
        spans(trace, end_ms, took_ms)
    };
    let now = now_ms();
    for minute in 2..=BEFORE_MINUTES {
        let of_minute = (0..REQUESTS_PER_MINUTE).flat_map(|_| next(now - minute * 60_000, 10));
        send_spans(port, &of_minute.collect::<Vec<_>>());
    }
    turn(port, |is_slow| {
        let took_ms = if is_slow { 2_300 } else { 10 };
        let all = (0..20).flat_map(|_| next(now_ms(), took_ms));
        send_spans(port, &all.collect::<Vec<_>>());
    });
    assert_shown(&server);
    let edges = http::get(port, "/api/v1/services/checkout/edges").unwrap().json();
    let (callers, callees) = (&edges["data"]["called_by"], &edges["data"]["calls"]);
    assert_eq!((&callers[0]["caller"], &callees[0]["callee"]), (&json!("gateway"), &json!(SLOW)), "{edges}");
    let screen = run(["top", "--once", "--view", "service", "--service", SLOW, "--server", &server.url()]);
    assert!(screen.out.contains("its own last hour") && screen.out.contains("checkout"), "{screen:?}");
    let before = service(port, SLOW).unwrap();
    server.kill();
    let server = Server::start(&folder);
    let after = wait_for("the operations of before", || {
        let found = service(server.port, SLOW)?;
        (last_hour(&found) >= last_hour(&before) * 9 / 10 && found["operations"][0]["operation"] == "POST /buy")
            .then_some(found)
    });
    let (operation, told) = (&after["operations"][0], &before["operations"][0]);
    // What was acknowledged is counted, and nothing twice: by operation to the last span.
    assert_eq!((&operation["kind"], &operation["requests"]), (&told["kind"], &told["requests"]), "{after}");
    assert!(operation["windows"][0]["p99"].as_f64() > Some(1.0), "{after}");
    assert!(after["requests"].as_u64() <= before["requests"].as_u64(), "{after}");
    let edges = http::get(server.port, "/api/v1/services/checkout/edges").unwrap().json();
    assert_eq!(edges["data"]["calls"][0]["callee"], SLOW, "{edges}");
    assert_eq!(edges["data"]["calls"][0]["requests"], told["requests"], "{edges}");
}

/// What one process of a service counted in an interval, as delta histograms: 20 requests of 3 ms, and one of 3 s that failed.
fn deltas(service: &str, host: &str, (start_ms, end_ms): (i64, i64), is_exponential: bool) -> Vec<u8> {
    let point = |status: &str, is_slow: bool, count: u64| {
        let mut point = json!({
            "startTimeUnixNano": nanos(start_ms), "timeUnixNano": nanos(end_ms), "count": count, "sum": 1e9,
            "attributes": [attribute("http.request.method", "GET"), attribute("http.route", "/"),
                attribute("http.response.status_code", status)],
        });
        let buckets = if is_exponential {
            // Scale 3 has eight buckets from one power of 2 to the next: (2^-8.375, 2^-8.25], and (2^1.5, 2^1.625].
            let offset = if is_slow { 12 } else { -67 };
            json!({"scale": 3, "zeroCount": 0, "positive": {"offset": offset, "bucketCounts": [count]}})
        } else {
            let counts = if is_slow { [0, 0, count, 0] } else { [0, count, 0, 0] };
            json!({"explicitBounds": [0.002, 0.004, 4], "bucketCounts": counts})
        };
        point.as_object_mut().unwrap().extend(buckets.as_object().unwrap().clone());
        point
    };
    let histogram =
        json!({"aggregationTemporality": 1, "dataPoints": [point("200", false, 20), point("503", true, 1)]});
    let kind = if is_exponential { "exponentialHistogram" } else { "histogram" };
    let metric = json!({"name": "http.server.request.duration", "unit": "s", kind: histogram});
    let resource = json!({"attributes": [attribute("service.name", service), attribute("host.name", host)]});
    json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]})
        .to_string()
        .into_bytes()
}

#[test]
fn delta_metrics_of_requests_are_figures_of_their_service() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let began_ms = now_ms() - 20 * 60_000;
    let send = |body: &[u8]| {
        let headers = [("Content-Type", "application/json")];
        let answer = http::send(server.port, "POST", "/api/v1/otlp/v1/metrics", &headers, body).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let refused = answer.json()["partialSuccess"]["rejectedDataPoints"].as_str().map(str::to_owned);
        refused.map_or(0, |refused| refused.parse::<u64>().unwrap())
    };
    for (service, is_exponential) in [("shop", false), ("ledger", true)] {
        for minute in 0..20 {
            let interval = (began_ms + minute * 60_000, began_ms + (minute + 1) * 60_000);
            for host in ["a", "b"] {
                assert_eq!(send(&deltas(service, host, interval, is_exponential)), 0);
            }
            // Sent again, and over what was told before: neither counts.
            assert_eq!(send(&deltas(service, "a", interval, is_exponential)), 0);
            assert_eq!(send(&deltas(service, "a", (interval.0, interval.1 - 1), is_exponential)), 2);
        }
    }
    for (service, is_exponential) in [("shop", false), ("ledger", true)] {
        let found =
            wait_for("the figures", || self::service(server.port, service).filter(|one| one["requests"] == 840));
        assert_eq!((&found["errors"], &found["status"]), (&json!(40), &json!("degraded")), "{found}");
        assert!(found["reason"].as_str().is_some_and(|reason| reason.starts_with("errors 4.8 %")), "{found}");
        let hour = &found["windows"][3];
        let (low, high) = if is_exponential { (0.0028, 0.0033) } else { (0.002, 0.004) };
        assert!(hour["p50"].as_f64().is_some_and(|p50| (low..=high * 1.03).contains(&p50)), "{found}");
        assert!(hour["p99"].as_f64() > Some(2.0), "{found}");
        assert_eq!(found["operations"][0]["operation"], "GET /", "{found}");
    }
    let drops = http::get(server.port, "/api/v1/status/drops").unwrap().body;
    assert!(drops.contains("overlapping_increment"), "{drops}");
    // Whoever asks for the metric is told of what was refused; also by a server that was started since.
    let assert_told = |server: &Server| {
        let query = http::encoded("last_over_time(http_server_request_duration_seconds_count{job=\"shop\"}[1h])");
        let answer = http::get(server.port, &format!("/api/v1/query?query={query}")).unwrap().json();
        let infos = answer["infos"].to_string();
        assert!(infos.contains("2 series are each the sum of several writers"), "{answer}");
        assert!(infos.contains("40 increments of these series were refused lately"), "{answer}");
    };
    assert_told(&server);
    server.kill();
    let server = Server::start(&folder);
    assert_told(&server);
    server.terminate();
    assert_told(&Server::start(&folder));
}

/// `kymo demo` as it is, without its screen.
#[test]
fn service_of_the_demo_turns_when_it_is_made_slow_and_says_why() {
    let folder = TempDir::new().unwrap();
    let out = std::fs::File::create(folder.path().join("out")).unwrap();
    let demo = kymo(["demo", "--serve-only", "--slow-after", "45s"]).stdout(out).spawn().unwrap();
    let mut demo = Demo(demo);
    // An hour of spans comes first.
    let port: u16 = wait_until("the demo's address", 3 * DEADLINE, || {
        assert!(demo.0.try_wait().unwrap().is_none(), "the demo ended");
        let said = std::fs::read_to_string(folder.path().join("out")).unwrap();
        said.trim_end_matches('\n').rsplit_once(':').filter(|_| said.ends_with('\n'))?.1.parse().ok()
    });
    let well = wait_for("the services, well", || {
        let all = SERVICES.map(|name| service(port, name));
        let is_well = |one: &Option<Value>| one.as_ref().is_some_and(|one| one["status"] == "healthy");
        all.iter().all(is_well).then(|| service(port, SLOW)).flatten()
    });
    let slow = wait_until("the slow service", 3 * DEADLINE, || service(port, SLOW).filter(is_slow_by_its_last_hour));
    assert!(slow["p99"].as_f64() > Some(3.0 * well["p99"].as_f64().unwrap()), "{slow}, before {well}");
    assert_ne!(service(port, "gateway").unwrap()["status"], "unhealthy", "who waits is no more than degraded");
    // Who calls whom, from spans of both sides.
    let edges = http::get(port, "/api/v1/services/checkout/edges").unwrap().json();
    assert_eq!(edges["data"]["called_by"][0]["caller"], "gateway", "{edges}");
    let calls = edges["data"]["calls"].as_array().unwrap();
    assert!(calls.iter().any(|call| call["callee"] == SLOW), "{edges}");
    // The spans that were counted, by operation, with a trace to look at.
    let text = r#"kymo_service_requests_total{service="payments",operation="POST /charge",kind="server"} > 0"#;
    let answer = http::get(port, &format!("/api/v1/query?query={}", http::encoded(text))).unwrap().json();
    assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(1), "{answer}");
    let text = r#"kymo_service_duration_seconds{service="payments"}"#;
    let range = format!("start={}&end={}", now_ms() / 1000 - 600, now_ms() / 1000 + 1);
    let path = format!("/api/v1/query_exemplars?query={}&{range}", http::encoded(text));
    let answer = http::get(port, &path).unwrap().json();
    assert!(answer["data"][0]["exemplars"][0]["labels"]["trace_id"].is_string(), "{answer}");
    // Its terminal is closed: its server goes with it.
    demo.signal("HUP");
    let ended = wait_for("the demo's end", || demo.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(128 + 1));
    assert!(http::get(port, "/-/healthy").is_err(), "the server is gone");
    assert!(!std::env::temp_dir().join(format!("kymo-demo-{}", demo.0.id())).exists(), "and its folder");
}

/// Ended as from the keyboard, so that its server ends with it.
struct Demo(std::process::Child);

impl Demo {
    fn signal(&self, name: &str) {
        let _ = std::process::Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.0.id())).status();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.signal("INT");
        }
        let _ = self.0.wait();
    }
}
