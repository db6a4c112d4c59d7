//! What Grafana's Prometheus data source asks for, without Grafana: the probes that decide what it offers, and the
//! requests of the builder and of panels. [`super::api_peers`] asks the same of a real Prometheus.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::process::Server;
use crate::remote_write::{Request, now_ms};

fn form(port: u16, path: &str, form: &str) -> Answer {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    http::send(port, "POST", path, &headers, form.as_bytes()).unwrap()
}

/// The data of an answer that succeeded.
fn data(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    let json = answer.json();
    assert_eq!(json["status"], "success", "{answer:?}");
    json["data"].clone()
}

#[test]
fn its_probes_find_a_prometheus_and_no_other_product() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let sum = data(&form(server.port, "/api/v1/query", "query=1%2B1&time=1700000000.5"));
    assert_eq!(sum, json!({"resultType": "scalar", "result": [1_700_000_000.5, "2"]}));
    let build = data(&http::get(server.port, "/api/v1/status/buildinfo").unwrap());
    // Grafana reads the version to know what it may ask for; a list of features makes it think of Mimir.
    let version: Vec<u32> = build["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version >= vec![3, 0, 0], "{build}");
    assert!(build.get("features").is_none() && build.get("application").is_none(), "{build}");
    // The list of alerts is asked for even where nobody alerts.
    assert_eq!(data(&http::get(server.port, "/api/v1/rules").unwrap()), json!({"groups": []}));
    assert_eq!(data(&http::get(server.port, "/api/v1/alerts").unwrap()), json!({"alerts": []}));
    assert_eq!(data(&http::get(server.port, "/api/v1/metadata?limit=40000").unwrap()), json!({}));
    assert_eq!(data(&form(server.port, "/api/v1/query_exemplars", "query=up&start=0&end=1")), json!([]));
    assert_eq!(data(&form(server.port, "/api/v1/series", "match[]=up")), json!([]));
    // A refusal is an envelope with the place of the fault.
    let refused = form(server.port, "/api/v1/query", "query=sum(&time=0");
    let text = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(refused.status == 400 && text.starts_with("invalid parameter \"query\": 1:5: parse error: "), "{text}");
}

#[test]
fn its_panels_and_its_builder_are_answered_by_form() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let now = now_ms() / 60_000 * 60_000;
    let points: Vec<(i64, f64)> = (0..5).map(|n| (now - 60_000 + n * 15_000, n as f64)).collect();
    let request = Request::default().floats(&[("__name__", "up"), ("job", "api")], &points);
    let request = request.exemplar("abc", now - 30_000, 0.25);
    let request = request.floats(&[("__name__", "up"), ("job", "node")], &points);
    assert_eq!(request.send(server.port).status, 204);
    let (start, end) = ((now - 60_000) / 1000, now / 1000);
    let ask = |path: &str, more: &str| data(&form(server.port, path, &format!("{more}&start={start}&end={end}")));
    // A step as duration, as whole and as broken seconds.
    for step in ["30s", "30", "30.000", "0m30s"] {
        let found = ask("/api/v1/query_range", &format!("query=up%7Bjob=%22api%22%7D&step={step}"));
        let wanted = json!({"resultType": "matrix", "result": [{
            "metric": {"__name__": "up", "job": "api"},
            "values": [[start, "0"], [start + 30, "2"], [start + 60, "4"]],
        }]});
        assert_eq!(found, wanted, "{step}");
    }
    assert_eq!(ask("/api/v1/labels", "limit=40000&match[]=up"), json!(["__name__", "job"]));
    let values =
        http::get(server.port, &format!("/api/v1/label/job/values?match[]=up&start={start}&end={end}")).unwrap();
    assert_eq!(data(&values), json!(["api", "node"]));
    assert_eq!(ask("/api/v1/series", "match[]=up%7Bjob=%22api%22%7D"), json!([{"__name__": "up", "job": "api"}]));
    let exemplars = ask("/api/v1/query_exemplars", "query=sum(rate(up%5B1m%5D))");
    let wanted = json!([{
        "seriesLabels": {"__name__": "up", "job": "api"},
        "exemplars": [{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": end - 30}],
    }]);
    assert_eq!(exemplars, wanted);
}
