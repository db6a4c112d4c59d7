//! `GET /api/v1/targets/metadata`: what scrape targets say of their families.
//!
//! Narrowed by `match_target` (a selector over the labels of targets) and `metric`; `limit` ends the list after the
//! target that reaches it, as in Prometheus.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use kymo_core::query::Annotations;
use kymo_core::status::LabelMap;
use kymo_core::{Labels, Matcher, Metadata};

use super::body::Answer;
use super::catalog::count;
use super::params::Params;
use super::{ApiState, run, selector, write};
use crate::status::ApiError;

/// Keys and punctuation of an entry, and its type.
const ENTRY_BYTES_MAX: usize = 128;

/// A target and its families.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetFamilies {
    /// Labels of the target.
    pub labels: LabelMap,
    /// By name, sorted.
    pub families: Arc<[(String, Metadata)]>,
}

type Targets = Arc<dyn Fn() -> Vec<TargetFamilies> + Send + Sync>;

/// The route over whatever `targets` gives when it is asked, on the pool of `state`.
pub fn target_metadata_routes(
    state: impl Into<Arc<ApiState>>,
    targets: impl Fn() -> Vec<TargetFamilies> + Send + Sync + 'static,
) -> Router {
    let targets: Targets = Arc::new(targets);
    Router::new().route("/api/v1/targets/metadata", get(target_metadata)).with_state((state.into(), targets))
}

async fn target_metadata(
    State((state, targets)): State<(Arc<ApiState>, Targets)>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let entries_max = count(&params, "limit")?;
    let matchers = match params.first("match_target") {
        "" => Vec::new(),
        text => selector::parse(text).map_err(ApiError::bad_data)?,
    };
    let (metric, buffers) = (params.first("metric").to_owned(), state.buffers.clone());
    run(&state, state.options.timeout_max, move |ctx| {
        let targets = targets();
        let found = chosen(&targets, &matchers, &metric, entries_max);
        let mut answer = buffers.answer(ctx)?;
        write::write_data_list(&mut answer, &found, &Annotations::default(), |out, (labels, family)| {
            write_entry(out, labels, family, metric.is_empty())
        })?;
        Ok(answer)
    })
    .await
    .map(Answer::into_json)
}

fn chosen<'a>(
    targets: &'a [TargetFamilies],
    matchers: &[Matcher],
    metric: &str,
    entries_max: usize,
) -> Vec<(Labels, &'a (String, Metadata))> {
    let mut found = Vec::new();
    for target in targets {
        if found.len() >= entries_max {
            break;
        }
        let value = |matcher: &Matcher| target.labels.get(matcher.name()).map(String::as_str).unwrap_or_default();
        if !matchers.iter().all(|matcher| matcher.matches(value(matcher))) {
            continue;
        }
        let labels = Labels::from_pairs(target.labels.iter().map(|(name, value)| (&**name, &**value)));
        let families = target.families.iter().filter(|(name, _)| metric.is_empty() || name == metric);
        found.extend(families.map(|family| (labels.clone(), family)));
    }
    found
}

fn write_entry(
    out: &mut Answer,
    labels: &Labels,
    (name, metadata): &(String, Metadata),
    with_name: bool,
) -> Result<(), ApiError> {
    out.reserve(ENTRY_BYTES_MAX)?;
    out.bytes.extend_from_slice(br#"{"target":"#);
    write::write_labels(out, labels)?;
    let name = with_name.then_some(("metric", name.as_str()));
    let parts = [("type", metadata.family_type.as_str()), ("help", &metadata.help), ("unit", &metadata.unit)];
    for (key, text) in name.into_iter().chain(parts) {
        out.reserve(ENTRY_BYTES_MAX)?;
        out.bytes.extend_from_slice(b",\"");
        out.bytes.extend_from_slice(key.as_bytes());
        out.bytes.extend_from_slice(b"\":");
        write::write_text(out, text)?;
    }
    out.reserve(1)?;
    out.bytes.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use kymo_core::{FamilyType, MatchOp};

    use super::*;

    #[test]
    fn targets_are_chosen_by_labels_and_families_by_name() {
        let family = |name: &str| {
            let metadata = Metadata { family_type: FamilyType::Counter, unit: String::new(), help: "Help.".to_owned() };
            (name.to_owned(), metadata)
        };
        let target = |job: &str, families: &[&str]| TargetFamilies {
            labels: LabelMap::from([("job".to_owned(), job.to_owned())]),
            families: families.iter().map(|name| family(name)).collect(),
        };
        let targets = [target("a", &["x", "y"]), target("b", &["x"]), target("c", &[])];
        let ask = |job: Option<&str>, metric: &str, limit: usize| {
            let matchers = job.map(|job| Matcher::new("job".to_owned(), MatchOp::Equal, job.to_owned()).unwrap());
            let found = chosen(&targets, matchers.as_slice(), metric, limit);
            let names =
                found.iter().map(|(labels, (name, _))| format!("{}/{name}", labels.get("job").unwrap_or_default()));
            names.collect::<Vec<_>>().join(" ")
        };
        for (job, metric, limit, expected) in [
            (None, "", usize::MAX, "a/x a/y b/x"),
            (None, "x", usize::MAX, "a/x b/x"),
            (Some("b"), "", usize::MAX, "b/x"),
            (Some("b"), "y", usize::MAX, ""),
            (None, "", 1, "a/x a/y"),
            (None, "", 0, ""),
        ] {
            assert_eq!(ask(job, metric, limit), expected, "{job:?} {metric:?} {limit}");
        }
    }
}
