//! What every route of the Prometheus API has in common, route by route: packed answers, other origins, forms; and the
//! parameters that several share.

use std::io::Read;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::process::Server;
use crate::remote_write::{Request, now_ms};

/// What the answers of a route may differ in from one request to the next.
#[derive(Clone, Copy, PartialEq)]
enum Steady {
    Bytes,
    /// Clocks, counts and costs: only the keys at the top stay.
    Keys,
    Text,
    /// Lines of JSON.
    Lines,
}

use Steady::{Bytes, Keys, Lines, Text};

/// Path below the server, whether its form may be posted, and what is steady.
const ROUTES: [(&str, bool, Steady); 44] = [
    ("/api/v1/query?query=up&time=@", true, Bytes),
    ("/api/v1/query_range?query=up&start=@&end=@&step=1", true, Bytes),
    ("/api/v1/query_exemplars?query=up&start=0&end=@", true, Bytes),
    ("/api/v1/format_query?query=sum(up)by(job)", true, Bytes),
    ("/api/v1/parse_query?query=sum(up)by(job)", true, Bytes),
    ("/api/v1/labels", true, Bytes),
    ("/api/v1/series?match[]=up", true, Bytes),
    ("/api/v1/label/job/values", false, Bytes),
    ("/api/v1/label/U__job/values", false, Bytes),
    ("/api/v1/scrape_pools", false, Bytes),
    ("/api/v1/scrape_pools/config?scrapePool=none", false, Bytes),
    ("/api/v1/targets", false, Bytes),
    ("/api/v1/targets/relabel_steps?scrapePool=none&labels=%7B%7D", false, Bytes),
    ("/api/v1/targets/metadata", false, Bytes),
    ("/api/v1/alertmanagers", false, Bytes),
    ("/api/v1/metadata", false, Bytes),
    ("/api/v1/alerts", false, Bytes),
    ("/api/v1/rules", false, Bytes),
    ("/api/v1/features", false, Bytes),
    ("/api/v1/notifications", false, Bytes),
    ("/api/v1/status/config", false, Bytes),
    ("/api/v1/status/runtimeinfo", false, Keys),
    ("/api/v1/status/buildinfo", false, Bytes),
    ("/api/v1/status/flags", false, Bytes),
    ("/api/v1/status/tsdb?limit=3", false, Keys),
    ("/api/v1/status/tsdb/blocks", false, Bytes),
    ("/api/v1/status/walreplay", false, Bytes),
    ("/api/v1/status/self_metrics?metric_name_pattern=kymo_config_.*", false, Bytes),
    ("/api/v1/status/cardinality", false, Keys),
    ("/api/v1/status/queries", false, Keys),
    ("/api/v1/status/drops", false, Bytes),
    ("/api/v1/openapi.yaml", false, Text),
    ("/api/v1/search/metric_names?search[]=u", true, Lines),
    ("/api/v1/search/label_names?search[]=o&sort_by=score", true, Lines),
    ("/api/v1/search/label_values?label=job", true, Lines),
    ("/api/v1/search/label_values", true, Bytes),
    ("/federate?match[]=up", false, Text),
    ("/metrics", false, Text),
    ("/-/healthy", false, Text),
    ("/-/ready", false, Text),
    // Refused, in the same envelope.
    ("/api/v1/query?query=up(", true, Bytes),
    ("/api/v1/query_range?query=up&start=1&end=0&step=1", true, Bytes),
    ("/api/v1/series", true, Bytes),
    ("/api/v1/status/tsdb?limit=0", false, Bytes),
];

/// A body is packed from this length on.
const PACKED_FROM: usize = 32;

fn unpacked(answer: &Answer) -> String {
    let mut text = String::new();
    match answer.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(&*answer.bytes).read_to_string(&mut text).map(drop).unwrap(),
        Some("zstd") => text = String::from_utf8(zstd::decode_all(&*answer.bytes).unwrap()).unwrap(),
        None => text.clone_from(&answer.body),
        other => panic!("packed as {other:?}"),
    }
    text
}

fn keys(text: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(json["status"], "success", "{text}");
    json["data"].as_object().unwrap().keys().cloned().collect()
}

fn must_be_alike(plain: &str, other: &str, steady: Steady, route: &str) {
    match steady {
        Bytes | Lines => assert_eq!(plain, other, "{route}"),
        Keys => assert_eq!(keys(plain), keys(other), "{route}"),
        // Numbers of a page move on between two looks at it.
        Text => assert_eq!(plain.lines().next(), other.lines().next(), "{route}"),
    }
}

/// A server with two series of `up`, a sample each at the moment returned.
fn with_two_series(folder: &TempDir) -> (Server, String) {
    let server = Server::start_with(folder.path(), &["--enable-feature", "search-api"]);
    let now = now_ms() / 1000 * 1000;
    let request = Request::default();
    let request = request.floats(&[("__name__", "up"), ("instance", "a"), ("job", "x")], &[(now, 1.0)]);
    let request = request.floats(&[("__name__", "up"), ("instance", "b"), ("job", "x")], &[(now, 0.0)]);
    assert_eq!(request.send(server.port).status, 204);
    (server, (now / 1000).to_string())
}

#[test]
fn every_route_packs_its_answer_lets_other_origins_in_and_takes_its_form() {
    let folder = TempDir::new().unwrap();
    let (server, now) = with_two_series(&folder);
    for (route, has_form, steady) in ROUTES {
        let route = route.replace('@', &now);
        let plain = http::get(server.port, &route).unwrap();
        assert!(plain.status < 500 && plain.status != 404, "{route}: {plain:?}");
        assert_eq!(plain.header("content-encoding"), None, "{route}");
        assert_eq!(plain.header("access-control-allow-origin"), None, "{route}");
        if steady == Lines {
            assert_eq!(plain.header("content-type"), Some("application/x-ndjson; charset=utf-8"), "{route}");
            assert!(plain.body.ends_with("{\"status\":\"success\",\"has_more\":false}\n"), "{route}: {plain:?}");
        } else if steady != Text {
            assert_eq!(plain.header("content-type"), Some("application/json"), "{route}");
            assert_eq!(plain.json()["status"], if plain.status == 200 { "success" } else { "error" }, "{route}");
        }
        for encoding in ["gzip", "zstd"] {
            let headers = [("Accept-Encoding", encoding), ("Origin", "https://grafana.example")];
            let packed = http::send(server.port, "GET", &route, &headers, &[]).unwrap();
            let wanted = (plain.body.len() >= PACKED_FROM).then_some(encoding);
            assert_eq!((packed.status, packed.header("content-encoding")), (plain.status, wanted), "{route}");
            must_be_alike(&plain.body, &unpacked(&packed), steady, &route);
            assert_eq!(packed.header("access-control-allow-origin"), Some("*"), "{route}");
        }
        let (path, form) = route.split_once('?').unwrap_or((&route, ""));
        let asked = http::send(server.port, "OPTIONS", path, &[("Origin", "https://grafana.example")], &[]).unwrap();
        assert_eq!((asked.status, asked.body.as_str()), (204, ""), "{route}");
        assert_eq!(asked.header("access-control-allow-origin"), Some("*"), "{route}");
        assert_eq!(asked.header("access-control-allow-methods"), Some("GET, POST, OPTIONS"), "{route}");
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let posted = http::send(server.port, "POST", path, &headers, form.as_bytes()).unwrap();
        if has_form {
            assert_eq!(posted.status, plain.status, "{route}");
            must_be_alike(&plain.body, &posted.body, steady, &route);
        } else {
            assert_eq!(posted.status, 405, "{route}");
        }
    }
}

/// Path and method, as the server describes its routes.
fn described(page: &str) -> Vec<(String, String)> {
    let (mut path, mut found) = (String::new(), Vec::new());
    for line in page.lines().skip_while(|line| *line != "paths:").skip(1).take_while(|line| line.starts_with(' ')) {
        let depth = line.len() - line.trim_start().len();
        match (depth, line.trim_start().strip_suffix(':')) {
            (2, Some(name)) => name.clone_into(&mut path),
            (4, Some(method)) => found.push((path.clone(), method.to_ascii_uppercase())),
            _ => {}
        }
    }
    found
}

#[test]
fn every_route_that_is_described_is_there_and_every_route_is_described() {
    let folder = TempDir::new().unwrap();
    let (server, _) = with_two_series(&folder);
    let page = http::get(server.port, "/api/v1/openapi.yaml").unwrap();
    assert_eq!(page.header("content-type"), Some("application/yaml; charset=utf-8"));
    let described = described(&page.body);
    assert!(described.len() > 50, "{described:?}");
    for (path, method) in &described {
        let filled = path.replace("{id}", "0").replace("{name}", "job");
        let answer = http::send(server.port, method, &format!("/api/v1{filled}"), &[], &[]).unwrap();
        // A query that is not there is not found, in an envelope that says so.
        let is_there = answer.status != 404 || answer.body.contains("errorType");
        assert!(is_there && answer.status != 405, "{method} {path}: {answer:?}");
    }
    for (route, has_form, _) in ROUTES {
        let path = route.split('?').next().and_then(|path| path.strip_prefix("/api/v1"));
        let Some(path) = path.map(|path| path.replace("/job/", "/{name}/").replace("/U__job/", "/{name}/")) else {
            continue;
        };
        let has = |method: &str| described.contains(&(path.clone(), method.to_owned()));
        assert!(has("GET") && has("POST") == has_form, "{route}");
    }
}

#[test]
fn routes_with_a_limit_cut_and_say_so() {
    let folder = TempDir::new().unwrap();
    let (server, now) = with_two_series(&folder);
    let rows = [
        ("/api/v1/query?query=up&time=@", "/data/result", 2),
        ("/api/v1/query_range?query=up&start=@&end=@&step=1", "/data/result", 2),
        ("/api/v1/series?match[]=up", "/data", 2),
        ("/api/v1/labels?match[]=up", "/data", 3),
        ("/api/v1/label/instance/values?match[]=up", "/data", 2),
    ];
    for (route, list, all) in rows {
        let route = route.replace('@', &now);
        for (limit, len, warnings) in [(0, all, None), (1, 1, Some("results truncated due to limit")), (all, all, None)]
        {
            let answer = http::get(server.port, &format!("{route}&limit={limit}")).unwrap().json();
            assert_eq!(answer.pointer(list).unwrap().as_array().unwrap().len(), len, "{route} {limit}: {answer}");
            assert_eq!(answer["warnings"][0].as_str(), warnings, "{route} {limit}");
        }
        let refused = http::get(server.port, &format!("{route}&limit=-1")).unwrap();
        assert_eq!(refused.status, 400, "{route}");
        assert_eq!(refused.json()["error"], r#"invalid parameter "limit": limit must be non-negative"#, "{route}");
    }
}

#[test]
fn both_queries_take_statistics_a_timeout_and_a_lookback() {
    let folder = TempDir::new().unwrap();
    let (server, now) = with_two_series(&folder);
    let later = (now.parse::<i64>().unwrap() + 60).to_string();
    for (route, steps) in [
        (format!("/api/v1/query?query=up&time={later}"), 1),
        (format!("/api/v1/query_range?query=up&start={later}&end={later}&step=1"), 1),
    ] {
        let ask = |more: &str| http::get(server.port, &format!("{route}{more}")).unwrap();
        let found = |answer: &Answer| answer.json()["data"]["result"].as_array().unwrap().len();
        assert!(ask("").json()["data"].get("stats").is_none(), "{route}");
        let all = ask("&stats=all").json();
        let samples = &all["data"]["stats"]["samples"];
        assert_eq!(samples["totalQueryableSamples"], 2, "{route}: {all}");
        assert_eq!(samples["totalQueryableSamplesPerStep"].as_array().unwrap().len(), steps, "{route}");
        assert!(all["data"]["stats"]["timings"]["execTotalTime"].is_number(), "{route}");
        let totals = ask("&stats=true").json();
        assert!(totals["data"]["stats"]["samples"].get("totalQueryableSamplesPerStep").is_none(), "{route}");
        for (lookback, series) in [("", 2), ("30s", 0), ("59.5", 0), ("61", 2), ("5m", 2)] {
            assert_eq!(found(&ask(&format!("&lookback_delta={lookback}"))), series, "{route} {lookback}");
        }
        assert_eq!(found(&ask("&timeout=30s")), 2, "{route}");
        let late = ask("&timeout=0");
        assert_eq!((late.status, late.json()["errorType"].as_str()), (503, Some("timeout")), "{route}");
        assert_eq!(ask("&timeout=soon").status, 400, "{route}");
        assert_eq!(ask("&lookback_delta=5x").status, 400, "{route}");
    }
}
