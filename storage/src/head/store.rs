//! Sealed chunks: their bytes in pages, their times as columns that chunks share, and 20 bytes on each.
//!
//! A store only grows. A flush takes it whole, so nothing in it is ever freed alone.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::storage::{ColumnValue, Columns};

use super::codec::{self, RunValues, times};
use super::series::Gap;
use super::slab::Slab;
use crate::codec::{Malformed, Read};
use crate::sample::RUN_SAMPLES;

/// Marks names of times that are the number of a column.
const NAMES_COLUMN: u64 = 1 << 62;
/// Marks those of columns that are set apart for a flush.
pub(super) const NAMES_FROZEN: u64 = 1 << 61;
/// No chunk, no column.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of a page of encoded chunks; a chunk that is larger has one of its own.
const PAGE_BYTES: usize = 16 << 10;

/// Where bytes stand in the pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    page: u32,
    offset: u16,
}

/// What is known of a chunk's times by those of older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// A late run: nothing.
    Anywhere,
    /// An open run: it lies above the open run sealed before it, and all that is older than that, but late runs that were
    /// sealed in between reach into it.
    AboveOlder,
    /// An open run: it lies above all chunks of its series that were sealed before it, set apart or not.
    AboveAll,
}

/// A sealed run of one series.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// The chunk of this series that was sealed before.
    previous: u32,
    column: u32,
    /// Where its bytes stand: not a [`Place`], so that `standing` takes no room.
    page: u32,
    offset: u16,
    standing: Standing,
    len: u32,
}

impl Chunk {
    fn at(&self) -> Place {
        Place { page: self.page, offset: self.offset }
    }
}

const _: () = assert!(size_of::<Chunk>() == 20);

/// Times of one run or of many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    first: i64,
    last: i64,
    at: Place,
    bytes: u16,
    count: u8,
    width: u8,
}

impl Column {
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    pub(super) fn last(&self) -> i64 {
        self.last
    }

    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    pub(super) fn reaches(&self, start_ms: i64, end_ms: i64) -> bool {
        self.last > start_ms && self.first <= end_ms
    }

    /// Its times, put into `room`.
    pub(super) fn decode<'a>(&self, bytes: &[u8], room: &'a mut [i64; RUN_SAMPLES]) -> Read<&'a [i64]> {
        let times = match room.get_mut(..self.count()) {
            Some(times) => times,
            None => return Err(Malformed { what: "column is too long", offset: 0 }),
        };
        times::decode(bytes, self.first, self.width, times)?;
        Ok(times)
    }
}

/// A chunk as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkView<'a> {
    /// Names its times: chunks of one look at the head that have the same have equal times.
    pub(super) times_name: u64,
    pub(super) column: Column,
    pub(super) standing: Standing,
    /// Encoded times.
    pub(super) times: &'a [u8],
    /// Encoded values.
    pub(super) values: &'a [u8],
}

impl ChunkView<'_> {
    /// Appends the samples with `start < time <= end` to `columns`.
    pub(super) fn read(&self, start_ms: i64, end_ms: i64, columns: &mut Columns) -> Read<()> {
        let mut room = [0; RUN_SAMPLES];
        let times = self.column.decode(self.times, &mut room)?;
        let low = times.partition_point(|t| *t <= start_ms);
        let high = times.partition_point(|t| *t <= end_ms).max(low);
        if low == high {
            return Ok(());
        }
        columns.times.extend_from_slice(&times[low..high]);
        codec::decode(self.values, times.len(), low..high, columns)
    }

    /// Appends the sample at exactly `time_ms` to `columns`, if there is one; gives the gap between samples that the time is in.
    pub(super) fn look(&self, time_ms: i64, columns: &mut Columns) -> Read<Gap> {
        let mut room = [0; RUN_SAMPLES];
        let times = self.column.decode(self.times, &mut room)?;
        let at = times.partition_point(|t| *t < time_ms);
        let above_ms = at.checked_sub(1).map_or(i64::MIN, |before| times[before]);
        match times.get(at) {
            Some(&found) if found == time_ms => {
                columns.times.push(time_ms);
                codec::decode(self.values, times.len(), at..at + 1, columns)?;
                Ok(Gap { above_ms: time_ms, below_ms: time_ms })
            }
            next => Ok(Gap { above_ms, below_ms: next.copied().unwrap_or(i64::MAX) }),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ChunkStore {
    pages: Vec<Vec<u8>>,
    page_bytes: usize,
    chunks: Slab<Chunk>,
    columns: Slab<Column>,
    /// Columns by their content's hash.
    by_content: HashTable<(u32, u32)>,
    encoded: Vec<u8>,
}

impl ChunkStore {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let table = self.by_content.capacity() * (size_of::<(u32, u32)>() + 1) * 8 / 7;
        let pages = self.page_bytes + self.pages.capacity() * size_of::<Vec<u8>>();
        pages + self.chunks.bytes() + self.columns.bytes() + table + self.encoded.capacity()
    }

    /// The column of these times: one that is there already, or a new one.
    pub(super) fn column(&mut self, times: &[i64], hasher: &FixedState) -> u32 {
        let hash = spread(hasher.hash_one(times) as u32);
        let same = |found: &(u32, u32)| {
            let Some(column) = self.columns.get(found.1) else { return false };
            let mut room = [0; RUN_SAMPLES];
            column.count() == times.len()
                && column
                    .decode(self.slice(column.at, column.bytes.into()), &mut room)
                    .is_ok_and(|found| found == times)
        };
        if let Some(found) = self.by_content.find(hash, same) {
            return found.1;
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let width = times::encode(times, &mut encoded);
        let at = self.keep(&encoded);
        let number = self.columns.push(Column {
            first: times[0],
            last: times[times.len() - 1],
            at,
            bytes: encoded.len() as u16,
            count: times.len() as u8,
            width,
        });
        self.encoded = encoded;
        self.by_content.insert_unique(hash, (hash as u32, number), |entry| spread(entry.0));
        number
    }

    /// Where an open run with the times of `column` lies among the chunks of its series, of which `last` is the newest.
    pub(super) fn standing_of(&self, last: u32, column: u32) -> Standing {
        let Some(first) = self.columns.get(column).map(Column::first) else { return Standing::AboveOlder };
        // Older open runs were sealed before this one began, and so was all that was sealed before them.
        let mut since = self.chunks(last).take_while(|chunk| chunk.standing == Standing::Anywhere);
        if since.all(|late| late.column.last() < first) { Standing::AboveAll } else { Standing::AboveOlder }
    }

    /// Seals a run whose times are `column`; gives the chunk's number.
    pub(super) fn seal(&mut self, previous: u32, column: u32, standing: Standing, values: RunValues<'_>) -> u32 {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        codec::encode(values, &mut encoded);
        let Place { page, offset } = self.keep(&encoded);
        let len = encoded.len() as u32;
        self.encoded = encoded;
        self.chunks.push(Chunk { previous, column, page, offset, standing, len })
    }

    /// The chunks of a series, of which `last` is the newest, without what lies between two times, both inclusive: the
    /// newest chunk then, and how many samples are gone. Bytes stay until a flush takes the store.
    pub(super) fn without(&mut self, last: u32, start_ms: i64, end_ms: i64, hasher: &FixedState) -> (u32, u64) {
        let reaches = |column: &Column| column.reaches(start_ms.saturating_sub(1), end_ms);
        let mut numbers = Vec::new();
        let mut next = last;
        while let Some(chunk) = self.chunks.get(next) {
            numbers.push(next);
            next = chunk.previous;
        }
        let touched = |number: &u32| {
            let column = self.chunks.get(*number).and_then(|chunk| self.columns.get(chunk.column));
            column.is_some_and(reaches)
        };
        let Some(oldest) = numbers.iter().rposition(touched) else { return (last, 0) };
        // Chunks below the oldest one that is touched stay linked as they are.
        let mut previous = numbers.get(oldest + 1).copied().unwrap_or(NONE);
        let mut gone = 0;
        for number in numbers[..=oldest].iter().rev() {
            let Some(&chunk) = self.chunks.get(*number) else { continue };
            let Some(&column) = self.columns.get(chunk.column) else { continue };
            if !reaches(&column) {
                previous = self.chunks.push(Chunk { previous, ..chunk });
                continue;
            }
            let mut rest = Columns::default();
            let view = self.view(&chunk, column);
            let read = view.read(i64::MIN, start_ms.saturating_sub(1), &mut rest);
            if read.and_then(|()| view.read(end_ms, i64::MAX, &mut rest)).is_err() {
                // What cannot be read is lost either way.
                rest.clear();
            }
            gone += (column.count() - rest.times.len()) as u64;
            if !rest.times.is_empty() {
                previous = self.seal_columns(previous, &rest, chunk.standing, hasher);
            }
        }
        (previous, gone)
    }

    /// Seals samples that are in columns, at most as many as a run holds.
    fn seal_columns(&mut self, previous: u32, columns: &Columns, standing: Standing, hasher: &FixedState) -> u32 {
        let mut bits = Vec::with_capacity(columns.times.len());
        let mut histograms = Vec::new();
        for (at, (_, value)) in columns.iter().enumerate() {
            bits.push(match value {
                ColumnValue::Float(value) => value.to_bits(),
                ColumnValue::Stale => STALE_NAN_BITS,
                ColumnValue::Histogram(value) => {
                    histograms.push((at as u8, Arc::new(value.clone())));
                    0
                }
            });
        }
        let column = self.column(&columns.times, hasher);
        self.seal(
            previous,
            column,
            standing,
            RunValues { bits: &bits, starts: &columns.starts, histograms: &histograms },
        )
    }

    fn keep(&mut self, bytes: &[u8]) -> Place {
        let fits = self.pages.last().is_some_and(|page| page.capacity() - page.len() >= bytes.len());
        if !fits {
            let room = PAGE_BYTES.max(bytes.len());
            self.page_bytes += room;
            self.pages.push(Vec::with_capacity(room));
        }
        let page = self.pages.len() - 1;
        // A page of its own is full, so nothing stands behind a large chunk.
        let offset = self.pages[page].len() as u16;
        self.pages[page].extend_from_slice(bytes);
        Place { page: page as u32, offset }
    }

    /// Where the bytes of a chunk stand.
    pub(super) fn at(&self, chunk: u32) -> Option<Place> {
        self.chunks.get(chunk).map(Chunk::at)
    }

    /// A number that depends on the bytes there.
    pub(super) fn touch(&self, at: &Place) -> u8 {
        self.slice(*at, 1).first().copied().unwrap_or(0)
    }

    fn slice(&self, at: Place, len: usize) -> &[u8] {
        let page = self.pages.get(at.page as usize).map_or(&[][..], Vec::as_slice);
        page.get(usize::from(at.offset)..usize::from(at.offset) + len).unwrap_or(&[])
    }

    /// The chunks of a series from the newest, `last`, to the oldest.
    pub(super) fn chunks(&self, last: u32) -> impl Iterator<Item = ChunkView<'_>> {
        let mut next = last;
        std::iter::from_fn(move || {
            let chunk = self.chunks.get(next)?;
            next = chunk.previous;
            Some(self.view(chunk, *self.columns.get(chunk.column)?))
        })
    }

    fn view(&self, chunk: &Chunk, column: Column) -> ChunkView<'_> {
        ChunkView {
            times_name: NAMES_COLUMN | u64::from(chunk.column),
            column,
            standing: chunk.standing,
            times: self.slice(column.at, column.bytes.into()),
            values: self.slice(chunk.at(), chunk.len as usize),
        }
    }
}

/// Spreads the kept half of a hash over the bits that a table looks at.
pub(super) fn spread(hash: u32) -> u64 {
    // The low half stays, so that it can be kept and spread again.
    u64::from(hash.wrapping_mul(0x9e37_79b9)) << 32 | u64::from(hash)
}

const _: () = assert!(PAGE_BYTES <= 1 << 16);
