//! `features`: what this server can do, by category, as Prometheus 3.8 and later tell it.

use axum::Json;
use axum::extract::State;
use kymo_query::parser::{AggregateOp, Function};
use serde_json::{Map, Value, json};

use super::Shared;

/// Operators besides aggregations.
const OPERATORS: [&str; 22] = [
    "!=", "!~", "%", "*", "+", "-", "/", "<", "<=", "=", "==", "=~", ">", ">=", "@", "^", "and", "atan2", "or",
    "unless", "</", ">/",
];

/// `GET /api/v1/features`
///
/// Names are in snake case; what is not there is left out or false.
pub(super) async fn features(State(state): Shared) -> Json<Value> {
    let engine = &state.options.engine;
    let experimental = engine.experimental_functions;
    let functions: Map<String, Value> = Function::all()
        .iter()
        .map(|function| (function.name.to_owned(), Value::from(experimental || !function.experimental)))
        .collect();
    let mut operators: Map<String, Value> =
        OPERATORS.iter().map(|operator| ((*operator).to_owned(), Value::from(true))).collect();
    for op in AggregateOp::ALL {
        operators.insert(op.as_str().to_owned(), Value::from(experimental || !op.is_experimental()));
    }
    Json(json!({"status": "success", "data": {
        "api": {
            "exclude_alerts": true,
            "label_values_match": true,
            "labels_matchers": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_read": true,
            "remote_write_receiver": true,
            "search": state.options.search,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "promql": {
            "anchored": engine.extended_range_selectors,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": engine.delayed_name_removal,
            "duration_expr": engine.duration_expressions,
            "fill": engine.fill_modifiers,
            "fill_left": engine.fill_modifiers,
            "fill_right": engine.fill_modifiers,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": true,
            "smoothed": engine.extended_range_selectors,
            "subqueries": true,
            "type_and_unit_labels": engine.type_and_unit_labels,
            "use_start_timestamps": engine.start_timestamps,
            "without": true,
        },
        "promql_functions": functions,
        "promql_operators": operators,
        "tsdb": {"exemplar_storage": true, "native_histograms": true, "st_storage": true},
    }}))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeBackend, get, state};
    use super::super::{ApiOptions, routes};
    use super::*;

    #[tokio::test]
    async fn what_is_switched_off_is_told_as_false() {
        for on in [false, true] {
            let mut options = ApiOptions::default();
            options.engine.experimental_functions = on;
            options.engine.start_timestamps = on;
            let state = state(FakeBackend::new(|_, _| Ok(Default::default()))).with_options(options);
            let (status, body) = get(&routes(state), "/api/v1/features").await;
            assert_eq!(status, 200, "{body}");
            let data = &serde_json::from_str::<Value>(&body).unwrap()["data"];
            assert_eq!(data["promql_functions"]["rate"], true);
            assert_eq!(data["promql_functions"]["start_timestamp"], on);
            assert_eq!(data["promql_operators"]["limitk"], on);
            assert_eq!(data["promql_operators"]["atan2"], true);
            assert_eq!(data["promql"]["use_start_timestamps"], on);
            assert_eq!(data["promql_functions"].as_object().unwrap().len(), Function::all().len());
        }
    }
}
