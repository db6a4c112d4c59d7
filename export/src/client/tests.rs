//! The client against our own API over a real loopback listener, and against servers that misbehave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use kymo_core::config::{Authorization, BasicAuth, HttpClientConfig, Secret, TlsConfig, TlsVersion};
use kymo_core::query::{
    Annotations, EngineOptions, Grid, GridPresence, PointTimes, QueryError, QueryPhase, QueryResult, QueryStats,
    QueryValue, ResultSeries,
};
use kymo_core::{Budget, ErrorKind, Labels, QueryBackend, QueryContext, QueryRequest};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ClientError, ClientOptions, HttpBuildError, PrometheusClient, http_client};
use crate::api::fake::{self, FakeBackend, custom_histogram, histogram, series};
use crate::api::routes;
use crate::server::{BearerTokens, Drained, Server, ServerOptions};

/// A router on a port of its own, until dropped.
struct Running {
    url: String,
    _stop: DropGuard,
    _run: JoinHandle<Drained>,
}

async fn serve(router: Router, tokens: BearerTokens) -> Running {
    let mut options = ServerOptions { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..Default::default() };
    options.tokens = tokens;
    let server = Server::bind(options).await.unwrap();
    let (url, stop) = (format!("http://{}", server.addresses()[0]), CancellationToken::new());
    Running { url, _stop: stop.clone().drop_guard(), _run: tokio::spawn(server.run(router, stop)) }
}

fn client(options: ClientOptions) -> Arc<PrometheusClient> {
    Arc::new(PrometheusClient::new(options, Handle::current()).unwrap())
}

/// Asks from a thread that may wait.
async fn query(client: &Arc<PrometheusClient>, text: &str, ctx: QueryContext) -> Result<QueryResult, QueryError> {
    let (client, request) = (client.clone(), QueryRequest::new(text, Grid::Instant { at_ms: 5_250 }));
    tokio::task::spawn_blocking(move || client.query(&request, &ctx)).await.unwrap()
}

/// A server whose every route answers what `answer` makes of the request.
async fn answering(answer: impl Fn(&Request) -> Response + Clone + Send + Sync + 'static) -> Running {
    let route = move |request: Request| {
        let response = answer(&request);
        async move { response }
    };
    serve(Router::new().fallback(route), BearerTokens::default()).await
}

/// Results and errors of every shape, by the text that asks for them.
fn shapes() -> BTreeMap<&'static str, Result<QueryResult, QueryError>> {
    let grid = Grid::Range { start_ms: 1_000, end_ms: 3_000, step_ms: 1_000 };
    let mixed = ResultSeries {
        labels: Labels::from_pairs([("k8s.pod", "a\"b\n")]),
        times: PointTimes::Grid(GridPresence::full(grid)),
        floats: vec![7.5],
        histograms: vec![(0, histogram()), (2, custom_histogram())],
    };
    let one_histogram = |histogram| ResultSeries {
        labels: Labels::from_pairs([("a", "1")]),
        times: PointTimes::Own(vec![5_250]),
        floats: vec![],
        histograms: vec![(0, histogram)],
    };
    let float = [(5_250, 0.1), (5_251, f64::NAN), (6_000, f64::INFINITY), (7_000, -0.0), (7_001, 5e-324)];
    let values = [
        ("scalar", QueryValue::Scalar { time_ms: 5_250, value: f64::NEG_INFINITY }),
        ("string", QueryValue::String { time_ms: -1, value: "<a>\u{2028}\\".into() }),
        ("nothing", QueryValue::Vector(vec![])),
        ("no series", QueryValue::Matrix(vec![])),
        ("vector", QueryValue::Vector(vec![series([("__name__", "up")], &float[..1]), one_histogram(histogram())])),
        ("custom", QueryValue::Vector(vec![one_histogram(custom_histogram())])),
        ("matrix", QueryValue::Matrix(vec![series([("__name__", "up")], &float), mixed])),
    ];
    let errors = [
        ("bad(", QueryError::parse("1:5: parse error: unclosed left parenthesis", None)),
        ("conflict", QueryError::execute(ErrorKind::Invalid, "found duplicate series")),
        ("slow", QueryError::execute(ErrorKind::Timeout, "query timed out in expression evaluation")),
        ("gone", QueryError::execute(ErrorKind::Cancelled, "query was canceled in expression evaluation")),
        ("bug", QueryError::execute(ErrorKind::Internal, "bad block")),
        ("missing", QueryError::execute(ErrorKind::NotFound, "no such tier")),
        ("busy", QueryError::execute(ErrorKind::Unavailable { retry_after: Duration::from_secs(7) }, "replaying")),
    ];
    let ok = |value| Ok(QueryResult { value, ..QueryResult::default() });
    let mut shapes: BTreeMap<_, _> = values.into_iter().map(|(text, value)| (text, ok(value))).collect();
    shapes.extend(errors.into_iter().map(|(text, error)| (text, Err(error))));
    let annotations = Annotations { warnings: vec!["w1".into(), "w2".into()], infos: vec!["i".into()] };
    let stats = QueryStats {
        total_time: Duration::from_millis(4),
        prepare_time: Duration::from_millis(1),
        eval_time: Duration::from_millis(3),
        total_queryable_samples: 7,
        peak_samples: 3,
        samples_per_step: vec![(1_500, 3)],
    };
    shapes.insert("remarks", Ok(QueryResult { annotations, stats: Some(stats), ..QueryResult::default() }));
    shapes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_over_a_client_of_an_api_answers_the_same_bytes() {
    let backend = FakeBackend::new(|request, _| shapes().remove(request.text.as_str()).unwrap());
    fake::fill(&backend.storage);
    let inner = routes(fake::state(backend.clone()));
    let running = serve(inner.clone(), BearerTokens::default()).await;
    let outer = routes(fake::state(client(ClientOptions::new(format!("{}/", running.url)))));
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let mut paths: Vec<String> =
        shapes().keys().map(|text| format!("query?query={}&time=5.25&stats=all", encode(text))).collect();
    paths.push("query_range?query=matrix&start=1&end=3.5&step=0.25&lookback_delta=1m&limit=5&timeout=9".into());
    for (path, selectors) in [
        ("series", &["up"][..]),
        ("series", &["up", r#"{job=~"a|x.*", "k8s.pod"!="", __name__!~"z"}"#]),
        ("series", &["{\"k8s.pod\"=\"x\"}"]),
        ("labels", &[]),
        ("labels", &["down"]),
        ("label/__name__/values", &[]),
        ("label/U__k8s_2e_pod/values", &["up"]),
        ("label/a%2Fb%20c/values", &[]),
    ] {
        let matches: Vec<String> = selectors.iter().map(|s| format!("match[]={}", encode(s))).collect();
        paths.push(format!("{path}?{}", matches.join("&")));
        paths.push(format!("{path}?start=2&end=6.5&limit=1&{}", matches.join("&")));
    }
    paths.extend(["metadata".into(), "metadata?metric=up".into()]);
    for path in paths {
        let path = format!("/api/v1/{path}");
        assert_eq!(fake::get(&outer, &path).await, fake::get(&inner, &path).await, "{path}");
    }
    let asked = backend.asked.lock().unwrap();
    let ranges: Vec<_> = asked.iter().filter(|r| matches!(r.grid, Grid::Range { .. })).collect();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[0], ranges[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_an_exponential_histogram_comes_back_with_its_schema() {
    for schema in [-4, 0, 3, 8] {
        let exponential = kymo_core::NativeHistogram { schema, ..histogram() };
        let value = QueryValue::Vector(vec![ResultSeries {
            labels: Labels::empty(),
            times: PointTimes::Own(vec![1]),
            floats: vec![],
            histograms: vec![(0, exponential)],
        }]);
        let answer = QueryResult { value, ..QueryResult::default() };
        let backend = FakeBackend::new(move |_, _| Ok(answer.clone()));
        let running = serve(routes(fake::state(backend)), BearerTokens::default()).await;
        let result = query(&client(ClientOptions::new(&running.url)), "h", QueryContext::unlimited()).await.unwrap();
        let QueryValue::Vector(list) = result.value else { panic!("{:?}", result.value) };
        let (_, found) = &list[0].histograms[0];
        assert_eq!((found.schema, found.zero_threshold), (schema, 0.001));
        assert_eq!(found.validate(), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_sent_and_a_refusal_is_told() {
    let backend = FakeBackend::new(|_, _| Ok(QueryResult::default()));
    let running = serve(routes(fake::state(backend)), BearerTokens::new(["secret"])).await;
    let with = |http| client(ClientOptions { http, ..ClientOptions::new(&running.url) });
    let bearer = |token: &str| Authorization { credentials: Secret::new(token), ..Authorization::default() };
    let token = HttpClientConfig { authorization: Some(bearer("secret")), ..Default::default() };
    assert!(query(&with(token), "up", QueryContext::unlimited()).await.is_ok());
    let wrong = HttpClientConfig { bearer_token: Secret::new("other"), ..Default::default() };
    let error = query(&with(wrong), "up", QueryContext::unlimited()).await.unwrap_err();
    assert_eq!((error.kind, error.phase), (ErrorKind::Invalid, QueryPhase::Execute));
    assert_eq!(error.message, format!("{}/ answered 401 Unauthorized: Unauthorized", running.url));

    let echo = answering(|request| {
        let text = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
        (StatusCode::IM_A_TEAPOT, text).into_response()
    })
    .await;
    let basic = BasicAuth { username: "me".into(), password: Secret::new("pass"), ..Default::default() };
    let http = HttpClientConfig { basic_auth: Some(basic), ..Default::default() };
    let asking = client(ClientOptions { http, ..ClientOptions::new(&echo.url) });
    let error = query(&asking, "up", QueryContext::unlimited()).await.unwrap_err();
    assert!(error.message.ends_with(": Basic bWU6cGFzcw=="), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_post_is_asked_by_get_from_then_on() {
    let posts = Arc::new(AtomicUsize::new(0));
    let seen = posts.clone();
    let running = answering(move |request| {
        if request.method() == Method::POST {
            seen.fetch_add(1, Ordering::SeqCst);
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let uri = request.uri().to_string();
        format!(r#"{{"status":"success","data":{{"resultType":"string","result":[1,"{uri}"]}}}}"#).into_response()
    })
    .await;
    let asking = client(ClientOptions::new(format!("{}/under/a/path", running.url)));
    for text in ["a b", "c&d"] {
        let result = query(&asking, text, QueryContext::unlimited()).await.unwrap();
        let QueryValue::String { time_ms, value } = result.value else { panic!("{:?}", result.value) };
        let encoded = text.replace(' ', "+").replace('&', "%26");
        assert_eq!((time_ms, value), (1_000, format!("/under/a/path/api/v1/query?query={encoded}&time=5.250")));
    }
    assert_eq!(posts.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_none_are_told_as_what_they_are() {
    let success = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
    let strange = "the server's answer is not one of a Prometheus API: ";
    let rows = [
        (200, "<html>".to_owned(), ErrorKind::Internal, strange),
        (200, success(r#"{"resultType":"tensor","result":[]}"#), ErrorKind::Internal, strange),
        (200, success(r#"{"resultType":"scalar","result":[1,"x"]}"#), ErrorKind::Internal, strange),
        (
            200,
            success(r#"{"resultType":"vector","result":[{"metric":{"a":"1","a":"2"}}]}"#),
            ErrorKind::Internal,
            strange,
        ),
        (
            200,
            success(
                r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[2,"1","2","1"]]}]}]}"#,
            ),
            ErrorKind::Internal,
            strange,
        ),
        (200, r#"{"status":"error","errorType":"timeout","error":"late"}"#.to_owned(), ErrorKind::Timeout, "late"),
        (502, "bad gateway".to_owned(), ErrorKind::unavailable(), "answered 502 Bad Gateway: bad gateway"),
        (404, "page not found".to_owned(), ErrorKind::NotFound, "answered 404 Not Found: page not found"),
        (500, "oops".to_owned(), ErrorKind::Internal, "answered 500 Internal Server Error: oops"),
    ];
    for (status, body, kind, text) in rows {
        let answer = body.clone();
        let running = answering(move |_| (StatusCode::from_u16(status).unwrap(), answer.clone()).into_response()).await;
        let asking = client(ClientOptions::new(&running.url));
        let error = query(&asking, "up", QueryContext::unlimited()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{body}: {error}");
        assert!(error.message.contains(text), "{body}: {error}");
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let error = query(&client(ClientOptions::new(&url)), "up", QueryContext::unlimited()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::unavailable());
    assert!(error.message.starts_with(&format!("cannot ask {url}/: ")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_read_up_to_its_limit_and_budget() {
    let long =
        format!(r#"{{"status":"success","data":{{"resultType":"string","result":[1,"{}"]}}}}"#, "x".repeat(5_000));
    let running = answering(move |_| long.clone().into_response()).await;
    let limited = client(ClientOptions { answer_bytes_max: 4_000, ..ClientOptions::new(&running.url) });
    let error = query(&limited, "up", QueryContext::unlimited()).await.unwrap_err();
    let wanted = format!("the answer of {}/ is longer than the limit of 4000 bytes", running.url);
    assert_eq!((error.kind, error.message), (ErrorKind::Limit, wanted));
    let budget = Budget::root("queries", 3_000);
    let ctx = QueryContext { budget: budget.clone(), ..QueryContext::unlimited() };
    let error = query(&client(ClientOptions::new(&running.url)), "up", ctx).await.unwrap_err();
    assert_eq!((error.kind, budget.used()), (ErrorKind::Limit, 0));
}

/// A server that takes a request and never answers.
async fn silent() -> Running {
    let stuck = || async {
        std::future::pending::<()>().await;
        Body::from(Bytes::new())
    };
    serve(Router::new().fallback(stuck), BearerTokens::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_cancels_or_runs_out_of_time_is_let_go() {
    let running = silent().await;
    let asking = client(ClientOptions::new(&running.url));
    let ctx = QueryContext::unlimited();
    let deadline = Some(ctx.clock.monotonic() + Duration::from_millis(30));
    let error = query(&asking, "up", QueryContext { deadline, ..ctx.clone() }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    let cancel = ctx.cancel.clone();
    let (waiting, _) = tokio::join!(query(&asking, "up", ctx), async { cancel.cancel() });
    assert_eq!(waiting.unwrap_err().kind, ErrorKind::Cancelled);
    let hasty = client(ClientOptions { timeout: Duration::from_millis(30), ..ClientOptions::new(&running.url) });
    let error = query(&hasty, "up", QueryContext::unlimited()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
}

#[tokio::test]
async fn settings_that_cannot_be_honoured_are_named() {
    for url in ["", "nothing", "ftp://host", "/api", "unix:x"] {
        let error = PrometheusClient::new(ClientOptions::new(url), Handle::current()).unwrap_err();
        assert!(matches!(error, ClientError::Url { .. }), "{url}: {error}");
    }
    let tls = |config| HttpClientConfig { tls_config: Some(config), ..Default::default() };
    let old = TlsConfig { max_version: Some(TlsVersion::Tls11), ..Default::default() };
    let missing = TlsConfig { ca_file: Some("/nothing/here.pem".into()), ..Default::default() };
    let header = BTreeMap::from([("a b".to_owned(), Default::default())]);
    let rows = [
        (tls(old), "tls_config max_version below TLS12 is not supported"),
        (
            tls(TlsConfig { server_name: "::1".into(), ..Default::default() }),
            "tls_config server_name that is an IP address is not supported",
        ),
        (
            tls(TlsConfig { server_name: "a/b".into(), ..Default::default() }),
            "tls_config server_name that is no name of a host is not supported",
        ),
        (tls(missing), "/nothing/here.pem: cannot read"),
        (
            HttpClientConfig { http_headers: header, ..Default::default() },
            "header \"a b\" has a name or value that HTTP does not allow",
        ),
        (
            HttpClientConfig {
                bearer_token: Secret::new("a"),
                bearer_token_file: Some("b".into()),
                ..Default::default()
            },
            "at most one of bearer_token and bearer_token_file must be configured",
        ),
    ];
    for (config, text) in rows {
        let error: HttpBuildError = http_client(&config).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    let asking = client(ClientOptions::new("http://127.0.0.1:1"));
    let mut request = QueryRequest::new("up", Grid::Instant { at_ms: 0 });
    request.options = Some(EngineOptions::all());
    let error = asking.query(&request, &QueryContext::unlimited()).unwrap_err();
    assert_eq!((error.kind, error.message.contains("switches")), (ErrorKind::Invalid, true));
}

#[tokio::test]
async fn services_are_told_as_they_are_known() {
    use kymo_core::health::{HealthOptions, OperationKind, Request as One, ServiceHealth};
    use kymo_core::status::StatusSource;
    use kymo_core::{Clock, ManualClock, MemoryStorage, MetricStorage, SampleBatch};

    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let health = Arc::new(ServiceHealth::new(HealthOptions::default(), clock.clone()));
    for (service, is_error) in [("a/b c", false), ("shop", true), ("shop", false)] {
        health.record(&One {
            service,
            operation: "GET /",
            kind: OperationKind::Server,
            duration_seconds: 0.25,
            is_error,
            end_ms: clock.now_ms(),
            weight: 30,
        });
    }
    health.record_edge("shop", "a/b c", 0.1, false, clock.now_ms());
    health.aggregate_health();
    let storage = Arc::new(MemoryStorage::default());
    let mut batch = SampleBatch::new();
    let named = |name: &str, more: &[(&str, &str)]| {
        let all = [("__name__", name), ("service", "shop")];
        Labels::from_pairs(all.iter().chain(more).copied())
    };
    batch.push_float(&named("kymo_service_request_rate", &[("window", "1m")]), 1_000, 2.5);
    batch.push_float(&named("kymo_service_request_rate", &[("window", "1h")]), 1_000, 9.0);
    batch.push_float(&named("kymo_service_latency_seconds", &[("window", "1m"), ("quantile", "0.99")]), 1_000, 0.5);
    batch.push_float(&named("kymo_service_status", &[]), 1_000, 3.0);
    batch.push_float(&named("kymo_service_status", &[]), 16_000, 1.0);
    storage.append(&batch).unwrap();
    let backend = FakeBackend::new(|_, _| Ok(QueryResult::default()));
    let state = fake::state(backend).with_sources(health.clone()).with_storage(storage);
    let server = serve(routes(state), BearerTokens::default()).await;
    let client = client(ClientOptions::new(&server.url));
    let told = tokio::task::spawn_blocking(move || {
        // Of all services at once only what a list of them shows.
        let mut all = health.services().unwrap().unwrap();
        all.services.iter_mut().for_each(|service| service.health.windows.truncate(1));
        all.edges.iter_mut().for_each(|edge| edge.windows.truncate(1));
        assert_eq!(client.services().unwrap(), Some(all));
        for name in ["a/b c", "shop"] {
            assert_eq!(client.service(name).unwrap(), health.service(name).unwrap());
        }
        assert_eq!(client.service("unknown").unwrap(), None);
        let edges: Option<serde_json::Value> = client.fact(&["services", "shop", "edges"], &[]).unwrap();
        let unknown: Option<serde_json::Value> = client.fact(&["services", "unknown", "edges"], &[]).unwrap();
        let times = [("start", "0".to_owned()), ("end", "20".to_owned())];
        let history: Option<serde_json::Value> = client.fact(&["services", "shop", "history"], &times).unwrap();
        (edges.unwrap(), unknown, history.unwrap())
    });
    let (edges, unknown, history) = told.await.unwrap();
    assert_eq!((edges["calls"][0]["callee"].as_str(), edges["called_by"].as_array()), (Some("a/b c"), Some(&vec![])));
    assert_eq!(unknown, None);
    assert_eq!(
        history,
        serde_json::json!([
            {"time_ms": 1_000, "rate": 2.5, "error_ratio": null, "p50": null, "p95": null, "p99": 0.5, "status": 3},
            {"time_ms": 16_000, "rate": null, "error_ratio": null, "p50": null, "p95": null, "p99": null, "status": 1},
        ])
    );
}
