//! Parquet: a row per float, in row groups of bounded size, each written out before the next begins.
//!
//! | Column | Type | Holds |
//! |---|---|---|
//! | `metric` | text | the metric's name, empty for a series without |
//! | `series` | text | the series as CSV has it: name and labels |
//! | `timestamp` | timestamp, ms, UTC | |
//! | `value` | double | by its bits |
//! | `start` | timestamp, ms, UTC, or null | |

use std::io::Write;
use std::sync::Arc;

use kymo_core::Labels;
use kymo_core::storage::Columns;
use kymo_core::text::write_series_text;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::{FileError, rows};

/// Rows of a group: some 20 MB while it is collected.
const GROUP_ROWS: usize = 250_000;
const SCHEMA: &str = "message samples {
    REQUIRED BYTE_ARRAY metric (STRING);
    REQUIRED BYTE_ARRAY series (STRING);
    REQUIRED INT64 timestamp (TIMESTAMP(MILLIS, true));
    REQUIRED DOUBLE value;
    OPTIONAL INT64 start (TIMESTAMP(MILLIS, true));
}";

/// A file on its way.
pub(super) struct Table {
    /// Writes into memory, which is emptied after each group.
    writer: SerializedFileWriter<Vec<u8>>,
    metric: Vec<ByteArray>,
    series: Vec<ByteArray>,
    times: Vec<i64>,
    values: Vec<f64>,
    /// Of rows that have one, and for each row whether it does.
    starts: Vec<i64>,
    has_start: Vec<i16>,
}

impl Table {
    pub(super) fn new() -> Result<Table, FileError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder()
            .set_created_by(concat!("kymo ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            .build();
        Ok(Table {
            writer: SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?,
            metric: Vec::new(),
            series: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            starts: Vec::new(),
            has_start: Vec::new(),
        })
    }

    /// Takes the rows of a series, and writes out groups that are full.
    pub(super) fn series(&mut self, labels: &Labels, columns: &Columns, out: &mut dyn Write) -> Result<(), FileError> {
        let mut text = String::new();
        write_series_text(&mut text, labels.iter());
        // Both are shared by the rows.
        let (metric, series) = (ByteArray::from(labels.metric_name().unwrap_or_default()), ByteArray::from(&*text));
        for row in rows(columns) {
            self.metric.push(metric.clone());
            self.series.push(series.clone());
            self.times.push(row.time_ms);
            self.values.push(row.value);
            self.starts.extend(row.start_ms);
            self.has_start.push(i16::from(row.start_ms.is_some()));
            if self.times.len() == GROUP_ROWS {
                self.group(out)?;
            }
        }
        Ok(())
    }

    /// Writes a group of the rows that are here.
    fn group(&mut self, out: &mut dyn Write) -> Result<(), FileError> {
        let mut group = self.writer.next_row_group()?;
        column::<ByteArrayType>(&mut group, &self.metric, None)?;
        column::<ByteArrayType>(&mut group, &self.series, None)?;
        column::<Int64Type>(&mut group, &self.times, None)?;
        column::<DoubleType>(&mut group, &self.values, None)?;
        column::<Int64Type>(&mut group, &self.starts, Some(&self.has_start))?;
        group.close()?;
        self.metric.clear();
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.has_start.clear();
        self.drain(out)
    }

    fn drain(&mut self, out: &mut dyn Write) -> Result<(), FileError> {
        self.writer.flush()?;
        let bytes = self.writer.inner_mut();
        out.write_all(bytes)?;
        bytes.clear();
        Ok(())
    }

    /// Writes what is left, and where the groups are.
    pub(super) fn end(mut self, out: &mut dyn Write) -> Result<(), FileError> {
        if !self.times.is_empty() {
            self.group(out)?;
        }
        self.writer.finish()?;
        self.drain(out)
    }
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    present: Option<&[i16]>,
) -> Result<(), FileError> {
    let missing = || ParquetError::General("a column of the schema is missing".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, present, None)?;
    column.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kymo_core::batch::SampleBatch;
    use kymo_core::{MetricStorage, QueryContext};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::super::tests::{NOW_MS, fill, storage};
    use super::super::{ExportPlace, FileExport, FileFormat, export};
    use super::*;

    #[test]
    fn a_table_holds_every_float_by_its_bits_in_groups_of_bounded_size() {
        let original = storage();
        fill(&original, true);
        let mut batch = SampleBatch::new();
        let many = Labels::from_pairs([("__name__", "z_many")]);
        (0..GROUP_ROWS as i64 + 1).for_each(|n| batch.push_float(&many, NOW_MS + n, n as f64));
        original.append(&batch).unwrap();
        let of_range = |format| FileExport { matchers: Vec::new(), start_ms: 0, end_ms: i64::MAX, format };
        let (mut bytes, ctx) = (Vec::new(), QueryContext::unlimited());
        let begin = ExportPlace::default();
        let exported = export(&original, &of_range(FileFormat::Parquet), &begin, &mut bytes, &ctx).unwrap();
        let mut table = Vec::new();
        let of_table = export(&original, &of_range(FileFormat::Csv), &begin, &mut table, &ctx).unwrap();
        assert_eq!(exported, of_table, "it holds what CSV holds");
        assert_eq!(exported.left_out, 4, "histograms are left out");

        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [GROUP_ROWS as i64, exported.samples as i64 - GROUP_ROWS as i64]);
        let table = String::from_utf8(table).unwrap();
        let mut lines = table.lines().skip(1);
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let line = lines.next().unwrap();
            let series = row.get_string(1).unwrap();
            assert!(series.starts_with(row.get_string(0).unwrap()) || series.starts_with("{\""), "{series}");
            let (name, rest) = line.strip_prefix('"').unwrap().rsplit_once("\",").unwrap();
            assert_eq!(name.replace("\"\"", "\""), *series);
            let fields: Vec<&str> = rest.split(',').collect();
            assert_eq!(fields[0], row.get_timestamp_millis(2).unwrap().to_string());
            let value = row.get_double(3).unwrap();
            let shown = match fields[1] {
                "NaN" => f64::from_bits(kymo_core::histogram::NORMAL_NAN_BITS).to_bits(),
                odd if odd.starts_with("NaN(0x") => u64::from_str_radix(&odd[6..odd.len() - 1], 16).unwrap(),
                number => number.parse::<f64>().unwrap().to_bits(),
            };
            assert_eq!(value.to_bits(), shown, "{line}");
            let start = row.get_timestamp_millis(4).map(|start| start.to_string()).unwrap_or_default();
            assert_eq!(start, fields[2], "{line}");
        }
        assert_eq!(lines.next(), None);
    }
}
