//! `openapi.yaml`: the routes below `/api/v1`, described for machines. The table is the description; a test holds it to
//! the routers, in both directions.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use Kind::{Bool, Count, Duration, Json, List, Name, Number, Text, Time};
use Method::{Delete, Form, Get, Post, Put};
use Payload::{Empty, Envelope, Lines, Page, Protobuf};

/// How a route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    /// A POST whose form takes the parameters that a GET has in its query string.
    Form,
    Post,
    Put,
    Delete,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Count,
    Bool,
    /// RFC 3339 or seconds.
    Time,
    /// `1m30s` or seconds.
    Duration,
    /// May be given several times.
    List,
    /// Labels as a JSON object.
    Json,
    /// A part of the path.
    Name,
}

/// What is answered, or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    /// The API's envelope.
    Envelope,
    /// Lines of JSON.
    Lines,
    /// YAML.
    Page,
    /// Protobuf both ways.
    Protobuf,
    Empty,
}

/// A parameter: name, what it is, whether it must be given, what it means.
type Parameter = (&'static str, Kind, bool, &'static str);

/// Path, methods, group, what it does, parameters, answer.
type Row = (&'static str, &'static [Method], &'static str, &'static str, &'static [Parameter], Payload);

const QUERY: Parameter = ("query", Text, true, "The expression.");
const START: Parameter = ("start", Time, false, "The first moment that counts.");
const END: Parameter = ("end", Time, false, "The last moment that counts.");
const MATCH: Parameter = ("match[]", List, false, "Selectors; a series that one of them matches counts.");
const MATCH_ONE: Parameter = ("match[]", List, true, "Selectors; a series that one of them matches counts.");
const STATE_KEY: Parameter = ("key", Text, true, "The key, of 1 to 1024 bytes.");
const LIMIT: Parameter = ("limit", Count, false, "Most entries of the answer; 0 for any number.");
const TIMEOUT: Parameter = ("timeout", Duration, false, "How long it may take, up to the server's limit.");
const LOOKBACK: Parameter = ("lookback_delta", Duration, false, "How far back a selector looks for a sample.");
const STATS: Parameter = ("stats", Text, false, "`true` for the costs of the query, `all` for those of each step too.");
const EXPLAIN: Parameter = ("explain", Bool, false, "Answers with the plan and its costs.");
const HINTS: Parameter = ("explain_empty", Bool, false, "Says which matcher left nothing, and what there is instead.");
const METRIC: Parameter = ("metric", Text, false, "One family only.");
const POOL: Parameter = ("scrapePool", Text, true, "Name of the scrape job.");
const ID: Parameter = ("id", Name, true, "Number of the query.");

const INSTANT: &[Parameter] =
    &[QUERY, ("time", Time, false, "When; now by default."), LIMIT, TIMEOUT, LOOKBACK, STATS, EXPLAIN, HINTS];
const RANGE: &[Parameter] = &[
    QUERY,
    ("start", Time, true, "The first step."),
    ("end", Time, true, "No step is later."),
    ("step", Duration, true, "From one step to the next."),
    LIMIT,
    TIMEOUT,
    LOOKBACK,
    STATS,
    EXPLAIN,
    HINTS,
];
const CATALOG: &[Parameter] = &[START, END, MATCH, LIMIT];
const SEARCHED: &[Parameter] = &[
    START,
    END,
    MATCH,
    LIMIT,
    ("search[]", List, false, "What was typed; a name that one of them finds counts."),
    ("fuzz_alg", Text, false, "`subsequence` or `jarowinkler`."),
    ("fuzz_threshold", Count, false, "The least score that counts, of 100."),
    ("case_sensitive", Bool, false, "Whether case matters; it does by default."),
    ("sort_by", Text, false, "`alpha` or `score`."),
    ("sort_dir", Text, false, "`asc` or `dsc`, of names."),
    ("include_score", Bool, false, "Tells the scores."),
    ("include_metadata", Bool, false, "Tells type, help and unit of metrics."),
    ("batch_size", Count, false, "Results of a line."),
];
const SEARCHED_VALUES: &[Parameter] = &[
    ("label", Text, true, "Whose values."),
    START,
    END,
    MATCH,
    LIMIT,
    ("search[]", List, false, "What was typed; a value that one of them finds counts."),
    ("fuzz_alg", Text, false, "`subsequence` or `jarowinkler`."),
    ("fuzz_threshold", Count, false, "The least score that counts, of 100."),
    ("case_sensitive", Bool, false, "Whether case matters; it does by default."),
    ("sort_by", Text, false, "`alpha` or `score`."),
    ("sort_dir", Text, false, "`asc` or `dsc`, of values."),
    ("include_score", Bool, false, "Tells the scores."),
    ("batch_size", Count, false, "Results of a line."),
];
const RULES: &[Parameter] = &[
    ("type", Text, false, "`alert` or `record`."),
    ("rule_name[]", List, false, "Rules of these names."),
    ("rule_group[]", List, false, "Groups of these names."),
    ("file[]", List, false, "Groups of these files."),
    ("exclude_alerts", Bool, false, "Leaves the alerts of rules out."),
    ("match[]", List, false, "Rules with labels that one of these selectors matches."),
    ("group_limit", Number, false, "Groups of an answer."),
    ("group_next_token", Text, false, "Goes on where an answer ended."),
];

const SERVICES: &[Parameter] =
    &[("windows", Count, false, "How many of the windows are told, the shortest first; all unless it is given.")];
const SERVICE: &[Parameter] = &[("name", Name, true, "The service.")];
const SERVICE_HISTORY: &[Parameter] = &[
    ("name", Name, true, "The service."),
    START,
    END,
    ("step", Duration, false, "Of each step the newest figures are told."),
];

const GET: &[Method] = &[Get];
const GET_FORM: &[Method] = &[Get, Form];
const POST: &[Method] = &[Post];
const POST_PUT: &[Method] = &[Post, Put];

/// Every route below `/api/v1`.
const ROUTES: &[Row] = &[
    ("/query", GET_FORM, "query", "Evaluates an expression at one moment", INSTANT, Envelope),
    ("/query_range", GET_FORM, "query", "Evaluates an expression at the steps of a range", RANGE, Envelope),
    ("/query_exemplars", GET_FORM, "query", "Exemplars of the series of an expression", &[QUERY, START, END], Envelope),
    ("/format_query", GET_FORM, "query", "An expression as it is printed", &[QUERY], Envelope),
    ("/parse_query", GET_FORM, "query", "An expression as a tree", &[QUERY], Envelope),
    ("/labels", GET_FORM, "labels", "Names of labels", CATALOG, Envelope),
    (
        "/label/{name}/values",
        GET,
        "labels",
        "Values of a label",
        &[("name", Name, true, "The label; `U__` escapes are undone."), START, END, MATCH, LIMIT],
        Envelope,
    ),
    ("/series", GET_FORM, "series", "Label sets of series", &[START, END, MATCH_ONE, LIMIT], Envelope),
    ("/search/metric_names", GET_FORM, "labels", "Metric names found by what was typed", SEARCHED, Lines),
    ("/search/label_names", GET_FORM, "labels", "Label names found by what was typed", SEARCHED, Lines),
    ("/search/label_values", GET_FORM, "labels", "Values of a label found by what was typed", SEARCHED_VALUES, Lines),
    (
        "/metadata",
        GET,
        "metadata",
        "Type, unit and help of families",
        &[LIMIT, ("limit_per_metric", Number, false, "Most entries of a family."), METRIC],
        Envelope,
    ),
    ("/scrape_pools", GET, "targets", "Names of scrape jobs", &[], Envelope),
    ("/scrape_pools/config", GET, "targets", "A scrape job as configured", &[POOL], Envelope),
    (
        "/targets",
        GET,
        "targets",
        "Scrape targets",
        &[
            ("state", Text, false, "`active`, `dropped` or `any`."),
            ("scrapePool", Text, false, "Of this scrape job only."),
        ],
        Envelope,
    ),
    (
        "/targets/metadata",
        GET,
        "targets",
        "What targets say of their families",
        &[("match_target", Text, false, "A selector over the labels of targets."), METRIC, LIMIT],
        Envelope,
    ),
    (
        "/targets/relabel_steps",
        GET,
        "targets",
        "What the rules of a scrape job do to labels, rule by rule",
        &[POOL, ("labels", Json, true, "The labels to begin with.")],
        Envelope,
    ),
    ("/rules", GET, "rules", "Rules by group", RULES, Envelope),
    ("/alerts", GET, "alerts", "Alerts that are pending or firing", &[], Envelope),
    ("/alertmanagers", GET, "alerts", "Where alerts are sent", &[], Envelope),
    ("/status/config", GET, "status", "The configuration in force", &[], Envelope),
    ("/status/runtimeinfo", GET, "status", "How the server runs", &[], Envelope),
    ("/status/buildinfo", GET, "status", "What was built", &[], Envelope),
    ("/status/flags", GET, "status", "Flags with their values", &[], Envelope),
    (
        "/status/tsdb",
        GET,
        "status",
        "Where most series lie",
        &[("limit", Number, false, "Entries of each list, up to 10000.")],
        Envelope,
    ),
    ("/status/tsdb/blocks", GET, "status", "Block files", &[], Envelope),
    ("/status/walreplay", GET, "status", "How far the log is replayed", &[], Envelope),
    (
        "/status/self_metrics",
        GET,
        "status",
        "What the server counts about itself",
        &[("metric_name_pattern", Text, false, "An expression that whole names match.")],
        Envelope,
    ),
    (
        "/status/cardinality",
        GET,
        "status",
        "Series by name, label and value, and what grew",
        &[("limit", Number, false, "Entries of each list, up to 10000.")],
        Envelope,
    ),
    ("/status/drops", GET, "status", "What was refused, by door and reason", &[], Envelope),
    ("/status/queries", GET, "status", "Queries that run, and the slowest", &[], Envelope),
    ("/status/queries/{id}", &[Delete], "status", "Cancels a query", &[ID], Empty),
    ("/status/queries/{id}/cancel", POST, "status", "Cancels a query", &[ID], Empty),
    ("/services", GET, "services", "How every service does, and who calls whom", SERVICES, Envelope),
    ("/services/{name}", GET, "services", "How a service does, with its operations", SERVICE, Envelope),
    ("/services/{name}/edges", GET, "services", "Who calls a service, and whom it calls", SERVICE, Envelope),
    ("/services/{name}/history", GET, "services", "How a service did", SERVICE_HISTORY, Envelope),
    ("/features", GET, "features", "What this server can do", &[], Envelope),
    ("/notifications", GET, "notifications", "What the operator should see to", &[], Envelope),
    ("/notifications/live", GET, "notifications", "No stream is kept open", &[], Empty),
    ("/admin/tsdb/delete_series", POST_PUT, "admin", "Deletes samples", &[MATCH_ONE, START, END], Empty),
    ("/admin/tsdb/clean_tombstones", POST_PUT, "admin", "Gives the bytes of deleted samples back", &[], Empty),
    (
        "/admin/tsdb/snapshot",
        POST_PUT,
        "admin",
        "Makes a copy of the data directory",
        &[("skip_head", Bool, false, "Leaves out what is not in blocks yet.")],
        Envelope,
    ),
    ("/admin/tsdb/retention", POST_PUT, "admin", "What a retention would remove, or removes it", &[], Envelope),
    ("/admin/tsdb/compact", POST_PUT, "admin", "Merges blocks now", &[], Empty),
    ("/admin/state/get", POST, "admin", "The value of a small fact", &[STATE_KEY], Envelope),
    (
        "/admin/state/put",
        POST_PUT,
        "admin",
        "Sets a small fact",
        &[
            STATE_KEY,
            ("value", Text, false, "The value, if it is text."),
            ("hex", Text, false, "Its bytes, as pairs of hexadecimal digits."),
        ],
        Envelope,
    ),
    ("/admin/state/delete", POST, "admin", "Takes a small fact away", &[STATE_KEY], Envelope),
    (
        "/admin/state/list",
        POST,
        "admin",
        "The keys of small facts",
        &[("prefix", Text, false, "What they begin with.")],
        Envelope,
    ),
    ("/read", POST, "remote", "Remote read", &[], Protobuf),
    ("/write", POST, "remote", "Remote write 1.0 and 2.0", &[], Protobuf),
    ("/otlp/v1/metrics", POST, "otlp", "Metrics of OpenTelemetry", &[], Protobuf),
    ("/otlp/v1/traces", POST, "otlp", "Spans of OpenTelemetry", &[], Protobuf),
    (
        "/openapi.yaml",
        GET,
        "features",
        "This description",
        &[("openapi_version", Text, false, "`3.1` or `3.2` of OpenAPI.")],
        Page,
    ),
];

/// `GET /api/v1/openapi.yaml?openapi_version=3.1|3.2`
pub(super) async fn openapi(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "openapi_version");
    let version = match asked.as_ref().map(|(_, value)| &**value) {
        Some("3.2" | "3.2.0") => "3.2.0",
        _ => "3.1.0",
    };
    let headers = [
        (header::CONTENT_TYPE, "application/yaml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    (headers, document(version)).into_response()
}

/// Texts are written as JSON has them, which YAML reads as well.
fn document(version: &str) -> String {
    let mut out = String::new();
    let groups: BTreeSet<&str> = ROUTES.iter().map(|row| row.2).collect();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "openapi: {version}\ninfo:\n  title: Kymo API\n  description: The Prometheus HTTP API, and what Kymo adds to it.\n  \
         version: {}\nservers:\n  - url: /api/v1\ntags:",
        json!(super::API_VERSION)
    );
    for group in groups {
        let _ = writeln!(out, "  - name: {group}");
    }
    out.push_str("paths:\n");
    for row in ROUTES {
        let _ = writeln!(out, "  {}:", row.0);
        row.1.iter().for_each(|method| operation(&mut out, row, *method));
    }
    out.push_str(COMPONENTS);
    out
}

fn operation(out: &mut String, (path, _, group, summary, parameters, payload): &Row, method: Method) {
    let (word, suffix) = match method {
        Get => ("get", ""),
        Form | Post => ("post", "-post"),
        Put => ("put", "-put"),
        Delete => ("delete", "-delete"),
    };
    let id: Vec<&str> = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let _ = writeln!(out, "    {word}:\n      operationId: {}{suffix}\n      tags: [{group}]", id.join("-"));
    let _ = writeln!(out, "      summary: {}", json!(summary));
    let (in_path, others): (Vec<&Parameter>, Vec<&Parameter>) = parameters.iter().partition(|one| one.1 == Name);
    let is_form = method == Form;
    let listed: Vec<&&Parameter> = in_path.iter().chain(others.iter().filter(|_| !is_form)).collect();
    if !listed.is_empty() {
        out.push_str("      parameters:\n");
    }
    for (name, kind, is_required, text) in listed {
        let place = if *kind == Name { "path" } else { "query" };
        let _ = writeln!(
            out,
            "        - name: {}\n          in: {place}\n          required: {is_required}\n          description: {}\n          \
             schema: {}",
            json!(name),
            json!(text),
            schema(*kind)
        );
    }
    if is_form {
        out.push_str(
            "      requestBody:\n        content:\n          application/x-www-form-urlencoded:\n            schema:\n",
        );
        out.push_str("              type: object\n              properties:\n");
        for (name, kind, _, text) in &others {
            let _ = writeln!(
                out,
                "                {}: {{description: {}, allOf: [{}]}}",
                json!(name),
                json!(text),
                schema(*kind)
            );
        }
        let required: Vec<&str> = others.iter().filter(|one| one.2).map(|one| one.0).collect();
        if !required.is_empty() {
            let _ = writeln!(out, "              required: {}", json!(required));
        }
    }
    if *payload == Protobuf {
        out.push_str(
            "      requestBody:\n        required: true\n        content:\n          application/x-protobuf: {}\n",
        );
    }
    let answer = match payload {
        Envelope => ("200", "application/json", "{$ref: '#/components/schemas/Success'}"),
        Lines => ("200", "application/x-ndjson", "{type: string}"),
        Page => ("200", "application/yaml", "{type: string}"),
        Protobuf => ("2XX", "", ""),
        Empty => ("204", "", ""),
    };
    let (status, content, schema) = answer;
    let _ = writeln!(out, "      responses:\n        \"{status}\":\n          description: Done.");
    if !content.is_empty() {
        let _ = writeln!(out, "          content:\n            {content}:\n              schema: {schema}");
    }
    out.push_str("        default:\n          $ref: '#/components/responses/Refused'\n");
}

fn schema(kind: Kind) -> &'static str {
    match kind {
        Text | Name => "{type: string}",
        Number => "{type: integer}",
        Count => "{type: integer, minimum: 0}",
        Bool => "{type: boolean}",
        Time => "{$ref: '#/components/schemas/Time'}",
        Duration => "{$ref: '#/components/schemas/Duration'}",
        List => "{type: array, items: {type: string}}",
        Json => "{type: string, contentMediaType: application/json}",
    }
}

const COMPONENTS: &str = "\
components:
  schemas:
    Time:
      description: RFC 3339, or seconds since the Unix epoch.
      oneOf:
        - {type: string, format: date-time}
        - {type: number}
    Duration:
      description: Like 1m30s, or seconds.
      oneOf:
        - {type: string}
        - {type: number}
    Success:
      type: object
      required: [status, data]
      properties:
        status: {type: string, const: success}
        data: {}
        warnings: {type: array, items: {type: string}}
        infos: {type: array, items: {type: string}}
    Error:
      type: object
      required: [status, errorType, error]
      properties:
        status: {type: string, const: error}
        errorType: {type: string}
        error: {type: string}
  responses:
    Refused:
      description: Why it cannot be answered.
      content:
        application/json:
          schema: {$ref: '#/components/schemas/Error'}
";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use http::{Method as Verb, Request};
    use kymo_core::SystemClock;
    use kymo_core::status::StatusSources;

    use super::super::fake::{self, FakeBackend, get, state};
    use super::super::{
        FactsState, admin_routes, block_routes, routes, self_metrics_routes, state_routes, status_routes,
        target_metadata_routes,
    };
    use super::*;

    /// Served by other crates: the program's own tests ask for them.
    const ELSEWHERE: [&str; 3] = ["/write", "/otlp/v1/metrics", "/otlp/v1/traces"];

    fn all_routers() -> Router {
        let state = Arc::new(state(FakeBackend::new(|_, _| Ok(Default::default()))));
        let facts = FactsState { sources: Arc::new(StatusSources::new()), clock: Arc::new(SystemClock::new()) };
        routes(state.clone())
            .merge(status_routes(facts))
            .merge(target_metadata_routes(state.clone(), Vec::new))
            .merge(block_routes(Vec::new))
            .merge(self_metrics_routes(Vec::new))
            .merge(crate::remote_read::routes(state.clone()))
            .merge(state_routes(state.clone(), None))
            .merge(admin_routes(state, None))
    }

    /// Paths that a router has, by what it prints of itself for people who look for faults.
    fn paths_of(router: &Router) -> BTreeSet<String> {
        let shown = format!("{router:?}");
        let quoted = shown.split('"').skip(1).step_by(2);
        quoted.filter_map(|text| text.strip_prefix("/api/v1")).map(str::to_owned).collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let described: BTreeSet<String> = ROUTES.iter().map(|row| row.0.to_owned()).collect();
        assert_eq!(described.len(), ROUTES.len(), "a path stands in the table twice");
        let mut served = paths_of(&all_routers());
        assert!(served.len() > 40, "{served:?}");
        served.extend(ELSEWHERE.map(str::to_owned));
        assert_eq!(served, described);
    }

    #[tokio::test]
    async fn every_method_is_described_and_no_other_is_taken() {
        let router = all_routers();
        for (path, methods, ..) in ROUTES.iter().filter(|row| !ELSEWHERE.contains(&row.0)) {
            let path = path.replace("{id}", "1").replace("{name}", "job");
            for (verb, wanted) in [
                (Verb::GET, methods.contains(&Get)),
                (Verb::POST, methods.contains(&Post) || methods.contains(&Form)),
                (Verb::PUT, methods.contains(&Put)),
                (Verb::DELETE, methods.contains(&Delete)),
            ] {
                let request = Request::builder().method(&verb).uri(format!("/api/v1{path}"));
                let (status, _) = fake::send(&router, request.body(axum::body::Body::empty()).unwrap()).await;
                assert_eq!(status != 405, wanted, "{verb} {path}: {status}");
            }
        }
    }

    #[tokio::test]
    async fn the_page_says_its_version_and_names_what_is_asked() {
        let router = all_routers();
        let (status, page) = get(&router, "/api/v1/openapi.yaml").await;
        assert!(status == 200 && page.starts_with("openapi: 3.1.0\n"), "{page}");
        assert!(get(&router, "/api/v1/openapi.yaml?openapi_version=3.2").await.1.starts_with("openapi: 3.2.0\n"));
        for piece in [
            "  /label/{name}/values:\n    get:\n      operationId: label-name-values\n",
            "  /query:\n    get:\n      operationId: query\n",
            "    post:\n      operationId: query-post\n",
            "                \"query\": {description: \"The expression.\", allOf: [{type: string}]}\n",
            "              required: [\"query\",\"start\",\"end\",\"step\"]\n",
        ] {
            assert!(page.contains(piece), "{piece} is not in\n{page}");
        }
    }
}
