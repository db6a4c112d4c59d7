//! Answers as CSV (RFC 4180): `timestamp`, `value`, then one column per label of any series.

use std::collections::BTreeSet;

use kymo_core::query::{QueryValue, ResultSeries};

use super::{point_text, scalar_text, time_text};

pub(super) fn render(value: &QueryValue) -> String {
    let mut out = String::new();
    match value {
        QueryValue::Scalar { time_ms, value } => {
            push_row(&mut out, ["timestamp", "value"]);
            push_row(&mut out, [&*time_text(*time_ms), &scalar_text(*value)]);
        }
        QueryValue::String { time_ms, value } => {
            push_row(&mut out, ["timestamp", "value"]);
            push_row(&mut out, [&*time_text(*time_ms), value]);
        }
        QueryValue::Vector(series) | QueryValue::Matrix(series) => push_series(&mut out, series),
    }
    out
}

fn push_series(out: &mut String, series: &[ResultSeries]) {
    let names: BTreeSet<&str> = series.iter().flat_map(|series| series.labels.iter().map(|(name, _)| name)).collect();
    push_row(out, ["timestamp", "value"].into_iter().chain(names.iter().copied()));
    for one in series {
        for (time_ms, value) in one.points() {
            let (time, value) = (time_text(time_ms), point_text(value));
            let labels = names.iter().map(|name| one.labels.get(name).unwrap_or_default());
            push_row(out, [&*time, &*value].into_iter().chain(labels));
        }
    }
}

fn push_row<'a>(out: &mut String, cells: impl IntoIterator<Item = &'a str>) {
    for (number, cell) in cells.into_iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}
