//! The series table: label sets as symbols, and where each series' chunks lie, in compressed pages.
//!
//! Within a page series name their shape (the list of label names) and give each value as a difference from the last
//! series of that shape, which is mostly zero.

use std::sync::{Arc, OnceLock};

use foldhash::{HashMap, HashMapExt};
use kymo_core::Labels;

use super::CHUNK_CRC_LEN;
use super::directory::{Page, PageWriter, Slice, number};
use crate::codec::{Read, Reader, put_varint, put_zigzag};

/// Series of a page: few enough to unpack for one, enough for zstd to see what they share.
pub(super) const SERIES_PER_PAGE: usize = 512;

/// A chunk as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ChunkRow {
    /// From the start of the file; meaningless for a constant.
    pub(crate) offset: u64,
    /// Bytes without the checksum behind them; 0 for a constant.
    pub(crate) len: u32,
    /// Number of its timestamp column.
    pub(crate) column: u32,
    /// The value of a constant.
    pub(crate) constant: f64,
}

const _: () = assert!(size_of::<ChunkRow>() <= 24);

/// A series to write.
pub(super) struct Row<'a> {
    /// Names and values as symbols.
    pub(super) pairs: &'a [(u32, u32)],
    pub(super) chunks: &'a [ChunkRow],
}

/// The section, its pages, and the label pairs of their first series.
pub(super) type Written = (Vec<u8>, Vec<Page<Slice>>, Vec<(u32, u32)>);

/// Writes the table.
pub(super) fn write<'a>(rows: impl Iterator<Item = Row<'a>>) -> std::io::Result<Written> {
    let mut writer = PageWriter::new()?;
    let (mut pages, mut firsts) = (Vec::new(), Vec::new());
    let mut rows = rows.peekable();
    let mut page = Vec::with_capacity(SERIES_PER_PAGE);
    while rows.peek().is_some() {
        page.clear();
        page.extend(rows.by_ref().take(SERIES_PER_PAGE));
        let place = writer.add(&encode_page(&page))?;
        let begin = firsts.len();
        firsts.extend_from_slice(page[0].pairs);
        pages.push(Page { place, first: Slice::behind(begin, firsts.len()) });
    }
    Ok((writer.bytes, pages, firsts))
}

fn encode_page(rows: &[Row<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let chunks = || rows.iter().flat_map(|row| row.chunks);
    put_varint(&mut out, rows.len() as u64);
    put_varint(&mut out, chunks().find(|c| c.len > 0).map_or(0, |c| c.offset));
    let mut shapes: Vec<Vec<u32>> = Vec::new();
    let mut numbers: HashMap<Vec<u32>, usize> = HashMap::new();
    let of_row: Vec<usize> = rows
        .iter()
        .map(|row| {
            let names: Vec<u32> = row.pairs.iter().map(|pair| pair.0).collect();
            *numbers.entry(names).or_insert_with_key(|names| {
                shapes.push(names.clone());
                shapes.len() - 1
            })
        })
        .collect();
    put_varint(&mut out, shapes.len() as u64);
    for names in &shapes {
        put_varint(&mut out, names.len() as u64);
        let mut before = 0;
        for &name in names {
            put_varint(&mut out, u64::from(name - before));
            before = name;
        }
    }
    of_row.iter().for_each(|shape| put_varint(&mut out, *shape as u64));
    let mut last: Vec<Vec<u32>> = shapes.iter().map(|names| vec![0; names.len()]).collect();
    for (row, &shape) in rows.iter().zip(&of_row) {
        for (before, &(_, value)) in last[shape].iter_mut().zip(row.pairs) {
            put_zigzag(&mut out, i64::from(value) - i64::from(*before));
            *before = value;
        }
    }
    rows.iter().for_each(|row| put_varint(&mut out, row.chunks.len() as u64));
    let mut before = 0;
    for chunk in chunks() {
        put_zigzag(&mut out, i64::from(chunk.column) - before);
        before = i64::from(chunk.column);
    }
    chunks().for_each(|chunk| put_varint(&mut out, u64::from(chunk.len)));
    chunks().filter(|c| c.len == 0).for_each(|c| out.extend_from_slice(&c.constant.to_le_bytes()));
    out
}

/// A page, unpacked. Label sets are built when they are first asked for.
#[derive(Debug, Default)]
pub(super) struct SeriesPage {
    pairs: Vec<(u32, u32)>,
    chunks: Vec<ChunkRow>,
    /// End of each series in `pairs` and `chunks`.
    ends: Vec<(u32, u32)>,
    labels: OnceLock<Arc<[Labels]>>,
}

impl SeriesPage {
    /// Reads a page of `count` series of a block with so many symbols and columns.
    pub(super) fn decode(bytes: &[u8], count: usize, symbols: u32, columns: u32) -> Read<SeriesPage> {
        let from = &mut Reader::new(bytes);
        if from.count(2)? != count {
            return from.bad("page of series has another number of series");
        }
        let mut offset = from.varint()?;
        let mut shapes = Vec::new();
        for _ in 0..from.count(1)? {
            let mut names = Vec::new();
            let mut name = 0u32;
            for place in 0..from.count(1)? {
                let step = number(from)?;
                let next = name.checked_add(step).filter(|next| *next < symbols && (place == 0 || step > 0));
                let Some(next) = next else { return from.bad("label names are not sorted") };
                names.push(next);
                name = next;
            }
            shapes.push((names, Vec::new()));
        }
        for (names, last) in &mut shapes {
            *last = vec![0i64; names.len()];
        }
        let of_row = (0..count).map(|_| from.varint()).collect::<Read<Vec<u64>>>()?;
        let mut page = SeriesPage::default();
        page.ends.reserve(count);
        for shape in of_row {
            let shape = usize::try_from(shape).ok().and_then(|shape| shapes.get_mut(shape));
            let Some((names, last)) = shape else { return from.bad("unknown shape of labels") };
            for (name, before) in names.iter().zip(last.iter_mut()) {
                *before = before.wrapping_add(from.zigzag()?);
                let value = u32::try_from(*before).ok().filter(|value| *value < symbols);
                let Some(value) = value else { return from.bad("unknown symbol") };
                page.pairs.push((*name, value));
            }
            page.ends.push((page.pairs.len() as u32, 0));
            let series = page.ends.len() - 1;
            if series > 0 && page.pairs(series - 1) >= page.pairs(series) {
                return from.bad("series are not sorted");
            }
        }
        let mut total = 0usize;
        for series in 0..count {
            total = total.saturating_add(usize::try_from(from.varint()?).unwrap_or(usize::MAX));
            // A chunk takes a byte for its column and one for its length.
            if total > from.left() {
                return from.bad("count beyond the bytes present");
            }
            page.ends[series].1 = total as u32;
        }
        page.chunks.reserve(total);
        let mut column = 0i64;
        for _ in 0..total {
            column = column.wrapping_add(from.zigzag()?);
            let Some(column) = u32::try_from(column).ok().filter(|column| *column < columns) else {
                return from.bad("unknown column of times");
            };
            page.chunks.push(ChunkRow { offset: 0, len: 0, column, constant: 0.0 });
        }
        for chunk in &mut page.chunks {
            chunk.len = number(from)?;
            if chunk.len > 0 {
                chunk.offset = offset;
                offset = offset.saturating_add(u64::from(chunk.len) + u64::from(CHUNK_CRC_LEN));
            }
        }
        for chunk in page.chunks.iter_mut().filter(|chunk| chunk.len == 0) {
            chunk.constant = from.f64()?;
        }
        from.end()?;
        Ok(page)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Names and values of a series, as symbols.
    pub(super) fn pairs(&self, series: usize) -> &[(u32, u32)] {
        let start = if series == 0 { 0 } else { self.ends[series - 1].0 };
        &self.pairs[start as usize..self.ends[series].0 as usize]
    }

    pub(super) fn chunks(&self, series: usize) -> &[ChunkRow] {
        let start = if series == 0 { 0 } else { self.ends[series - 1].1 };
        &self.chunks[start as usize..self.ends[series].1 as usize]
    }

    /// The number of a series by its pairs.
    pub(super) fn find(&self, wanted: &[(u32, u32)]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.pairs(middle).cmp(wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// The label sets of the page, built by `build` once.
    pub(super) fn labels<E>(&self, build: impl FnOnce() -> Result<Vec<Labels>, E>) -> Result<&Arc<[Labels]>, E> {
        if let Some(labels) = self.labels.get() {
            return Ok(labels);
        }
        let built = build()?.into();
        Ok(self.labels.get_or_init(|| built))
    }

    /// Bytes held, label sets included as if they were built.
    pub(super) fn bytes(&self) -> u64 {
        // A pair is about 16 bytes of text; a set has its counters and the pointer to it.
        let labels = self.pairs.len() * 16 + self.ends.len() * 40;
        (labels + self.pairs.len() * 8 + self.chunks.len() * size_of::<ChunkRow>() + self.ends.len() * 8) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::unpack;

    #[test]
    fn a_table_reads_back_and_cuts_are_errors() {
        let chunk = |n: u32| ChunkRow {
            offset: 0,
            len: if n.is_multiple_of(3) { 0 } else { 10 + n },
            column: n % 4,
            constant: if n.is_multiple_of(3) { f64::from(n) } else { 0.0 },
        };
        let mut at = 16;
        type Pairs = Vec<(u32, u32)>;
        let rows: Vec<(Pairs, Vec<ChunkRow>)> = (0..1_200u32)
            .map(|n| {
                let mut pairs = vec![(0, 10 + n / 100), (3, 100 + n % 100)];
                if n.is_multiple_of(2) {
                    pairs.push((4, 7));
                }
                let mut chunks: Vec<ChunkRow> = (0..n % 3).map(|c| chunk(n + c)).collect();
                for chunk in chunks.iter_mut().filter(|c| c.len > 0) {
                    chunk.offset = at;
                    at += u64::from(chunk.len + CHUNK_CRC_LEN);
                }
                (pairs, chunks)
            })
            .collect();
        let (bytes, pages, firsts) = write(rows.iter().map(|(pairs, chunks)| Row { pairs, chunks })).unwrap();
        assert_eq!(pages.len(), 3);
        assert_eq!(firsts, [0, 512, 1_024].map(|row: usize| rows[row].0.clone()).concat());
        let (mut begin, mut number, mut raw) = (0, 0, Vec::new());
        for page in &pages {
            let end = begin + page.place.len as usize;
            unpack(&bytes[begin..end], page.place.raw_len as usize, &mut raw).unwrap();
            begin = end;
            let count = (rows.len() - number).min(SERIES_PER_PAGE);
            let found = SeriesPage::decode(&raw, count, 200, 4).unwrap();
            for series in 0..count {
                let (pairs, chunks) = &rows[number + series];
                assert_eq!((found.pairs(series), found.chunks(series)), (pairs.as_slice(), chunks.as_slice()));
                assert_eq!(found.find(pairs), Some(series));
            }
            assert!(SeriesPage::decode(&raw, count, 199, 4).is_err() || number + count < 100);
            (0..raw.len()).step_by(7).for_each(|cut| assert!(SeriesPage::decode(&raw[..cut], count, 200, 4).is_err()));
            number += count;
        }
    }
}
