//! Answers as a table for people.

use comfy_table::{CellAlignment, Table, presets};
use kymo_core::query::{QueryValue, ResultSeries};
use kymo_core::text::SeriesText;

use super::{point_text, scalar_text, time_text};

pub(super) fn render(value: &QueryValue) -> String {
    match value {
        QueryValue::Scalar { time_ms, value } => single(*time_ms, &scalar_text(*value)),
        QueryValue::String { time_ms, value } => single(*time_ms, &printable(value)),
        QueryValue::Vector(series) | QueryValue::Matrix(series) if series.is_empty() => "no data\n".to_owned(),
        QueryValue::Vector(series) | QueryValue::Matrix(series) => many(series),
    }
}

fn single(time_ms: i64, value: &str) -> String {
    let mut table = table(["TIME", "VALUE"]);
    table.add_row([&*time_text(time_ms), value]);
    finish(&table)
}

/// A row per point; the series is named at its first.
fn many(series: &[ResultSeries]) -> String {
    let mut table = table(["SERIES", "TIME", "VALUE"]);
    for one in series {
        let mut name = printable(&SeriesText(one.labels.iter()).to_string());
        for (time_ms, value) in one.points() {
            table.add_row([std::mem::take(&mut name), time_text(time_ms), point_text(value)]);
        }
    }
    finish(&table)
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    if let Some(values) = table.column_mut(N - 1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn finish(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// Text of others on a terminal: control characters are shown, not obeyed.
fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|char| {
            let (escaped, plain) =
                if char.is_control() { (Some(char.escape_default()), None) } else { (None, Some(char)) };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
