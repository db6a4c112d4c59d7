//! OpenMetrics text: a line per float.

use kymo_core::Labels;
use kymo_core::histogram::NORMAL_NAN_BITS;
use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::text::{write_float_open_metrics, write_i64, write_series_text};

/// Writes the lines of a series; gives how many samples are left out.
pub(super) fn series(out: &mut String, labels: &Labels, columns: &Columns) -> u64 {
    let mut text = String::new();
    write_series_text(&mut text, labels.iter());
    // The format has no blanks between labels.
    let text = without_blanks(&text);
    let mut left_out = 0;
    for (time_ms, value) in columns.iter() {
        match value {
            ColumnValue::Float(value) if !value.is_nan() || value.to_bits() == NORMAL_NAN_BITS => {
                out.push_str(&text);
                out.push(' ');
                write_float_open_metrics(out, value);
                out.push(' ');
                seconds(out, time_ms);
                out.push('\n');
            }
            _ => left_out += 1,
        }
    }
    left_out
}

/// The text of a series without the blanks that stand behind commas outside quotes.
fn without_blanks(text: &str) -> String {
    let (mut out, mut is_quoted, mut is_escaped, mut last) = (String::with_capacity(text.len()), false, false, ' ');
    for c in text.chars() {
        if is_quoted || c != ' ' || last != ',' {
            out.push(c);
        }
        if is_quoted {
            (is_quoted, is_escaped) = (c != '"' || is_escaped, c == '\\' && !is_escaped);
        } else {
            is_quoted = c == '"';
        }
        last = c;
    }
    out
}

/// A time in seconds. Readers multiply by a thousand and cut off what is behind the point, Prometheus among them, so where
/// that would end a millisecond short a little is added.
fn seconds(out: &mut String, time_ms: i64) {
    let begin = out.len();
    if time_ms < 0 {
        out.push('-');
    }
    let (whole, part) = (time_ms.unsigned_abs() / 1_000, time_ms.unsigned_abs() % 1_000);
    write_i64(out, whole as i64);
    if part > 0 {
        out.push_str(&format!(".{part:03}"));
    }
    let is_exact = out[begin..].parse::<f64>().is_ok_and(|seconds| (seconds * 1_000.0) as i64 == time_ms);
    if !is_exact {
        out.push_str("0001");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_millisecond_that_was_written() {
        let mut nudged = 0;
        for time_ms in (0..100_000i64).flat_map(|n| [n, 1_700_000_000_000 + n * 7_919]) {
            let mut text = String::new();
            seconds(&mut text, time_ms);
            assert_eq!((text.parse::<f64>().unwrap() * 1_000.0) as i64, time_ms, "{text}");
            nudged += usize::from(text.ends_with("0001"));
        }
        assert!(nudged > 0, "some of them are cut short without help");
    }

    #[test]
    fn blanks_in_values_stay() {
        assert_eq!(without_blanks(r#"a{b="c, \", d", e="f"}"#), r#"a{b="c, \", d",e="f"}"#);
    }
}
