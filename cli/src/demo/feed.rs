//! What the shop's services tell of themselves, sent as anybody would: spans and metrics by OTLP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::Clock;
use kymo_core::config::HttpClientConfig;
use kymo_export::client::{HttpClient, http_client};
use serde::Serialize;
use serde_json::{Value, json};

use super::shop::{Ended, OPERATIONS, SERVICES, Shop, Side, Span};
use crate::failure::Failure;

/// How often a request is sent to a server that is busy, and how long after each time.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// How far back metrics go: an hour to compare with, and a little.
const HISTORY_MS: i64 = 90 * 60_000;
/// How far back spans go: what is older is in no window of a service's health.
const TRACED_MS: i64 = 60 * 60_000;
/// Distance of points: of the history, and of what happens now.
const STEP_MS: i64 = 15_000;
const STEP_NOW_MS: i64 = 5_000;
/// History in one request.
const REQUEST_MS: i64 = 5 * 60_000;
/// The scale of the exponential histograms: each bucket is 2^(1/8) as wide as the one before.
const SCALE: i32 = 3;

/// Running totals of one operation and outcome.
#[derive(Default, Clone)]
struct Totals {
    count: u64,
    sum: f64,
    buckets: BTreeMap<i32, u64>,
    /// The slowest since the last point.
    slowest: Option<Span>,
}

/// Sends what the shop does.
pub(super) struct Feed {
    client: HttpClient,
    url: String,
    pub(super) shop: Shop,
    start_ms: i64,
    /// The newest point sent.
    newest_ms: i64,
    /// By operation: those that went well, and those that failed.
    totals: Vec<[Totals; 2]>,
    /// Of the step at hand and of those that are not sent yet.
    spans: Vec<Span>,
}

impl Feed {
    /// Sends what `shop` does to the server at `url`, from an hour and a half before `now_ms` on.
    pub(super) fn new(url: &str, now_ms: i64, shop: Shop) -> Result<Feed, Failure> {
        let client = http_client(&HttpClientConfig::default())
            .map_err(|error| Failure::because("cannot ask the server", &error))?;
        let start_ms = (now_ms - HISTORY_MS) / STEP_MS * STEP_MS;
        Ok(Feed {
            client,
            url: format!("{url}/api/v1/otlp/v1"),
            shop,
            start_ms,
            newest_ms: start_ms,
            totals: vec![Default::default(); OPERATIONS.len()],
            spans: Vec::new(),
        })
    }

    pub(super) async fn send_history(&mut self, now_ms: i64) -> Result<(), Failure> {
        while self.newest_ms + STEP_MS <= now_ms {
            let until_ms = (self.newest_ms + REQUEST_MS).min(now_ms);
            self.send_until(until_ms, STEP_MS, now_ms).await?;
        }
        Ok(())
    }

    /// Goes on for ever; a server that is away for a while gets what it missed.
    pub(super) async fn go_on(mut self, clock: Arc<dyn Clock>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now_ms = clock.now_ms();
            if let Err(failure) = self.send_until(now_ms, STEP_NOW_MS, now_ms).await {
                tracing::debug!(what = failure.what(), "the made services could not be sent");
            }
        }
    }

    async fn send_until(&mut self, until_ms: i64, step_ms: i64, now_ms: i64) -> Result<(), Failure> {
        let mut points = vec![[Vec::new(), Vec::new()]; OPERATIONS.len()];
        while self.newest_ms + step_ms <= until_ms {
            self.newest_ms += step_ms;
            let first = self.spans.len();
            self.shop.open(self.newest_ms, step_ms, &mut self.spans);
            for at in first..self.spans.len() {
                self.count(self.spans[at]);
            }
            if self.newest_ms <= now_ms - TRACED_MS {
                self.spans.clear();
            }
            for (number, points) in points.iter_mut().enumerate() {
                for (failed, points) in points.iter_mut().enumerate() {
                    points.push(self.point(number, failed));
                }
            }
        }
        if points.iter().all(|points| points[0].is_empty()) {
            return Ok(());
        }
        // Spans first: what they tell of is then not counted again from metrics.
        if !self.spans.is_empty() {
            let body = serde_json::to_vec(&traces(&self.spans)).map_err(|error| unsendable(&error))?;
            self.post("traces", body).await?;
            self.spans.clear();
        }
        let mut resources: Vec<Value> = SERVICES
            .iter()
            .map(|service| {
                let of_service = OPERATIONS.iter().zip(&points).filter(|(operation, _)| operation.service == *service);
                let all: Vec<Value> = of_service.flat_map(|(_, points)| points.iter().flatten().cloned()).collect();
                let metric = json!({
                    "name": "http.server.request.duration", "unit": "s",
                    "description": "Duration of HTTP server requests.",
                    "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": all},
                });
                resource(service, &metric)
            })
            .collect();
        // A clock that is wrong: the server refuses it, and says so.
        let early = json!({"timeUnixNano": nanos(self.newest_ms + 3_600_000), "asDouble": 1.0});
        resources.push(resource("warehouse", &json!({"name": "stock.items", "gauge": {"dataPoints": [early]}})));
        self.post("metrics", json!({"resourceMetrics": resources}).to_string().into_bytes()).await
    }

    async fn post(&self, what: &str, body: Vec<u8>) -> Result<(), Failure> {
        // A server that is busy says so, and is asked again as every sender would.
        let mut tries = 1;
        loop {
            let address =
                format!("{}/{what}", self.url).parse().map_err(|_| Failure::new("the server's address is none"))?;
            let answer = self.client.post(address, "application/json", body.clone()).await;
            let status = answer.map_err(|error| unsendable(&error))?.status();
            match status.as_u16() {
                200..300 => return Ok(()),
                503 if tries < TRIES => tokio::time::sleep(PAUSE).await,
                _ => return Err(Failure::new(format!("the server refused the made services: {status}"))),
            }
            tries += 1;
        }
    }

    /// Adds a request to the totals of its operation.
    fn count(&mut self, span: Span) {
        if span.side != Side::Server {
            return;
        }
        let totals = &mut self.totals[span.operation][usize::from(span.ended != Ended::Well)];
        let took = seconds(&span);
        totals.count += 1;
        totals.sum += took;
        let index = (took.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1;
        *totals.buckets.entry(index).or_default() += 1;
        if totals.slowest.is_none_or(|slowest| seconds(&slowest) < took) {
            totals.slowest = Some(span);
        }
    }

    fn point(&mut self, number: usize, failed: usize) -> Value {
        let (operation, totals) = (&OPERATIONS[number], &mut self.totals[number][failed]);
        let offset = totals.buckets.keys().next().copied().unwrap_or(0);
        let last = totals.buckets.keys().next_back().copied().unwrap_or(0);
        let counts: Vec<String> =
            (offset..=last).map(|index| totals.buckets.get(&index).copied().unwrap_or(0).to_string()).collect();
        let exemplars: Vec<Value> = totals
            .slowest
            .take()
            .map(|span| {
                json!({
                    "asDouble": seconds(&span), "timeUnixNano": span.end_ns.to_string(),
                    "traceId": format!("{:032x}", span.trace), "spanId": format!("{:016x}", span.id),
                })
            })
            .into_iter()
            .collect();
        let code = if failed == 1 { "503" } else { "200" };
        json!({
            "startTimeUnixNano": nanos(self.start_ms), "timeUnixNano": nanos(self.newest_ms),
            "count": totals.count.to_string(), "sum": totals.sum, "scale": SCALE, "zeroCount": "0",
            "positive": {"offset": offset, "bucketCounts": counts},
            "attributes": [
                attribute("http.request.method", operation.method), attribute("http.route", operation.route),
                status(code),
            ],
            "exemplars": exemplars,
        })
    }
}

fn unsendable(error: &dyn std::error::Error) -> Failure {
    Failure::because("cannot send the made services", error)
}

fn seconds(span: &Span) -> f64 {
    (span.end_ns - span.start_ns) as f64 / 1e9
}

fn nanos(time_ms: i64) -> String {
    format!("{time_ms}000000")
}

fn attribute<'a>(key: &'a str, value: &'a str) -> Attribute<'a> {
    Attribute { key, value: AnyValue::Text(value) }
}

fn status(code: &str) -> Attribute<'_> {
    Attribute { key: "http.response.status_code", value: AnyValue::Integer(code) }
}

fn identity(service: &str) -> Resource<'_> {
    Resource { attributes: [attribute("service.name", service), attribute("service.instance.id", "demo-1")] }
}

fn resource(service: &str, metric: &Value) -> Value {
    json!({
        "resource": identity(service),
        "scopeMetrics": [{"scope": {"name": "kymo.demo"}, "metrics": [metric]}],
    })
}

// The fields of an ExportTraceServiceRequest that are used. There are a hundred thousand spans in an hour, too many to make a
// tree of values of each.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traces<'a> {
    resource_spans: Vec<ResourceSpans<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: [Attribute<'a>; 2],
}

#[derive(Serialize)]
struct ScopeSpans {
    spans: Vec<TracedSpan>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TracedSpan {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'static>>,
}

#[derive(Serialize, Clone, Copy)]
struct Attribute<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize, Clone, Copy)]
enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    /// As a string, so that JSON rounds none.
    #[serde(rename = "intValue")]
    Integer(&'a str),
}

/// The spans as their services would send them.
fn traces(spans: &[Span]) -> Traces<'static> {
    let of_service = |service: &'static str| {
        let told = |span: &&Span| {
            let teller = if let Side::Client(caller) = span.side { caller } else { span.operation };
            OPERATIONS[teller].service == service
        };
        let spans = spans.iter().filter(told).map(traced).collect();
        ResourceSpans { resource: identity(service), scope_spans: [ScopeSpans { spans }] }
    };
    Traces { resource_spans: SERVICES.map(of_service).into() }
}

fn traced(span: &Span) -> TracedSpan {
    let operation = &OPERATIONS[span.operation];
    let mut attributes = vec![attribute("http.request.method", operation.method)];
    let (kind, name) = match span.side {
        Side::Server => {
            attributes.push(attribute("http.route", operation.route));
            (2, format!("{} {}", operation.method, operation.route))
        }
        Side::Client(_) => {
            attributes.push(attribute("url.template", operation.route));
            attributes.push(attribute("server.address", operation.service));
            (3, operation.method.to_owned())
        }
    };
    attributes.push(match span.ended {
        Ended::Well => status("200"),
        Ended::Failed => status("503"),
        // Nobody heard how it ended.
        Ended::GivenUp => attribute("error.type", "timeout"),
    });
    TracedSpan {
        trace_id: format!("{:032x}", span.trace),
        span_id: format!("{:016x}", span.id),
        parent_span_id: if span.parent == 0 { String::new() } else { format!("{:016x}", span.parent) },
        name,
        kind,
        start_time_unix_nano: span.start_ns.to_string(),
        end_time_unix_nano: span.end_ns.to_string(),
        attributes,
    }
}
