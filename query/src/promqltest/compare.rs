//! Answers against expectations.

use kymo_core::Labels;
use kymo_core::histogram::{NativeHistogram, TestNotation, is_stale_nan};
use kymo_core::query::{Annotations, Grid, PointValue, ResultSeries};
use kymo_core::text::FloatText;

use super::load::SeriesValue;
use super::script::{Eval, Expected, ExpectedNotes, ExpectedSeries, TextMatch};

/// Relative to the sum of both, as the original: half of what is allowed relative to one.
const EPSILON: f64 = 1e-6;

/// Whether two floats are the same for a test.
pub(super) fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

/// Whether a histogram is the expected one: every field, empty buckets aside.
pub(super) fn same_histogram(expected: &NativeHistogram, actual: &NativeHistogram, with_hint: bool) -> bool {
    let buckets = |a: &NativeHistogram, b: &NativeHistogram, positive: bool| {
        let side = |h: &NativeHistogram| -> Vec<(i32, f64)> {
            let all = if positive { h.positive_buckets() } else { h.negative_buckets() };
            all.filter(|bucket| bucket.count != 0.0).map(|bucket| (bucket.index, bucket.count)).collect()
        };
        let (a, b) = (side(a), side(b));
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && almost_equal(a.1, b.1))
    };
    expected.schema == actual.schema
        && almost_equal(expected.count(), actual.count())
        && almost_equal(expected.sum, actual.sum)
        && (!expected.has_custom_bounds() || expected.custom_values == actual.custom_values)
        && expected.zero_threshold == actual.zero_threshold
        && almost_equal(expected.counts.zero(), actual.counts.zero())
        && buckets(expected, actual, true)
        && buckets(expected, actual, false)
        && (!with_hint || expected.hint == actual.hint)
}

fn same_value(expected: &SeriesValue, actual: PointValue<'_>) -> bool {
    match (expected, actual) {
        (SeriesValue::Float(expected), PointValue::Float(actual)) => almost_equal(*expected, actual),
        (SeriesValue::Histogram { value, hint_written }, PointValue::Histogram(actual)) => {
            same_histogram(value, actual, *hint_written)
        }
        _ => false,
    }
}

fn show_point(value: PointValue<'_>) -> String {
    match value {
        PointValue::Float(value) => FloatText::general(value).as_str().to_owned(),
        PointValue::Histogram(histogram) => TestNotation(histogram).to_string(),
    }
}

fn show_value(value: &SeriesValue) -> String {
    match value {
        SeriesValue::Omitted => "_".to_owned(),
        SeriesValue::Float(value) => show_point(PointValue::Float(*value)),
        SeriesValue::Histogram { value, .. } => show_point(PointValue::Histogram(value)),
    }
}

fn show_points(series: &ResultSeries) -> String {
    let points: Vec<String> = series.points().map(|(time, value)| format!("{}@{time}ms", show_point(value))).collect();
    if points.is_empty() { "no point".to_owned() } else { points.join(" ") }
}

/// One element of an instant vector.
pub(super) type Element<'a> = (&'a Labels, PointValue<'a>);

fn expected_series<'a>(eval: &'a Eval, got: &str) -> Result<&'a [ExpectedSeries], String> {
    match &eval.expected {
        Expected::Series(series) => Ok(series),
        Expected::Scalar(value) => Err(format!("expected scalar {}, got {got}", FloatText::general(*value).as_str())),
        Expected::String(text) => Err(format!("expected string {text:?}, got {got}")),
    }
}

/// Compares an instant vector. `ordered`: whether positions count.
pub(super) fn vector(eval: &Eval, elements: &[Element<'_>], ordered: bool) -> Result<(), String> {
    let expected = expected_series(eval, &format!("a vector of {} elements", elements.len()))?;
    let mut seen = vec![false; expected.len()];
    for (position, (labels, value)) in elements.iter().enumerate() {
        let Some(at) = expected.iter().position(|series| series.labels == **labels) else {
            return Err(format!("unexpected series {labels} with value {}", show_point(*value)));
        };
        if std::mem::replace(&mut seen[at], true) {
            return Err(format!("series {labels} is in the result twice"));
        }
        if ordered && at != position {
            return Err(format!("expected series {labels} at position {}, got it at {}", at + 1, position + 1));
        }
        match expected[at].values.first() {
            Some(wanted) if same_value(wanted, *value) => {}
            wanted => {
                let wanted = wanted.map_or_else(|| "nothing".to_owned(), show_value);
                return Err(format!("expected {wanted} for {labels}, got {}", show_point(*value)));
            }
        }
    }
    missing(expected, &seen)
}

fn missing(expected: &[ExpectedSeries], seen: &[bool]) -> Result<(), String> {
    match expected.iter().zip(seen).find(|(_, seen)| !**seen) {
        Some((series, _)) => {
            let values: Vec<String> = series.values.iter().map(show_value).collect();
            Err(format!("expected series {} with {} is missing", series.labels, values.join(" ")))
        }
        None => Ok(()),
    }
}

/// Compares series of points; expected values lie on `grid`.
pub(super) fn matrix(eval: &Eval, series: &[ResultSeries], grid: Grid) -> Result<(), String> {
    let expected = expected_series(eval, &format!("a matrix of {} series", series.len()))?;
    sorted(series)?;
    let mut seen = vec![false; expected.len()];
    for result in series {
        let labels = &result.labels;
        let Some(at) = expected.iter().position(|series| series.labels == *labels) else {
            return Err(format!("unexpected series {labels}: {}", show_points(result)));
        };
        if std::mem::replace(&mut seen[at], true) {
            return Err(format!("series {labels} is in the result twice"));
        }
        let values = &expected[at].values;
        if values.len() > grid.steps() {
            return Err(format!(
                "{} values are expected for {labels}, but there are {} steps",
                values.len(),
                grid.steps()
            ));
        }
        let wanted = values.iter().enumerate().filter(|(_, value)| !matches!(value, SeriesValue::Omitted));
        let mut wanted = wanted.map(|(step, value)| (grid.time_ms(step), value));
        let mut points = result.points();
        loop {
            match (wanted.next(), points.next()) {
                (None, None) => break,
                (Some((time, value)), Some((at, point))) if time == at && same_value(value, point) => {}
                (value, point) => {
                    let value = value.map(|(time, value)| format!("{}@{time}ms", show_value(value)));
                    let point = point.map(|(time, point)| format!("{}@{time}ms", show_point(point)));
                    let nothing = || "no further point".to_owned();
                    return Err(format!(
                        "expected {} for {labels}, got {} (all points: {})",
                        value.unwrap_or_else(nothing),
                        point.unwrap_or_else(nothing),
                        show_points(result)
                    ));
                }
            }
        }
    }
    missing(expected, &seen)
}

/// Range results are sorted by labels.
pub(super) fn sorted(series: &[ResultSeries]) -> Result<(), String> {
    match series.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        Some(pair) => Err(format!("the matrix is not sorted: {} stands before {}", pair[0].labels, pair[1].labels)),
        None => Ok(()),
    }
}

/// Compares a scalar.
pub(super) fn scalar(eval: &Eval, value: f64) -> Result<(), String> {
    let shown = |value| FloatText::general(value).as_str().to_owned();
    match &eval.expected {
        Expected::Scalar(expected) if almost_equal(*expected, value) => Ok(()),
        Expected::Scalar(expected) => Err(format!("expected scalar {}, got {}", shown(*expected), shown(value))),
        _ => expected_series(eval, &format!("scalar {}", shown(value)))
            .and(Err(format!("expected a vector or matrix, got scalar {}", shown(value)))),
    }
}

/// Compares a string.
pub(super) fn string(eval: &Eval, value: &str) -> Result<(), String> {
    match &eval.expected {
        Expected::String(expected) if expected == value => Ok(()),
        Expected::String(expected) => Err(format!("expected string {expected:?}, got {value:?}")),
        _ => expected_series(eval, &format!("string {value:?}"))
            .and(Err(format!("expected a vector or matrix, got string {value:?}"))),
    }
}

/// Whether positions in annotations are those of the script's text, or of a text with `@` put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    AsWritten,
    Moved,
}

/// Compares warnings and infos.
pub(super) fn annotations(eval: &Eval, notes: &Annotations, positions: Positions) -> Result<(), String> {
    annotations_of("warn", &eval.warnings, &notes.warnings, positions)?;
    annotations_of("info", &eval.infos, &notes.infos, positions)
}

fn annotations_of(kind: &str, expected: &ExpectedNotes, found: &[String], positions: Positions) -> Result<(), String> {
    let expected = match expected {
        ExpectedNotes::Ignored => return Ok(()),
        ExpectedNotes::None if found.is_empty() => return Ok(()),
        ExpectedNotes::None => return Err(format!("unexpected {kind} annotations: {}", found.join("; "))),
        ExpectedNotes::These(expected) => expected,
    };
    if found.is_empty() {
        return Err(format!("expected {kind} annotations, got none"));
    }
    let matches = |wanted: &TextMatch, text: &str| {
        wanted.matches(text)
            || match wanted {
                TextMatch::Exactly(wanted) if positions == Positions::Moved => {
                    without_position(wanted) == without_position(text)
                }
                _ => false,
            }
    };
    if let Some(wanted) = expected.iter().find(|wanted| !found.iter().any(|text| matches(wanted, text))) {
        return Err(format!("expected {kind} annotation {wanted}, got {}", found.join("; ")));
    }
    match found.iter().find(|text| !expected.iter().any(|wanted| matches(wanted, text))) {
        Some(text) => Err(format!("unexpected {kind} annotation {text:?}")),
        None => Ok(()),
    }
}

/// Cuts `(1:23)` off the end.
fn without_position(text: &str) -> &str {
    let cut = text.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
    let position = |text: &str| text.contains(':') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    cut.filter(|(_, inside)| position(inside)).map_or(text, |(before, _)| before)
}
