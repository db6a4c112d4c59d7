//! What a frame says: one batch, or the part of it that was accepted. `docs/format/wal.md` has the table.

use kymo_core::batch::{Exemplar, FamilyType, Increment, Metadata, SeriesRef, Total};
use kymo_core::{Labels, LabelsRef, NativeHistogram};

use super::chain::{Chain, ChainReader, NONE, Slot};
use crate::codec::{
    Malformed, Read, Reader, put_block, put_histogram, put_labels, put_varint, put_zigzag, read_histogram,
};
use crate::increments::{Added, put_added, read_added};
use crate::tombstones::Tombstone;

const KIND_FLOAT: u8 = 0;
const KIND_HISTOGRAM: u8 = 1;
const KIND_INCREMENT: u8 = 2;
const KIND_TOTAL: u8 = 3;

/// Of an increment or total: its series had no table.
const BEGINS: u8 = 1;

const IS_KEY: u8 = 1;
const HAS_KINDS: u8 = 2;
const HAS_STARTS: u8 = 4;
const HAS_DELETES: u8 = 8;

/// Bytes that a changed value takes at the most.
const VALUE_BYTES: usize = 9;

/// Whether a frame leans on none before it.
pub(super) fn is_key(payload: &[u8]) -> bool {
    payload.first().is_some_and(|flags| flags & IS_KEY != 0)
}

/// Collects what one frame will say, in columns; reused from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    /// Numbers of the rows' series in their opening.
    pub(crate) series: Vec<u32>,
    pub(crate) times: Vec<i64>,
    /// Float bits; of other kinds anything.
    pub(crate) bits: Vec<u64>,
    /// Empty, or as long as the rows.
    starts: Vec<i64>,
    /// Empty, or as long as the rows.
    kinds: Vec<u8>,
    /// What rows hold that are no floats, in row order.
    odd_values: Vec<u8>,
    exemplar_series: Vec<u32>,
    exemplars: Vec<u8>,
    metadata: u64,
    metadata_bytes: Vec<u8>,
    deletes: u64,
    delete_bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.bits.clear();
        self.starts.clear();
        self.kinds.clear();
        self.odd_values.clear();
        self.exemplar_series.clear();
        self.exemplars.clear();
        self.metadata = 0;
        self.metadata_bytes.clear();
        self.deletes = 0;
        self.delete_bytes.clear();
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.exemplar_series.is_empty() && self.metadata == 0 && self.deletes == 0
    }

    /// Whether all rows are floats without start timestamps.
    pub(crate) fn is_plain(&self) -> bool {
        self.starts.is_empty() && self.kinds.is_empty()
    }

    /// A float, or a staleness marker.
    #[inline]
    pub(crate) fn float(&mut self, series: u32, time_ms: i64, start_ms: i64, bits: u64) {
        self.series.push(series);
        self.times.push(time_ms);
        self.bits.push(bits);
        if start_ms != 0 || !self.is_plain() {
            self.odd(start_ms, KIND_FLOAT);
        }
    }

    /// A native histogram, which [`put_histogram`](Self::put_histogram) must follow.
    pub(crate) fn histogram(&mut self, series: u32, time_ms: i64, start_ms: i64) {
        self.odd_row(series, time_ms, start_ms, KIND_HISTOGRAM);
    }

    /// An increment, which [`put_added`](Self::put_added) must follow; its time is the end of its interval.
    pub(crate) fn increment(&mut self, series: u32, time_ms: i64, start_ms: i64) {
        self.odd_row(series, time_ms, start_ms, KIND_INCREMENT);
    }

    /// A writer's total, which [`put_added`](Self::put_added) must follow.
    pub(crate) fn total(&mut self, series: u32, time_ms: i64, start_ms: i64) {
        self.odd_row(series, time_ms, start_ms, KIND_TOTAL);
    }

    /// What the next histogram row holds; called for all odd rows in their order, before encoding.
    pub(crate) fn put_histogram(&mut self, value: &NativeHistogram) {
        put_histogram(&mut self.odd_values, value);
    }

    /// What the next increment or total holds, as it was sent; `begins` if its series had no table. Called as
    /// [`put_histogram`](Self::put_histogram).
    pub(crate) fn put_added(&mut self, row: &Added, begins: bool) {
        let (writer, value) = match row {
            Added::Increment(row) => (row.writer, &row.value),
            Added::Total { total: row, .. } => (row.writer, &row.value),
        };
        self.odd_values.push(if begins { BEGINS } else { 0 });
        self.odd_values.extend_from_slice(&writer.to_le_bytes());
        put_added(&mut self.odd_values, value);
    }

    fn odd_row(&mut self, series: u32, time_ms: i64, start_ms: i64, kind: u8) {
        self.series.push(series);
        self.times.push(time_ms);
        self.bits.push(0);
        self.odd(start_ms, kind);
    }

    /// Notes what the newest row has that most have not.
    fn odd(&mut self, start_ms: i64, kind: u8) {
        let rows = self.series.len();
        if start_ms != 0 || !self.starts.is_empty() {
            self.starts.resize(rows - 1, 0);
            self.starts.push(start_ms);
        }
        if kind != KIND_FLOAT || !self.kinds.is_empty() {
            self.kinds.resize(rows - 1, KIND_FLOAT);
            self.kinds.push(kind);
        }
    }

    pub(crate) fn exemplar(&mut self, series: u32, exemplar: &Exemplar) {
        self.exemplar_series.push(series);
        put_varint(&mut self.exemplars, u64::from(series));
        put_exemplar(&mut self.exemplars, exemplar);
    }

    /// Series of the exemplars.
    pub(crate) fn exemplar_series(&self) -> &[u32] {
        &self.exemplar_series
    }

    pub(crate) fn metadata(&mut self, family: &str, metadata: &Metadata) {
        self.metadata += 1;
        put_metadata(&mut self.metadata_bytes, family, metadata);
    }

    /// A delete. Its frame says nothing else.
    pub(crate) fn delete(&mut self, tombstone: &Tombstone) {
        self.deletes += 1;
        tombstone.put(&mut self.delete_bytes);
    }

    /// Appends the payload; `labels` are asked for series that the generation does not define yet. Tells whether it is a
    /// key frame.
    pub(crate) fn encode(
        &self,
        opening: u32,
        chain: &mut Chain,
        mut labels: impl FnMut(u32) -> Option<Labels>,
        out: &mut Vec<u8>,
    ) -> bool {
        let before = out.len();
        let is_key = chain.begin();
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        let flags = flag(is_key, IS_KEY)
            | flag(!self.kinds.is_empty(), HAS_KINDS)
            | flag(!self.starts.is_empty(), HAS_STARTS)
            | flag(self.deletes > 0, HAS_DELETES);
        out.push(flags);
        put_varint(out, u64::from(opening));
        // Mostly there are none, and then nothing stands between this count and the rows.
        let definitions = out.len();
        let mut defined = 0u64;
        out.push(0);
        let (mut changed, mut values) = (std::mem::take(&mut chain.changed), std::mem::take(&mut chain.values));
        self.link_new(chain, &mut |series| {
            if let Some(labels) = labels(series) {
                defined += 1;
                put_varint(out, u64::from(series));
                put_labels(out, &labels);
            }
        });
        if defined > 0 {
            chain.defined(out.len() - definitions);
            let mut count = Vec::new();
            put_varint(&mut count, defined);
            out.splice(definitions..=definitions, count);
        }
        put_varint(out, self.exemplar_series.len() as u64);
        out.extend_from_slice(&self.exemplars);
        put_varint(out, self.metadata);
        out.extend_from_slice(&self.metadata_bytes);
        if self.deletes > 0 {
            put_varint(out, self.deletes);
            out.extend_from_slice(&self.delete_bytes);
        }
        put_varint(out, self.series.len() as u64);
        if !self.series.is_empty() {
            self.encode_rows(chain, &mut changed, &mut values, out);
        }
        (chain.changed, chain.values) = (changed, values);
        chain.end(out.len() - before, self.series.len());
        is_key
    }

    /// Shows every series that is not defined, once.
    fn link_new(&self, chain: &mut Chain, define: &mut dyn FnMut(u32)) {
        for &series in self.series.iter().chain(&self.exemplar_series) {
            if chain.link(series).1 {
                define(series);
            }
        }
    }

    fn encode_rows(&self, chain: &mut Chain, changed: &mut Vec<u8>, values: &mut Vec<u8>, out: &mut Vec<u8>) {
        let rows = self.series.len();
        let floats = rows - self.kinds.iter().filter(|kind| **kind != KIND_FLOAT).count();
        changed.clear();
        changed.resize(floats.div_ceil(8), 0);
        values.resize(values.len().max(floats * VALUE_BYTES), 0);
        let mut ends = 0;
        let mut run = Run { gap: 0, count: 0, time_ms: 0 };
        let mut time_before = 0i64;
        let mut last = chain.last;
        // What followed it last time.
        let mut next = if last == NONE { NONE } else { chain.link(last).0.next };
        let mut float = 0;
        for at in 0..rows {
            let (series, time_ms) = (self.series[at], self.times[at]);
            let expected = match next {
                _ if last == NONE => 0,
                NONE => last.wrapping_add(1),
                next => next,
            };
            if last != NONE && next != series {
                chain.link(last).0.next = series;
            }
            if at == 0 || expected != series || time_ms != run.time_ms {
                run.put(&mut time_before, out);
                run = Run { gap: i64::from(series) - i64::from(expected), count: 0, time_ms };
            }
            run.count += 1;
            let link = chain.link(series).0;
            (last, next) = (series, link.next);
            if self.kinds.get(at).is_some_and(|kind| *kind != KIND_FLOAT) {
                continue;
            }
            let xor = self.bits[at] ^ link.bits;
            link.bits = self.bits[at];
            if xor != 0 {
                changed[float / 8] |= 1 << (float % 8);
                let zeros = xor.trailing_zeros() / 8;
                let len = 8 - xor.leading_zeros() / 8 - zeros;
                let room = &mut values[ends..ends + VALUE_BYTES];
                room[0] = (zeros << 4 | len) as u8;
                room[1..].copy_from_slice(&(xor >> (8 * zeros)).to_le_bytes());
                ends += 1 + len as usize;
            }
            float += 1;
        }
        run.put(&mut time_before, out);
        chain.last = last;
        out.extend_from_slice(&self.kinds);
        put_runs(&self.starts, out);
        out.extend_from_slice(changed);
        out.extend_from_slice(&values[..ends]);
        out.extend_from_slice(&self.odd_values);
    }
}

/// Rows whose series follow each other as expected, at one time.
struct Run {
    /// The first series, against the expected one.
    gap: i64,
    count: u64,
    time_ms: i64,
}

impl Run {
    fn put(&self, time_before: &mut i64, out: &mut Vec<u8>) {
        if self.count > 0 {
            put_zigzag(out, self.gap);
            put_varint(out, self.count);
            put_zigzag(out, self.time_ms.wrapping_sub(*time_before));
            *time_before = self.time_ms;
        }
    }
}

/// Writes numbers as runs: the difference to the run before, and how many.
fn put_runs(numbers: &[i64], out: &mut Vec<u8>) {
    let mut previous = 0i64;
    for run in numbers.chunk_by(|a, b| a == b) {
        put_zigzag(out, run[0].wrapping_sub(previous));
        put_varint(out, run.len() as u64);
        previous = run[0];
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

/// Definitions that are given at once.
const DEFINITIONS: usize = 64;

/// One thing a frame says, in the order in which it is to be applied.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// Some series or none, and for each a place for what it is to whoever applies the records. It is [`NONE`], also of a series
    /// that was defined before, and what it is set to its rows have, until the reader's chain is cleared.
    Define(&'a [(SeriesRef, LabelsRef<'a>)], &'a mut [u32]),
    /// `number` is that place, as it is in all rows.
    Float {
        number: &'a mut u32,
        series: SeriesRef,
        time_ms: i64,
        start_ms: i64,
        bits: u64,
    },
    Histogram {
        number: &'a mut u32,
        series: SeriesRef,
        time_ms: i64,
        start_ms: i64,
        value: NativeHistogram,
    },
    Added {
        number: &'a mut u32,
        series: SeriesRef,
        row: Added,
        begins: bool,
    },
    Exemplar(SeriesRef, Exemplar),
    Metadata(String, Metadata),
    Delete(Tombstone),
}

/// Whether a frame's samples can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Footing {
    /// The chain has seen every frame since the last key frame.
    Firm,
    /// It has not: only what leans on no other frame is read.
    Lost,
}

/// Reads a payload and gives its records to `apply`, in order.
///
/// # Errors
/// [`Malformed`]; the records before the fault were given, and the chain's footing is lost.
pub(crate) fn decode(
    payload: &[u8],
    chain: &mut ChainReader,
    footing: Footing,
    mut apply: impl FnMut(Record<'_>),
) -> Result<(), Malformed> {
    let from = &mut Reader::new(payload);
    let flags = from.u8()?;
    let opening = u32::try_from(from.varint()?).unwrap_or(0);
    if SeriesRef::new(opening, 0).is_none() {
        return from.bad("opening out of range");
    }
    if chain.opening != opening {
        chain.clear();
        chain.opening = opening;
    }
    if flags & IS_KEY != 0 {
        chain.begin_key();
    }
    read_definitions(from, chain, &mut apply)?;
    for _ in 0..from.count(11)? {
        let index = read_index(from)?;
        let series = series_ref(opening, index, from)?;
        apply(Record::Exemplar(series, read_exemplar(from)?));
    }
    for _ in 0..from.count(4)? {
        let (family, metadata) = read_metadata(from)?;
        apply(Record::Metadata(family, metadata));
    }
    if flags & HAS_DELETES != 0 {
        for _ in 0..from.count(4)? {
            apply(Record::Delete(Tombstone::read(from)?));
        }
    }
    if footing == Footing::Lost {
        return Ok(());
    }
    let rows = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
    // A row takes a bit at the least.
    if rows > from.left().saturating_mul(8) {
        return from.bad("more rows than bytes can say");
    }
    if rows > 0 {
        read_rows(from, chain, rows, flags, &mut apply)?;
    }
    from.end()
}

fn read_definitions(from: &mut Reader<'_>, chain: &mut ChainReader, apply: &mut impl FnMut(Record<'_>)) -> Read<()> {
    let mut left = from.count(2)?;
    let mut definitions = Vec::with_capacity(left.min(DEFINITIONS));
    while left > 0 {
        definitions.clear();
        let few = left.min(DEFINITIONS);
        let read = (0..few).try_for_each(|_| {
            let index = read_index(from)?;
            definitions.push((series_ref(chain.opening, index, from)?, from.labels()?));
            Ok(())
        });
        let numbers = &mut [NONE; DEFINITIONS][..definitions.len()];
        apply(Record::Define(&definitions, numbers));
        for ((series, _), number) in definitions.iter().zip(numbers) {
            chain.define(series.index() as u32, *number);
        }
        read?;
        left -= few;
    }
    Ok(())
}

fn read_index(from: &mut Reader<'_>) -> Read<u32> {
    match u32::try_from(from.varint()?) {
        Ok(index) if index != NONE => Ok(index),
        _ => from.bad("series number out of range"),
    }
}

fn series_ref(opening: u32, index: u32, from: &Reader<'_>) -> Read<SeriesRef> {
    match SeriesRef::new(opening, u64::from(index)) {
        Some(series) => Ok(series),
        None => from.bad("series ref out of range"),
    }
}

fn read_rows(
    from: &mut Reader<'_>,
    chain: &mut ChainReader,
    count: usize,
    flags: u8,
    apply: &mut impl FnMut(Record<'_>),
) -> Read<()> {
    let mut rows = std::mem::take(&mut chain.rows);
    rows.clear();
    let read = read_places(from, chain, count, &mut rows);
    let read = read.and_then(|()| read_values(from, chain, &rows, flags, apply));
    chain.rows = rows;
    read
}

/// Reads which series come, and when.
fn read_places(from: &mut Reader<'_>, chain: &mut ChainReader, count: usize, rows: &mut Vec<(u32, i64)>) -> Read<()> {
    let mut time_ms = 0i64;
    while rows.len() < count {
        let gap = from.zigzag()?;
        let len = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        if len == 0 || len > count - rows.len() {
            return from.bad("runs do not add up");
        }
        time_ms = time_ms.wrapping_add(from.zigzag()?);
        for n in 0..len {
            let gap = if n == 0 { gap } else { 0 };
            let slot = next_slot(chain, gap, from)?;
            if chain.last != NONE {
                chain.get(chain.last).next = slot;
            }
            chain.last = slot;
            rows.push((slot, time_ms));
        }
    }
    Ok(())
}

/// The slot of the series that is `gap` from the expected one.
#[inline]
fn next_slot(chain: &mut ChainReader, gap: i64, from: &Reader<'_>) -> Read<u32> {
    let mut expected = 0;
    if chain.last != NONE {
        if let Some(follower) = chain.follower(chain.last) {
            if gap == 0 {
                return Ok(follower);
            }
            expected = chain.index(follower);
        } else {
            if gap == 0
                && let Some(neighbour) = chain.neighbour(chain.last)
            {
                return Ok(neighbour);
            }
            expected = chain.index(chain.last).wrapping_add(1);
        }
    }
    match i64::from(expected).checked_add(gap).map(u32::try_from) {
        Some(Ok(index)) if index != NONE => Ok(chain.slot(index)),
        _ => from.bad("series number out of range"),
    }
}

fn read_values(
    from: &mut Reader<'_>,
    chain: &mut ChainReader,
    rows: &[(u32, i64)],
    flags: u8,
    apply: &mut impl FnMut(Record<'_>),
) -> Read<()> {
    let opening = chain.opening;
    let kinds = if flags & HAS_KINDS != 0 { from.bytes(rows.len())? } else { &[] };
    if kinds.iter().any(|kind| *kind > KIND_TOTAL) {
        return from.bad("unknown kind of sample");
    }
    let starts = if flags & HAS_STARTS != 0 { read_runs(from, rows.len())? } else { Vec::new() };
    let odd = kinds.iter().filter(|kind| **kind != KIND_FLOAT).count();
    let changed = from.bytes((rows.len() - odd).div_ceil(8))?;
    // Floats and what else there is are two columns: a second reader walks the one behind.
    let mut behind = from.clone();
    if odd > 0 {
        let values: u32 = changed.iter().map(|byte| byte.count_ones()).sum();
        (0..values).try_for_each(|_| behind.xor().map(drop))?;
    }
    let mut float = 0;
    for (at, &(slot, time_ms)) in rows.iter().enumerate() {
        let start_ms = starts.get(at).copied().unwrap_or(0);
        let link = chain.get(slot);
        let series = series_ref(opening, link.index, from)?;
        match kinds.get(at).copied().unwrap_or(KIND_FLOAT) {
            KIND_FLOAT => {}
            KIND_HISTOGRAM => {
                let value = read_histogram(&mut behind)?;
                apply(Record::Histogram { number: &mut link.number, series, time_ms, start_ms, value });
                continue;
            }
            kind => {
                let begins = behind.u8()?;
                if begins > BEGINS {
                    return behind.bad("unknown flag");
                }
                let (writer, value) = (behind.u64()?, read_added(&mut behind)?);
                let row = if kind == KIND_TOTAL {
                    Added::Total { total: Total { writer, start_ms, value }, time_ms }
                } else {
                    Added::Increment(Increment { writer, start_ms, end_ms: time_ms, value })
                };
                apply(Record::Added { number: &mut link.number, series, row, begins: begins == BEGINS });
                continue;
            }
        }
        if changed[float / 8] >> (float % 8) & 1 != 0 {
            link.bits ^= from.xor()?;
        }
        float += 1;
        let Slot { bits, number, .. } = link;
        apply(Record::Float { number, series, time_ms, start_ms, bits: *bits });
    }
    if odd > 0 {
        *from = behind;
    }
    Ok(())
}

fn read_runs(from: &mut Reader<'_>, count: usize) -> Read<Vec<i64>> {
    let mut numbers = Vec::new();
    let mut number = 0i64;
    while numbers.len() < count {
        number = number.wrapping_add(from.zigzag()?);
        let len = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        if len == 0 || len > count - numbers.len() {
            return from.bad("runs do not add up");
        }
        numbers.extend(std::iter::repeat_n(number, len));
    }
    Ok(numbers)
}
