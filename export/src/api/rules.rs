//! `rules`, `alerts` and `alertmanagers`, from what the parts say of themselves. Without rules they are empty lists.

use std::collections::BTreeSet;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use kymo_core::status::{AlertState, AlertStatus, RuleGroupStatus, RuleHealth, RuleStatus};
use kymo_core::text::FloatText;
use kymo_core::{Labels, Matcher};
use serde_json::{Map, Value, json};

use super::status_facts::{FactsState, answer, moment};
use super::{params, selector};
use crate::status::ApiError;

const MS: f64 = 1000.0;

/// Which rules are asked for.
#[derive(Default)]
struct Wanted {
    /// Of alerts, of recording, or both.
    kind: Option<Kind>,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    /// A rule's labels satisfy one of them.
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
    /// Most groups in one answer; 0 for all.
    groups_max: usize,
    /// The token of the answer before.
    after: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alert,
    Record,
}

impl Wanted {
    fn read(query: &str) -> Result<Wanted, ApiError> {
        let mut wanted = Wanted { with_alerts: true, ..Wanted::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "type" => {
                    wanted.kind = match value.to_lowercase().as_str() {
                        "" => None,
                        "alert" => Some(Kind::Alert),
                        "record" => Some(Kind::Record),
                        _ => {
                            let reason = format!("not supported value {}", kymo_core::text::QuotedText(&value));
                            return Err(ApiError::invalid_parameter("type", reason));
                        }
                    };
                }
                "rule_name[]" => drop(wanted.names.insert(value.into_owned())),
                "rule_group[]" => drop(wanted.groups.insert(value.into_owned())),
                "file[]" => drop(wanted.files.insert(value.into_owned())),
                "match[]" => wanted.matchers.push(selector::parse(&value).map_err(ApiError::bad_data)?),
                "exclude_alerts" => wanted.with_alerts = !is_true(&value)?,
                "group_limit" => {
                    wanted.groups_max = match params::parse_go_int(&value).map(usize::try_from) {
                        Ok(Ok(limit)) if limit > 0 => limit,
                        Ok(_) => {
                            let reason = "group_limit needs to be greater than 0";
                            return Err(ApiError::invalid_parameter("group_limit", reason));
                        }
                        Err(reason) => {
                            let reason = reason.replacen("strconv.Atoi", "strconv.ParseInt", 1);
                            let reason = format!("group_limit needs to be a valid number: {reason}");
                            return Err(ApiError::invalid_parameter("group_limit", reason));
                        }
                    };
                }
                "group_next_token" => wanted.after = value.into_owned(),
                _ => {}
            }
        }
        if !wanted.after.is_empty() && wanted.groups_max == 0 {
            let reason = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::invalid_parameter("group_next_token", reason));
        }
        Ok(wanted)
    }

    fn wants(&self, rule: &RuleStatus) -> bool {
        let kind = if rule.alerting.is_some() { Kind::Alert } else { Kind::Record };
        let labels = Labels::from_pairs(rule.labels.iter().map(|(name, value)| (&**name, &**value)));
        let is_matched = |list: &Vec<Matcher>| {
            list.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default()))
        };
        self.kind.is_none_or(|wanted| wanted == kind)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.matchers.is_empty() || self.matchers.iter().any(is_matched))
    }
}

/// As Go's `strconv.ParseBool`; nothing is `false`.
fn is_true(text: &str) -> Result<bool, ApiError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => {
            let quoted = kymo_core::text::QuotedText(text).to_string();
            let reason =
                format!("error converting exclude_alerts: strconv.ParseBool: parsing {quoted}: invalid syntax");
            Err(ApiError::invalid_parameter("exclude_alerts", reason))
        }
    }
}

/// `GET /api/v1/rules`
pub(super) async fn rules(State(state): State<FactsState>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let wanted = Wanted::read(&query.unwrap_or_default())?;
    Ok(answer(state.sources.rule_groups().map(|groups| groups_json(&groups, &wanted))))
}

fn groups_json(groups: &[RuleGroupStatus], wanted: &Wanted) -> Value {
    let chosen = groups.iter().filter(|group| {
        (wanted.groups.is_empty() || wanted.groups.contains(&group.name))
            && (wanted.files.is_empty() || wanted.files.contains(&group.file))
    });
    let mut shown = Vec::new();
    let mut next = None;
    let mut skipping = !wanted.after.is_empty();
    for group in chosen {
        let token = token(group);
        if skipping {
            skipping = token != wanted.after;
            if skipping {
                continue;
            }
        }
        let rules: Vec<Value> =
            group.rules.iter().filter(|rule| wanted.wants(rule)).map(|rule| rule_json(rule, wanted)).collect();
        let narrowed = wanted.kind.is_some() || !wanted.names.is_empty() || !wanted.matchers.is_empty();
        if rules.is_empty() && narrowed {
            continue;
        }
        if wanted.groups_max > 0 && shown.len() == wanted.groups_max {
            next = Some(token);
            break;
        }
        shown.push(json!({
            "name": group.name,
            "file": group.file,
            "rules": rules,
            "interval": group.interval_ms as f64 / MS,
            "limit": group.limit,
            "evaluationTime": group.evaluation_seconds,
            "lastEvaluation": moment(group.last_evaluation_ms),
        }));
    }
    match next {
        Some(token) => json!({"groups": shown, "groupNextToken": token}),
        None => json!({"groups": shown}),
    }
}

/// Names a group among all: where the next answer begins.
fn token(group: &RuleGroupStatus) -> String {
    // FNV-1a over file and name, with a separator that neither can hold.
    let bytes = group.file.bytes().chain([0]).chain(group.name.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

fn rule_json(rule: &RuleStatus, wanted: &Wanted) -> Value {
    let health = match rule.health {
        RuleHealth::Unknown => "unknown",
        RuleHealth::Ok => "ok",
        RuleHealth::Failed => "err",
    };
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
    put("name", json!(rule.name));
    put("query", json!(rule.query));
    put("health", json!(health));
    put("evaluationTime", json!(rule.evaluation_seconds));
    put("lastEvaluation", json!(moment(rule.last_evaluation_ms)));
    if !rule.last_error.is_empty() {
        put("lastError", json!(rule.last_error));
    }
    match &rule.alerting {
        Some(alerting) => {
            put("type", json!("alerting"));
            put("labels", json!(rule.labels));
            put("state", json!(state_text(alerting.state)));
            put("duration", json!(alerting.for_ms as f64 / MS));
            put("keepFiringFor", json!(alerting.keep_firing_for_ms as f64 / MS));
            put("annotations", json!(alerting.annotations));
            let alerts = alerting.alerts.iter().filter(|_| wanted.with_alerts).map(alert_json);
            put("alerts", Value::from(alerts.collect::<Vec<_>>()));
        }
        None => {
            put("type", json!("recording"));
            if !rule.labels.is_empty() {
                put("labels", json!(rule.labels));
            }
        }
    }
    Value::Object(shown)
}

fn state_text(state: AlertState) -> &'static str {
    match state {
        AlertState::Inactive => "inactive",
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}

fn alert_json(alert: &AlertStatus) -> Value {
    let mut shown = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": state_text(alert.state),
        "activeAt": moment(Some(alert.active_since_ms)),
        "value": FloatText::general(alert.value).as_str(),
    });
    if let (Some(since_ms), Some(shown)) = (alert.keep_firing_since_ms, shown.as_object_mut()) {
        shown.insert("keepFiringSince".to_owned(), json!(moment(Some(since_ms))));
    }
    shown
}

/// `GET /api/v1/alerts`
pub(super) async fn alerts(State(state): State<FactsState>) -> Response {
    answer(state.sources.alerts().map(|alerts| json!({"alerts": alerts.iter().map(alert_json).collect::<Vec<_>>()})))
}

/// `GET /api/v1/alertmanagers`: none, as long as nothing is sent to one.
pub(super) async fn alertmanagers() -> Response {
    answer(Ok(json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})))
}

#[cfg(test)]
mod tests {
    use kymo_core::status::AlertingStatus;

    use super::*;

    fn groups() -> Vec<RuleGroupStatus> {
        let record = RuleStatus {
            name: "job:up:sum".to_owned(),
            query: "sum by (job) (up)".to_owned(),
            health: RuleHealth::Ok,
            ..RuleStatus::default()
        };
        let alert = AlertStatus {
            labels: [("alertname".to_owned(), "Down".to_owned())].into(),
            state: AlertState::Firing,
            active_since_ms: 1_700_000_000_000,
            value: 1e9,
            ..AlertStatus::default()
        };
        let alerting = RuleStatus {
            name: "Down".to_owned(),
            query: "up == 0".to_owned(),
            labels: [("severity".to_owned(), "page".to_owned())].into(),
            health: RuleHealth::Failed,
            last_error: "no".to_owned(),
            alerting: Some(AlertingStatus {
                state: AlertState::Firing,
                for_ms: 90_500,
                alerts: vec![alert],
                ..AlertingStatus::default()
            }),
            ..RuleStatus::default()
        };
        let group = |name: &str, rules| RuleGroupStatus {
            name: name.to_owned(),
            file: "rules.yml".to_owned(),
            interval_ms: 15_000,
            rules,
            ..RuleGroupStatus::default()
        };
        vec![group("records", vec![record]), group("alerts", vec![alerting])]
    }

    fn shown(query: &str) -> Value {
        groups_json(&groups(), &Wanted::read(query).unwrap_or_else(|error| panic!("{query}: {error:?}")))
    }

    #[test]
    fn rules_have_the_shape_of_the_api() {
        let all = shown("");
        let alerting = json!({
            "name": "Down", "query": "up == 0", "type": "alerting", "health": "err", "lastError": "no",
            "state": "firing", "duration": 90.5, "keepFiringFor": 0.0, "labels": {"severity": "page"},
            "annotations": {}, "evaluationTime": 0.0, "lastEvaluation": "0001-01-01T00:00:00Z",
            "alerts": [{"labels": {"alertname": "Down"}, "annotations": {}, "state": "firing",
                        "activeAt": "2023-11-14T22:13:20Z", "value": "1e+09"}],
        });
        assert_eq!(all["groups"][1]["rules"][0], alerting);
        assert_eq!(all["groups"][0]["rules"][0]["type"], "recording");
        assert_eq!((&all["groups"][0]["interval"], &all["groups"][0]["file"]), (&json!(15.0), &json!("rules.yml")));
    }

    #[test]
    fn rules_are_narrowed_and_told_page_by_page() {
        let names = |query: &str| {
            let shown = shown(query);
            let groups = shown["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
            groups.iter().map(|group| group["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("type=alert"), ["alerts"]);
        assert_eq!(names("type=record&rule_name[]=job:up:sum"), ["records"]);
        assert_eq!(names("rule_group[]=records&file[]=rules.yml"), ["records"]);
        assert_eq!(names("match[]={severity=\"page\"}"), ["alerts"]);
        assert_eq!(names("file[]=other.yml"), Vec::<String>::new());
        let without = shown("type=alert&exclude_alerts=true");
        assert_eq!(without["groups"][0]["rules"][0]["alerts"], json!([]));
        let first = shown("group_limit=1");
        let token = first["groupNextToken"].as_str().unwrap_or_default().to_owned();
        assert_eq!(names("group_limit=1"), ["records"]);
        assert_eq!(names(&format!("group_limit=1&group_next_token={token}")), ["alerts"]);
        for bad in ["type=x", "group_limit=0", "group_limit=x", "group_next_token=a", "exclude_alerts=x", "match[]={"] {
            assert!(Wanted::read(bad).is_err(), "{bad}");
        }
    }
}
