//! CSV with a header: columns `timestamp` (milliseconds) and `value`, optionally `start`, and the series either as its text
//! in `series` or with a column per label.
//!
//! Fields may be in double quotes, doubled inside. A field does not reach over a line's end.

use std::io::BufRead;

use kymo_core::LabelsBuilder;
use kymo_core::text::parse_series_text;

use super::place::{Of, Place};
use super::rows::{BatchSink, Imported, Rows};
use super::{ImportError, number, read_line};

/// What a column holds.
enum Column {
    Series,
    Time,
    Value,
    Start,
    Label(String),
}

/// Imports CSV, of which `from` gives the lines behind `begin`. `progress` is told how many bytes were read, those before
/// included.
///
/// # Errors
/// [`ImportError`]; a malformed line is named by its number.
pub fn csv(
    from: &mut dyn BufRead,
    begin: &Place,
    sink: &mut BatchSink<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, ImportError> {
    let mut rows = Rows::new(sink);
    let (mut line, mut read) = (Vec::new(), begin.bytes());
    let bad =
        |number: u64, what: &str| ImportError::Malformed { place: format!("line {number}"), what: what.to_owned() };
    if begin.is_beginning() {
        match read_line(from, &mut line, 1)? {
            Some(bytes) => read += bytes,
            None => return rows.end(),
        }
    } else {
        line.extend_from_slice(begin.context().as_bytes());
    }
    let mut fields = Vec::new();
    split(&line, &mut fields).ok_or_else(|| bad(1, "this is no CSV"))?;
    let columns: Vec<Column> = fields
        .iter()
        .map(|name| match name.as_str() {
            "series" => Column::Series,
            "timestamp" | "time" => Column::Time,
            "value" => Column::Value,
            "start" => Column::Start,
            label => Column::Label(label.to_owned()),
        })
        .collect();
    let has = |wanted: fn(&Column) -> bool| columns.iter().filter(|column| wanted(column)).count() == 1;
    if !has(|column| matches!(column, Column::Time)) || !has(|column| matches!(column, Column::Value)) {
        return Err(bad(1, "the header must name one column timestamp and one value"));
    }
    rows.of(Of::Text(String::from_utf8_lossy(&line).into_owned()));
    progress(read);
    let mut labels = LabelsBuilder::new();
    // What the labels were made of last: neighbours are mostly of one series.
    let mut last: Vec<String> = Vec::new();
    let mut number = begin.items.max(1) + 1;
    while let Some(bytes) = read_line(from, &mut line, number)? {
        rows.at(read, number - 1);
        read += bytes;
        if !line.is_empty() {
            split(&line, &mut fields).ok_or_else(|| bad(number, "quotes are not closed, or this is no UTF-8"))?;
            if fields.len() != columns.len() {
                return Err(bad(number, "another number of fields than in the header"));
            }
            let (mut time_ms, mut start_ms, mut value) = (None, Some(0), None);
            let mut is_new = last.is_empty();
            let mut at = 0;
            for (column, field) in columns.iter().zip(&fields) {
                match column {
                    Column::Time => time_ms = field.parse().ok(),
                    Column::Start => start_ms = if field.is_empty() { Some(0) } else { field.parse().ok() },
                    Column::Value => value = number::parse(field),
                    Column::Series | Column::Label(_) => {
                        is_new |= last.get(at) != Some(field);
                        at += 1;
                    }
                }
            }
            if is_new {
                last.clear();
                labels.clear();
                for (column, field) in columns.iter().zip(&fields) {
                    match column {
                        Column::Series => {
                            let pairs = parse_series_text(field).map_err(|error| bad(number, &error.to_string()))?;
                            pairs.iter().for_each(|(name, value)| labels.push(name, value));
                        }
                        Column::Label(name) if !field.is_empty() => labels.push(name, field),
                        Column::Label(_) => {}
                        Column::Time | Column::Value | Column::Start => continue,
                    }
                    last.push(field.clone());
                }
                rows.series(labels.build().map_err(|_| bad(number, "the labels of the series make no sense"))?);
            }
            let (Some(time_ms), Some(start_ms), Some(value)) = (time_ms, start_ms, value) else {
                return Err(bad(number, "timestamp, start or value is no number"));
            };
            rows.float(time_ms, start_ms, value)?;
        }
        number += 1;
        progress(read);
    }
    rows.end()
}

/// Takes a line apart; `None` if quotes do not match.
fn split(line: &[u8], fields: &mut Vec<String>) -> Option<()> {
    let mut rest = std::str::from_utf8(line).ok()?;
    let mut count = 0;
    loop {
        if fields.len() == count {
            fields.push(String::new());
        }
        let field = &mut fields[count];
        field.clear();
        count += 1;
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (inside, after) = quoted.split_once('"')?;
                field.push_str(inside);
                quoted = after;
                match quoted.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => break,
                }
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => {
                fields.truncate(count);
                return rest.is_empty().then_some(());
            }
        }
    }
}
