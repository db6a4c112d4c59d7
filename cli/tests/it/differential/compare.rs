//! Two answers to one question.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// Largest relative difference of two numbers.
const TOLERANCE: f64 = 1e-9;

/// In what respect answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Respect {
    /// One answers, the other refuses.
    Outcome,
    ErrorType,
    ErrorText,
    Shape,
    Labels,
    Order,
    Values,
    Warnings,
    Infos,
}

#[derive(Debug, Clone)]
pub(super) struct Difference {
    pub(super) respect: Respect,
    pub(super) what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.respect, self.what)
    }
}

/// Whether the order of an answer is defined, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Anything goes.
    Free,
    /// By value: equal values may change places.
    ByValue,
    /// Every place counts.
    Exact,
}

/// Everything in which `ours` differs from `theirs`; both are whole envelopes.
pub(super) fn compare(ours: &Value, theirs: &Value, order: Order) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |respect, what: String| found.push(Difference { respect, what });
    let succeeded = |answer: &Value| answer["status"] == "success";
    match (succeeded(ours), succeeded(theirs)) {
        (true, true) => {
            if let Err(difference) = data(&ours["data"], &theirs["data"], order) {
                add(difference.respect, difference.what);
            }
        }
        (false, false) => {
            if ours["errorType"] != theirs["errorType"] {
                add(Respect::ErrorType, format!("{} here, {} there", ours["errorType"], theirs["errorType"]));
            }
            if ours["error"] != theirs["error"] {
                add(Respect::ErrorText, format!("\n  here  {}\n  there {}", ours["error"], theirs["error"]));
            }
        }
        (answered, _) => {
            let refusal = if answered { &theirs["error"] } else { &ours["error"] };
            let place = if answered { "answered here, there" } else { "answered there, here" };
            add(Respect::Outcome, format!("{place}: {refusal}"));
            return found;
        }
    }
    for (respect, key) in [(Respect::Warnings, "warnings"), (Respect::Infos, "infos")] {
        let texts = |answer: &Value| -> BTreeSet<String> {
            let list = answer[key].as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let (here, there) = (texts(ours), texts(theirs));
        // Of more than ten, which ten are shown is chance.
        let many = |texts: &BTreeSet<String>| texts.iter().any(|text| text.contains("annotations omitted"));
        if here != there && !(many(&here) && many(&there)) {
            add(respect, format!("\n  here  {here:?}\n  there {there:?}"));
        }
    }
    found
}

fn differ<T>(respect: Respect, what: impl Into<String>) -> Result<T, Difference> {
    Err(Difference { respect, what: what.into() })
}

fn data(ours: &Value, theirs: &Value, order: Order) -> Result<(), Difference> {
    let kind = theirs["resultType"].as_str().unwrap_or_default();
    if ours["resultType"] != theirs["resultType"] {
        return differ(Respect::Shape, format!("{} here, {kind} there", ours["resultType"]));
    }
    if matches!(kind, "scalar" | "string") {
        return point(&ours["result"], &theirs["result"], kind == "string");
    }
    let (Some(ours), Some(theirs)) = (ours["result"].as_array(), theirs["result"].as_array()) else {
        return differ(Respect::Shape, "no list of results");
    };
    let labels = |series: &Value| series["metric"].to_string();
    let here: BTreeMap<String, &Value> = ours.iter().map(|series| (labels(series), series)).collect();
    let there: BTreeMap<String, &Value> = theirs.iter().map(|series| (labels(series), series)).collect();
    if ours.len() != here.len() || theirs.len() != there.len() {
        return differ(Respect::Labels, format!("{} series of {} labels here", ours.len(), here.len()));
    }
    let only = |one: &BTreeMap<String, &Value>, other: &BTreeMap<String, &Value>| -> Vec<String> {
        one.iter().filter(|(labels, _)| !other.contains_key(*labels)).map(|(_, series)| series.to_string()).collect()
    };
    let (only_here, only_there) = (only(&here, &there), only(&there, &here));
    if !only_here.is_empty() || !only_there.is_empty() {
        let first = |list: &[String]| list.first().map(|text| text.chars().take(300).collect::<String>());
        let (first_here, first_there) = (first(&only_here), first(&only_there));
        return differ(
            Respect::Labels,
            format!(
                "{} series here, {} there; only here {}: {first_here:?}; only there {}: {first_there:?}",
                ours.len(),
                theirs.len(),
                only_here.len(),
                only_there.len()
            ),
        );
    }
    for (labels, theirs) in &there {
        series(here[labels], theirs)
            .map_err(|difference| Difference { what: format!("{labels}: {}", difference.what), ..difference })?;
    }
    for (place, (one, other)) in ours.iter().zip(theirs).enumerate() {
        let same = match order {
            Order::Free => true,
            Order::Exact => one["metric"] == other["metric"],
            Order::ByValue => point(&one["value"], &other["value"], false).is_ok(),
        };
        if !same {
            return differ(Respect::Order, format!("at {place}: {one} here, {other} there"));
        }
    }
    Ok(())
}

fn series(ours: &Value, theirs: &Value) -> Result<(), Difference> {
    for key in ["value", "histogram"] {
        match (&ours[key], &theirs[key]) {
            (Value::Null, Value::Null) => {}
            (one, other) => point(one, other, false)?,
        }
    }
    for key in ["values", "histograms"] {
        let list = |series: &Value| series[key].as_array().cloned().unwrap_or_default();
        let (one, other) = (list(ours), list(theirs));
        if one.len() != other.len() {
            return differ(Respect::Values, format!("{} {key} here, {} there", one.len(), other.len()));
        }
        for (one, other) in one.iter().zip(&other) {
            point(one, other, false)?;
        }
    }
    Ok(())
}

/// `[time, "number"]`, `[time, {histogram}]` or `[time, "text"]`.
fn point(ours: &Value, theirs: &Value, text: bool) -> Result<(), Difference> {
    let same = ours[0] == theirs[0]
        && match (&ours[1], &theirs[1]) {
            (Value::String(one), Value::String(other)) => one == other || (!text && close(one, other)),
            (Value::Object(_), Value::Object(_)) => same_histogram(&ours[1], &theirs[1]),
            _ => false,
        };
    if same { Ok(()) } else { differ(Respect::Values, format!("\n  here  {ours}\n  there {theirs}")) }
}

fn close(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (one.parse::<f64>(), other.parse::<f64>()) else { return false };
    if one.is_nan() || other.is_nan() {
        return one.is_nan() && other.is_nan();
    }
    one == other || (one - other).abs() <= one.abs().max(other.abs()) * TOLERANCE
}

fn same_histogram(ours: &Value, theirs: &Value) -> bool {
    let number = |one: &Value, other: &Value| match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => close(one, other),
        _ => false,
    };
    let empty = Vec::new();
    let buckets = |histogram: &Value| histogram["buckets"].as_array().unwrap_or(&empty).clone();
    let (here, there) = (buckets(ours), buckets(theirs));
    number(&ours["count"], &theirs["count"])
        && number(&ours["sum"], &theirs["sum"])
        && here.len() == there.len()
        && here
            .iter()
            .zip(&there)
            .all(|(one, other)| one[0] == other[0] && (1..4).all(|at| number(&one[at], &other[at])))
}
