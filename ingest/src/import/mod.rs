//! Files of samples, read into batches: what was exported, what spreadsheets hold, a Prometheus' own data directory.
//!
//! ```text
//!   JSON lines, CSV, OpenMetrics text ─► a piece at a time ──┐
//!   Prometheus blocks: index, chunks, tombstones ────────────┼─► Rows ─► SampleBatch ─► whoever takes it
//!   Prometheus write-ahead logs: checkpoint, segments ───────┘
//! ```
//!
//! Everything streams: memory is bounded by a batch, a line, and, for Prometheus, the symbols of one block or the series of
//! its log. With each batch comes the [`Place`] that was reached: an import that broke off goes on there. A sample that is
//! there already is not stored again, so that what lies across that place may be read twice.
//!
//! Rules: (1) no bytes make a reader panic; what is damaged is an error with its place. (2) Floats are kept by their bits as
//! far as a format has them: JSON lines and CSV hold every one, OpenMetrics text has one NaN only.

mod csv;
mod json_lines;
mod number;
mod open_metrics;
mod place;
pub mod prometheus;
mod rows;

pub use csv::csv;
pub use json_lines::json_lines;
pub use open_metrics::open_metrics;
pub use place::Place;
pub use rows::{BatchSink, Imported};

/// Longest line of a file, and most bytes of one piece of it.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Why an import stopped. What was given to the sink before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {place}")]
    Read {
        /// The file, or what of it.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it is said to be.
    #[error("{place}: {what}")]
    Malformed {
        /// File, and line or byte.
        place: String,
        /// What is wrong there.
        what: String,
    },
    /// Whoever takes the batches failed.
    #[error("cannot store what was read")]
    Store {
        /// Its reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reads a line into `line`, its end cut off; gives how many bytes that took, none at the end of the file.
fn read_line(from: &mut dyn std::io::BufRead, line: &mut Vec<u8>, number: u64) -> Result<Option<u64>, ImportError> {
    use std::io::{BufRead as _, Read as _};
    line.clear();
    let read = from.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line);
    let place = || format!("line {number}");
    let read = read.map_err(|source| ImportError::Read { place: place(), source })?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() > LINE_BYTES_MAX {
        let what = format!("longer than {LINE_BYTES_MAX} bytes");
        return Err(ImportError::Malformed { place: place(), what });
    }
    Ok(Some(read as u64))
}
