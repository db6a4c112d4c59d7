use kymo_core::registry::Registry;

use super::write_text;

fn text(registry: &Registry) -> String {
    let mut out = Vec::new();
    write_text(&mut out, &registry.snapshot());
    String::from_utf8(out).unwrap()
}

#[test]
fn every_kind_is_written_sorted_and_escaped() {
    let registry = Registry::new();
    let requests =
        registry.counter("requests_total").help("Asked \\ and\nanswered.").labels(["path"]).family().unwrap();
    requests.with(["/b\"\\\n"]).add(1_500_000);
    requests.with(["/a"]).inc();
    registry.gauge("level").register().unwrap().set(f64::NEG_INFINITY);
    let seconds = registry.histogram("seconds").buckets(&[0.5, 1.0]).register().unwrap();
    [0.25, 0.75, 3.0].iter().for_each(|v| seconds.record(*v));
    assert_eq!(
        text(&registry),
        r#"# TYPE level gauge
level -Inf
# HELP requests_total Asked \\ and\nanswered.
# TYPE requests_total counter
requests_total{path="/a"} 1
requests_total{path="/b\"\\\n"} 1.5e+06
# TYPE seconds histogram
seconds_bucket{le="0.5"} 1
seconds_bucket{le="1"} 2
seconds_bucket{le="+Inf"} 3
seconds_sum 4
seconds_count 3
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
    let lines: Vec<String> = text(&registry).lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(
        lines,
        ["_k 1", "U__a_2d_b 1", "U__a_2e_b 1", "a_b 1", r#"g{U__z_2d_k="3",U__z_2e_k="1",z_k="2"} 1"#, "_ 1"]
    );
}

#[cfg(feature = "server")]
#[tokio::test]
async fn the_route_names_its_format() {
    use tower::ServiceExt;

    let registry = Registry::new();
    let counter = registry.counter("asked_total").register().unwrap();
    let router = super::routes(registry);
    counter.inc();
    let request = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    assert_eq!(head.headers[http::header::CONTENT_TYPE], super::CONTENT_TYPE);
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    assert_eq!(body, "# TYPE asked_total counter\nasked_total 1\n");
}
