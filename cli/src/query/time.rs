//! Times on the command line: absolute as the API takes them, or relative to now.

use std::str::FromStr;

use kymo_core::text::{parse_duration_ms, parse_float, parse_time_ms};

/// A moment, perhaps relative to the time of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// Milliseconds from now.
    FromNow(i64),
}

impl Moment {
    pub(crate) fn resolve(self, now_ms: i64) -> i64 {
        match self {
            Moment::At(ms) => ms,
            Moment::FromNow(ms) => now_ms.saturating_add(ms),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    /// `now`, `-1h`, `+5m`, `now-1h`, or what the API's `time` takes. A signed number without a unit is seconds since
    /// the epoch.
    fn from_str(text: &str) -> Result<Moment, String> {
        let offset = text.strip_prefix("now").unwrap_or(text);
        if offset.is_empty() && !text.is_empty() {
            return Ok(Moment::FromNow(0));
        }
        let signed = |sign: i64, duration: &str| parse_duration_ms(duration).ok().map(|ms| Moment::FromNow(sign * ms));
        let relative = match offset.split_at_checked(1) {
            Some(("-", duration)) => signed(-1, duration),
            Some(("+", duration)) => signed(1, duration),
            _ => None,
        };
        match relative {
            Some(moment) => Ok(moment),
            None => parse_time_ms(text).map(Moment::At).map_err(|_| {
                "expected now, a time relative to it (-1h, now-90s), RFC 3339 (2026-11-20T22:43:00Z) or seconds since 1970"
                    .to_owned()
            }),
        }
    }
}

/// Distance of steps in milliseconds, above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step(pub(crate) i64);

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Step, String> {
        let ms = match parse_float(text) {
            Ok(seconds) => Some((seconds * 1000.0).round()).filter(|ms| *ms < i64::MAX as f64).map(|ms| ms as i64),
            Err(_) => parse_duration_ms(text).ok(),
        };
        match ms {
            Some(ms) if ms > 0 => Ok(Step(ms)),
            Some(_) => Err("a step is at least a millisecond".to_owned()),
            None => Err("expected a duration (15s, 1m30s) or seconds".to_owned()),
        }
    }
}
