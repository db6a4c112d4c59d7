//! Answers of the Prometheus API, as far as a comparison needs them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Two answers may differ by this part of a value.
const TOLERANCE: f64 = 1e-9;

/// Series with their samples, or the error.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Samples by series, and values of a list under the series of that value.
    Series(BTreeMap<String, Vec<(f64, f64)>>),
    /// The API's own text.
    Error(String),
}

/// Reads an answer of `query`, `query_range` or `label/<name>/values`.
#[must_use]
pub fn read(body: &[u8]) -> Found {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Found::Error(String::from_utf8_lossy(body).trim().to_owned());
    };
    if answer["status"] != "success" {
        return Found::Error(answer["error"].as_str().unwrap_or("no error text").to_owned());
    }
    let sample = |pair: &Value| {
        let value = pair[1].as_str().and_then(|text| text.parse().ok());
        (pair[0].as_f64().unwrap_or(f64::NAN), value.unwrap_or(f64::NAN))
    };
    let data = &answer["data"];
    let results = data["result"].as_array().or(data.as_array());
    let series = results.into_iter().flatten().map(|result| match result.as_str() {
        Some(text) => (text.to_owned(), Vec::new()),
        None => {
            let many = result["values"].as_array().map(|values| values.iter().map(sample).collect());
            (result["metric"].to_string(), many.unwrap_or_else(|| vec![sample(&result["value"])]))
        }
    });
    Found::Series(series.collect())
}

impl Found {
    /// How they differ, shortly; `None` when they say the same.
    #[must_use]
    pub fn difference(&self, other: &Found) -> Option<String> {
        let (ours, theirs) = match (self, other) {
            (Found::Series(ours), Found::Series(theirs)) => (ours, theirs),
            (Found::Error(_), Found::Error(_)) => return None,
            (Found::Error(text), Found::Series(_)) => return Some(format!("an error: {text}")),
            (Found::Series(_), Found::Error(text)) => return Some(format!("no error: {text}")),
        };
        if ours.len() != theirs.len() {
            return Some(format!("{} series, not {}", ours.len(), theirs.len()));
        }
        for ((labels, ours), (other_labels, theirs)) in ours.iter().zip(theirs) {
            if labels != other_labels {
                return Some(format!("series {labels}, not {other_labels}"));
            }
            if ours.len() != theirs.len() {
                return Some(format!("{} samples of {labels}, not {}", ours.len(), theirs.len()));
            }
            let other = ours.iter().zip(theirs).find(|(a, b)| a.0 != b.0 || !is_same(a.1, b.1));
            if let Some((ours, theirs)) = other {
                return Some(format!("{ours:?} in {labels}, not {theirs:?}"));
            }
        }
        None
    }

    /// The sum of the first samples: for queries that count.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Found::Series(series) => series.values().filter_map(|samples| samples.first()).map(|s| s.1 as u64).sum(),
            Found::Error(_) => 0,
        }
    }
}

fn is_same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_by_series_and_value() {
        let vector = |value: &str| {
            let text = format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"a":"b"}},"value":[1,"{value}"]}}]}}}}"#
            );
            read(text.as_bytes())
        };
        assert_eq!(vector("7").difference(&vector("7.000000001")), None);
        assert!(vector("7").difference(&vector("7.1")).is_some());
        assert!(vector("NaN").difference(&vector("NaN")).is_none());
        assert_eq!(vector("7").count(), 7);
        let error = read(br#"{"status":"error","errorType":"execution","error":"no"}"#);
        assert_eq!(vector("7").difference(&error).as_deref(), Some("no error: no"));
        assert!(read(br#"{"status":"success","data":["a","b"]}"#).difference(&error).is_some());
    }
}
