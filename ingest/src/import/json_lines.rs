//! JSON lines: per line a series with some of its samples, as VictoriaMetrics exports them, and what that form lacks.
//!
//! | Key | Holds |
//! |---|---|
//! | `metric` | the labels, `__name__` among them |
//! | `values`, `timestamps` | floats and their times in milliseconds; a value that is no number is null (NaN) or a text |
//! | `starts` | start timestamps of these, 0 for none; may be left out |
//! | `histograms`, `histogram_timestamps`, `histogram_starts` | native histograms likewise |
//! | `exemplars` | `{"labels": {…}, "value": …, "timestamp": …}` |
//! | `family`, `type`, `unit`, `help` | metadata of a family, on a line of its own |
//!
//! Other keys are ignored.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;

use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use kymo_core::{LabelsBuilder, NativeHistogram};
use serde::Deserialize;

use super::number::Number;
use super::place::{Of, Place};
use super::rows::{BatchSink, Imported, Rows};
use super::{ImportError, read_line};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    metric: BTreeMap<String, String>,
    values: Vec<Number>,
    timestamps: Vec<i64>,
    starts: Vec<i64>,
    histograms: Vec<Histogram>,
    histogram_timestamps: Vec<i64>,
    histogram_starts: Vec<i64>,
    exemplars: Vec<LineExemplar>,
    family: Option<String>,
    #[serde(rename = "type")]
    family_type: FamilyType,
    unit: String,
    help: String,
}

#[derive(Debug, Deserialize)]
struct LineExemplar {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    value: Number,
    timestamp: i64,
}

#[derive(Debug, Deserialize)]
struct Histogram {
    schema: i8,
    #[serde(default)]
    hint: u8,
    zero_threshold: Number,
    sum: Number,
    /// Whether counts are floats.
    #[serde(default)]
    float: bool,
    count: Number,
    /// Whole counts beyond what a float holds stand here.
    #[serde(default)]
    whole: Vec<u64>,
    zero_count: Number,
    #[serde(default)]
    positive_spans: Vec<(i32, u32)>,
    #[serde(default)]
    negative_spans: Vec<(i32, u32)>,
    #[serde(default)]
    positive: Vec<Number>,
    #[serde(default)]
    negative: Vec<Number>,
    #[serde(default)]
    custom_values: Vec<Number>,
}

impl Histogram {
    /// `None` where whole counts do not belong to the buckets.
    fn value(self) -> Option<NativeHistogram> {
        let floats = |numbers: Vec<Number>| numbers.into_iter().map(|number| number.0).collect::<Vec<f64>>();
        let spans =
            |spans: Vec<(i32, u32)>| spans.into_iter().map(|(offset, len)| BucketSpan { offset, len }).collect();
        let counts = if self.float {
            HistogramCounts::Float(BucketCounts {
                zero: self.zero_count.0,
                count: self.count.0,
                positive: floats(self.positive),
                negative: floats(self.negative),
            })
        } else {
            let [count, zero, buckets @ ..] = &self.whole[..] else { return None };
            let lens = |spans: &[(i32, u32)]| spans.iter().map(|span| span.1 as usize).sum::<usize>();
            let positive = lens(&self.positive_spans);
            if buckets.len() != positive + lens(&self.negative_spans) {
                return None;
            }
            let (positive, negative) = buckets.split_at(positive);
            HistogramCounts::Integer(BucketCounts {
                zero: *zero,
                count: *count,
                positive: positive.to_vec(),
                negative: negative.to_vec(),
            })
        };
        Some(NativeHistogram {
            schema: self.schema,
            hint: ResetHint::from_u8(self.hint)?,
            zero_threshold: self.zero_threshold.0,
            counts,
            sum: self.sum.0,
            positive_spans: spans(self.positive_spans),
            negative_spans: spans(self.negative_spans),
            custom_values: Arc::from(floats(self.custom_values)),
        })
    }
}

/// Imports JSON lines, of which `from` gives those behind `begin`. `progress` is told how many bytes were read, those before
/// included.
///
/// # Errors
/// [`ImportError`]; a malformed line is named by its number.
pub fn json_lines(
    from: &mut dyn BufRead,
    begin: &Place,
    sink: &mut BatchSink<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, ImportError> {
    let mut rows = Rows::new(sink);
    rows.of(Of::Text(String::new()));
    let (mut line, mut number, mut read) = (Vec::new(), begin.items + 1, begin.bytes());
    progress(read);
    let (mut labels, mut of_exemplar) = (LabelsBuilder::new(), LabelsBuilder::new());
    while let Some(bytes) = read_line(from, &mut line, number)? {
        rows.at(read, number - 1);
        read += bytes;
        let bad = |what: String| ImportError::Malformed { place: format!("line {number}"), what };
        if !line.iter().all(u8::is_ascii_whitespace) {
            let parsed: Line = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
            if let Some(family) = &parsed.family {
                let metadata =
                    Metadata { family_type: parsed.family_type, unit: parsed.unit.clone(), help: parsed.help.clone() };
                rows.metadata(family, metadata);
            }
            take(parsed, &mut rows, &mut labels, &mut of_exemplar).map_err(|fault| match fault {
                Taking::Bad(what) => bad(what.to_owned()),
                Taking::Import(error) => error,
            })?;
        }
        number += 1;
        progress(read);
    }
    rows.end()
}

enum Taking {
    Bad(&'static str),
    Import(ImportError),
}

impl From<ImportError> for Taking {
    fn from(error: ImportError) -> Taking {
        Taking::Import(error)
    }
}

fn take(
    line: Line,
    rows: &mut Rows<'_, '_>,
    labels: &mut LabelsBuilder,
    of_exemplar: &mut LabelsBuilder,
) -> Result<(), Taking> {
    let fits = |starts: &[i64], times: &[i64]| starts.is_empty() || starts.len() == times.len();
    if line.values.len() != line.timestamps.len() || line.histograms.len() != line.histogram_timestamps.len() {
        return Err(Taking::Bad("there are not as many values as timestamps"));
    }
    if !fits(&line.starts, &line.timestamps) || !fits(&line.histogram_starts, &line.histogram_timestamps) {
        return Err(Taking::Bad("there are not as many start timestamps as timestamps"));
    }
    labels.clear();
    line.metric.iter().for_each(|(name, value)| labels.push(name, value));
    let series = labels.build().map_err(|_| Taking::Bad("the labels of the series make no sense"))?;
    rows.series(series);
    for (n, (time_ms, value)) in line.timestamps.iter().zip(&line.values).enumerate() {
        rows.float(*time_ms, line.starts.get(n).copied().unwrap_or(0), value.0)?;
    }
    for (n, (time_ms, histogram)) in line.histogram_timestamps.iter().zip(line.histograms).enumerate() {
        let value = histogram.value().ok_or(Taking::Bad("a histogram's counts do not belong to its spans"))?;
        rows.histogram(*time_ms, line.histogram_starts.get(n).copied().unwrap_or(0), value)?;
    }
    for exemplar in line.exemplars {
        of_exemplar.clear();
        exemplar.labels.iter().for_each(|(name, value)| of_exemplar.push(name, value));
        let labels = of_exemplar.build().map_err(|_| Taking::Bad("the labels of an exemplar make no sense"))?;
        let exemplar = Exemplar { labels: labels.to_labels(), value: exemplar.value.0, time_ms: exemplar.timestamp };
        rows.exemplar(exemplar)?;
    }
    Ok(())
}
