//! A duration in a configuration file.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::text::{DurationError, DurationText, parse_duration_ms};

/// A duration written as Prometheus does (`1m30s`, `0`); never negative. Kept in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConfigDuration {
    ms: i64,
}

impl ConfigDuration {
    /// This many milliseconds; negative ones are 0.
    pub const fn from_ms(ms: i64) -> Self {
        Self { ms: if ms < 0 { 0 } else { ms } }
    }

    /// This many seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self { ms: seconds as i64 * 1000 }
    }

    /// Milliseconds, not negative.
    pub const fn as_ms(self) -> i64 {
        self.ms
    }

    /// The same as the standard library's type.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.ms.unsigned_abs())
    }
}

impl std::str::FromStr for ConfigDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse_duration_ms(text).map(Self::from_ms)
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DurationText(self.ms).fmt(f)
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = ConfigDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 30s or 1h30m")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ConfigDuration, E> {
                text.parse().map_err(E::custom)
            }

            // A bare 0 is a number to YAML; any other number lacks its unit, and is told so.
            fn visit_u64<E: Error>(self, number: u64) -> Result<ConfigDuration, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ConfigDuration, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(DurationVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_text_and_a_bare_zero() {
        for (json, ms, text) in [("\"90s\"", 90_000, "1m30s"), ("0", 0, "0s"), ("\"0\"", 0, "0s")] {
            let duration: ConfigDuration = serde_json::from_str(json).unwrap();
            assert_eq!((duration.as_ms(), duration.to_string().as_str()), (ms, text));
        }
        assert_eq!(serde_json::to_string(&ConfigDuration::from_secs(90)).unwrap(), "\"1m30s\"");
    }

    #[test]
    fn says_what_is_wrong() {
        let message = |json| serde_json::from_str::<ConfigDuration>(json).unwrap_err().to_string();
        assert!(message("30").starts_with("not a valid duration string: \"30\""));
        assert!(message("\"5 minutes\"").starts_with("unknown unit"));
        assert!(message("true").contains("a duration such as 30s or 1h30m"));
    }
}
