//! Series out of a storage into files, and from there into anything, Kymo's own import included.
//!
//! | Format | Holds | Leaves out, and counts |
//! |---|---|---|
//! | [JSON lines](FileFormat::JsonLines) | everything, by its bits: floats, staleness markers, native histograms, start timestamps, exemplars, metadata | nothing |
//! | [CSV](FileFormat::Csv) | floats and staleness markers by their bits, start timestamps | native histograms, exemplars, metadata |
//! | [OpenMetrics text](FileFormat::OpenMetrics) | floats, times to the millisecond | NaN but the normal one, staleness markers, native histograms, start timestamps, exemplars, metadata |
//! | Parquet, with the feature `parquet` | what CSV holds, in columns | what CSV leaves out |
//!
//! Metric by metric, series by series: memory is bounded by the series of one metric, and the samples of one series. After each
//! series a [`Destination`] learns the [`ExportPlace`] from which an export that broke off can go on.

mod csv;
mod json_lines;
mod open_metrics;
#[cfg(feature = "parquet")]
mod parquet;

use std::collections::BTreeSet;
use std::io::{self, Write};

use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{Exemplar, Labels, METRIC_NAME, Matcher, Metadata, MetricStorage, QueryContext, SelectError, Selector};
use serde::{Deserialize, Serialize};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// A JSON object per line, as VictoriaMetrics exports them, with keys of our own for what that lacks.
    JsonLines,
    /// `series,timestamp,value,start`.
    Csv,
    /// OpenMetrics 1.0 text with timestamps.
    OpenMetrics,
    /// Parquet: columns `metric`, `series`, `timestamp`, `value`, `start`. An export of it that broke off begins anew.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl FileFormat {
    /// Whether what was written of it can be added to.
    fn goes_on(self) -> bool {
        match self {
            FileFormat::JsonLines | FileFormat::Csv | FileFormat::OpenMetrics => true,
            #[cfg(feature = "parquet")]
            FileFormat::Parquet => false,
        }
    }
}

/// What is to be written.
#[derive(Debug, Clone)]
pub struct FileExport {
    /// All must hold; none is every series.
    pub matchers: Vec<Matcher>,
    /// First time, inclusive.
    pub start_ms: i64,
    /// Last time, inclusive.
    pub end_ms: i64,
    /// The form.
    pub format: FileFormat,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exported {
    /// Series with a sample in the range.
    pub series: u64,
    /// Samples, staleness markers and histograms among them.
    pub samples: u64,
    /// Samples that the form cannot hold.
    pub left_out: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Where an export stands: what was written before is whole. The default is the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExportPlace {
    /// The metric that was written last.
    metric: Option<String>,
    /// How many of its series were.
    series: usize,
    /// What was written.
    exported: Exported,
}

impl ExportPlace {
    /// Whether an export can go on here, rather than begin anew.
    #[must_use]
    pub fn can_go_on(&self) -> bool {
        self.metric.is_some()
    }

    /// What was written before.
    #[must_use]
    pub fn exported(&self) -> Exported {
        self.exported
    }
}

/// Takes what is written.
pub trait Destination: Write {
    /// Is told, after each series, where that is: a destination that ends with just the bytes it has now is one that an
    /// export of the same data may go on with, if the place says that it can.
    ///
    /// # Errors
    /// Whatever keeps it from more.
    fn reached(&mut self, place: &ExportPlace) -> io::Result<()>;
}

impl Destination for Vec<u8> {
    fn reached(&mut self, _: &ExportPlace) -> io::Result<()> {
        Ok(())
    }
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The storage cannot give what is asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The file cannot be written.
    #[error("cannot write")]
    Write(#[from] io::Error),
    /// The form cannot hold it.
    #[cfg(feature = "parquet")]
    #[error("cannot make Parquet of it")]
    Parquet(#[from] ::parquet::errors::ParquetError),
}

/// Writes what `what` says to `out`, from `begin` on. From the same data, both parts are what one whole would be.
///
/// # Errors
/// [`FileError`]; what was written until then is no whole file.
pub fn export(
    storage: &dyn MetricStorage,
    what: &FileExport,
    begin: &ExportPlace,
    out: &mut dyn Destination,
    ctx: &QueryContext,
) -> Result<Exported, FileError> {
    let mut place = begin.clone();
    let all = Selector::new(what.matchers.clone(), what.start_ms.saturating_sub(1), what.end_ms);
    let mut text = String::new();
    match what.format {
        FileFormat::JsonLines | FileFormat::OpenMetrics => {}
        FileFormat::Csv if begin.metric.is_none() => text.push_str(csv::HEADER),
        FileFormat::Csv => {}
        #[cfg(feature = "parquet")]
        FileFormat::Parquet => {}
    }
    #[cfg(feature = "parquet")]
    let mut table = if what.format == FileFormat::Parquet { Some(parquet::Table::new()?) } else { None };
    let (mut columns, mut families) = (Columns::default(), BTreeSet::new());
    for name in storage.label_values(METRIC_NAME, &all, ctx)? {
        let is_begun = begin.metric.as_deref().is_some_and(|last| *name <= *last);
        let is_last = begin.metric.as_deref() == Some(&*name);
        let is_whole = what.format == FileFormat::JsonLines;
        if is_whole {
            for (family, metadata) in families_of(storage, &name, ctx)? {
                if families.insert(family.clone()) && !is_begun {
                    // Oldest first, so that whoever reads them in order ends with the newest.
                    metadata.iter().rev().for_each(|version| json_lines::metadata(&mut text, &family, version));
                }
            }
        }
        if is_begun && !is_last {
            continue;
        }
        let done = if is_last { begin.series } else { 0 };
        let mut of_name = all.clone();
        of_name.matchers.push(Matcher::equal(METRIC_NAME, &*name));
        let set = storage.select(&of_name, ctx)?;
        let mut exemplars = if is_whole { storage.exemplars(&of_name, ctx)? } else { Vec::new() };
        for index in 0..set.len() {
            ctx.check()?;
            let labels = set.labels(index);
            let own = take_of(&mut exemplars, &labels);
            if index < done {
                continue;
            }
            set.read(index, &mut columns)?;
            let samples = columns.times.len() as u64;
            let left_out = match what.format {
                FileFormat::JsonLines => json_lines::series(&mut text, &labels, &columns, &own),
                FileFormat::Csv => {
                    csv::series(&mut text, &labels, &columns);
                    columns.histograms.len() as u64
                }
                FileFormat::OpenMetrics => open_metrics::series(&mut text, &labels, &columns),
                #[cfg(feature = "parquet")]
                FileFormat::Parquet => {
                    if let Some(table) = &mut table {
                        table.series(&labels, &columns, out)?;
                    }
                    columns.histograms.len() as u64
                }
            };
            place.exported.series += 1;
            place.exported.samples += samples - left_out;
            place.exported.left_out += left_out;
            place.exported.exemplars += own.len() as u64;
            out.write_all(text.as_bytes())?;
            text.clear();
            if what.format.goes_on() && place.metric.as_deref() != Some(&*name) {
                place.metric = Some(name.to_string());
            }
            place.series = index + 1;
            out.reached(&place)?;
        }
        // Of series that have no sample in the range.
        for (labels, own) in exemplars {
            json_lines::series(&mut text, &labels, &Columns::default(), &own);
            place.exported.exemplars += own.len() as u64;
        }
    }
    if what.format == FileFormat::OpenMetrics {
        text.push_str("# EOF\n");
    }
    out.write_all(text.as_bytes())?;
    #[cfg(feature = "parquet")]
    if let Some(table) = table {
        table.end(out)?;
    }
    out.flush()?;
    Ok(place.exported)
}

/// A row of a table.
struct Row {
    time_ms: i64,
    value: f64,
    start_ms: Option<i64>,
}

/// What a table holds of a series: its floats, and its staleness markers as the NaN that they are. Histograms are left out.
fn rows(columns: &Columns) -> impl Iterator<Item = Row> {
    columns.iter().enumerate().filter_map(|(number, (time_ms, value))| {
        let value = match value {
            ColumnValue::Float(value) => value,
            ColumnValue::Stale => f64::from_bits(STALE_NAN_BITS),
            ColumnValue::Histogram(_) => return None,
        };
        let start_ms = columns.starts.get(number).copied().filter(|start_ms| *start_ms != 0);
        Some(Row { time_ms, value, start_ms })
    })
}

fn take_of(exemplars: &mut Vec<(Labels, Vec<Exemplar>)>, labels: &Labels) -> Vec<Exemplar> {
    match exemplars.iter().position(|(of, _)| of == labels) {
        Some(at) => exemplars.remove(at).1,
        None => Vec::new(),
    }
}

/// The families that a metric of this name may belong to, with their metadata.
fn families_of(
    storage: &dyn MetricStorage,
    name: &str,
    ctx: &QueryContext,
) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
    let mut found = storage.metadata(Some(name), ctx)?;
    for suffix in ["_total", "_bucket", "_sum", "_count", "_info"] {
        if let Some(family) = name.strip_suffix(suffix) {
            found.append(&mut storage.metadata(Some(family), ctx)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
