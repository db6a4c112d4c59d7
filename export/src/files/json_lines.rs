//! A series as lines of JSON. What the keys hold is said where they are read: `kymo_ingest::import`.

use kymo_core::histogram::{HistogramCounts, NORMAL_NAN_BITS, STALE_NAN_BITS};
use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::text::{write_float_json, write_i64, write_u64};
use kymo_core::{Exemplar, Labels, Metadata, NativeHistogram};

use crate::json::write_string;

/// Floats of a line: long enough that labels do not show, short enough for any reader.
const LINE_FLOATS: usize = 10_000;
/// Histograms of a line.
const LINE_HISTOGRAMS: usize = 100;

/// Writes the lines of a series; everything is written, so that 0 is left out.
pub(super) fn series(out: &mut String, labels: &Labels, columns: &Columns, exemplars: &[Exemplar]) -> u64 {
    let mut floats: Vec<(i64, i64, f64)> = Vec::new();
    let mut histograms: Vec<(i64, i64, &NativeHistogram)> = Vec::new();
    for (number, (time_ms, value)) in columns.iter().enumerate() {
        let start_ms = columns.starts.get(number).copied().unwrap_or(0);
        match value {
            ColumnValue::Float(value) => floats.push((time_ms, start_ms, value)),
            ColumnValue::Stale => floats.push((time_ms, start_ms, f64::from_bits(STALE_NAN_BITS))),
            ColumnValue::Histogram(value) => histograms.push((time_ms, start_ms, value)),
        }
    }
    for line in floats.chunks(LINE_FLOATS) {
        begin(out, labels);
        out.push_str(",\"values\":");
        list(out, line, |out, (_, _, value)| number(out, *value));
        times(out, "", line);
        out.push_str("}\n");
    }
    for line in histograms.chunks(LINE_HISTOGRAMS) {
        begin(out, labels);
        out.push_str(",\"values\":[],\"timestamps\":[],\"histograms\":");
        list(out, line, |out, (_, _, value)| histogram(out, value));
        times(out, "histogram_", line);
        out.push_str("}\n");
    }
    if !exemplars.is_empty() {
        begin(out, labels);
        out.push_str(",\"values\":[],\"timestamps\":[],\"exemplars\":");
        list(out, exemplars, |out, exemplar| {
            out.push_str("{\"labels\":");
            object(out, &exemplar.labels);
            out.push_str(",\"value\":");
            number(out, exemplar.value);
            out.push_str(",\"timestamp\":");
            write_i64(out, exemplar.time_ms);
            out.push('}');
        });
        out.push_str("}\n");
    }
    0
}

/// Writes what is known of a family.
pub(super) fn metadata(out: &mut String, family: &str, metadata: &Metadata) {
    out.push_str("{\"family\":");
    string(out, family);
    for (key, value) in [("type", metadata.family_type.as_str()), ("unit", &metadata.unit), ("help", &metadata.help)] {
        out.push_str(",\"");
        out.push_str(key);
        out.push_str("\":");
        string(out, value);
    }
    out.push_str("}\n");
}

fn string(out: &mut String, text: &str) {
    let mut written = Vec::with_capacity(text.len() + 2);
    write_string(&mut written, text);
    out.push_str(&String::from_utf8_lossy(&written));
}

fn begin(out: &mut String, labels: &Labels) {
    out.push_str("{\"metric\":");
    object(out, labels);
}

fn object(out: &mut String, labels: &Labels) {
    out.push('{');
    for (number, (name, value)) in labels.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

fn times<T>(out: &mut String, prefix: &str, line: &[(i64, i64, T)]) {
    out.push_str(",\"");
    out.push_str(prefix);
    out.push_str("timestamps\":");
    list(out, line, |out, (time_ms, _, _)| write_i64(out, *time_ms));
    if line.iter().any(|(_, start_ms, _)| *start_ms != 0) {
        out.push_str(",\"");
        out.push_str(prefix);
        out.push_str("starts\":");
        list(out, line, |out, (_, start_ms, _)| write_i64(out, *start_ms));
    }
}

fn list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// A number, null for the normal NaN, a text for what else is none.
fn number(out: &mut String, value: f64) {
    if value.is_finite() {
        write_float_json(out, value);
    } else if value.to_bits() == NORMAL_NAN_BITS {
        out.push_str("null");
    } else {
        out.push('"');
        odd_float(out, value);
        out.push('"');
    }
}

/// An infinity, or a NaN with its bits.
pub(super) fn odd_float(out: &mut String, value: f64) {
    if value == f64::INFINITY {
        out.push_str("Infinity");
    } else if value == f64::NEG_INFINITY {
        out.push_str("-Infinity");
    } else {
        out.push_str(&format!("NaN({:#018x})", value.to_bits()));
    }
}

fn histogram(out: &mut String, histogram: &NativeHistogram) {
    out.push_str("{\"schema\":");
    write_i64(out, i64::from(histogram.schema));
    out.push_str(",\"hint\":");
    write_u64(out, histogram.hint as u64);
    let mut field = |key: &str, value: f64| {
        out.push_str(",\"");
        out.push_str(key);
        out.push_str("\":");
        number(out, value);
    };
    field("zero_threshold", histogram.zero_threshold);
    field("sum", histogram.sum);
    field("count", histogram.counts.count());
    field("zero_count", histogram.counts.zero());
    for (key, spans) in [("positive_spans", &histogram.positive_spans), ("negative_spans", &histogram.negative_spans)] {
        out.push_str(",\"");
        out.push_str(key);
        out.push_str("\":");
        list(out, spans, |out, span| {
            out.push('[');
            write_i64(out, i64::from(span.offset));
            out.push(',');
            write_u64(out, u64::from(span.len));
            out.push(']');
        });
    }
    match &histogram.counts {
        HistogramCounts::Integer(counts) => {
            out.push_str(",\"whole\":");
            let buckets = counts.positive.iter().chain(&counts.negative).copied();
            let whole: Vec<u64> = [counts.count, counts.zero].into_iter().chain(buckets).collect();
            list(out, &whole, |out, count| write_u64(out, *count));
        }
        HistogramCounts::Float(counts) => {
            out.push_str(",\"float\":true,\"positive\":");
            list(out, &counts.positive, |out, count| number(out, *count));
            out.push_str(",\"negative\":");
            list(out, &counts.negative, |out, count| number(out, *count));
        }
    }
    if !histogram.custom_values.is_empty() {
        out.push_str(",\"custom_values\":");
        list(out, &histogram.custom_values, |out, bound| number(out, *bound));
    }
    out.push('}');
}
