//! Timestamp columns: each stored once, found by its content.
//!
//! A column is written as its first difference and the differences of differences behind it; columns follow each other
//! in pages that zstd sees whole, for the columns of one block resemble each other. Where a column begins, ends, and how
//! long it is stands in pages of bounds, so that a chunk's reach is known without unpacking times.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::directory::{Page, PageRef, PageWriter, number};
use crate::chunk::CHUNK_SAMPLES_MAX;
use crate::codec::{Read, Reader, put_varint, put_zigzag};

/// Columns whose bounds stand in one page.
pub(super) const COLUMNS_PER_BOUNDS: usize = 4_096;
/// Bytes of a page of columns before zstd.
const PAGE_BYTES: usize = 128 << 10;
/// Timestamps kept for comparison while a block is written: 32 MiB. Beyond, columns are forgotten and may be
/// stored again.
const REMEMBERED_MAX: usize = 4 << 20;

/// What is known of a column without its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ColumnBounds {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) count: u32,
    /// Bytes in its page.
    len: u32,
}

/// Collects the columns of a block.
#[derive(Debug)]
pub(super) struct TimesWriter {
    /// Hash, and which of `bounds`.
    known: HashTable<(u64, u32)>,
    /// Where the times of a column begin in `remembered`, for those that are.
    at: Vec<usize>,
    /// The number of the first column in `at`.
    at_from: usize,
    remembered: Vec<i64>,
    bounds: Vec<ColumnBounds>,
    raw: Vec<u8>,
    raw_first: u32,
    pages: PageWriter,
    places: Vec<Page<u32>>,
    hasher: FixedState,
}

impl TimesWriter {
    pub(super) fn new() -> std::io::Result<TimesWriter> {
        Ok(TimesWriter {
            known: HashTable::new(),
            at: Vec::new(),
            at_from: 0,
            remembered: Vec::new(),
            bounds: Vec::new(),
            raw: Vec::new(),
            raw_first: 0,
            pages: PageWriter::new()?,
            places: Vec::new(),
            hasher: FixedState::with_seed(0),
        })
    }

    /// The number of a column, stored if it is new. Never empty.
    pub(super) fn intern(&mut self, times: &[i64]) -> std::io::Result<u32> {
        let hash = self.hash(times);
        let found = self.known.find(hash, |&(other, column)| {
            let at = self.at[column as usize - self.at_from];
            other == hash && self.remembered.get(at..at + times.len()) == Some(times) && {
                self.bounds[column as usize].count as usize == times.len()
            }
        });
        if let Some(&(_, column)) = found {
            return Ok(column);
        }
        if self.remembered.len() + times.len() > REMEMBERED_MAX {
            self.known.clear();
            self.remembered.clear();
            self.at.clear();
            self.at_from = self.bounds.len();
        }
        let column = self.bounds.len() as u32;
        self.at.push(self.remembered.len());
        self.remembered.extend_from_slice(times);
        self.known.insert_unique(hash, (hash, column), |entry| entry.0);
        let begin = self.raw.len();
        encode(times, &mut self.raw);
        self.bounds.push(ColumnBounds {
            first_ms: times[0],
            last_ms: times[times.len() - 1],
            count: times.len() as u32,
            len: (self.raw.len() - begin) as u32,
        });
        if self.raw.len() >= PAGE_BYTES || self.bounds.len() - self.raw_first as usize == COLUMNS_PER_BOUNDS {
            self.end_page()?;
        }
        Ok(column)
    }

    /// Ends, both lengths and a few times between: equality decides.
    fn hash(&self, times: &[i64]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_usize(times.len());
        times.iter().step_by(times.len().div_ceil(32)).for_each(|time| hasher.write_i64(*time));
        times.last().into_iter().for_each(|time| hasher.write_i64(*time));
        hasher.finish()
    }

    fn end_page(&mut self) -> std::io::Result<()> {
        let place = self.pages.add(&self.raw)?;
        self.places.push(Page { place, first: self.raw_first });
        self.raw.clear();
        self.raw_first = self.bounds.len() as u32;
        Ok(())
    }

    /// The section's bytes, its pages of columns, its pages of bounds, and the number of columns.
    #[expect(clippy::type_complexity, reason = "four outcomes of one end, named where they are taken apart")]
    pub(super) fn finish(mut self) -> std::io::Result<(Vec<u8>, Vec<Page<u32>>, Vec<PageRef>, u32)> {
        if self.bounds.len() > self.raw_first as usize {
            self.end_page()?;
        }
        let mut bounds_pages = Vec::new();
        for bounds in self.bounds.chunks(COLUMNS_PER_BOUNDS) {
            bounds_pages.push(self.pages.add(&encode_bounds(bounds))?);
        }
        Ok((self.pages.bytes, self.places, bounds_pages, self.bounds.len() as u32))
    }
}

fn encode(times: &[i64], out: &mut Vec<u8>) {
    let mut delta = 0i64;
    for pair in times.windows(2) {
        let next = pair[1].wrapping_sub(pair[0]);
        put_zigzag(out, next.wrapping_sub(delta));
        delta = next;
    }
}

fn encode_bounds(bounds: &[ColumnBounds]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, bounds.len() as u64);
    let mut before = 0i64;
    for column in bounds {
        put_zigzag(&mut out, column.first_ms.wrapping_sub(before));
        before = column.first_ms;
    }
    bounds.iter().for_each(|c| put_varint(&mut out, c.last_ms.wrapping_sub(c.first_ms) as u64));
    bounds.iter().for_each(|c| put_varint(&mut out, u64::from(c.count)));
    bounds.iter().for_each(|c| put_varint(&mut out, u64::from(c.len)));
    out
}

/// Reads a page of bounds of `count` columns.
pub(super) fn decode_bounds(bytes: &[u8], count: usize) -> Read<Vec<ColumnBounds>> {
    let from = &mut Reader::new(bytes);
    if from.count(4)? != count {
        return from.bad("page of bounds has another number of columns");
    }
    let mut bounds = Vec::with_capacity(count);
    let mut first_ms = 0i64;
    for _ in 0..count {
        first_ms = first_ms.wrapping_add(from.zigzag()?);
        bounds.push(ColumnBounds { first_ms, last_ms: first_ms, count: 0, len: 0 });
    }
    for column in &mut bounds {
        let span = i64::try_from(from.varint()?).ok();
        let Some(last_ms) = span.and_then(|span| column.first_ms.checked_add(span)) else {
            return from.bad("timestamps lie outside the range of times");
        };
        column.last_ms = last_ms;
    }
    for column in &mut bounds {
        column.count = number(from)?;
        if !(1..=CHUNK_SAMPLES_MAX).contains(&(column.count as usize)) {
            return from.bad("column has an impossible length");
        }
    }
    for column in &mut bounds {
        column.len = number(from)?;
    }
    from.end()?;
    Ok(bounds)
}

/// Reads column `number` of a page, given the bounds of the page's columns up to that one.
pub(super) fn decode_column(page: &[u8], bounds: impl Iterator<Item = ColumnBounds>) -> Read<Vec<i64>> {
    let mut end = 0usize;
    let mut wanted = None;
    for column in bounds {
        wanted = Some((end, column));
        end = end.saturating_add(column.len as usize);
    }
    let from = &mut Reader::new(page);
    let Some((begin, column)) = wanted else { return from.bad("column is missing") };
    from.bytes(begin)?;
    let from = &mut Reader::new(from.bytes(column.len as usize)?);
    // Every time but the first takes a byte.
    if from.left() + 1 < column.count as usize {
        return from.bad("column is cut short");
    }
    let mut times = Vec::with_capacity(column.count as usize);
    let (mut time, mut delta) = (column.first_ms, 0i64);
    times.push(time);
    for _ in 1..column.count {
        delta = delta.wrapping_add(from.zigzag()?);
        let next = time.wrapping_add(delta);
        if next <= time {
            return from.bad("timestamps do not rise");
        }
        time = next;
        times.push(time);
    }
    if time != column.last_ms {
        return from.bad("column does not end where it should");
    }
    from.end()?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::unpack;

    #[test]
    fn columns_are_stored_once_and_read_back() {
        let column = |from: i64, n: i64| (0..n).map(|i| from + i * 15_000 + i % 7).collect::<Vec<i64>>();
        let mut writer = TimesWriter::new().unwrap();
        let columns: Vec<Vec<i64>> =
            (0..300).map(|n| column(1_700_000_000_000 + n % 3, 400 + n % 5)).chain([vec![-5], vec![7]]).collect();
        let numbers: Vec<u32> = columns.iter().map(|c| writer.intern(c).unwrap()).collect();
        assert_eq!(numbers.iter().max(), Some(&16), "15 shapes and two single times");
        let (bytes, pages, bounds, count) = writer.finish().unwrap();
        assert_eq!((count, bounds.len()), (17, 1));
        assert!(bytes.len() < 4_000, "{} bytes", bytes.len());
        let mut raw = Vec::new();
        let bounds_at = bytes.len() - bounds[0].len as usize;
        unpack(&bytes[bounds_at..], bounds[0].raw_len as usize, &mut raw).unwrap();
        let bounds = decode_bounds(&raw, 17).unwrap();
        assert_eq!(pages.len(), 1);
        unpack(&bytes[..pages[0].place.len as usize], pages[0].place.raw_len as usize, &mut raw).unwrap();
        for (column, number) in columns.iter().zip(numbers) {
            let found = decode_column(&raw, bounds[..=number as usize].iter().copied()).unwrap();
            assert_eq!(found, *column);
        }
    }
}
