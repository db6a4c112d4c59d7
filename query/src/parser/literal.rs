//! The values of number and duration literals, and the text of durations.

use super::duration::SECONDS_MAX;
use super::quote::quoted;

/// Reads a number as Go's `ParseInt` with base 0 and then `ParseFloat` do: `010` is eight, `08` is
/// eight too, `1_000` is a thousand.
///
/// The error is the text upstream shows.
pub(super) fn parse_number(text: &str) -> Result<f64, String> {
    let fail = |why| {
        let text = quoted(text);
        Err(format!("error parsing number: strconv.ParseFloat: parsing {text}: {why}"))
    };
    if !underscores_are_between_digits(text) {
        return fail("invalid syntax");
    }
    let digits = text.replace('_', "");
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    if let Some(hex) = hex {
        // Beyond 64 bits Go tries a hexadecimal float, which would need an exponent.
        return match i64::from_str_radix(hex, 16) {
            Ok(value) => Ok(value as f64),
            Err(_) => fail("invalid syntax"),
        };
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(value) = i64::from_str_radix(&digits, 8)
    {
        return Ok(value as f64);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_infinite() && !digits.eq_ignore_ascii_case("inf") => fail("value out of range"),
        Ok(value) => Ok(value),
        Err(_) => fail("invalid syntax"),
    }
}

fn underscores_are_between_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let prefixed = text.len() > 2 && (text.starts_with("0x") || text.starts_with("0X"));
    bytes.iter().enumerate().all(|(idx, &byte)| {
        let digit = |byte: &u8| byte.is_ascii_hexdigit();
        byte != b'_'
            || (idx > 0 && (digit(&bytes[idx - 1]) || (prefixed && idx == 2)) && bytes.get(idx + 1).is_some_and(digit))
    })
}

const MS_PER_SECOND: u64 = 1000;
const MS_PER_MINUTE: u64 = 60 * MS_PER_SECOND;
const MS_PER_HOUR: u64 = 60 * MS_PER_MINUTE;
const MS_PER_DAY: u64 = 24 * MS_PER_HOUR;

/// Units from large to small, in ms; each may occur once and only in this order.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * MS_PER_DAY),
    ("w", 7 * MS_PER_DAY),
    ("d", MS_PER_DAY),
    ("h", MS_PER_HOUR),
    ("m", MS_PER_MINUTE),
    ("s", MS_PER_SECOND),
    ("ms", 1),
];

/// Reads `1h30m` as seconds. The error is the text upstream shows.
pub(super) fn parse_duration(text: &str) -> Result<f64, String> {
    let malformed = || format!("not a valid duration string: {}", quoted(text));
    let mut units_left = &UNITS[..];
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (digits, tail) = split_at_first(rest, |c| !c.is_ascii_digit());
        let (unit, tail) = split_at_first(tail, |c| c.is_ascii_digit());
        let count: u64 = digits.parse().map_err(|_| malformed())?;
        if unit.is_empty() {
            return Err(malformed());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(format!("unknown unit {} in duration {}", quoted(unit), quoted(text)));
        }
        let idx = units_left.iter().position(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let unit_ms = units_left[idx].1;
        units_left = &units_left[idx + 1..];
        total_ms = count
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|&ms| ms as f64 / 1000.0 <= SECONDS_MAX)
            .ok_or("duration out of range")?;
        rest = tail;
    }
    Ok(total_ms as f64 / 1000.0)
}

fn split_at_first(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(wanted).unwrap_or(text.len()))
}

/// Appends seconds in units, `1h30m`; years and weeks only where nothing is left over.
///
/// What a whole number of milliseconds cannot hold is written as a number of seconds.
pub(super) fn push_duration(out: &mut String, seconds: f64) {
    let ms = seconds.abs() * 1000.0;
    let whole_ms = ms.round() as u64;
    if whole_ms as f64 / 1000.0 != seconds.abs() || whole_ms > i64::MAX as u64 {
        return push_number(out, seconds);
    }
    if seconds < 0.0 {
        out.push('-');
    }
    if whole_ms == 0 {
        return out.push_str("0s");
    }
    let mut rest_ms = whole_ms;
    for (unit, unit_ms) in UNITS {
        let only_exact = matches!(unit, "y" | "w");
        if only_exact && !rest_ms.is_multiple_of(unit_ms) {
            continue;
        }
        let count = rest_ms / unit_ms;
        if count > 0 {
            out.push_str(&count.to_string());
            out.push_str(unit);
            rest_ms -= count * unit_ms;
        }
    }
}

/// Appends a number without an exponent, as Go's `'f'` format with the fewest digits.
pub(super) fn push_number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        out.push_str(&value.to_string());
    }
}
