//! The endpoint over a loopback listener.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use kymo_core::registry::Registry;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

fn endpoint() -> MetricsEndpoint {
    MetricsEndpoint { port: 0, ..MetricsEndpoint::default() }
}

fn start(endpoint: MetricsEndpoint, registry: Registry) -> RunningMetricsServer {
    MetricsServer::bind(endpoint, registry).unwrap().spawn().unwrap()
}

/// Head and body of the answer to one request.
fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase(), answer[end + 4..].to_vec())
}

/// Keeps the messages of a thread's log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let read: MetricsEndpoint = serde_json::from_str("{}").unwrap();
    assert_eq!(read, MetricsEndpoint::default());
    assert!(read.enabled);
    assert_eq!((read.address, read.port, read.path.as_str()), (IpAddr::V4(Ipv4Addr::LOCALHOST), 8080, "/metrics"));
    assert!(serde_json::from_str::<MetricsEndpoint>(r#"{"prot": 1}"#).is_err());
}

#[test]
fn the_page_shows_live_values() {
    let registry = Registry::new();
    let asked = registry.counter("asked_total").help("Questions.").register().unwrap();
    let peers = registry.gauge("agent_peers_connected").register().unwrap();
    let running = start(endpoint(), registry);
    let address = running.address().unwrap();
    for count in 1..=2 {
        asked.inc();
        peers.set(f64::from(count) * 3.0);
        let (head, body) = ask(address, "GET", "/metrics", "");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(&format!("\nasked_total {count}\n")), "{text}");
        assert!(text.contains(&format!("\nagent_peers_connected {}\n", count * 3)), "{text}");
        if cfg!(all(target_os = "linux", not(kymo_portable))) {
            assert!(text.contains("\nprocess_cpu_usage ") && text.contains("\nprocess_memory_bytes "), "{text}");
        }
    }
}

#[test]
fn only_reading_one_path_is_answered() {
    let running = start(MetricsEndpoint { path: "/m".to_owned(), ..endpoint() }, Registry::new());
    let address = running.address().unwrap();
    for (method, path, wanted) in [
        ("GET", "/m", "200"),
        ("GET", "/m?x=1", "200"),
        ("GET", "/", "404"),
        ("GET", "/metrics", "404"),
        ("GET", "/m/", "404"),
        ("POST", "/m", "405"),
        ("DELETE", "/m", "405"),
    ] {
        let (head, _) = ask(address, method, path, "");
        assert!(head.starts_with(&format!("http/1.1 {wanted}")), "{method} {path}: {head}");
        assert_eq!(head.contains("allow: get, head"), wanted == "405", "{head}");
    }
}

#[test]
fn head_has_everything_but_the_page() {
    let page = Page::new("/metrics".to_owned(), BearerTokens::default(), Registry::new().into());
    page_with(&page, "GET", |get_length, get_body| {
        page_with(&page, "HEAD", |head_length, head_body| {
            assert_eq!((get_length, get_body), (head_length, get_length));
            assert_eq!(head_body, 0);
        });
    });
}

/// Announced and actual length of an answer.
fn page_with(page: &Page, method: &str, check: impl FnOnce(u64, u64)) {
    let request = http::Request::builder().method(method).uri("/metrics").body(()).unwrap();
    let answer = page.answer_to(&request);
    let announced = answer.headers()[http::header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    check(announced, hyper::body::Body::size_hint(answer.body()).exact().unwrap());
}

#[test]
fn a_page_is_compressed_for_those_who_take_it() {
    let registry = Registry::new();
    registry.counter("asked_total").register().unwrap();
    let running = start(endpoint(), registry);
    let (head, body) = ask(running.address().unwrap(), "GET", "/metrics", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("asked_total 0\n"), "{text}");
}

#[test]
fn the_client_chooses_the_format() {
    let running = start(endpoint(), Registry::new());
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let (head, body) = ask(running.address().unwrap(), "GET", "/metrics", accept);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with(b"# EOF\n"));
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "open sesame\n").unwrap();
    let by_file = MetricsEndpoint { bearer_token_file: Some(file.path().to_owned()), ..endpoint() };
    let by_text = MetricsEndpoint { bearer_token: Some(kymo_core::config::Secret::new("open sesame")), ..endpoint() };
    for endpoint in [by_file, by_text] {
        let running = start(endpoint, Registry::new());
        let address = running.address().unwrap();
        for (headers, wanted) in
            [("", "401"), ("Authorization: Bearer sesame\r\n", "401"), ("Authorization: bearer open sesame\r\n", "200")]
        {
            let (head, _) = ask(address, "GET", "/metrics", headers);
            assert!(head.starts_with(&format!("http/1.1 {wanted}")), "{headers}: {head}");
        }
        assert!(ask(address, "GET", "/other", "").0.starts_with("http/1.1 401"));
    }
    std::fs::write(file.path(), " \n").unwrap();
    let empty = MetricsEndpoint { bearer_token_file: Some(file.path().to_owned()), ..endpoint() };
    assert!(matches!(MetricsServer::bind(empty, Registry::new()), Err(MetricsServerError::Token { .. })));
}

#[test]
fn switched_off_means_that_nothing_listens() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // Taken, so it would fail if it tried.
    let off = MetricsEndpoint { enabled: false, port, ..MetricsEndpoint::default() };
    let log = Log::default();
    let server = tracing::subscriber::with_default(log.clone(), || MetricsServer::bind(off, Registry::new())).unwrap();
    assert_eq!(*log.0.lock().unwrap(), ["Metrics endpoint disabled"]);
    assert_eq!(server.address(), None);
    let running = server.spawn().unwrap();
    assert_eq!(running.address(), None);
    running.stop();
}

#[test]
fn a_family_that_is_full_is_told_to_the_log_once_or_to_whom_the_program_says() {
    let fill = |registry: &Registry| {
        let hits = registry.counter("hits_total").labels(["path", "user"]).series_max(2).family().unwrap();
        (0..9).for_each(|user| hits.at(["/", &user.to_string()]).inc());
    };
    let wanted = r#"metric family "hits_total" has 2 series and takes no more; label "user" has the most values"#;
    for off in [true, false] {
        let (log, registry) = (Log::default(), Registry::new());
        let (_server, _exposition);
        if off {
            _server = MetricsServer::bind(MetricsEndpoint { enabled: false, ..endpoint() }, registry.clone()).unwrap();
        } else {
            _exposition = Exposition::from(registry.clone());
        }
        tracing::subscriber::with_default(log.clone(), || fill(&registry));
        assert_eq!(*log.0.lock().unwrap(), [wanted]);
    }

    let (log, registry, told) = (Log::default(), Registry::new(), Arc::new(Mutex::new(0)));
    let seen = Arc::clone(&told);
    registry.on_overflow(move |_| *seen.lock().unwrap() += 1);
    let running = start(endpoint(), registry.clone());
    tracing::subscriber::with_default(log.clone(), || fill(&registry));
    assert_eq!((*told.lock().unwrap(), log.0.lock().unwrap().len()), (1, 0));
    running.stop();
}

#[test]
fn a_port_in_use_and_an_odd_path_are_refused_by_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let endpoint = MetricsEndpoint { port: address.port(), ..MetricsEndpoint::default() };
    let refused = MetricsServer::bind(endpoint, Registry::new()).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot serve metrics at {address}"));
    let MetricsServerError::Listen { source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
    for path in ["metrics", "", "/a b", "/a?b", "*"] {
        let endpoint = MetricsEndpoint { path: path.to_owned(), ..self::endpoint() };
        let refused = MetricsServer::bind(endpoint, Registry::new()).unwrap_err();
        assert!(matches!(refused, MetricsServerError::Path { .. }), "{path}: {refused}");
    }
}

#[test]
fn stopping_closes_the_door() {
    let running = start(endpoint(), Registry::new());
    let address = running.address().unwrap();
    assert!(ask(address, "GET", "/metrics", "").0.starts_with("http/1.1 200"));
    running.stop();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_fault_of_the_program_is_no_fault_of_the_server() {
    let exposition = Exposition::from(Registry::new()).with(|| panic!("a closure of the program"));
    let running = MetricsServer::bind(endpoint(), exposition).unwrap().spawn().unwrap();
    for _ in 0..2 {
        let (head, _) = ask(running.address().unwrap(), "GET", "/metrics", "");
        assert!(head.starts_with("http/1.1 500"), "{head}");
    }
}

#[tokio::test]
async fn it_runs_on_the_programs_runtime() {
    let server = MetricsServer::bind(endpoint(), Registry::new()).unwrap();
    let address = server.address().unwrap();
    let stop = CancellationToken::new();
    let run = tokio::spawn(server.run(stop.clone()));
    let (head, _) = tokio::task::spawn_blocking(move || ask(address, "GET", "/metrics", "")).await.unwrap();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    stop.cancel();
    assert_eq!(run.await.unwrap().unwrap().cut_off, 0);
}
