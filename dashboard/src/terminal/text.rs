//! Figures, times and names as short texts.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::promql;

const SECOND_MS: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// What a figure measures, which decides how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// A plain number.
    #[default]
    Number,
    /// Seconds.
    Seconds,
    /// Bytes, by 1024.
    Bytes,
    /// Bytes each second.
    BytesPerSecond,
    /// Something each second.
    PerSecond,
    /// A share, 1 for all.
    Ratio,
}

impl Unit {
    /// The unit that a metric's name ends with, as its values are when they are not rated.
    pub fn of_name(name: &str) -> Unit {
        let base = name.trim_end_matches("_total").trim_end_matches("_sum").trim_end_matches("_bucket");
        if base.ends_with("_seconds") {
            Unit::Seconds
        } else if base.ends_with("_bytes") {
            Unit::Bytes
        } else if base.ends_with("_ratio") {
            Unit::Ratio
        } else {
            Unit::Number
        }
    }

    /// The unit of the rate of something.
    pub fn rate(self) -> Unit {
        match self {
            Unit::Bytes => Unit::BytesPerSecond,
            Unit::Seconds => Unit::Ratio,
            _ => Unit::PerSecond,
        }
    }

    /// The unit of what an expression gives, guessed from its text; a wrong guess costs only a suffix.
    pub fn of_expression(text: &str) -> Unit {
        let is_rate = ["rate(", "deriv("].iter().any(|function| text.contains(function));
        if text.contains("histogram_quantile(") || text.contains("histogram_avg(") {
            return if text.contains("_seconds") { Unit::Seconds } else { Unit::Number };
        }
        if text.contains('/') {
            return Unit::Number;
        }
        let unit = Unit::of_observations(text);
        if text.contains("count(") || text.contains("count by") || text.contains("timestamp(") {
            Unit::Number
        } else if is_rate || text.contains("rate by") {
            unit.rate()
        } else {
            unit
        }
    }

    /// The unit of what the metric of an expression observes, whatever is done with it.
    pub fn of_observations(text: &str) -> Unit {
        let name = text
            .split(|char: char| !(char.is_ascii_alphanumeric() || char == '_' || char == ':'))
            .find(|word| word.contains('_') && !promql::FUNCTIONS.contains(word))
            .unwrap_or_default();
        Unit::of_name(name)
    }
}

/// A figure in at most seven columns or so: `1.23k`, `4.5ms`, `12MiB`, `3.1%`.
pub(super) fn figure(value: f64, unit: Unit) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    match unit {
        Unit::Number => scaled(value, ""),
        Unit::PerSecond => scaled(value, "/s"),
        Unit::Ratio => format!("{}%", digits(value * 100.0)),
        Unit::Seconds => seconds(value),
        Unit::Bytes => bytes(value, ""),
        Unit::BytesPerSecond => bytes(value, "/s"),
    }
}

fn scaled(value: f64, suffix: &str) -> String {
    let size = value.abs();
    let (by, letter) = match size {
        _ if size >= 999.5e9 => (1e12, "T"),
        _ if size >= 999.5e6 => (1e9, "G"),
        _ if size >= 999.5e3 => (1e6, "M"),
        _ if size >= 9_999.5 => (1e3, "k"),
        _ if size < 0.0005 && size > 0.0 => return format!("{value:.1e}{suffix}"),
        _ => (1.0, ""),
    };
    format!("{}{letter}{suffix}", digits(value / by))
}

/// Three digits that say something, more before the point.
fn digits(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size >= 99.95 => return format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.0995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() || short == "-0" || short == "-" { "0".to_owned() } else { short.to_owned() }
}

fn seconds(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size == 0.0 => "0s".to_owned(),
        _ if size < 0.999_5e-6 => format!("{}ns", digits(value * 1e9)),
        _ if size < 0.999_5e-3 => format!("{}µs", digits(value * 1e6)),
        _ if size < 0.999_5 => format!("{}ms", digits(value * 1e3)),
        _ if size < 120.0 => format!("{}s", digits(value)),
        _ => span((value * 1e3) as i64),
    }
}

fn bytes(value: f64, suffix: &str) -> String {
    let size = value.abs();
    let (by, letter) = match size {
        _ if size >= 1023.5 * 1_073_741_824.0 => (1_099_511_627_776.0, "TiB"),
        _ if size >= 1023.5 * 1_048_576.0 => (1_073_741_824.0, "GiB"),
        _ if size >= 1023.5 * 1_024.0 => (1_048_576.0, "MiB"),
        _ if size >= 1023.5 => (1_024.0, "KiB"),
        _ => (1.0, "B"),
    };
    format!("{}{letter}{suffix}", digits(value / by))
}

/// `1 service`, `2 services`.
pub(super) fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// A length of time in its two largest units: `2h5m`, `3d4h`, `12s`, `350ms`.
pub(super) fn span(ms: i64) -> String {
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    if ms < 1_000 {
        return format!("{sign}{ms}ms");
    }
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let first = units.iter().position(|(size, _)| ms >= *size).unwrap_or(units.len() - 1);
    let (size, name) = units[first];
    let mut text = format!("{sign}{}{name}", ms / size);
    if let Some((small, name)) = units.get(first + 1)
        && ms % size / small > 0
    {
        text += &format!("{}{name}", ms % size / small);
    }
    text
}

/// Year, month and day of a moment, UTC (proleptic Gregorian; after H. Hinnant, "chrono-compatible low-level date
/// algorithms").
pub(super) fn date(time_ms: i64) -> (i64, u32, u32) {
    let days = time_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// `15:04:05`, UTC.
pub(super) fn time_of_day(time_ms: i64) -> String {
    let seconds = time_ms.rem_euclid(DAY_MS) / SECOND_MS;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// `15:04`, UTC.
pub(super) fn hour_minute(time_ms: i64) -> String {
    time_of_day(time_ms)[..5].to_owned()
}

/// `11-21`.
pub(super) fn month_day(time_ms: i64) -> String {
    let (_, month, day) = date(time_ms);
    format!("{month:02}-{day:02}")
}

/// `2026-11-21 15:04:05`, UTC.
pub(super) fn moment(time_ms: i64) -> String {
    let (year, month, day) = date(time_ms);
    format!("{year:04}-{month:02}-{day:02} {}", time_of_day(time_ms))
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A text in lines of at most `width` columns, broken between words; a longer word is left whole.
pub(super) fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if self::width(line) + 1 + self::width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The text in at most `columns`, its cut end shown by `end`; what controls a terminal is shown as `?`.
pub(super) fn fit(text: &str, columns: usize, end: &str) -> String {
    let clean: String = text.chars().map(|char| if char.is_control() { '?' } else { char }).collect();
    if clean.width() <= columns {
        return clean;
    }
    let room = columns.saturating_sub(end.width());
    let (mut cut, mut used) = (String::new(), 0);
    for char in clean.chars() {
        let next = char.width().unwrap_or(0);
        if used + next > room {
            break;
        }
        used += next;
        cut.push(char);
    }
    if columns >= end.width() { cut + end } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_folded_between_words() {
        assert_eq!(folded("one two  three four", 9), ["one two", "three", "four"]);
        assert_eq!(folded("a verylongword", 5), ["a", "verylongword"]);
        assert!(folded("", 5).is_empty());
    }

    #[test]
    fn figures_are_short_and_keep_three_digits() {
        for (value, unit, text) in [
            (0.0, Unit::Number, "0"),
            (1234.0, Unit::Number, "1234"),
            (12_345.0, Unit::Number, "12.3k"),
            (1_999_999.0, Unit::PerSecond, "2M/s"),
            (0.0312, Unit::Ratio, "3.12%"),
            (0.000_45, Unit::Seconds, "450µs"),
            (0.25, Unit::Seconds, "250ms"),
            (4_000.0, Unit::Seconds, "1h6m"),
            (1536.0, Unit::Bytes, "1.5KiB"),
            (0.5, Unit::BytesPerSecond, "0.5B/s"),
            (f64::NAN, Unit::Number, "–"),
            (f64::NEG_INFINITY, Unit::Seconds, "-Inf"),
            (0.0001, Unit::Number, "1.0e-4"),
        ] {
            assert_eq!(figure(value, unit), text);
        }
    }

    #[test]
    fn units_follow_names_and_functions() {
        assert_eq!(Unit::of_expression("rate(node_network_receive_bytes_total[1m])"), Unit::BytesPerSecond);
        assert_eq!(Unit::of_expression("sum by (job) (rate(http_requests_total[1m]))"), Unit::PerSecond);
        assert_eq!(Unit::of_expression("histogram_quantile(0.9, rate(a_seconds_bucket[1m]))"), Unit::Seconds);
        assert_eq!(Unit::of_expression("process_resident_memory_bytes"), Unit::Bytes);
        assert_eq!(Unit::of_expression("up"), Unit::Number);
    }

    #[test]
    fn times_are_utc_and_spans_take_two_units() {
        assert_eq!(moment(1_700_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(moment(-1_000), "1969-12-31 23:59:59");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!([span(350), span(65_000), span(90_061_000), span(-3_600_000)], ["350ms", "1m5s", "1d1h", "-1h"]);
    }

    #[test]
    fn long_texts_are_cut_by_columns_and_lose_their_controls() {
        assert_eq!(fit("abcdef", 4, "…"), "abc…");
        assert_eq!(fit("日本語", 5, "…"), "日本…");
        assert_eq!(fit("a\x1b[2Jb", 9, "…"), "a?[2Jb");
        assert_eq!(fit("abc", 0, "…"), "");
    }
}
