use std::io::Write;

use kymo_core::status::TargetHealth;

use super::support::{Answer, Rig, START_MS, TestTarget, job, page, text};

const PLAIN: &str = r#"{"job_name":"j"}"#;

/// Scrapes a target once that answers like this; gives its last error.
async fn error_of(config: &str, answer: Answer) -> (Rig, String) {
    let rig = Rig::new();
    let target = TestTarget::start(answer).await;
    let scraper = rig.scraper(job(config), target.address);
    scraper.scrape(START_MS).await;
    let status = scraper.status();
    assert_eq!(status.health == TargetHealth::Up, status.last_error.is_empty());
    assert_eq!(rig.report("up", 0), Some(f64::from(u8::from(status.last_error.is_empty()))));
    let error = status.last_error.replace(&target.address.to_string(), "ADDRESS");
    (rig, error)
}

#[tokio::test]
async fn a_target_is_asked_as_prometheus_asks() {
    let rig = Rig::new();
    let target = TestTarget::start(text("a 1\n")).await;
    let config = r#"{"job_name":"j","scrape_timeout":"1500ms","metrics_path":"/m","params":{"x":["1 2"]}}"#;
    let scraper = rig.scraper(job(config), target.address);
    scraper.scrape(START_MS).await;
    let request = target.requests().remove(0).to_ascii_lowercase();
    for wanted in [
        "get /m?x=1+2 http/1.1\r\n",
        "\r\naccept-encoding: gzip\r\n",
        "\r\nx-prometheus-scrape-timeout-seconds: 1.5\r\n",
        "\r\naccept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,",
        "\r\nuser-agent: kymo/",
    ] {
        assert!(request.contains(wanted), "{wanted:?} is not in {request:?}");
    }
    let status = scraper.status();
    assert_eq!((status.health, status.last_scrape_ms), (TargetHealth::Up, Some(START_MS)));
    assert_eq!(status.url, format!("http://{}/m?x=1+2", target.address));
    assert_eq!(status.labels["instance"], target.address.to_string());
    let sample = format!(r#"a{{instance="{}", job="j"}} 1 @0"#, target.address);
    assert_eq!(rig.samples("a"), [sample]);
}

#[tokio::test]
async fn compressed_answers_are_read_and_limited_by_what_they_unfold_to() {
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        let body = encoder.finish().unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        Answer::Bytes([head.as_bytes(), &body].concat())
    };
    let (rig, error) = error_of(PLAIN, gzip(b"a 1\n")).await;
    assert_eq!((error.as_str(), rig.samples("a").len()), ("", 1));
    let huge = "# a comment that is always the same\n".repeat(100_000);
    let limited = r#"{"job_name":"j","body_size_limit":"1MB"}"#;
    let (rig, error) = error_of(limited, gzip(huge.as_bytes())).await;
    assert_eq!(error, "body size limit exceeded");
    assert_eq!(rig.losses(), [("body_size_limit".to_owned(), 1)]);
    let (_, error) = error_of(limited, gzip(&huge.as_bytes()[..1_048_575])).await;
    assert_eq!(error, "");
    let (_, error) = error_of(r#"{"job_name":"j","enable_compression":false}"#, gzip(b"a 1\n")).await;
    assert_eq!(error, "");
}

#[tokio::test]
async fn content_types_are_believed_or_the_scrape_fails() {
    let (rig, error) = error_of(PLAIN, page("application/openmetrics-text; version=1.0.0", "a 1\n")).await;
    assert_eq!(error, "data does not end with # EOF at line 2 (byte 4)");
    assert!(rig.samples("a").is_empty());
    let (rig, error) = error_of(PLAIN, page("text/html", "a 1\n")).await;
    assert_eq!(
        error,
        "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"
    );
    assert_eq!(rig.losses(), [("bad_content_type".to_owned(), 1)]);
    let fallback = r#"{"job_name":"j","fallback_scrape_protocol":"PrometheusText0.0.4"}"#;
    let (rig, error) = error_of(fallback, page("text/html", "a 1\n")).await;
    assert_eq!((error.as_str(), rig.samples("a").len()), ("", 1));
    // Text that says it is protobuf.
    let (_, error) = error_of(PLAIN, page("application/vnd.google.protobuf", "a 1\n")).await;
    assert!(error.starts_with("bad protobuf message: "), "{error}");
    let (_, error) = error_of(PLAIN, page("text/html", "")).await;
    assert_eq!(error, "");
}

#[tokio::test]
async fn targets_that_misbehave_are_down_and_say_why() {
    let status = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\na 1\n".to_vec();
    let (_, error) = error_of(PLAIN, Answer::Bytes(status)).await;
    assert_eq!(error, "server returned HTTP status 404 Not Found");
    let (_, error) = error_of(PLAIN, Answer::Reset).await;
    assert!(error.starts_with("Get \"http://ADDRESS/metrics\": "), "{error}");
    let half = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\na 1\nb 2\n".to_vec();
    let (rig, error) = error_of(PLAIN, Answer::Bytes(half)).await;
    assert!(error.starts_with("Get \"http://ADDRESS/metrics\": "), "{error}");
    assert!(rig.samples("a").is_empty());
    let (_, error) = error_of(PLAIN, Answer::Bytes(b"not HTTP at all\r\n\r\n".to_vec())).await;
    assert!(error.starts_with("Get \"http://ADDRESS/metrics\": "), "{error}");
    let (_, error) = error_of(PLAIN, text(b"a{b=\"\xff\"} 1\n")).await;
    assert_eq!(error, "invalid UTF-8 in label value at line 1 (byte 7)");
    let brotli = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx".to_vec();
    let (_, error) = error_of(PLAIN, Answer::Bytes(brotli)).await;
    assert_eq!(error, "unsupported Content-Encoding \"br\"");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_is_given_up_after_its_timeout() {
    // The clock of the runtime jumps ahead when nothing else is left to do.
    let (rig, error) = error_of(PLAIN, Answer::Hang).await;
    assert_eq!(error, "Get \"http://ADDRESS/metrics\": context deadline exceeded");
    assert!(rig.losses().is_empty());
}

#[tokio::test]
async fn a_target_goes_down_and_comes_back() {
    let rig = Rig::new();
    let target = TestTarget::start(text("a 1\n")).await;
    let scraper = rig.scraper(job(PLAIN), target.address);
    for (after_ms, answer) in [(0, text("a 1\n")), (10, Answer::Reset), (20, Answer::Reset), (30, text("a 2\n"))] {
        target.answers(answer);
        scraper.scrape(START_MS + after_ms).await;
    }
    let values = |prefix: &str| -> Vec<String> {
        rig.samples(prefix).iter().map(|line| line.split_once("} ").unwrap().1.to_owned()).collect()
    };
    assert_eq!(values("a"), ["1 @0", "stale @10", "2 @30"]);
    assert_eq!(values("up"), ["1 @0", "0 @10", "0 @20", "1 @30"]);
    assert_eq!(scraper.status().health, TargetHealth::Up);
}

#[tokio::test]
async fn protobuf_with_native_histograms_is_stored() {
    use crate::exposition::Format;

    let config = r#"{"job_name":"j","scrape_native_histograms":true}"#;
    assert_eq!(job(config).protocols[0].format(), Format::Protobuf);
    // A family "h" of type histogram: 3 observations, one in bucket 0 of schema 0, two in the zero bucket.
    let histogram = [0x08, 3, 0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x38, 2, 0x62, 4, 0x08, 0, 0x10, 1, 0x6a, 1, 2];
    let metric = [&[0x3a, histogram.len() as u8][..], &histogram].concat();
    let family = [&[0x0a, 1, b'h', 0x18, 4, 0x22, metric.len() as u8][..], &metric].concat();
    let body = [&[family.len() as u8][..], &family].concat();
    let (rig, error) = error_of(config, page("application/vnd.google.protobuf", &body)).await;
    assert_eq!(error, "");
    assert!(rig.samples("h")[0].ends_with(" histogram of 3 @0"), "{:?}", rig.samples("h"));
}
