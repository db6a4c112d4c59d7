//! `kymo query`: every form of answer, every kind of time, every kind of refusal.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Said, Server, run};
use crate::remote_write::{Request, now_ms};

/// A server with samples at one moment, whole seconds, a minute ago.
struct Asked {
    server: Server,
    at_ms: i64,
    _folder: TempDir,
}

impl Asked {
    fn start() -> Asked {
        let folder = TempDir::new().unwrap();
        let server = Server::start(&folder);
        let at_ms = now_ms() / 1000 * 1000 - 60_000;
        let request = Request::default()
            .floats(&[("__name__", "temperature"), ("city", "Oslo")], &[(at_ms - 1000, -2.5), (at_ms, -1.5)])
            .floats(&[("__name__", "temperature"), ("city", "Rome, \"Lazio\"")], &[(at_ms, 21.0)])
            .floats(&[("__name__", "wind"), ("station", "hill")], &[(at_ms, f64::NAN)])
            .histogram(&[("__name__", "latency")], at_ms, 17.5, &[3, 0, 2]);
        let sent = request.send(server.port);
        assert_eq!(sent.status, 204, "{sent:?}");
        Asked { server, at_ms, _folder: folder }
    }

    fn at(&self) -> String {
        (self.at_ms / 1000).to_string()
    }

    fn time(&self) -> String {
        let mut text = String::new();
        kymo::core::text::write_rfc3339(&mut text, self.at_ms);
        text
    }

    fn query(&self, expression: &str, arguments: &[&str]) -> Said {
        let said = self.server.query(&[&[expression, "--time", &self.at()], arguments].concat());
        assert_eq!(said.status, 0, "{said:?}");
        // A selector that matches nothing is told; nothing else is.
        assert!(said.err.lines().all(|line| line.contains(" matches nothing: ")), "{said:?}");
        said
    }
}

#[test]
fn answers_come_as_table_json_and_csv() {
    let asked = Asked::start();
    let (at, time) = (asked.at(), asked.time());

    let table = asked.query("temperature", &[]).out;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["SERIES", "TIME", "VALUE"],
            vec![r#"temperature{city="Oslo"}"#, &time, "-1.5"],
            vec![r#"temperature{city="Rome, \"Lazio\""}"#, &time, "21"],
        ],
        "{table}"
    );
    let nothing = asked.query("nothing", &[]);
    assert_eq!(nothing.out, "no data\n");
    assert!(nothing.err.contains("no series has __name__=\"nothing\""), "{nothing:?}");

    let csv = asked.query("temperature or wind", &["--output", "csv"]).out;
    assert_eq!(
        csv,
        format!(
            "timestamp,value,__name__,city,station\r\n\
             {time},-1.5,temperature,Oslo,\r\n\
             {time},21,temperature,\"Rome, \"\"Lazio\"\"\",\r\n\
             {time},NaN,wind,,hill\r\n"
        )
    );

    for expression in ["temperature", "1 + 1", r#""text""#, "temperature[5s]", "latency"] {
        let json = asked.query(expression, &["--output", "json"]).out;
        let target = format!("/api/v1/query?query={}&time={at}", http::encoded(expression));
        let api = http::get(asked.server.port, &target).unwrap();
        assert!(api.body.contains(&format!("\"data\":{}", json.trim_end())), "{json}\n{}", api.body);
        serde_json::from_str::<Value>(&json).unwrap();
    }
}

#[test]
fn histograms_are_summed_up_for_people() {
    let asked = Asked::start();
    let table = asked.query("latency", &[]).out;
    assert!(table.contains("count 5, sum 17.5, 2 buckets"), "{table}");
    let csv = asked.query("latency", &["--output", "csv"]).out;
    assert!(csv.contains("\"count 5, sum 17.5, 2 buckets\""), "{csv}");
}

#[test]
fn ranges_have_a_row_per_point() {
    let asked = Asked::start();
    let (start, end) = ((asked.at_ms / 1000 - 1).to_string(), asked.at());
    let range = ["temperature", "--start", &start, "--end", &end, "--step", "1s"];
    let said = asked.server.query(&[&range[..], &["--output", "csv"]].concat());
    assert_eq!(said.out.lines().count(), 1 + 3, "{said:?}");
    let said = asked.server.query(&range);
    let names: Vec<bool> = said.out.lines().map(|line| line.starts_with("temperature")).collect();
    assert_eq!(names, [false, true, false, true], "a series is named at its first point:\n{}", said.out);
    let json = asked.server.query(&[&range[..], &["--output", "json"]].concat());
    let target = format!("/api/v1/query_range?query=temperature&start={start}&end={end}&step=1");
    let api = http::get(asked.server.port, &target).unwrap();
    assert!(api.body.contains(&format!("\"data\":{}", json.out.trim_end())), "{json:?}\n{}", api.body);
}

#[test]
fn times_can_be_relative_and_absolute() {
    let asked = Asked::start();
    let time = asked.time();
    for arguments in [
        &["temperature"][..],
        &["temperature", "--time", "now"],
        &["temperature", "--time", "-30s"],
        &["temperature", "--time", "now-30s"],
        &["temperature", "--time", "+1m"],
        &["temperature", "--time", &time],
        &["temperature", "--start", "-3m"],
        &["temperature", "--start", "-3m", "--end", "now", "--step", "30"],
    ] {
        let said = asked.server.query(arguments);
        assert!(said.status == 0 && said.out.contains("Oslo"), "{arguments:?}: {said:?}");
    }
    let said = asked.server.query(&["temperature", "--time", "-1h"]);
    assert_eq!((said.status, &*said.out), (0, "no data\n"), "{said:?}");
    let said = asked.server.query(&["temperature", "--start", "now", "--end", "-1h"]);
    assert!(said.status == 2 && said.err.contains("--end lies before --start"), "{said:?}");
}

#[test]
fn a_syntax_error_is_shown_in_its_place() {
    let asked = Asked::start();
    let said = asked.server.query(&["sum(rate(temperature[5m]) by (city)"]);
    assert_eq!((said.status, &*said.out), (1, ""), "{said:?}");
    let lines: Vec<&str> = said.err.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("sum(rate(temperature[5m]) by (city)"))
        .unwrap_or_else(|| panic!("{said:?}"));
    let text = lines[at].find("sum(").unwrap();
    let marks = lines[at + 1].find('^').unwrap_or_else(|| panic!("{}", said.err));
    assert_eq!(marks - text, "sum(rate(temperature[5m]) ".len(), "{}", said.err);

    let said = asked.server.query(&["sum(\n  temperature @@\n)"]);
    assert!(said.status == 1 && said.err.contains("expression:2:"), "{said:?}");
    let said = asked.server.query(&["µ{"]);
    assert_eq!(said.status, 1, "{said:?}");
}

#[test]
fn remarks_are_kept_apart_from_the_answer() {
    let asked = Asked::start();
    let said = asked.server.query(&["rate(temperature[2m])", "--time", &asked.at(), "--output", "csv"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.err.starts_with("info: ") && said.err.contains("temperature"), "{said:?}");
    assert!(said.out.starts_with("timestamp,value"), "{said:?}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let said = run(["query", "up", "--server", &url]);
    assert_eq!((said.status, &*said.out), (1, ""), "{said:?}");
    assert!(said.err.contains(&url), "{said:?}");
    let said = run(["query", "up", "--server", "not a url"]);
    assert_eq!(said.status, 2, "{said:?}");
    assert!(said.err.contains("not a url"), "{said:?}");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let said = run(["query", "up", "--server", &url, "--timeout", "50ms"]);
    assert_eq!((said.status, &*said.out), (1, ""), "{said:?}");
    assert!(said.err.contains("timed out") && said.err.contains("--timeout"), "{said:?}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let asked = Asked::start();
    let script = format!(
        "'{}' query 'vector(1)' --server {} --start -3h --step 1s --output csv | head -n 1",
        env!("CARGO_BIN_EXE_kymo"),
        asked.server.url()
    );
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "timestamp,value\r\n", "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
