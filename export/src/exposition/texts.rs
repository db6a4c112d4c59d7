//! What stays the same from page to page, kept as text: names, comments, labels. Only numbers are written anew.

use kymo_core::Exemplar;
use kymo_core::metric::MetricKind;
use kymo_core::text::{
    is_legacy_label_name, is_legacy_metric_name, write_escaped_help, write_escaped_label_value, write_float_general,
    write_float_open_metrics, write_i64, write_timestamp_seconds, write_u64,
};

use super::format::{Escaping, Format};
use super::names::Names;
use super::shown::{Described, Shown};
use super::value::Value;

/// An exemplar's labels may have so many characters together (OpenMetrics 1.0, "Exemplars").
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Floats up to here are whole numbers exactly, and are written as such.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The texts of a family.
#[derive(Debug)]
pub(super) struct FamilyText {
    format: Format,
    /// `HELP`, `TYPE` and `UNIT`.
    comments: Vec<u8>,
    /// Of the value itself, and of a histogram's or summary's parts.
    value: SampleText,
    bucket: SampleText,
    sum: SampleText,
    count: SampleText,
    created: SampleText,
    /// `le="0.5"} ` for each bound, or the same of each quantile.
    parts: Vec<PartText>,
    /// Whether times of creation have lines of their own.
    shows_created: bool,
}

/// The beginning of a line.
#[derive(Debug, Default)]
struct SampleText {
    /// `name `, for a series without labels.
    alone: Vec<u8>,
    /// `name{`, before labels.
    open: Vec<u8>,
}

#[derive(Debug)]
struct PartText {
    bits: u64,
    text: Vec<u8>,
}

impl SampleText {
    fn new(base: &str, suffix: &str) -> SampleText {
        let name = format!("{base}{suffix}");
        let (mut alone, mut open) = (Vec::new(), Vec::new());
        if is_legacy_metric_name(&name) {
            alone.extend_from_slice(name.as_bytes());
            open.extend_from_slice(name.as_bytes());
            open.push(b'{');
        } else {
            open.push(b'{');
            write_name(&mut open, &name, false);
            alone.extend_from_slice(&open);
            alone.push(b'}');
            open.push(b',');
        }
        alone.push(b' ');
        SampleText { alone, open }
    }

    /// The line up to its value.
    #[inline]
    fn start(&self, out: &mut Vec<u8>, labels: &[u8]) {
        if labels.is_empty() {
            out.extend_from_slice(&self.alone);
        } else {
            out.extend_from_slice(&self.open);
            out.extend_from_slice(labels);
            out.extend_from_slice(b"} ");
        }
    }

    /// The line up to its value, with one more label.
    #[inline]
    fn start_part(&self, out: &mut Vec<u8>, labels: &[u8], part: &[u8]) {
        out.extend_from_slice(&self.open);
        if !labels.is_empty() {
            out.extend_from_slice(labels);
            out.push(b',');
        }
        out.extend_from_slice(part);
    }
}

impl FamilyText {
    pub(super) fn new(format: Format, family: &Described, shown: &Shown, shows_created: bool) -> FamilyText {
        let sample = |suffix: &str| SampleText::new(&shown.base, suffix);
        let is_open_metrics = format.is_open_metrics();
        let has_parts = matches!(family.kind, MetricKind::Histogram | MetricKind::Summary);
        FamilyText {
            format,
            comments: comments(is_open_metrics, family, shown),
            value: sample(shown.suffix),
            bucket: if family.kind == MetricKind::Histogram { sample("_bucket") } else { SampleText::default() },
            sum: if has_parts { sample("_sum") } else { SampleText::default() },
            count: if has_parts { sample("_count") } else { SampleText::default() },
            created: sample("_created"),
            parts: Vec::new(),
            // An `unknown` counter has none, nor has a level.
            shows_created: shows_created && is_open_metrics && (has_parts || !shown.suffix.is_empty()),
        }
    }

    /// The lines before the first series.
    pub(super) fn comments(&self) -> &[u8] {
        &self.comments
    }

    /// The lines of one series. `labels` is its [`label_text`]; exemplars are oldest first.
    #[inline]
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        labels: &[u8],
        value: Value<'_>,
        exemplars: &[Exemplar],
        created_ms: Option<i64>,
    ) {
        match value {
            Value::Whole(value) => {
                self.value.start(out, labels);
                write_u64(out, value);
                self.end_counter(out, exemplars);
            }
            Value::WholeLevel(value) => {
                self.value.start(out, labels);
                write_i64(out, value);
                out.push(b'\n');
            }
            Value::Float(value) => {
                self.value.start(out, labels);
                write_number(out, value);
                self.end_counter(out, exemplars);
            }
            Value::Buckets { upper_bounds, counts, sum, count } => {
                self.buckets(out, labels, upper_bounds, counts, exemplars);
                // With negative bounds the sum may fall, and then neither it nor the count may be there.
                let may_fall = self.format.is_open_metrics() && upper_bounds.first().is_some_and(|first| *first < 0.0);
                if !may_fall {
                    self.totals(out, labels, sum, count);
                }
            }
            Value::Native(histogram) => {
                // Text cannot hold native buckets; their sum and count, and the bucket that holds all, it can.
                let count = histogram.counts.count() as u64;
                self.buckets(out, labels, &[f64::INFINITY], &[count], exemplars);
                self.totals(out, labels, histogram.sum, count);
            }
            Value::Quantiles { quantiles, sum, count } => {
                for (at, quantile) in quantiles.iter().enumerate() {
                    let part = part(&mut self.parts, self.format, at, "quantile", quantile.quantile);
                    self.value.start_part(out, labels, part);
                    write_number(out, quantile.value);
                    out.push(b'\n');
                }
                self.totals(out, labels, sum, count);
            }
        }
        if let Some(created_ms) = created_ms.filter(|_| self.shows_created) {
            self.created.start(out, labels);
            write_timestamp_seconds(out, created_ms);
            out.push(b'\n');
        }
    }

    /// The lines of counters without exemplars, each with its [`label_text`]. `false` if there is more to a counter.
    pub(super) fn write_totals<'a>(&self, out: &mut Vec<u8>, series: impl Iterator<Item = (&'a [u8], u64)>) -> bool {
        if self.shows_created {
            return false;
        }
        for (labels, total) in series {
            self.value.start(out, labels);
            write_u64(out, total);
            out.push(b'\n');
        }
        true
    }

    /// Only counters have exemplars.
    fn end_counter(&self, out: &mut Vec<u8>, exemplars: &[Exemplar]) {
        if !exemplars.is_empty() && self.format.is_open_metrics() {
            write_exemplar(out, self.format.escaping(), exemplars.iter());
        }
        out.push(b'\n');
    }

    fn buckets(
        &mut self,
        out: &mut Vec<u8>,
        labels: &[u8],
        upper_bounds: &[f64],
        counts: &[u64],
        exemplars: &[Exemplar],
    ) {
        let (mut cumulative, mut below) = (0u64, f64::NEG_INFINITY);
        for (at, (&upper_bound, &count)) in upper_bounds.iter().zip(counts).enumerate() {
            cumulative += count;
            let part = part(&mut self.parts, self.format, at, "le", upper_bound);
            self.bucket.start_part(out, labels, part);
            write_u64(out, cumulative);
            if !exemplars.is_empty() && self.format.is_open_metrics() {
                let is_within = |exemplar: &&Exemplar| exemplar.value > below && exemplar.value <= upper_bound;
                write_exemplar(out, self.format.escaping(), exemplars.iter().filter(is_within));
            }
            out.push(b'\n');
            below = upper_bound;
        }
    }

    fn totals(&self, out: &mut Vec<u8>, labels: &[u8], sum: f64, count: u64) {
        self.sum.start(out, labels);
        write_number(out, sum);
        out.push(b'\n');
        self.count.start(out, labels);
        write_u64(out, count);
        out.push(b'\n');
    }
}

/// `le="0.5"} `, kept from the series before, which usually has the same bounds.
fn part<'a>(parts: &'a mut Vec<PartText>, format: Format, at: usize, label: &str, bound: f64) -> &'a [u8] {
    if parts.len() <= at {
        parts.resize_with(at + 1, || PartText { bits: 0, text: Vec::new() });
    }
    let kept = &mut parts[at];
    if kept.text.is_empty() || kept.bits != bound.to_bits() {
        kept.bits = bound.to_bits();
        kept.text.clear();
        kept.text.extend_from_slice(label.as_bytes());
        kept.text.extend_from_slice(b"=\"");
        if format.is_open_metrics() {
            write_float_open_metrics(&mut kept.text, bound);
        } else {
            write_float_general(&mut kept.text, bound);
        }
        kept.text.extend_from_slice(b"\"} ");
    }
    &kept.text
}

/// A whole number by its digits, as any reader takes it; another as Go writes it.
#[inline]
fn write_number(out: &mut Vec<u8>, value: f64) {
    if value.abs() < WHOLE_MAX && value.fract() == 0.0 && !(value == 0.0 && value.is_sign_negative()) {
        write_i64(out, value as i64);
    } else {
        write_float_general(out, value);
    }
}

fn comments(is_open_metrics: bool, family: &Described, shown: &Shown) -> Vec<u8> {
    let mut out = Vec::new();
    let mut comment = |keyword: &str, write: &dyn Fn(&mut Vec<u8>)| {
        out.extend_from_slice(b"# ");
        out.extend_from_slice(keyword.as_bytes());
        out.push(b' ');
        write_name(&mut out, &shown.base, is_legacy_metric_name(&shown.base));
        out.push(b' ');
        write(&mut out);
        out.push(b'\n');
    };
    if !family.help.is_empty() {
        comment("HELP", &|out| match is_open_metrics {
            // In this format a help is a string as any other, quotes escaped.
            true => write_escaped_label_value(out, &family.help),
            false => write_escaped_help(out, &family.help),
        });
    }
    comment("TYPE", &|out| out.extend_from_slice(shown.kind.as_bytes()));
    // A unit may be told only of a name that ends with it.
    let ends_with_unit = || shown.base.strip_suffix(&family.unit).is_some_and(|rest| rest.ends_with('_'));
    if is_open_metrics && !family.unit.is_empty() && ends_with_unit() {
        comment("UNIT", &|out| out.extend_from_slice(family.unit.as_bytes()));
    }
    out
}

/// `a="1","b.c"="2"`, shared by all lines of a series.
pub(super) fn label_text<'a>(
    out: &mut Vec<u8>,
    escaping: Escaping,
    labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) {
    let start = out.len();
    let mut names = Names::of_labels(escaping, labels.clone().map(|(name, _)| name));
    for (name, value) in labels {
        if out.len() > start {
            out.push(b',');
        }
        let name = names.written(name);
        write_name(out, &name, is_legacy_label_name(&name));
        out.extend_from_slice(b"=\"");
        write_escaped_label_value(out, value);
        out.push(b'"');
    }
}

fn write_name(out: &mut Vec<u8>, name: &str, is_plain: bool) {
    if is_plain {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'"');
        write_escaped_label_value(out, name);
        out.push(b'"');
    }
}

/// ` # {labels} value time` of the newest that the format can hold.
fn write_exemplar<'a>(
    out: &mut Vec<u8>,
    escaping: Escaping,
    oldest_first: impl DoubleEndedIterator<Item = &'a Exemplar>,
) {
    let chars = |exemplar: &Exemplar| -> usize {
        exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
    };
    let Some(exemplar) = oldest_first.rev().find(|exemplar| chars(exemplar) <= EXEMPLAR_CHARS_MAX) else { return };
    out.extend_from_slice(b" # {");
    label_text(out, escaping, exemplar.labels.iter());
    out.extend_from_slice(b"} ");
    write_number(out, exemplar.value);
    out.push(b' ');
    write_timestamp_seconds(out, exemplar.time_ms);
}
