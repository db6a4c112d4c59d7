//! OpenMetrics text with timestamps, of any length: read in pieces that end with a line.

use std::io::BufRead;

use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::{FamilyType, LabelsBuilder};

use super::place::{Of, Place};
use super::rows::{BatchSink, Imported, Rows};
use super::{ImportError, read_line};
use crate::exposition::{Entry, OpenMetricsParser, SampleValue, push_exemplar_labels, push_labels};

/// Bytes of a piece.
const PIECE_BYTES: usize = 1 << 20;
const END: &[u8] = b"# EOF\n";

/// Imports OpenMetrics text, of which `from` gives the lines behind `begin`; every sample must have a timestamp. `progress` is
/// told how many bytes were read, those before included.
///
/// A missing `# EOF` means that the file was cut, and is an error after what is there was taken.
///
/// # Errors
/// [`ImportError`]; what cannot be read is named by its line.
pub fn open_metrics(
    from: &mut dyn BufRead,
    begin: &Place,
    sink: &mut BatchSink<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, ImportError> {
    let mut rows = Rows::new(sink);
    let (mut line, mut piece) = (Vec::new(), Vec::new());
    let (mut number, mut read, mut is_ended) = (begin.items + 1, begin.bytes(), false);
    progress(read);
    // The type declared last holds beyond the end of a piece.
    let mut declared = begin.context().as_bytes().to_vec();
    while !is_ended {
        piece.clear();
        piece.extend_from_slice(&declared);
        let first = number;
        rows.of(Of::Text(String::from_utf8_lossy(&declared).into_owned()));
        rows.at(read, first - 1);
        while piece.len() < PIECE_BYTES {
            let Some(bytes) = read_line(from, &mut line, number)? else {
                if !piece.is_empty() {
                    take(&mut piece, first, declared.len(), &mut rows)?;
                }
                rows.flush()?;
                let (place, what) = (format!("line {number}"), "the file ends without # EOF".to_owned());
                return Err(ImportError::Malformed { place, what });
            };
            number += 1;
            read += bytes;
            if line == b"# EOF" {
                is_ended = true;
                break;
            }
            piece.extend_from_slice(&line);
            piece.push(b'\n');
        }
        let before = declared.len();
        if let Some(newest) = last_declared(&piece) {
            declared = newest.to_vec();
        }
        take(&mut piece, first, before, &mut rows)?;
        progress(read);
    }
    if read_line(from, &mut line, number)?.is_some() {
        let (place, what) = (format!("line {number}"), "there is something behind # EOF".to_owned());
        return Err(ImportError::Malformed { place, what });
    }
    rows.end()
}

/// The line that declared a type last, its end included.
fn last_declared(piece: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::rfind_iter(piece, b"# TYPE ").find(|at| *at == 0 || piece[at - 1] == b'\n')?;
    let len = memchr::memchr(b'\n', &piece[at..])?;
    piece.get(at..=at + len)
}

/// Reads a piece whose first line has this number; `repeated` bytes before it were read already.
fn take(piece: &mut Vec<u8>, first: u64, repeated: usize, rows: &mut Rows<'_, '_>) -> Result<(), ImportError> {
    piece.extend_from_slice(END);
    let repeated_lines = u64::from(repeated > 0);
    let bad = |line: u64, what: String| ImportError::Malformed { place: format!("line {line}"), what };
    let mut parser = OpenMetricsParser::new(piece);
    let (mut labels, mut of_exemplar) = (LabelsBuilder::new(), LabelsBuilder::new());
    let (mut last, mut last_type): (&[u8], _) = (b"", FamilyType::Unknown);
    loop {
        let entry = parser.next_expecting(last).map_err(|error| {
            bad((first + error.line as u64).saturating_sub(1 + repeated_lines), error.fault.to_string())
        })?;
        let sample = match entry {
            None => return Ok(()),
            Some(Entry::Sample(sample)) => sample,
            Some(Entry::Type { family, family_type }) => {
                rows.metadata(&family.text(), Metadata { family_type, ..Metadata::default() });
                continue;
            }
            Some(_) => continue,
        };
        if sample.series != last || sample.family_type != last_type {
            labels.clear();
            push_labels(sample.series, sample.family_type, &mut labels)
                .map_err(|error| bad(first, error.fault.to_string()))?;
            let text = || String::from_utf8_lossy(sample.series).into_owned();
            rows.series(labels.build().map_err(|_| bad(first, format!("from here on, the labels of {}", text())))?);
            (last, last_type) = (sample.series, sample.family_type);
        }
        let Some(time_ms) = sample.time_ms else {
            let series = String::from_utf8_lossy(sample.series).into_owned();
            return Err(bad(first, format!("from here on, {series} has no timestamp")));
        };
        if let SampleValue::Float(value) = sample.value {
            rows.float(time_ms, sample.start_ms, value)?;
        }
        for exemplar in sample.exemplars.iter() {
            of_exemplar.clear();
            push_exemplar_labels(exemplar.labels, &mut of_exemplar)
                .map_err(|error| bad(first, error.fault.to_string()))?;
            let labels =
                of_exemplar.build().map_err(|_| bad(first, "from here on, an exemplar's labels".to_owned()))?;
            let (labels, time_ms) = (labels.to_labels(), exemplar.time_ms.unwrap_or(time_ms));
            rows.exemplar(Exemplar { labels, value: exemplar.value, time_ms })?;
        }
    }
}
