//! What a frame says: one batch, or the part of it that was accepted.
//!
//! Payload: `opening`, then four lists, each behind its count: series definitions, samples (as columns),
//! exemplars, metadata. Refs are written as their index within the opening.

use kymo_core::batch::{Exemplar, FamilyType, Increment, Metadata, SeriesRef, Total};
use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::{LabelsRef, NativeHistogram};

use crate::codec::{Malformed, Reader, put_block, put_histogram, put_labels, put_varint, put_zigzag, read_histogram};
use crate::increments::{Added, put_added, read_added};

const KIND_FLOAT: u8 = 0;
const KIND_HISTOGRAM: u8 = 1;
const KIND_STALE: u8 = 2;
const KIND_INCREMENT: u8 = 3;
const KIND_TOTAL: u8 = 4;
/// Of an increment or total: its series had no table.
const BEGINS: u8 = 1;
const HAS_STARTS: u8 = 1;
const ALL_FLOATS: u8 = 2;

/// Collects what one frame will say; reused from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    definitions: u64,
    defined: Vec<u8>,
    refs: Vec<u64>,
    times: Vec<i64>,
    starts: Vec<i64>,
    kinds: Vec<u8>,
    values: Vec<u8>,
    exemplars: u64,
    exemplar_bytes: Vec<u8>,
    metadata: u64,
    metadata_bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn clear(&mut self) {
        self.definitions = 0;
        self.exemplars = 0;
        self.metadata = 0;
        self.defined.clear();
        self.refs.clear();
        self.times.clear();
        self.starts.clear();
        self.kinds.clear();
        self.values.clear();
        self.exemplar_bytes.clear();
        self.metadata_bytes.clear();
    }

    pub(crate) fn define(&mut self, series: SeriesRef, labels: LabelsRef<'_>) {
        self.definitions += 1;
        put_varint(&mut self.defined, series.index());
        put_block(&mut self.defined, labels.packed());
    }

    fn row(&mut self, series: SeriesRef, time_ms: i64, start_ms: i64, kind: u8) {
        self.refs.push(series.index());
        self.times.push(time_ms);
        self.starts.push(start_ms);
        self.kinds.push(kind);
    }

    pub(crate) fn float(&mut self, series: SeriesRef, time_ms: i64, start_ms: i64, value: f64) {
        self.row(series, time_ms, start_ms, KIND_FLOAT);
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn stale(&mut self, series: SeriesRef, time_ms: i64, start_ms: i64) {
        self.row(series, time_ms, start_ms, KIND_STALE);
    }

    pub(crate) fn histogram(&mut self, series: SeriesRef, time_ms: i64, start_ms: i64, value: &NativeHistogram) {
        self.row(series, time_ms, start_ms, KIND_HISTOGRAM);
        put_histogram(&mut self.values, value);
    }

    /// A row that is added up, as it was sent; `begins` if its series had no table.
    pub(crate) fn added(&mut self, series: SeriesRef, time_ms: i64, row: &Added, begins: bool) {
        let (kind, writer, start_ms, value) = match row {
            Added::Increment(row) => (KIND_INCREMENT, row.writer, row.start_ms, &row.value),
            Added::Total { total: row, .. } => (KIND_TOTAL, row.writer, row.start_ms, &row.value),
        };
        self.row(series, time_ms, start_ms, kind);
        self.values.push(if begins { BEGINS } else { 0 });
        self.values.extend_from_slice(&writer.to_le_bytes());
        put_added(&mut self.values, value);
    }

    pub(crate) fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) {
        self.exemplars += 1;
        put_varint(&mut self.exemplar_bytes, series.index());
        put_exemplar(&mut self.exemplar_bytes, exemplar);
    }

    pub(crate) fn metadata(&mut self, family: &str, metadata: &Metadata) {
        self.metadata += 1;
        put_metadata(&mut self.metadata_bytes, family, metadata);
    }

    /// About how many bytes the payload will have.
    pub(crate) fn estimate(&self) -> usize {
        let lists = self.defined.len() + self.exemplar_bytes.len() + self.metadata_bytes.len();
        64 + lists + self.values.len() + self.refs.len() * 4
    }

    /// Appends the payload.
    pub(crate) fn finish(&self, opening: u32, out: &mut Vec<u8>) {
        put_varint(out, u64::from(opening));
        put_varint(out, self.definitions);
        out.extend_from_slice(&self.defined);
        put_varint(out, self.refs.len() as u64);
        if !self.refs.is_empty() {
            let has_starts = self.starts.iter().any(|s| *s != 0);
            let all_floats = self.kinds.iter().all(|k| *k == KIND_FLOAT);
            out.push(if has_starts { HAS_STARTS } else { 0 } | if all_floats { ALL_FLOATS } else { 0 });
            put_deltas(out, self.refs.iter().map(|r| *r as i64));
            put_deltas(out, self.times.iter().copied());
            if has_starts {
                put_deltas(out, self.starts.iter().copied());
            }
            if !all_floats {
                out.extend_from_slice(&self.kinds);
            }
            out.extend_from_slice(&self.values);
        }
        put_varint(out, self.exemplars);
        out.extend_from_slice(&self.exemplar_bytes);
        put_varint(out, self.metadata);
        out.extend_from_slice(&self.metadata_bytes);
    }
}

fn put_deltas(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let mut previous = 0i64;
    for number in numbers {
        put_zigzag(out, number.wrapping_sub(previous));
        previous = number;
    }
}

pub(crate) fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    put_zigzag(out, exemplar.time_ms);
    out.extend_from_slice(&exemplar.value.to_le_bytes());
    put_labels(out, &exemplar.labels);
}

pub(crate) fn read_exemplar(from: &mut Reader<'_>) -> Result<Exemplar, Malformed> {
    let (time_ms, value) = (from.zigzag()?, from.f64()?);
    Ok(Exemplar { labels: from.labels()?.to_labels(), value, time_ms })
}

pub(crate) fn put_metadata(out: &mut Vec<u8>, family: &str, metadata: &Metadata) {
    put_block(out, family.as_bytes());
    out.push(metadata.family_type as u8);
    put_block(out, metadata.unit.as_bytes());
    put_block(out, metadata.help.as_bytes());
}

pub(crate) fn read_metadata(from: &mut Reader<'_>) -> Result<(String, Metadata), Malformed> {
    let family = from.text()?.to_owned();
    let Some(family_type) = FamilyType::from_u8(from.u8()?) else { return from.bad("unknown type of family") };
    let (unit, help) = (from.text()?.to_owned(), from.text()?.to_owned());
    Ok((family, Metadata { family_type, unit, help }))
}

/// One thing a frame says, in the order in which it is to be applied.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Define(SeriesRef, LabelsRef<'a>),
    Float { series: SeriesRef, time_ms: i64, start_ms: i64, value: f64 },
    Histogram { series: SeriesRef, time_ms: i64, start_ms: i64, value: NativeHistogram },
    Added { series: SeriesRef, row: Added, begins: bool },
    Exemplar(SeriesRef, Exemplar),
    Metadata(String, Metadata),
}

/// Reads a payload and gives its records to `apply`, in order.
///
/// # Errors
/// [`Malformed`]; the records before the fault were given.
pub(crate) fn decode(payload: &[u8], mut apply: impl FnMut(Record<'_>)) -> Result<(), Malformed> {
    let from = &mut Reader::new(payload);
    let opening = u32::try_from(from.varint()?).unwrap_or(0);
    let series_ref = |from: &Reader<'_>, index: u64| match SeriesRef::new(opening, index) {
        Some(series) => Ok(series),
        None => from.bad("series ref out of range"),
    };
    for _ in 0..from.count(2)? {
        let index = from.varint()?;
        let series = series_ref(from, index)?;
        apply(Record::Define(series, from.labels()?));
    }
    let rows = from.count(2)?;
    if rows > 0 {
        let flags = from.u8()?;
        let mut refs = Vec::with_capacity(rows);
        let mut previous = 0i64;
        for _ in 0..rows {
            previous = previous.wrapping_add(from.zigzag()?);
            refs.push(series_ref(from, previous as u64)?);
        }
        let times = read_deltas(from, rows)?;
        let starts = if flags & HAS_STARTS != 0 { read_deltas(from, rows)? } else { Vec::new() };
        let kinds = if flags & ALL_FLOATS != 0 { &[][..] } else { from.bytes(rows)? };
        for n in 0..rows {
            let (series, time_ms, start_ms) = (refs[n], times[n], starts.get(n).copied().unwrap_or(0));
            apply(match kinds.get(n).copied().unwrap_or(KIND_FLOAT) {
                KIND_FLOAT => Record::Float { series, time_ms, start_ms, value: from.f64()? },
                KIND_STALE => Record::Float { series, time_ms, start_ms, value: f64::from_bits(STALE_NAN_BITS) },
                KIND_HISTOGRAM => Record::Histogram { series, time_ms, start_ms, value: read_histogram(from)? },
                kind @ (KIND_INCREMENT | KIND_TOTAL) => {
                    let flags = from.u8()?;
                    if flags > BEGINS {
                        return from.bad("unknown flag");
                    }
                    let (writer, value) = (from.u64()?, read_added(from)?);
                    let row = if kind == KIND_TOTAL {
                        Added::Total { total: Total { writer, start_ms, value }, time_ms }
                    } else {
                        Added::Increment(Increment { writer, start_ms, end_ms: time_ms, value })
                    };
                    Record::Added { series, row, begins: flags == BEGINS }
                }
                _ => return from.bad("unknown kind of sample"),
            });
        }
    }
    for _ in 0..from.count(11)? {
        let index = from.varint()?;
        let series = series_ref(from, index)?;
        apply(Record::Exemplar(series, read_exemplar(from)?));
    }
    for _ in 0..from.count(4)? {
        let (family, metadata) = read_metadata(from)?;
        apply(Record::Metadata(family, metadata));
    }
    from.end()
}

fn read_deltas(from: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    let mut previous = 0i64;
    let mut next = |from: &mut Reader<'_>| {
        previous = previous.wrapping_add(from.zigzag()?);
        Ok(previous)
    };
    (0..count).map(|_| next(from)).collect()
}
