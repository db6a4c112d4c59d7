use std::sync::Arc;

use kymo_core::metric::{Bucket, MetricType};
use kymo_core::registry::{FamilySnapshot, Registry, SeriesSnapshot};
use kymo_core::{Exemplar, Labels};

use super::{Escaping, Exposition, Format, write};

const OPEN_METRICS: Format = Format::OpenMetrics100(Escaping::Underscores);
const QUOTED: [Format; 2] = [Format::Text100(Escaping::AllowUtf8), Format::OpenMetrics100(Escaping::AllowUtf8)];

fn page(exposition: &Exposition, format: Format) -> String {
    String::from_utf8(exposition.render(format)).unwrap()
}

fn text(registry: &Registry) -> String {
    page(&Exposition::from(registry.clone()), Format::Text004)
}

/// Lines of samples alone.
fn samples(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with('#')).collect()
}

fn every_kind() -> Registry {
    let registry = Registry::new();
    let requests =
        registry.counter("requests_total").help("Asked \\ and\n\"answered\".").labels(["path"]).family().unwrap();
    requests.with(["/b\"\\\n"]).add(1_500_000);
    requests.with(["/a"]).inc();
    registry.gauge("level").register().unwrap().set(f64::NEG_INFINITY);
    registry.counter("read_bytes_total").unit("bytes").register().unwrap().add(7);
    registry.counter("hits").unit("hits").register().unwrap().add_f64(0.5);
    registry.gauge("silent").labels(["never"]).family().unwrap();
    let seconds = registry.histogram("wait_seconds").unit("seconds").buckets(&[0.5, 1.0]).register().unwrap();
    [0.25, 0.75, 3.0].iter().for_each(|value| seconds.record(*value));
    registry.summary("size").quantiles(&[0.5, 1.0]).register().unwrap();
    registry
}

#[test]
fn every_kind_is_written_as_text_sorted_and_escaped() {
    assert_eq!(
        text(&every_kind()),
        r#"# TYPE hits counter
hits 0.5
# TYPE level gauge
level -Inf
# TYPE read_bytes_total counter
read_bytes_total 7
# HELP requests_total Asked \\ and\n"answered".
# TYPE requests_total counter
requests_total{path="/a"} 1
requests_total{path="/b\"\\\n"} 1500000
# TYPE silent gauge
# TYPE size summary
size{quantile="0.5"} NaN
size{quantile="1"} NaN
size_sum 0
size_count 0
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1"} 2
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_sum 4
wait_seconds_count 3
"#
    );
}

#[test]
fn every_kind_is_written_as_openmetrics_with_its_own_names_numbers_and_end() {
    assert_eq!(
        page(&every_kind().into(), OPEN_METRICS),
        r#"# TYPE hits counter
hits_total 0.5
# TYPE level gauge
level -Inf
# TYPE read_bytes counter
# UNIT read_bytes bytes
read_bytes_total 7
# HELP requests Asked \\ and\n\"answered\".
# TYPE requests counter
requests_total{path="/a"} 1
requests_total{path="/b\"\\\n"} 1500000
# TYPE silent gauge
# TYPE size summary
size{quantile="0.5"} NaN
size{quantile="1.0"} NaN
size_sum 0
size_count 0
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_sum 4
wait_seconds_count 3
# EOF
"#
    );
}

#[test]
fn names_that_would_become_one_stay_two() {
    let registry = Registry::new();
    for name in ["a_b", "a.b", "a-b", "0k", "温"] {
        registry.counter(name).register().unwrap().inc();
    }
    registry.gauge("g").labels(["z.k", "z_k", "z-k"]).family().unwrap().with(["1", "2", "3"]).set(1.0);
    assert_eq!(
        samples(&text(&registry)),
        ["_k 1", "U__a_2d_b 1", "U__a_2e_b 1", "a_b 1", r#"g{U__z_2d_k="3",U__z_2e_k="1",z_k="2"} 1"#, "_ 1"]
    );
}

#[test]
fn names_are_quoted_for_who_reads_quotes() {
    let registry = Registry::new();
    registry.counter("http.requests_total").help("Asked.").labels(["code"]).family().unwrap().with(["200"]).inc();
    registry.gauge("a\"b\\c\nd").register().unwrap().set(1.0);
    registry.histogram("took.long").buckets(&[]).register().unwrap().record(2.0);
    registry.gauge("plain").labels(["k.v"]).family().unwrap().with(["x"]).set(1.0);
    let [text, open_metrics] = QUOTED.map(|format| page(&registry.clone().into(), format));
    assert_eq!(
        text,
        r#"# TYPE "a\"b\\c\nd" gauge
{"a\"b\\c\nd"} 1
# HELP "http.requests_total" Asked.
# TYPE "http.requests_total" counter
{"http.requests_total",code="200"} 1
# TYPE plain gauge
plain{"k.v"="x"} 1
# TYPE "took.long" histogram
{"took.long_bucket",le="+Inf"} 1
{"took.long_sum"} 2
{"took.long_count"} 1
"#
    );
    assert!(open_metrics.contains("# TYPE \"http.requests\" counter\n{\"http.requests_total\",code=\"200\"} 1\n"));
}

#[test]
fn counters_whose_names_another_family_has_are_not_mixed_with_it() {
    let registry = Registry::new();
    for name in ["hits", "hits_total", "jobs_total", "_total"] {
        registry.counter(name).register().unwrap().inc();
    }
    registry.gauge("jobs").register().unwrap().set(3.0);
    assert_eq!(
        page(&registry.into(), OPEN_METRICS),
        "# TYPE _total counter\n_total_total 1\n# TYPE hits unknown\nhits 1\n# TYPE hits_total unknown\nhits_total 1\n\
         # TYPE jobs gauge\njobs 3\n# TYPE jobs_total unknown\njobs_total 1\n# EOF\n"
    );
}

fn family(name: &str, value: MetricType) -> FamilySnapshot {
    FamilySnapshot {
        name: name.to_owned(),
        kind: value.kind(),
        unit: String::new(),
        help: String::new(),
        series: vec![SeriesSnapshot { labels: Arc::new([]), value, created_ms: None }],
    }
}

fn exemplar(id: &str, value: f64, time_ms: i64) -> Exemplar {
    Exemplar { labels: Labels::from_pairs([("trace.id", id)]), value, time_ms }
}

#[test]
fn the_newest_exemplar_that_fits_stands_beside_its_counter_or_bucket() {
    let long = "x".repeat(121);
    let bucket = |upper_bound, cumulative_count| Bucket { upper_bound, cumulative_count };
    let families = [
        family("c_total", MetricType::Counter { value: 2.0, exemplars: Some(vec![exemplar("a", 1.0, 1_500)]) }),
        family(
            "h",
            MetricType::Histogram {
                buckets: vec![bucket(1.0, 2), bucket(2.0, 2), bucket(f64::INFINITY, 4)],
                sum: 9.0,
                count: 4,
                exemplars: Some(vec![
                    exemplar("b", 0.25, 1_000),
                    exemplar("c", 1.0, 2_000),
                    exemplar("d", 3.0, 3_000),
                    exemplar(&long, 4.0, 4_000),
                ]),
            },
        ),
    ];
    let mut page = Vec::new();
    write(&mut page, OPEN_METRICS, &families);
    let page = String::from_utf8(page).unwrap();
    assert_eq!(
        samples(&page),
        [
            r#"c_total 2 # {trace_id="a"} 1 1.500"#,
            r#"h_bucket{le="1.0"} 2 # {trace_id="c"} 1 2"#,
            r#"h_bucket{le="2.0"} 2"#,
            r#"h_bucket{le="+Inf"} 4 # {trace_id="d"} 3 3"#,
            "h_sum 9",
            "h_count 4",
        ]
    );
    let mut text = Vec::new();
    write(&mut text, Format::Text004, &families);
    assert!(!String::from_utf8(text).unwrap().contains(" # "), "text has no exemplars");
}

#[test]
fn a_sum_that_may_fall_is_no_part_of_an_openmetrics_histogram() {
    let buckets = [-1.0, f64::INFINITY].map(|upper_bound| Bucket { upper_bound, cumulative_count: 1 });
    let value = MetricType::Histogram { buckets: buckets.to_vec(), sum: -2.0, count: 1, exemplars: None };
    let mut page = Vec::new();
    write(&mut page, OPEN_METRICS, &[family("h", value)]);
    let page = String::from_utf8(page).unwrap();
    assert_eq!(samples(&page), [r#"h_bucket{le="-1.0"} 1"#, r#"h_bucket{le="+Inf"} 1"#]);
}

#[test]
fn families_of_others_stand_among_the_registrys_which_come_first() {
    let registry = Registry::new();
    registry.gauge("b").register().unwrap().set(1.0);
    let gauge = |name: &str, value| family(name, MetricType::Gauge { value });
    let exposition = Exposition::from(registry).with(move || vec![gauge("c", 2.0), gauge("a", 3.0), gauge("b", 4.0)]);
    assert_eq!(samples(&page(&exposition, Format::Text004)), ["a 3", "b 1", "c 2"]);
}

/// Name, sorted labels, value.
type Line = (String, Vec<(String, String)>, String);

/// Reads a page as the formats define it, word for word, and gives back what it says.
fn read(page: &str) -> Vec<Line> {
    fn string(rest: &mut &str) -> String {
        let mut out = String::new();
        let mut characters = rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    *rest = &rest[at + 1..];
                    return out;
                }
                '\\' => match characters.next().unwrap().1 {
                    'n' => out.push('\n'),
                    c @ ('\\' | '"') => out.push(c),
                    c => panic!("no such escape: {c}"),
                },
                '\n' => panic!("a string over two lines"),
                c => out.push(c),
            }
        }
        panic!("a string without end");
    }
    let mut found = Vec::new();
    for line in samples(page) {
        let name_end = line.find(['{', ' ']).unwrap();
        let (mut name, mut rest) = (line[..name_end].to_owned(), &line[name_end..]);
        let mut labels = Vec::new();
        if let Some(behind) = rest.strip_prefix('{') {
            rest = behind;
            while !rest.starts_with('}') {
                let word = match rest.strip_prefix('"') {
                    Some(behind) => {
                        rest = behind;
                        string(&mut rest)
                    }
                    None => {
                        let (word, _) = rest.split_once('=').unwrap();
                        rest = &rest[word.len()..];
                        word.to_owned()
                    }
                };
                match rest.strip_prefix("=\"") {
                    Some(behind) => {
                        rest = behind;
                        labels.push((word, string(&mut rest)));
                    }
                    None => {
                        assert!(name.is_empty() && labels.is_empty(), "a quoted name stands first: {line}");
                        name = word;
                    }
                }
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            rest = &rest[1..];
        }
        labels.sort();
        found.push((name, labels, rest.strip_prefix(' ').unwrap().to_owned()));
    }
    found
}

#[test]
fn any_name_and_value_is_read_back_as_it_was() {
    let odd = ["", "plain", "a b", "\"", "\\", "\n", "\\n", "é温🦀", "}", ",", "=", "# ", "a\\\"\n\\\\b", "{x=\"1\"}"];
    let registry = Registry::new();
    let mut wanted = Vec::new();
    for (number, text) in odd.iter().enumerate() {
        let (name, label) = (format!("m{number}{text}"), format!("l{text}"));
        registry.gauge(&name).label(&label, &format!("v{text}")).register().unwrap().set(number as f64);
        wanted.push((name, vec![(label, format!("v{text}"))], number.to_string()));
    }
    wanted.sort();
    assert_eq!(read(&page(&registry.clone().into(), Format::Text100(Escaping::AllowUtf8))), wanted);
    let values = |page: &str| -> Vec<String> {
        let mut values: Vec<String> = read(page).into_iter().map(|(_, labels, _)| labels[0].1.clone()).collect();
        values.sort();
        values
    };
    let mut all: Vec<String> = odd.iter().map(|text| format!("v{text}")).collect();
    all.sort();
    assert_eq!(values(&text(&registry)), all);
    assert_eq!(values(&page(&registry.into(), OPEN_METRICS)), all);
}

#[cfg(feature = "server")]
mod route {
    use axum::body::{Body, to_bytes};
    use http::{HeaderValue, Method, Request, StatusCode, header};
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: Method, accept: &[&str]) -> (StatusCode, HeaderValue, String) {
        let registry = Registry::new();
        registry.counter("asked_total").register().unwrap().inc();
        let mut request = Request::builder().method(method).uri("/metrics");
        for range in accept {
            request = request.header(header::ACCEPT, *range);
        }
        let answer = super::super::routes(registry).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let kind = head.headers.get(header::CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static(""));
        (head.status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_route_speaks_what_was_asked_for_and_names_it() {
        let (status, kind, body) = ask(Method::GET, &[]).await;
        assert_eq!((status, kind.to_str().unwrap()), (StatusCode::OK, Format::Text004.content_type()));
        assert_eq!(body, "# TYPE asked_total counter\nasked_total 1\n");
        let (_, kind, body) =
            ask(Method::GET, &["text/plain;q=0.5", "application/openmetrics-text;version=1.0.0"]).await;
        assert_eq!(kind, OPEN_METRICS.content_type());
        assert_eq!(body, "# TYPE asked counter\nasked_total 1\n# EOF\n");
        let (status, kind, body) = ask(Method::HEAD, &["application/openmetrics-text;version=0.0.1"]).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
        assert_eq!(kind, Format::OpenMetrics001.content_type());
        assert_eq!(ask(Method::POST, &[]).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn a_server_compresses_a_page_for_who_asks() {
        use std::io::Read;

        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        use crate::server::{Server, ServerOptions};

        let registry = Registry::new();
        let family = registry.gauge("level").help("Level.").labels(["n"]).family().unwrap();
        (0..100).for_each(|n| family.with([&n.to_string()]).set(1.0));
        let listen = vec![([127, 0, 0, 1], 0).into()];
        let server = Server::bind(ServerOptions { listen, ..ServerOptions::default() }).await.unwrap();
        let address = server.addresses()[0];
        let stop = tokio_util::sync::CancellationToken::new();
        let running = tokio::spawn(server.run(super::super::routes(registry.clone()), stop.clone()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        stop.cancel();
        running.await.unwrap();
        let head_end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..head_end]).to_lowercase();
        assert!(head.contains("content-encoding: gzip"), "{head}");
        let gzip = unchunked(&answer[head_end + 4..]);
        let mut page = String::new();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_string(&mut page).unwrap();
        assert_eq!(page, text(&registry));
    }

    /// A body in chunks, put together.
    fn unchunked(mut body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(at) = body.windows(2).position(|bytes| bytes == b"\r\n") {
            let len = usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap(), 16).unwrap();
            out.extend_from_slice(&body[at + 2..at + 2 + len]);
            body = &body[at + 4 + len..];
        }
        out
    }
}

/// `promtool check metrics` of the peers that `cargo xtask peers` unpacks, named by `KYMO_PEERS`.
#[cfg(any(feature = "api", feature = "client"))]
mod promtool {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::process::{Command, Stdio};

    use kymo_core::registry::NativeOptions;

    use super::*;

    fn promtool() -> Result<String, String> {
        let file = std::env::var("KYMO_PEERS").map_err(|_| "KYMO_PEERS names no table of peers".to_owned())?;
        let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let table: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        let entry = &table["promtool"];
        let missing = || format!("no promtool: {}", entry["missing"].as_str().unwrap_or("not in the table"));
        entry["path"].as_str().map(str::to_owned).ok_or_else(missing)
    }

    fn skip(test: &str, reason: &str) {
        println!("SKIPPED {test}: {reason}");
        if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
            let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
            writeln!(log, "{test}: {reason}").unwrap();
        }
    }

    #[test]
    fn promtool_finds_no_fault_in_a_page() {
        let program = match promtool() {
            Ok(program) => program,
            Err(reason) => return skip("promtool_finds_no_fault_in_a_page", &reason),
        };
        let registry = Registry::new();
        let requests = registry.counter("asked_requests_total").help("Asked \"what\\how\".").labels(["path"]);
        requests.family().unwrap().with(["/b\"\\\n温"]).add(3);
        registry.gauge("depth").help("Depth.").register().unwrap().set(f64::NAN);
        registry.histogram("wait_seconds").unit("seconds").help("Wait.").register().unwrap().record(0.2);
        registry.summary("answer_bytes").unit("bytes").help("Size.").register().unwrap().record(7.0);
        registry.up_down_counter("open").help("Open.").register().unwrap().dec();
        let native = registry.histogram("native_seconds").help("Wait.").native(NativeOptions::default());
        native.register().unwrap().record(0.25);
        registry.gauge("silent").help("Nothing yet.").labels(["never"]).family().unwrap();
        let mut child = Command::new(program)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text(&registry).as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(),
            "{}{}",
            words(&said.stdout),
            words(&said.stderr)
        );
    }
}
