//! The series notation: labels, then values with repetitions, increments, gaps and histograms.

use std::sync::Arc;

use kymo_core::histogram::{
    BucketCounts, BucketSpan, CUSTOM_BUCKETS_SCHEMA, HistogramCounts, MixedBuckets, ResetHint, stale_nan,
};
use kymo_core::text::{SeriesTextError, parse_float, parse_series_text, parse_signed_duration_ns};
use kymo_core::{Labels, NativeHistogram};

/// Values of one line at most: a typing error in a repetition must not take all memory.
const VALUES_MAX: usize = 1_000_000;

/// What a series has at one step.
#[derive(Debug, Clone)]
pub enum SeriesValue {
    /// Nothing: `_`.
    Omitted,
    /// A float; the stale NaN for `stale`.
    Float(f64),
    /// A native histogram with float counts.
    Histogram {
        /// The histogram.
        value: Box<NativeHistogram>,
        /// Whether `counter_reset_hint` was written; if not, it does not matter in a comparison.
        hint_written: bool,
    },
}

/// A key of a histogram in braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the keys are those of the notation")]
pub enum HistogramField {
    Schema,
    Sum,
    Count,
    ZBucket,
    ZBucketW,
    CustomValues,
    Offset,
    Buckets,
    NOffset,
    NBuckets,
    CounterResetHint,
}

impl HistogramField {
    const ALL: [HistogramField; 11] = [
        HistogramField::Schema,
        HistogramField::Sum,
        HistogramField::Count,
        HistogramField::ZBucket,
        HistogramField::ZBucketW,
        HistogramField::CustomValues,
        HistogramField::Offset,
        HistogramField::Buckets,
        HistogramField::NOffset,
        HistogramField::NBuckets,
        HistogramField::CounterResetHint,
    ];

    /// The key as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HistogramField::Schema => "schema",
            HistogramField::Sum => "sum",
            HistogramField::Count => "count",
            HistogramField::ZBucket => "z_bucket",
            HistogramField::ZBucketW => "z_bucket_w",
            HistogramField::CustomValues => "custom_values",
            HistogramField::Offset => "offset",
            HistogramField::Buckets => "buckets",
            HistogramField::NOffset => "n_offset",
            HistogramField::NBuckets => "n_buckets",
            HistogramField::CounterResetHint => "counter_reset_hint",
        }
    }
}

/// Why text is not in the series notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotationError {
    /// The labels cannot be read.
    #[error("series: {0}")]
    Series(#[from] SeriesTextError),
    /// Something else stands where this was expected.
    #[error("expected {expected}, found {found:?}")]
    Expected {
        /// What was expected, in words.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A key stands twice in one histogram.
    #[error("{} is given twice in one histogram", field.as_str())]
    DuplicateField {
        /// The key.
        field: HistogramField,
    },
    /// A histogram grows by one of another kind.
    #[error(transparent)]
    Mixed(#[from] MixedBuckets),
    /// A histogram grows by one of a coarser schema, which would change its own.
    #[error("a histogram of schema {base} cannot grow by one of schema {increment}")]
    CoarserIncrement {
        /// Schema of the first histogram.
        base: i8,
        /// Schema of the increment.
        increment: i8,
    },
    /// A repetition is too long.
    #[error("more than {} values in one line", VALUES_MAX)]
    TooMany,
}

fn expected(expected: &'static str, found: &str) -> NotationError {
    NotationError::Expected { expected, found: found.to_owned() }
}

/// Reads `SERIES VALUES`: `up{job="node"} 1 2 _ 4x3`.
///
/// # Errors
/// [`NotationError`] says what was expected.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<SeriesValue>), NotationError> {
    let (series, values) = split_series(line.trim());
    if !values.is_empty() && !values.starts_with([' ', '\t']) {
        return Err(expected("a blank after the series", values));
    }
    Ok((labels(series)?, parse_values(values)?))
}

pub(super) fn labels(series: &str) -> Result<Labels, NotationError> {
    Ok(Labels::from_pairs(parse_series_text(series)?))
}

/// Cuts a line behind its series: a bare name, braces, or both without a blank between.
pub(super) fn split_series(line: &str) -> (&str, &str) {
    let name = line.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(line.len());
    if !line[name..].starts_with('{') {
        return line.split_at(name);
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line[name..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if c == '\\' && open != '`' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => return line.split_at(name + at + 1),
            None => {}
        }
    }
    (line, "")
}

/// Reads `VALUES`: `1 2 _ 4x3 {{sum:1 count:1}}+{{sum:1 count:1}}x5 stale`.
///
/// # Errors
/// [`NotationError`] says what was expected.
pub fn parse_values(text: &str) -> Result<Vec<SeriesValue>, NotationError> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest =
            if rest.starts_with("{{") { push_histograms(&mut values, rest)? } else { push_floats(&mut values, rest)? };
        if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
            return Err(expected("a blank between values", rest));
        }
        rest = rest.trim_start();
    }
    Ok(values)
}

fn push_floats<'a>(values: &mut Vec<SeriesValue>, text: &'a str) -> Result<&'a str, NotationError> {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (item, rest) = text.split_at(end);
    let (head, times) = match item.split_once('x') {
        Some((head, times)) => (head, Some(repetitions(times)?)),
        None => (item, None),
    };
    if head == "_" {
        // Of a gap the number counts all steps, of a value only the further ones.
        return repeat(values, times.unwrap_or(1), |_| SeriesValue::Omitted).map(|()| rest);
    }
    let more = times.unwrap_or(0) + 1;
    if head == "stale" {
        return repeat(values, more, |_| SeriesValue::Float(stale_nan())).map(|()| rest);
    }
    let sign = sign_of_increment(head);
    let (base, increment) = match sign {
        Some(at) if times.is_some() => (number(&head[..at])?, number(&head[at..])?),
        Some(_) => return Err(expected("a repetition such as x3 after the increment", item)),
        None => (number(head)?, 0.0),
    };
    let mut value = base;
    repeat(values, more, |step| {
        // Added up step by step, as the original does; a product would round differently.
        if step > 0 && sign.is_some() {
            value += increment;
        }
        SeriesValue::Float(value)
    })?;
    Ok(rest)
}

/// Where the sign of `+2` stands in `1e-3+2`.
fn sign_of_increment(head: &str) -> Option<usize> {
    let bytes = head.as_bytes();
    (1..bytes.len()).find(|&at| matches!(bytes[at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'))
}

fn repeat(
    values: &mut Vec<SeriesValue>,
    times: usize,
    mut value: impl FnMut(usize) -> SeriesValue,
) -> Result<(), NotationError> {
    if times > VALUES_MAX - values.len().min(VALUES_MAX) {
        return Err(NotationError::TooMany);
    }
    values.extend((0..times).map(&mut value));
    Ok(())
}

fn repetitions(text: &str) -> Result<usize, NotationError> {
    let wrong = || expected("a number of repetitions", text);
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    // Too long for an integer is too many anyway.
    if text.is_empty() { Err(wrong()) } else { Ok(text.parse().unwrap_or(usize::MAX - 1)) }
}

/// A number as PromQL reads it: integers in Go's notations, else a float.
pub(super) fn number(text: &str) -> Result<f64, NotationError> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let integer = |radix, digits: &str| i64::from_str_radix(digits, radix).ok().map(|n| n as f64);
    let magnitude = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => integer(16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => integer(8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => integer(2, &unsigned[2..]),
        [b'0', b'0'..=b'7', ..] => integer(8, &unsigned[1..]),
        _ => None,
    };
    match magnitude {
        Some(n) if unsigned.len() + 1 >= text.len() => Ok(if text.starts_with('-') { -n } else { n }),
        _ => parse_float(text).map_err(|_| expected("a number", text)),
    }
}

fn push_histograms<'a>(values: &mut Vec<SeriesValue>, text: &'a str) -> Result<&'a str, NotationError> {
    let (base, hint_written, mut rest) = histogram(text)?;
    let sign = match rest.as_bytes() {
        [b'+', b'{', ..] => Some(1.0),
        [b'-', b'{', ..] => Some(-1.0),
        _ => None,
    };
    let mut increment = None;
    if let Some(sign) = sign {
        let (by, _, after) = histogram(&rest[1..])?;
        if base.schema > by.schema {
            return Err(NotationError::CoarserIncrement { base: base.schema, increment: by.schema });
        }
        increment = Some((by, sign));
        rest = after;
    }
    let mut times = 0;
    if let Some(after) = rest.strip_prefix('x') {
        let digits = after.find([' ', '\t']).unwrap_or(after.len());
        times = repetitions(&after[..digits])?;
        rest = &after[digits..];
    } else if increment.is_some() {
        return Err(expected("a repetition such as x3 after the increment", rest));
    }
    let mut current = base;
    let mut fault = None;
    repeat(values, times + 1, |step| {
        if let Some((by, sign)) = increment.as_ref().filter(|_| step > 0) {
            let merged = if *sign > 0.0 { current.add(by) } else { current.subtract(by) };
            fault = fault.or(merged.err());
        }
        SeriesValue::Histogram { value: Box::new(current.clone()), hint_written }
    })?;
    fault.map_or(Ok(rest), |mixed| Err(mixed.into()))
}

/// Reads `{{key:value …}}` at the start of `text`; gives what follows.
fn histogram(text: &str) -> Result<(NativeHistogram, bool, &str), NotationError> {
    let inner = text.strip_prefix("{{").ok_or_else(|| expected("'{{'", text))?;
    let end = inner.find("}}").ok_or_else(|| expected("'}}'", inner))?;
    let (mut fields, rest) = (inner[..end].trim(), &inner[end + 2..]);
    let mut h = NativeHistogram {
        schema: 0,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(BucketCounts::default()),
        sum: 0.0,
        positive_spans: Vec::new(),
        negative_spans: Vec::new(),
        custom_values: Arc::from([]),
    };
    let mut seen: Vec<HistogramField> = Vec::new();
    let (mut offset, mut n_offset) = (0, 0);
    while !fields.is_empty() {
        let known = "a key of a histogram";
        let (key, after) = fields.split_once(':').ok_or_else(|| expected(known, fields))?;
        let field = HistogramField::ALL.into_iter().find(|field| field.as_str() == key);
        let field = field.ok_or_else(|| expected(known, key))?;
        if seen.contains(&field) {
            return Err(NotationError::DuplicateField { field });
        }
        seen.push(field);
        let close = if after.starts_with('[') { after.find(']').map(|at| at + 1) } else { after.find([' ', '\t']) };
        let (value, after) = after.split_at(close.unwrap_or(after.len()));
        if !after.is_empty() && !after.starts_with([' ', '\t']) {
            return Err(expected("a blank between keys", after));
        }
        fields = after.trim_start();
        match field {
            HistogramField::Schema => h.schema = integer(value)?,
            HistogramField::Sum => h.sum = number(value)?,
            HistogramField::Count => h.float_counts().count = number(value)?,
            HistogramField::ZBucket => h.float_counts().zero = number(value)?,
            HistogramField::ZBucketW => h.zero_threshold = number(value)?,
            HistogramField::CustomValues => h.custom_values = numbers(value)?.into(),
            HistogramField::Offset => offset = integer(value)?,
            HistogramField::NOffset => n_offset = integer(value)?,
            HistogramField::Buckets => h.float_counts().positive = numbers(value)?,
            HistogramField::NBuckets => h.float_counts().negative = numbers(value)?,
            HistogramField::CounterResetHint => h.hint = hint(value)?,
        }
    }
    let span = |offset, len: usize| -> Vec<BucketSpan> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if len == 0 { Vec::new() } else { vec![BucketSpan { offset, len }] }
    };
    let counts = h.float_counts();
    let (positive, negative) = (counts.positive.len(), counts.negative.len());
    h.positive_spans = span(offset, positive);
    h.negative_spans = span(n_offset, negative);
    if h.schema != CUSTOM_BUCKETS_SCHEMA && !h.custom_values.is_empty() {
        return Err(expected("schema:-53 with custom_values", &inner[..end]));
    }
    Ok((h, seen.contains(&HistogramField::CounterResetHint), rest))
}

fn integer<T: std::str::FromStr>(text: &str) -> Result<T, NotationError> {
    text.parse().map_err(|_| expected("a whole number in range", text))
}

fn numbers(text: &str) -> Result<Vec<f64>, NotationError> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.ok_or_else(|| expected("a list of numbers in square brackets", text))?;
    inner.split_whitespace().map(number).collect()
}

fn hint(text: &str) -> Result<ResetHint, NotationError> {
    match text {
        "unknown" => Ok(ResetHint::Unknown),
        "reset" => Ok(ResetHint::Reset),
        "not_reset" => Ok(ResetHint::NotReset),
        "gauge" => Ok(ResetHint::Gauge),
        _ => Err(expected("unknown, reset, not_reset or gauge", text)),
    }
}

/// Reads the offsets of an `@st` line, milliseconds relative to each sample; `None` for `_`.
///
/// `*` repeats the last offset written.
pub(super) fn parse_start_offsets(text: &str) -> Result<Vec<Option<i64>>, NotationError> {
    let mut offsets: Vec<Option<i64>> = Vec::new();
    for item in text.split_whitespace() {
        let (head, times) = match item.split_once('x') {
            Some((head, times)) => (head, Some(repetitions(times)?)),
            None => (item, None),
        };
        let more = times.unwrap_or(0);
        if more > VALUES_MAX || offsets.len() > VALUES_MAX {
            return Err(NotationError::TooMany);
        }
        if head == "_" {
            offsets.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
        } else if head == "*" {
            let last = offsets.iter().rev().find_map(|offset| *offset).unwrap_or(0);
            offsets.extend(std::iter::repeat_n(Some(last), more + 1));
        } else {
            let (base, step) = match head.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')) {
                Some((at, sign)) if times.is_some() => {
                    let step = duration(&head[at + 1..])?;
                    (duration(&head[..at])?, if sign == '-' { -step } else { step })
                }
                Some(_) => return Err(expected("a repetition such as x3 after the step", item)),
                None => (duration(head)?, 0),
            };
            offsets.extend((0..=more as i64).map(|n| Some(base.saturating_add(step.saturating_mul(n)))));
        }
    }
    Ok(offsets)
}

fn duration(text: &str) -> Result<i64, NotationError> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    parse_signed_duration_ns(unsigned).map(|ns| ns / 1_000_000).map_err(|_| expected("a duration", text))
}
