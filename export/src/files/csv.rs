//! A sample per line: series, time, value, and start timestamp where there is one.

use kymo_core::Labels;
use kymo_core::histogram::{NORMAL_NAN_BITS, STALE_NAN_BITS};
use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::text::{write_float_json, write_i64, write_series_text};

use super::json_lines::odd_float;

pub(super) const HEADER: &str = "series,timestamp,value,start\n";

/// Writes the lines of a series; gives how many samples are left out.
pub(super) fn series(out: &mut String, labels: &Labels, columns: &Columns) -> u64 {
    let mut text = String::new();
    write_series_text(&mut text, labels.iter());
    let quoted = format!("\"{}\",", text.replace('"', "\"\""));
    let mut left_out = 0;
    for (number, (time_ms, value)) in columns.iter().enumerate() {
        let value = match value {
            ColumnValue::Float(value) => value,
            ColumnValue::Stale => f64::from_bits(STALE_NAN_BITS),
            ColumnValue::Histogram(_) => {
                left_out += 1;
                continue;
            }
        };
        out.push_str(&quoted);
        write_i64(out, time_ms);
        out.push(',');
        if value.is_finite() {
            write_float_json(out, value);
        } else if value.to_bits() == NORMAL_NAN_BITS {
            out.push_str("NaN");
        } else {
            odd_float(out, value);
        }
        out.push(',');
        match columns.starts.get(number) {
            None | Some(0) => {}
            Some(start_ms) => write_i64(out, *start_ms),
        }
        out.push('\n');
    }
    left_out
}
