//! A sample per line: series, time, value, and start timestamp where there is one.

use kymo_core::Labels;
use kymo_core::histogram::NORMAL_NAN_BITS;
use kymo_core::storage::Columns;
use kymo_core::text::{write_float_json, write_i64, write_series_text};

use super::json_lines::odd_float;
use super::rows;

pub(super) const HEADER: &str = "series,timestamp,value,start\n";

/// Writes the lines of a series.
pub(super) fn series(out: &mut String, labels: &Labels, columns: &Columns) {
    let mut text = String::new();
    write_series_text(&mut text, labels.iter());
    let quoted = format!("\"{}\",", text.replace('"', "\"\""));
    for row in rows(columns) {
        out.push_str(&quoted);
        write_i64(out, row.time_ms);
        out.push(',');
        if row.value.is_finite() {
            write_float_json(out, row.value);
        } else if row.value.to_bits() == NORMAL_NAN_BITS {
            out.push_str("NaN");
        } else {
            odd_float(out, row.value);
        }
        out.push(',');
        if let Some(start_ms) = row.start_ms {
            write_i64(out, start_ms);
        }
        out.push('\n');
    }
}
