//! The page at `/` until the web app exists: what this is, where things are, and a query form that works
//! without a script.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use kymo_core::QueryRequest;
use kymo_core::query::{Grid, PointValue, QueryResult, QueryValue, ResultSeries};
use kymo_core::text::{FloatText, SeriesText, write_rfc3339};

use crate::api::{ApiState, Params, Shared, run};
use crate::status::ApiError;

/// Most rows of the result table: it is read by eye.
const ROWS_MAX: usize = 500;

/// `GET /`
pub fn routes(state: impl Into<Arc<ApiState>>) -> Router {
    Router::new().route("/", get(page)).with_state(state.into())
}

async fn page(State(state): Shared, request: Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.unwrap_or("127.0.0.1:9911").to_owned();
    let params = match Params::read(request, 0).await {
        Ok(params) => params,
        Err(error) => return error.into_response(),
    };
    let text = params.first("query").to_owned();
    let outcome = match (text.trim(), params.optional_time("time")) {
        ("", _) => None,
        (_, Err(error)) => Some(Err(error)),
        (_, Ok(time)) => Some(ask(&state, &text, time.unwrap_or_else(|| state.clock.now_ms())).await),
    };
    let status = match &outcome {
        Some(Err(error)) => error.status(),
        _ => StatusCode::OK,
    };
    let html = render(&state.options.program_version, &host, &text, params.first("time"), outcome);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, html).into_response()
}

async fn ask(state: &ApiState, text: &str, at_ms: i64) -> Result<QueryResult, ApiError> {
    let request = QueryRequest::new(text, Grid::Instant { at_ms });
    let backend = state.backend.clone();
    run(state, state.options.timeout_max, move |ctx| Ok(backend.query(&request, ctx)?)).await
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Kymo</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
code, pre, input, table { font-family: ui-monospace, monospace; font-size: 14px }
pre { border: 1px solid #8886; padding: .7rem; overflow-x: auto }
form { display: flex; gap: .5rem; flex-wrap: wrap }
input[name=query] { flex: 1; min-width: 20rem; padding: .4rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
td.n, th.n { text-align: right; white-space: nowrap }
.error { color: #c33 }
</style></head><body>
"#;

const LINKS: [(&str, &str); 6] = [
    ("/api/v1/query?query=up", "query"),
    ("/api/v1/labels", "labels"),
    ("/api/v1/label/__name__/values", "metric names"),
    ("/api/v1/metadata", "metadata"),
    ("/api/v1/status/drops", "what was refused, and why"),
    ("/api/v1/status/buildinfo", "build"),
];

fn render(
    version: &str,
    host: &str,
    query: &str,
    time: &str,
    outcome: Option<Result<QueryResult, ApiError>>,
) -> String {
    let mut html = String::from(HEAD);
    html.push_str("<h1>Kymo <small>");
    escape(&mut html, version);
    html.push_str("</small></h1>\n<p>A metrics engine that scrapes, takes OTLP and Prometheus remote write, and answers PromQL.</p>\n");
    html.push_str(
        "<form method=\"get\" action=\"/\"><input name=\"query\" autofocus placeholder=\"PromQL, such as up\" ",
    );
    html.push_str("aria-label=\"PromQL\" value=\"");
    escape(&mut html, query);
    html.push_str("\"><input name=\"time\" placeholder=\"now\" aria-label=\"time\" value=\"");
    escape(&mut html, time);
    html.push_str("\"><button>Query</button></form>\n");
    match outcome {
        None => {}
        Some(Err(error)) => {
            html.push_str("<p class=\"error\" role=\"alert\">");
            escape(&mut html, error.message());
            html.push_str("</p>\n");
        }
        Some(Ok(result)) => render_result(&mut html, &result),
    }
    html.push_str("<h2>Send</h2>\n<p>Have a Prometheus write here with these lines in its configuration:</p>\n");
    html.push_str("<pre>remote_write:\n  - url: http://");
    escape(&mut html, host);
    html.push_str("/api/v1/write</pre>\n<h2>Ask</h2>\n<p>The Prometheus HTTP API is below <code>/api/v1</code>; ");
    html.push_str("in Grafana, add a Prometheus data source with this server's address.</p>\n<ul>\n");
    for (path, name) in LINKS {
        html.push_str("<li><a href=\"");
        escape(&mut html, path);
        html.push_str("\">");
        html.push_str(name);
        html.push_str("</a></li>\n");
    }
    html.push_str("</ul>\n</body></html>\n");
    html
}

fn render_result(html: &mut String, result: &QueryResult) {
    for remark in result.annotations.warnings.iter().chain(&result.annotations.infos) {
        html.push_str("<p>");
        escape(html, remark);
        html.push_str("</p>\n");
    }
    html.push_str("<table><thead><tr><th>Series</th><th>Time</th><th class=\"n\">Value</th></tr></thead><tbody>\n");
    let mut rows = Rows { html, left: ROWS_MAX, omitted: 0 };
    match &result.value {
        QueryValue::Scalar { time_ms, value } => rows.push("scalar", *time_ms, FloatText::json(*value).as_str()),
        QueryValue::String { time_ms, value } => rows.push("string", *time_ms, value),
        QueryValue::Vector(list) | QueryValue::Matrix(list) => list.iter().for_each(|series| rows.push_series(series)),
    }
    let (left, omitted) = (rows.left, rows.omitted);
    html.push_str("</tbody></table>\n");
    if left == ROWS_MAX {
        html.push_str("<p>No series.</p>\n");
    }
    if omitted > 0 {
        html.push_str(&format!("<p>{omitted} more points are not shown.</p>\n"));
    }
}

struct Rows<'a> {
    html: &'a mut String,
    left: usize,
    omitted: usize,
}

impl Rows<'_> {
    fn push_series(&mut self, series: &ResultSeries) {
        if self.left == 0 {
            self.omitted += series.len();
            return;
        }
        let name = SeriesText(&series.labels).to_string();
        for (time_ms, value) in series.points() {
            match value {
                PointValue::Float(value) => self.push(&name, time_ms, FloatText::json(value).as_str()),
                PointValue::Histogram(h) => {
                    let text = format!("count {} sum {}", FloatText::json(h.count()), FloatText::json(h.sum));
                    self.push(&name, time_ms, &text);
                }
            }
        }
    }

    fn push(&mut self, series: &str, time_ms: i64, value: &str) {
        if self.left == 0 {
            self.omitted += 1;
            return;
        }
        self.left -= 1;
        self.html.push_str("<tr><td>");
        escape(self.html, series);
        self.html.push_str("</td><td>");
        write_rfc3339(self.html, time_ms);
        self.html.push_str("</td><td class=\"n\">");
        escape(self.html, value);
        self.html.push_str("</td></tr>\n");
    }
}

/// Appends text so that it is nothing but text, in elements and in quoted attributes.
fn escape(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
}
