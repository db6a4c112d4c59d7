//! A server's life: greeting, ports, writes, answers, end.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::thread;

use serde_json::json;
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, wait_for};
use crate::remote_write::{Request, now_ms};

#[test]
fn the_greeting_says_where_and_how_and_what_to_try() {
    let folder = TempDir::new().unwrap();
    let flags = ["--sync", "always", "--retention", "90d", "--memory-limit", "512MiB", "--otlp-grpc", "off"];
    let server = Server::start_with(folder.path(), &flags);
    let out = server.out();
    let data = folder.path().canonicalize().unwrap().join("data");
    for expected in [
        format!("listening   {}\n", server.url()),
        format!("data        {}\n", data.display()),
        "kept        90d\n".to_owned(),
        "memory      at most 512.0 MiB (as asked for)\n".to_owned(),
        "sync        always: power loss costs nothing that was acknowledged\n".to_owned(),
        "replay      0 samples in 0 log frames, 0 blocks".to_owned(),
        "auth        none\n".to_owned(),
        format!("--server {}\n", server.url()),
    ] {
        assert!(out.contains(&expected), "{expected:?} is not in\n{out}");
    }
    assert!(server.port_of("otlp_grpc").is_none());
    let otlp_http = server.port_of("otlp_http").unwrap();
    assert!(out.contains(&format!("otlp http   http://127.0.0.1:{otlp_http}/v1/metrics\n")), "{out}");
    for unexpected in ["not served", "WARNING", "otlp grpc", "config "] {
        assert!(!out.contains(unexpected) && !server.err().contains(unexpected), "{unexpected} is in\n{out}");
    }
}

#[test]
fn the_line_to_try_works_as_it_is_printed() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let sent = Request::default().floats(&[("__name__", "up")], &[(now_ms(), 1.0)]).send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
    let out = server.out();
    let line = out.lines().find_map(|line| line.trim_start().strip_prefix("try ")).unwrap();
    let arguments = line.trim().strip_prefix("kymo ").unwrap();
    let said = Command::new("sh")
        .arg("-c")
        .arg(format!("'{}' {arguments} --output csv", env!("CARGO_BIN_EXE_kymo")))
        .output()
        .unwrap();
    let csv = String::from_utf8(said.stdout).unwrap();
    assert!(csv.starts_with("timestamp,value\r\n") && csv.ends_with(",1\r\n"), "{csv}");
}

#[test]
fn what_changes_the_stored_data_is_answered_only_when_it_is_asked_for() {
    let snapshot = |flags: &[&str]| {
        let folder = TempDir::new().unwrap();
        let server = Server::start_with(folder.path(), flags);
        http::send(server.port, "POST", "/api/v1/admin/tsdb/snapshot", &[], b"").unwrap()
    };
    let off = snapshot(&[]);
    assert!(off.status == 503 && off.body.contains("admin APIs disabled"), "{off:?}");
    let on = snapshot(&["--enable-admin-api"]);
    assert!(on.status == 200 && on.json()["data"]["name"].is_string(), "{on:?}");
}

#[test]
fn a_server_that_is_still_opening_answers_not_yet_and_can_be_stopped() {
    let folder = TempDir::new().unwrap();
    assert!(Server::start(&folder).terminate().success());
    // Reading a pipe that nobody writes takes as long as one likes.
    let manifest = folder.path().join("data/MANIFEST");
    fs::remove_file(&manifest).unwrap();
    assert!(Command::new("mkfifo").arg(&manifest).status().unwrap().success());

    let mut server = Server::start_unready(folder.path(), &[]);
    assert_eq!(http::get(server.port, "/-/healthy").unwrap().status, 200);
    for path in ["/-/ready", "/api/v1/query?query=up", "/"] {
        let answer = http::get(server.port, path).unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{path}: {answer:?}");
    }
    let sent = Request::default().floats(&[("__name__", "up")], &[(now_ms(), 1.0)]).send(server.port);
    assert_eq!((sent.status, sent.header("retry-after")), (503, Some("1")), "{sent:?}");
    server.signal("TERM");
    let status = server.wait();
    assert!(status.success(), "{status}\n{}", server.err());
    assert_eq!(server.out(), "", "it was never ready");
}

#[test]
fn a_server_that_still_reads_its_log_is_ready_and_whoever_asks_waits() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let now = now_ms();
    let sent = Request::default().floats(&[("__name__", "up")], &[(now, 1.0)]).send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
    let nanos = |ms: i64| format!("{ms}000000");
    let point = json!({"startTimeUnixNano": nanos(now - 1_000), "timeUnixNano": nanos(now), "asInt": "3"});
    let sum = json!({"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point]});
    let metrics = json!({"scopeMetrics": [{"metrics": [{"name": "jobs", "sum": sum}]}]});
    let body = json!({"resourceMetrics": [metrics]}).to_string();
    let headers = [("Content-Type", "application/json")];
    let sent = http::send(server.port, "POST", "/api/v1/otlp/v1/metrics", &headers, body.as_bytes()).unwrap();
    assert_eq!(sent.status, 200, "{sent:?}");
    assert!(server.terminate().success());
    // What the flush kept of the sum is read with the log; from a pipe that takes as long as one likes.
    let mut totals = fs::read_dir(folder.path().join("data/totals")).unwrap();
    let totals = totals.next().unwrap().unwrap().path();
    fs::remove_file(&totals).unwrap();
    assert!(Command::new("mkfifo").arg(&totals).status().unwrap().success());

    let server = Server::start_unready(folder.path(), &[]);
    let port = server.port;
    wait_for("readiness", || http::get(port, "/-/ready").is_ok_and(|answer| answer.status == 200).then_some(()));
    let asked = thread::spawn(move || http::get(port, "/api/v1/query?query=up").unwrap());
    let written =
        thread::spawn(move || Request::default().floats(&[("__name__", "down")], &[(now_ms(), 1.0)]).send(port));
    let replay = http::get(port, "/api/v1/status/walreplay").unwrap();
    assert!(replay.status == 200 && replay.json()["data"]["current"].is_u64(), "{replay:?}");
    assert_eq!(server.out(), "", "the log is not read");
    assert!(!asked.is_finished() && !written.is_finished(), "nothing is answered before");
    // Without a reader it cannot be opened that way.
    let open = || {
        fs::OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(&totals).ok()
    };
    drop(wait_for("the server to read", open));
    let (asked, written) = (asked.join().unwrap(), written.join().unwrap());
    assert_eq!((asked.status, &asked.json()["data"]["result"][0]["value"][1]), (200, &json!("1")), "{asked:?}");
    assert_eq!(written.status, 204, "{written:?}");
    wait_for("the greeting", || server.out().contains("DAMAGED block").then_some(()));
    assert!(server.terminate().success());
}

#[test]
fn samples_written_are_answered_at_once() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let at_ms = now_ms() / 1000 * 1000;
    let labels = [("__name__", "requests_total"), ("job", "api")];
    let samples: Vec<(i64, f64)> = (0..=6).map(|n| (at_ms - 60_000 + n * 10_000, n as f64 * 5.0)).collect();
    let sent = Request::default().floats(&labels, &samples).send(server.port);
    assert_eq!((sent.status, &*sent.body), (204, ""), "{sent:?}");

    let query = http::encoded("rate(requests_total[1m])");
    let answer = http::get(server.port, &format!("/api/v1/query?query={query}&time={}", at_ms / 1000)).unwrap();
    assert_eq!(
        answer.json(),
        json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"job": "api"}, "value": [at_ms / 1000, "0.5"]},
        ]}})
    );

    let again = Request::default().floats(&labels, &samples).send(server.port);
    assert_eq!(again.status, 204, "a repeated request is no error: {again:?}");
    let drops = http::get(server.port, "/api/v1/status/drops").unwrap().json();
    let received = &drops["data"]["received"]["remote_write"];
    assert_eq!((&received["stored"], &received["identical"]), (&json!(7), &json!(7)), "{drops}");
}

#[test]
fn what_is_refused_is_answered_and_booked_and_the_rest_is_kept() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let hour_ms = 3_600_000;
    let samples = [(now_ms() - 1000, 1.0), (now_ms() + hour_ms, 2.0)];
    let sent = Request::default().floats(&[("__name__", "mixed")], &samples).send(server.port);
    assert_eq!(sent.status, 400, "{sent:?}");
    let drops = http::get(server.port, "/api/v1/status/drops").unwrap().json();
    assert_eq!(drops["data"]["losses"][0]["reason"], "too_far_in_future", "{drops}");
    assert_eq!(drops["data"]["losses"][0]["count"], 1, "{drops}");
    let said = server.query(&["mixed", "--output", "csv"]);
    assert!(said.out.contains(",1,mixed\r\n"), "{said:?}");

    let bad = http::send(server.port, "POST", "/api/v1/write", &[("Content-Type", "text/plain")], b"x").unwrap();
    assert_eq!(bad.status, 415, "{bad:?}");
    assert_eq!(http::get(server.port, "/-/healthy").unwrap().status, 200);
}

#[test]
fn a_long_expression_is_answered_and_a_longer_one_refused() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let ask = |operators: usize| {
        let form = format!("query=1{}", "%2B1".repeat(operators));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        http::send(server.port, "POST", "/api/v1/query", &headers, form.as_bytes()).unwrap()
    };
    let answer = ask(10_000);
    assert_eq!((answer.status, &answer.json()["data"]["result"][1]), (200, &json!("10001")));
    let refused = ask(100_000);
    assert_eq!((refused.status, &refused.json()["errorType"]), (400, &json!("bad_data")), "{refused:?}");
    assert_eq!(http::get(server.port, "/-/ready").unwrap().status, 200);
}

#[test]
fn probes_and_the_page_answer() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    for (path, expected) in [("/-/healthy", "Healthy"), ("/-/ready", "Ready"), ("/", "<html")] {
        let answer = http::get(server.port, path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.body.contains(expected), "{path}: {answer:?}");
    }
    assert_eq!(http::get(server.port, "/nowhere").unwrap().status, 404);
}

#[test]
fn a_token_is_asked_of_everyone_but_probes() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    fs::write(&file, "first-token\nsecond-token\n").unwrap();
    let server = Server::start_with(folder.path(), &["--auth-token-file", file.to_str().unwrap()]);
    assert!(server.out().contains("auth        bearer token\n"), "{}", server.out());
    assert!(!server.out().contains("second-token") && !server.err().contains("second-token"));

    let request = Request::default().floats(&[("__name__", "up")], &[(now_ms(), 1.0)]);
    assert_eq!(request.send(server.port).status, 401);
    assert_eq!(request.send_with(server.port, &[("Authorization", "Bearer wrong")]).status, 401);
    assert_eq!(request.send_with(server.port, &[("Authorization", "Bearer second-token")]).status, 204);
    assert_eq!(http::get(server.port, "/-/ready").unwrap().status, 200);

    let refused = server.query(&["up"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.err.contains("401") && refused.err.contains("--auth-token-file"), "{refused:?}");
    let said = server.query(&["up", "--auth-token-file", file.to_str().unwrap(), "--output", "csv"]);
    assert_eq!(said.status, 0, "{said:?}");
}

#[test]
fn an_address_open_to_the_network_without_a_token_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--listen", "0.0.0.0:0"]);
    let err = wait_for("the warning", || Some(server.err()).filter(|err| err.contains("WARNING")));
    assert!(err.contains("asks for no token") && err.contains("--auth-token-file"), "{err}");
    assert!(server.out().contains(&server.url()), "the URL shown is one that works:\n{}", server.out());

    let file = folder.path().join("token");
    fs::write(&file, "secret\n").unwrap();
    let other = TempDir::new().unwrap();
    let flags = ["--listen", "0.0.0.0:0", "--auth-token-file", file.to_str().unwrap()];
    let guarded = Server::start_with(other.path(), &flags);
    assert!(!guarded.err().contains("WARNING"), "{}", guarded.err());
}

#[test]
fn flags_can_come_from_the_environment_and_the_flag_wins() {
    let folder = TempDir::new().unwrap();
    let said = crate::process::kymo(["serve", "--sync", "later"]).env("KYMO_DATA_DIR", folder.path()).output().unwrap();
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    let said = crate::process::kymo(["serve"]).env("KYMO_RETENTION", "soon").output().unwrap();
    let err = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(2), "{err}");
    assert!(err.contains("soon"), "{err}");
    let said = crate::process::kymo(["query", "--output", "csv", "1", "--server", "http://127.0.0.1:1"])
        .env("KYMO_OUTPUT", "no such form")
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
}

#[test]
fn the_log_can_be_json() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--log-format", "json"]);
    server.signal("TERM");
    let err = wait_for("a line of log", || Some(server.err()).filter(|err| err.contains('\n')));
    for line in err.lines().filter(|line| !line.is_empty()) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
    }
}
