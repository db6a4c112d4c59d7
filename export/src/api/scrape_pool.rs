//! `scrape_pools/config` and `targets/relabel_steps`: a scrape job as configured, and what its rules do to labels, rule
//! by rule.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use kymo_core::LabelsBuilder;
use kymo_core::config::{RelabelFields, RelabelRule, Relabelled};
use kymo_core::status::{LabelMap, ScrapePoolStatus};
use serde_json::{Map, Value, json};

use super::status_facts::{FactsState, answer};
use crate::status::ApiError;

/// Labels that are tried; as many as a series may have, far beyond what targets have.
const LABELS_BYTES_MAX: usize = 1 << 20;

fn parameter(query: &str, name: &str) -> Result<String, ApiError> {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
    let found = found.filter(|value| !value.is_empty());
    found.map(|value| value.into_owned()).ok_or_else(|| ApiError::bad_data(format!("no {name} parameter provided")))
}

/// The job, or the refusal that it is none.
fn pool(state: &FactsState, name: &str) -> Result<ScrapePoolStatus, ApiError> {
    let found = state.sources.scrape_pool(name);
    let found = found.map_err(|error| ApiError::of_kind(error.kind(), error.to_string()))?;
    found.ok_or_else(|| {
        let name = kymo_core::text::QuotedText(name);
        ApiError::bad_data(format!("error retrieving scrape config: scrape pool {name} not found"))
    })
}

/// `GET /api/v1/scrape_pools/config?scrapePool=NAME`: the effective values, secrets masked.
pub(super) async fn config(State(state): State<FactsState>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let pool = pool(&state, &parameter(&query.unwrap_or_default(), "scrapePool")?)?;
    Ok(answer(Ok(json!({"yaml": pool.text}))))
}

/// `GET /api/v1/targets/relabel_steps?scrapePool=NAME&labels={…}`
pub(super) async fn relabel_steps(
    State(state): State<FactsState>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let (name, labels) = (parameter(&query, "scrapePool")?, parameter(&query, "labels")?);
    if labels.len() > LABELS_BYTES_MAX {
        let bytes = labels.len();
        let text = format!(
            "error parsing labels: {bytes} bytes are more than the limit of {LABELS_BYTES_MAX}, which is fixed"
        );
        return Err(ApiError::bad_data(text));
    }
    let labels: LabelMap =
        serde_json::from_str(&labels).map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    let pool = pool(&state, &name)?;
    Ok(answer(Ok(json!({"steps": steps(&pool.relabel, &labels)}))))
}

/// What each rule leaves; behind one that drops the target nothing is left, and nothing more is done.
fn steps(rules: &[RelabelRule], labels: &LabelMap) -> Vec<Value> {
    let mut builder = LabelsBuilder::new();
    for (name, value) in labels {
        builder.set(name, value);
    }
    let mut keep = true;
    let mut step = |rule: &RelabelRule| {
        keep = keep && rule.apply(&mut builder) == Relabelled::Kept;
        let output: Map<String, Value> = if keep {
            let labels = builder.labels();
            labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
        } else {
            Map::new()
        };
        json!({"rule": shown(rule), "output": output, "keep": keep})
    };
    rules.iter().map(&mut step).collect()
}

/// A rule with the keys of Prometheus' JSON, where what is empty is left out.
fn shown(rule: &RelabelRule) -> Value {
    let RelabelFields { source_labels, separator, regex, modulus, target_label, replacement, action } =
        rule.clone().into();
    let mut shown = Map::new();
    let mut set = |key: &str, value: Value, is_there: bool| {
        if is_there {
            shown.insert(key.to_owned(), value);
        }
    };
    let sources = source_labels.unwrap_or_default();
    set("sourceLabels", json!(sources), !sources.is_empty());
    set("separator", json!(separator), !separator.is_empty());
    set("regex", json!(regex), true);
    set("modulus", json!(modulus), modulus != 0);
    set("targetLabel", json!(target_label), !target_label.is_empty());
    set("replacement", json!(replacement), !replacement.is_empty());
    set("action", json!(action), true);
    Value::from(shown)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use kymo_core::SystemClock;
    use kymo_core::status::{StatusError, StatusSource};

    use super::super::fake::get;
    use super::super::status_routes;
    use super::*;

    struct Jobs;

    impl StatusSource for Jobs {
        fn scrape_pool(&self, name: &str) -> Result<Option<ScrapePoolStatus>, StatusError> {
            let rule = |fields: Value| serde_json::from_value::<RelabelRule>(fields).unwrap();
            let relabel = vec![
                rule(
                    json!({"source_labels": ["__address__", "job"], "regex": "(.*):1;node", "target_label": "instance"}),
                ),
                rule(
                    json!({"action": "hashmod", "source_labels": ["instance"], "modulus": 8, "target_label": "shard"}),
                ),
                rule(json!({"action": "labeldrop", "regex": "tmp.*"})),
                rule(json!({"action": "drop", "source_labels": ["drop_me"], "regex": "yes"})),
                rule(json!({"target_label": "after", "replacement": "x"})),
            ];
            let text = "job_name: node\n".to_owned();
            Ok((name == "node").then_some(ScrapePoolStatus { text, relabel }))
        }
    }

    fn router() -> Router {
        status_routes(FactsState { sources: Arc::new(Jobs), clock: Arc::new(SystemClock::new()) })
    }

    async fn steps_of(labels: &Value) -> Vec<Value> {
        let labels: String = form_urlencoded::byte_serialize(labels.to_string().as_bytes()).collect();
        let path = format!("/api/v1/targets/relabel_steps?scrapePool=node&labels={labels}");
        let (status, body) = get(&router(), &path).await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["data"]["steps"].as_array().unwrap().clone()
    }

    #[tokio::test]
    async fn each_rule_is_shown_with_what_it_leaves() {
        let steps = steps_of(&json!({"__address__": "h:1", "job": "node", "tmp_x": "1"})).await;
        assert_eq!(steps.len(), 5);
        let rule = json!({
            "sourceLabels": ["__address__", "job"], "separator": ";", "regex": "(.*):1;node", "targetLabel": "instance",
            "replacement": "$1", "action": "replace",
        });
        let output = json!({"__address__": "h:1", "job": "node", "tmp_x": "1", "instance": "h"});
        assert_eq!(steps[0], json!({"rule": rule, "output": output, "keep": true}));
        // MD5 of "h", its last eight bytes modulo 8.
        assert_eq!(steps[1]["rule"]["modulus"], 8);
        assert_eq!(steps[1]["output"]["shard"].as_str().map(str::len), Some(1));
        assert_eq!((&steps[2]["output"]["tmp_x"], &steps[1]["output"]["tmp_x"]), (&Value::Null, &json!("1")));
        assert_eq!((&steps[4]["output"]["after"], &steps[4]["keep"]), (&json!("x"), &json!(true)));
    }

    #[tokio::test]
    async fn behind_a_drop_nothing_is_left() {
        let steps = steps_of(&json!({"drop_me": "yes"})).await;
        let kept: Vec<bool> = steps.iter().filter_map(|step| step["keep"].as_bool()).collect();
        assert_eq!(kept, [true, true, true, false, false]);
        assert_eq!((&steps[3]["output"], &steps[4]["output"]), (&json!({}), &json!({})));
    }

    #[tokio::test]
    async fn a_job_s_text_is_told_and_another_s_is_not() {
        let (status, body) = get(&router(), "/api/v1/scrape_pools/config?scrapePool=node").await;
        assert_eq!((status, body.as_str()), (200, r#"{"status":"success","data":{"yaml":"job_name: node\n"}}"#));
        for (path, wanted) in [
            ("scrape_pools/config", "no scrapePool parameter provided"),
            ("scrape_pools/config?scrapePool=x", r#"error retrieving scrape config: scrape pool \"x\" not found"#),
            ("targets/relabel_steps", "no scrapePool parameter provided"),
            ("targets/relabel_steps?scrapePool=node", "no labels parameter provided"),
            ("targets/relabel_steps?scrapePool=node&labels=x", "error parsing labels: "),
            ("targets/relabel_steps?scrapePool=x&labels={}", r#"scrape pool \"x\" not found"#),
        ] {
            let (status, body) = get(&router(), &format!("/api/v1/{path}")).await;
            let is_refused = status == 400 && body.contains(r#""errorType":"bad_data""#);
            assert!(is_refused && body.contains(wanted), "{path}: {status} {body}");
        }
    }
}
