//! Durations as Prometheus writes them (`1h30m`), and as Go's `time.Duration` prints (`1h30m0s`).

use std::fmt;

use super::float::write_u64;
use super::sink::{Relay, TextSink};

/// Why text is not a duration. Texts are those of Prometheus' `model.ParseDuration`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// No text at all.
    #[error("empty duration string")]
    Empty,
    /// Not a run of numbers with units, or units out of order or repeated.
    #[error("not a valid duration string: {}", super::QuotedText(.text))]
    Syntax {
        /// The whole text.
        text: String,
    },
    /// A unit that is none of `y w d h m s ms`.
    #[error("unknown unit {} in duration {}", super::QuotedText(.unit), super::QuotedText(.text))]
    Unit {
        /// The unit found.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Longer than 2^63 − 1 nanoseconds, about 292 years.
    #[error("duration out of range")]
    Range,
}

const NS_PER_MS: u64 = 1_000_000;
const MS_PER_SECOND: u64 = 1000;
const MS_PER_MINUTE: u64 = 60 * MS_PER_SECOND;
const MS_PER_HOUR: u64 = 60 * MS_PER_MINUTE;
const MS_PER_DAY: u64 = 24 * MS_PER_HOUR;
const MS_PER_WEEK: u64 = 7 * MS_PER_DAY;
/// Prometheus' year has 365 days.
const MS_PER_YEAR: u64 = 365 * MS_PER_DAY;

/// Units from largest to smallest: the order in which they must be written.
const UNITS: [(&str, u64); 7] = [
    ("y", MS_PER_YEAR),
    ("w", MS_PER_WEEK),
    ("d", MS_PER_DAY),
    ("h", MS_PER_HOUR),
    ("m", MS_PER_MINUTE),
    ("s", MS_PER_SECOND),
    ("ms", 1),
];

/// Reads a Prometheus duration (`1h30m`, `90s`, `1d12h`, `0`) in milliseconds.
///
/// Units are `y w d h m s ms`, each at most once, largest first; only `0` may stand without a unit.
///
/// # Errors
/// [`DurationError`]; the limit is that of nanoseconds in an `i64`, as in Prometheus.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    Ok(parse_duration_ns(text)? / NS_PER_MS as i64)
}

/// Like [`parse_duration_ms`], in nanoseconds.
///
/// # Errors
/// As [`parse_duration_ms`].
pub fn parse_duration_ns(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let syntax = || DurationError::Syntax { text: text.to_owned() };
    let mut total_ns: u64 = 0;
    let mut smaller_units = &UNITS[..];
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(syntax());
        }
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| syntax())?;
        let letters = after.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or(after.len());
        if letters == 0 {
            return Err(syntax());
        }
        let (unit, after) = after.split_at(letters);
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(DurationError::Unit { unit: unit.to_owned(), text: text.to_owned() });
        }
        let at = smaller_units.iter().position(|(name, _)| *name == unit).ok_or_else(syntax)?;
        let unit_ns = smaller_units[at].1 * NS_PER_MS;
        smaller_units = &smaller_units[at + 1..];
        total_ns = number
            .checked_mul(unit_ns)
            .and_then(|ns| total_ns.checked_add(ns))
            .filter(|&ns| i64::try_from(ns).is_ok())
            .ok_or(DurationError::Range)?;
        rest = after;
    }
    Ok(total_ns as i64)
}

/// Like [`parse_duration_ns`], with an optional leading `-`.
///
/// # Errors
/// As [`parse_duration_ms`].
pub fn parse_signed_duration_ns(text: &str) -> Result<i64, DurationError> {
    match text.strip_prefix('-') {
        Some(rest) => Ok(-parse_duration_ns(rest)?),
        None => parse_duration_ns(text),
    }
}

/// Appends a duration as Prometheus prints it: `1h30m`, `0s`, `-5m`.
///
/// Years and weeks appear only when nothing is left over (`90d`, not `12w6d`).
pub fn write_duration_ms<S: TextSink + ?Sized>(out: &mut S, duration_ms: i64) {
    if duration_ms == 0 {
        out.push_str("0s");
        return;
    }
    if duration_ms < 0 {
        out.push_str("-");
    }
    let mut rest = duration_ms.unsigned_abs();
    for (name, unit) in UNITS {
        let whole_only = unit >= MS_PER_WEEK;
        if rest < unit || (whole_only && rest % unit != 0) {
            continue;
        }
        write_u64(out, rest / unit);
        out.push_str(name);
        rest %= unit;
    }
}

/// A duration in milliseconds that displays as [`write_duration_ms`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationText(pub i64);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut relay = Relay::new(f);
        write_duration_ms(&mut relay, self.0);
        relay.result
    }
}

/// Appends a duration as Go's `time.Duration` prints it: `1h30m0s`, `1.5s`, `250ms`, `1µs`, `0s`.
pub fn write_go_duration<S: TextSink + ?Sized>(out: &mut S, duration_ns: i64) {
    const NS_PER_SECOND: u64 = 1_000_000_000;
    if duration_ns < 0 {
        out.push_str("-");
    }
    let ns = duration_ns.unsigned_abs();
    if ns < NS_PER_SECOND {
        match ns {
            0 => out.push_str("0s"),
            1..1_000 => {
                write_u64(out, ns);
                out.push_str("ns");
            }
            1_000..1_000_000 => {
                write_decimal(out, ns, 1_000);
                out.push_str("µs");
            }
            _ => {
                write_decimal(out, ns, 1_000_000);
                out.push_str("ms");
            }
        }
        return;
    }
    let minutes = ns / NS_PER_SECOND / 60;
    if minutes >= 60 {
        write_u64(out, minutes / 60);
        out.push_str("h");
    }
    if minutes > 0 {
        write_u64(out, minutes % 60);
        out.push_str("m");
    }
    write_decimal(out, ns - minutes * 60 * NS_PER_SECOND, NS_PER_SECOND);
    out.push_str("s");
}

/// `value / unit` with as many decimals as needed; `unit` is a power of ten.
fn write_decimal<S: TextSink + ?Sized>(out: &mut S, value: u64, unit: u64) {
    write_u64(out, value / unit);
    let mut rest = value % unit;
    if rest == 0 {
        return;
    }
    out.push_str(".");
    let mut place = unit / 10;
    while rest > 0 {
        write_u64(out, rest / place);
        rest %= place;
        place /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn go(ns: i64) -> String {
        let mut out = String::new();
        write_go_duration(&mut out, ns);
        out
    }

    #[test]
    fn reads_and_prints_as_prometheus() {
        let rows = [
            ("0", 0, "0s"),
            ("0w", 0, "0s"),
            ("0s", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("3s", 3_000, "3s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 345_600_000, "4d"),
            ("4d1h", 349_200_000, "4d1h"),
            ("14d", 1_209_600_000, "2w"),
            ("3w", 1_814_400_000, "3w"),
            ("3w2d1h", 1_990_800_000, "23d1h"),
            ("10y", 315_360_000_000, "10y"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("1s500ms", 1_500, "1s500ms"),
        ];
        for (text, ms, printed) in rows {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
            assert_eq!(DurationText(ms).to_string(), printed);
        }
        assert_eq!(parse_signed_duration_ns("-5m"), Ok(-300_000_000_000));
        assert_eq!(DurationText(-90_000).to_string(), "-1m30s");
    }

    #[test]
    fn refuses_with_the_reference_texts() {
        let rows = [
            ("", "empty duration string"),
            ("1", "not a valid duration string: \"1\""),
            ("1y1m1d", "not a valid duration string: \"1y1m1d\""),
            ("1m1m", "not a valid duration string: \"1m1m\""),
            ("-1w", "not a valid duration string: \"-1w\""),
            ("1.5d", "unknown unit \".\" in duration \"1.5d\""),
            ("1x", "unknown unit \"x\" in duration \"1x\""),
            ("294y", "duration out of range"),
            ("200y10400w", "duration out of range"),
            ("99999999999999999999s", "not a valid duration string: \"99999999999999999999s\""),
        ];
        for (text, message) in rows {
            assert_eq!(parse_duration_ms(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn prints_go_durations() {
        let rows = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (1_050_000, "1.05ms"),
            (-1_500_000_000, "-1.5s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (ns, text) in rows {
            assert_eq!(go(ns), text);
        }
    }

    proptest! {
        #[test]
        fn printed_durations_read_back(ms in 0..i64::MAX / 1_000_000) {
            let text = DurationText(ms).to_string();
            prop_assert_eq!(parse_duration_ms(&text), Ok(ms));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9ymdhsw. -]{0,12}") {
            if let Ok(ms) = parse_duration_ms(&text) {
                prop_assert!(ms >= 0);
            }
        }
    }
}
