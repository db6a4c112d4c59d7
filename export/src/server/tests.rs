//! The server's promises: over a loopback listener where connections matter, over the layers alone where not.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use http::{HeaderMap, Method, Request, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::layers::Around;
use super::{BearerTokens, CorsOrigins, Drained, Routes, Server, ServerError, ServerOptions, decompress, guard};

fn options() -> ServerOptions {
    ServerOptions { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..ServerOptions::default() }
}

/// A server on a port of its own.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    run: JoinHandle<Drained>,
}

impl Running {
    async fn start(options: ServerOptions, router: Router) -> Running {
        let server = Server::bind(options).await.unwrap();
        let (address, stop) = (server.addresses()[0], CancellationToken::new());
        Running { address, stop: stop.clone(), run: tokio::spawn(server.run(router, stop)) }
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Stops the server and says what was left.
    async fn stop(self) -> Drained {
        self.stop.cancel();
        self.run.await.unwrap()
    }
}

/// Everything until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

const GET: &str = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn hello() -> Router {
    Router::new().route("/hello", get(|| async { "hello" })).route("/-/healthy", get(|| async { "well" }))
}

fn around(router: Router, options: &ServerOptions) -> Around<Router> {
    Around::new(router, options.clone())
}

async fn ask(routes: &impl Routes, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
    let response = routes.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    (head.status, head.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap())
}

fn request(method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Request<Body> {
    let start = Request::builder().method(method).uri(path);
    headers.iter().fold(start, |r, (name, value)| r.header(name, *value)).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn port_0_picks_a_port_that_answers() {
    let two = vec![SocketAddr::from(([127, 0, 0, 1], 0)); 2];
    let server = Server::bind(ServerOptions { listen: two, ..options() }).await.unwrap();
    let addresses = server.addresses().to_vec();
    assert!(addresses.iter().all(|a| a.port() != 0) && addresses[0] != addresses[1], "{addresses:?}");
    let stop = CancellationToken::new();
    let run = tokio::spawn(server.run(hello(), stop.clone()));
    for address in addresses {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    }
    stop.cancel();
    assert_eq!(run.await.unwrap().cut_off, 0);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Server::bind(options()).await.unwrap();
    let taken = first.addresses()[0];
    let error = Server::bind(ServerOptions { listen: vec![taken], ..options() }).await.unwrap_err();
    let ServerError::Listen { address, source } = &error;
    assert_eq!((*address, source.kind()), (taken, std::io::ErrorKind::AddrInUse));
    assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
}

#[tokio::test]
async fn a_token_opens_everything_and_probes_need_none() {
    let tokens = BearerTokens::new(["first", " second\n", ""]);
    assert_eq!(format!("{tokens:?}"), "BearerTokens(2)");
    let router = around(hello(), &ServerOptions { tokens, ..options() });
    let rows = [
        ("/hello", None, 401),
        ("/hello", Some("Bearer first"), 200),
        ("/hello", Some("bearer second"), 200),
        ("/hello", Some("Bearer third"), 401),
        ("/hello", Some("Bearer firs"), 401),
        ("/hello", Some("Bearer "), 401),
        ("/hello", Some("Basic first"), 401),
        ("/nothing", None, 401),
        ("/-/healthy", None, 200),
        ("/-/healthy/../hello", None, 401),
    ];
    for (path, authorization, status) in rows {
        let headers: Vec<_> = authorization.iter().map(|value| (header::AUTHORIZATION, *value)).collect();
        let (found, headers, _) = ask(&router, request(Method::GET, path, &headers)).await;
        assert_eq!(found.as_u16(), status, "{path} {authorization:?}");
        assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), status == 401);
    }
    let open = around(hello(), &options());
    assert_eq!(ask(&open, request(Method::GET, "/hello", &[])).await.0, 200);
}

#[tokio::test]
async fn other_origins_are_answered_as_prometheus_does() {
    let tokens = BearerTokens::new(["secret"]);
    let any = around(hello(), &ServerOptions { tokens, ..options() });
    let origin = [(header::ORIGIN, "https://grafana.example")];
    let (status, headers, body) = ask(&any, request(Method::OPTIONS, "/api/v1/query", &origin)).await;
    assert_eq!((status, body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, POST, OPTIONS");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "Accept, Authorization, Content-Type, Origin");
    assert_eq!(headers[header::ACCESS_CONTROL_EXPOSE_HEADERS], "Date");
    // A page must be able to read why it was refused.
    let (status, headers, _) = ask(&any, request(Method::GET, "/hello", &origin)).await;
    assert_eq!((status.as_u16(), &headers[header::ACCESS_CONTROL_ALLOW_ORIGIN]), (401, &"*".parse().unwrap()));
    let (_, headers, _) = ask(&any, request(Method::GET, "/hello", &[])).await;
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    let cors = CorsOrigins::matching(r"https://.*\.example").unwrap();
    let some = around(hello(), &ServerOptions { cors, ..options() });
    let (_, headers, _) = ask(&some, request(Method::GET, "/hello", &origin)).await;
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://grafana.example");
    assert!(headers.get_all(header::VARY).iter().any(|v| v == "Origin"));
    let other = [(header::ORIGIN, "https://grafana.example.org")];
    let (_, headers, _) = ask(&some, request(Method::GET, "/hello", &other)).await;
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    assert!(CorsOrigins::matching("(").is_err());

    let none = around(hello(), &ServerOptions { cors: CorsOrigins::None, ..options() });
    let (_, headers, _) = ask(&none, request(Method::GET, "/hello", &origin)).await;
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_METHODS));
}

#[tokio::test]
async fn answers_are_gzipped_when_asked_for() {
    let long = "metric ".repeat(10_000);
    let text = long.clone();
    let router = Router::new().route("/long", get(move || async move { text }));
    let router = around(router, &options());
    let (_, headers, body) = ask(&router, request(Method::GET, "/long", &[(header::ACCEPT_ENCODING, "gzip")])).await;
    assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
    assert!(body.len() < long.len() / 10, "{} bytes", body.len());
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, long);
    let (_, headers, body) = ask(&router, request(Method::GET, "/long", &[])).await;
    assert!(!headers.contains_key(header::CONTENT_ENCODING));
    assert_eq!(body, long);
}

#[tokio::test]
async fn a_panic_is_a_500_in_the_envelope_and_the_connection_lives_on() {
    let bug = || async {
        if true {
            panic!("a bug")
        }
    };
    let running = Running::start(options(), hello().route("/bug", get(bug))).await;
    let keep_alive = "GET /bug HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = rest(running.connect(&format!("{keep_alive}{GET}")).await).await;
    let wanted = r#"{"status":"error","errorType":"internal","error":"the request failed on a fault of the server"}"#;
    let (first, second) = answer.split_once(wanted).unwrap_or_else(|| panic!("{answer}"));
    assert!(first.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(second.starts_with("HTTP/1.1 200 ") && second.ends_with("hello"), "{answer}");
    running.stop().await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn body(path: &str, encoding: Option<&str>, bytes: Vec<u8>) -> Request<Body> {
    let start = Request::post(path);
    let start = encoding.iter().fold(start, |r, e| r.header(header::CONTENT_ENCODING, *e));
    // A stream has no length that could be refused before it is read.
    start.body(Body::new(http_body_util::Full::new(Bytes::from(bytes)))).unwrap()
}

#[tokio::test]
async fn a_body_has_a_limit_as_sent_and_unpacked() {
    let length = || post(|body: Bytes| async move { body.len().to_string() });
    let unpacking = decompress(Router::new().route("/unpack", length()), 10_000);
    let raw = Router::new().route("/raw", length());
    let router = around(raw.merge(unpacking), &ServerOptions { body_bytes_max: 20_000, ..options() });
    // A skippable frame: magic, length, and bytes that unpack to nothing.
    let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18];
    skippable.extend_from_slice(&14_992u32.to_le_bytes());
    skippable.resize(15_000, 0);
    let bomb = gzip(&[0; 1 << 20]);
    assert!(bomb.len() < 10_000);
    let rows = [
        (body("/raw", None, vec![7; 20_000]), 200, "20000"),
        (body("/raw", None, vec![7; 20_001]), 413, ""),
        (body("/raw", Some("gzip"), bomb.clone()), 200, &bomb.len().to_string()),
        (body("/unpack", None, vec![7; 10_000]), 200, "10000"),
        (body("/unpack", None, vec![7; 10_001]), 413, ""),
        (body("/unpack", Some("gzip"), gzip(&[7; 10_000])), 200, "10000"),
        (body("/unpack", Some("gzip"), bomb), 413, ""),
        (body("/unpack", Some("zstd"), skippable), 413, ""),
        (body("/unpack", Some("br"), vec![7; 10]), 415, ""),
        (body("/unpack", Some("gzip"), vec![7; 10]), 400, ""),
    ];
    for (number, (request, status, answer)) in rows.into_iter().enumerate() {
        let (found, _, body) = ask(&router, request).await;
        assert_eq!(found.as_u16(), status, "row {number}: {body:?}");
        if status == 200 {
            assert_eq!(body, answer, "row {number}");
        }
    }
}

#[tokio::test]
async fn a_head_or_body_that_does_not_come_ends_the_connection() {
    let short = Duration::from_millis(20);
    let router = hello().route("/body", post(|body: Bytes| async move { body }));
    let running = Running::start(ServerOptions { head_timeout: short, body_timeout: short, ..options() }, router).await;
    for half in ["", "GET /hello HTTP/1.1\r\nHost: x\r\nX-Slow: ", "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /"] {
        let answer = rest(running.connect(half).await).await;
        assert_eq!(answer.matches("hello").count(), usize::from(half.ends_with("GET /")), "{half:?}: {answer}");
    }
    let half = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf";
    let answer = rest(running.connect(half).await).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    running.stop().await;
}

/// A route that says when a request is in it and keeps it until it is let go, counting how many are in at once.
struct Gate {
    entered: mpsc::UnboundedReceiver<usize>,
    leave: Arc<Notify>,
}

fn gated() -> (Router, Gate) {
    let (enter, entered) = mpsc::unbounded_channel();
    let (leave, inside) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let gate = Gate { entered, leave: leave.clone() };
    let handler = move || async move {
        enter.send(inside.fetch_add(1, Ordering::SeqCst) + 1).unwrap();
        leave.notified().await;
        inside.fetch_sub(1, Ordering::SeqCst);
        "let go"
    };
    (hello().route("/gated", get(handler)), gate)
}

const GATED: &str = "GET /gated HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn at_the_connection_limit_others_wait_their_turn() {
    let (router, mut gate) = gated();
    let running = Running::start(ServerOptions { connections_max: 1, ..options() }, router).await;
    let first = running.connect(GATED).await;
    assert_eq!(gate.entered.recv().await, Some(1));
    let second = running.connect(GATED).await;
    gate.leave.notify_one();
    assert!(rest(first).await.ends_with("let go"));
    assert_eq!(gate.entered.recv().await, Some(1));
    gate.leave.notify_one();
    assert!(rest(second).await.ends_with("let go"));
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    // More than a loopback connection buffers.
    let router = hello().route("/large", get(|| async { vec![7; 64 << 20] }));
    let limits = ServerOptions { connections_max: 1, stall_timeout: Duration::from_millis(20), ..options() };
    let running = Running::start(limits, router).await;
    let unread = running.connect("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Answered only when the first connection, still open at its end, is no more.
    assert!(rest(running.connect(GET).await).await.ends_with("hello"));
    drop(unread);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish_and_takes_no_new_ones() {
    let (router, mut gate) = gated();
    let running = Running::start(options(), router).await;
    let flying = running.connect("GET /gated HTTP/1.1\r\nHost: x\r\n\r\n").await;
    gate.entered.recv().await;
    running.stop.cancel();
    while TcpStream::connect(running.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.leave.notify_one();
    let answer = rest(flying).await;
    assert!(answer.contains("connection: close") && answer.ends_with("let go"), "{answer}");
    let drained = running.stop().await;
    assert_eq!(drained.cut_off, 0);
    assert!(drained.finished >= 1, "{drained:?}");
}

#[tokio::test]
async fn what_outlasts_the_grace_time_is_cut_off() {
    let (router, mut gate) = gated();
    let running = Running::start(ServerOptions { grace: Duration::from_millis(10), ..options() }, router).await;
    let flying = running.connect(GATED).await;
    gate.entered.recv().await;
    assert_eq!(running.stop().await, Drained { finished: 0, cut_off: 1 });
    assert_eq!(rest(flying).await, "");
}

#[cfg(feature = "api")]
#[tokio::test]
async fn a_connection_that_closes_cancels_its_query() {
    let (started, mut on_start) = mpsc::unbounded_channel();
    let (ended, mut on_end) = mpsc::unbounded_channel();
    let backend = crate::api::fake::FakeBackend::new(move |_, ctx| {
        started.send(()).unwrap();
        let error = loop {
            match ctx.check() {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        ended.send(ctx.cancel.is_cancelled()).unwrap();
        Err(error.into())
    });
    let running = Running::start(options(), crate::api::routes(crate::api::fake::state(backend))).await;
    let stream = running.connect("GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\n\r\n").await;
    on_start.recv().await.unwrap();
    drop(stream);
    assert_eq!(on_end.recv().await, Some(true));
    assert_eq!(running.stop().await.cut_off, 0);
}

#[tokio::test]
async fn a_guarded_router_asks_for_tokens_wherever_it_is_served() {
    let routes = || Router::new().route("/Service/Method", post(async || "answer"));
    let ask = async |router: Router, token: Option<&str>| {
        let mut request = Request::post("/Service/Method");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    let mut options = ServerOptions::default();
    assert_eq!(ask(guard(routes(), &options), None).await, 200);
    options.tokens = BearerTokens::new(["secret"]);
    for (token, status) in [(None, 401), (Some("wrong"), 401), (Some("secret"), 200)] {
        assert_eq!(ask(guard(routes(), &options), token).await, status, "{token:?}");
    }
}
