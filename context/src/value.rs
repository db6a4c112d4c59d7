//! What a context is told about itself: metrics and data.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::finished::Outcome;

/// Keys of one context's metrics, and of its data. Further ones are left out and counted.
pub const KEYS_MAX: usize = 128;

/// A metric of a context: the newest value under its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricValue {
    /// How often something happened.
    Counter(u64),
    /// A level.
    Gauge(#[serde(deserialize_with = "null_is_nan")] f64),
    /// How long something took. Seconds in JSON.
    Duration(#[serde(with = "seconds")] Duration),
    /// Words. As a metric they are a label of a series that is 1, never a number.
    Text(String),
    /// A size.
    Bytes(u64),
}

/// JSON has no word for what is not a number; it is written as `null`.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Durations as seconds.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// What most contexts do not have, so that they do not pay for it.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) metrics: BTreeMap<Box<str>, MetricValue>,
    pub(crate) data: BTreeMap<Box<str>, serde_json::Value>,
    /// Live counts that this context has to give back.
    pub(crate) live: BTreeMap<Box<str>, u64>,
    pub(crate) outcome: Option<Outcome>,
    /// Values that found no room.
    pub(crate) left_out: u64,
}

impl Details {
    pub(crate) fn set_metric(&mut self, key: &str, value: MetricValue) {
        let is_in = set(&mut self.metrics, key, value);
        self.left_out += u64::from(!is_in);
    }

    pub(crate) fn set_data(&mut self, key: &str, value: serde_json::Value) {
        let is_in = set(&mut self.data, key, value);
        self.left_out += u64::from(!is_in);
    }
}

/// `false` when there is no room for a new key.
fn set<T>(map: &mut BTreeMap<Box<str>, T>, key: &str, value: T) -> bool {
    if let Some(old) = map.get_mut(key) {
        *old = value;
        return true;
    }
    if map.len() >= KEYS_MAX {
        return false;
    }
    map.insert(key.into(), value);
    true
}
