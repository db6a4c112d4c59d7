//! Where the pages of a block lie, and what each begins with: all of a block that is held in memory while it is open.

use std::ops::Range;

use super::{Footer, Section, SectionKind};
use crate::codec::{Read, Reader, put_block, put_varint};
use crate::frames::FrameWriter;

/// Bytes that a page may unpack to: far above what a writer cuts at, and a bound for whoever reads any bytes.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// A compressed page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PageRef {
    /// From the start of the file.
    pub(super) offset: u64,
    pub(super) len: u32,
    /// Bytes once unpacked.
    pub(super) raw_len: u32,
    pub(super) crc: u32,
}

/// A page with what it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) place: PageRef,
    pub(super) first: T,
}

/// Where the beginning of a page stands among those of its section, which stand back to back: one large piece of memory is given
/// back when the block goes, thousands of small ones would hold the pages of the heap they happen to lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) begin: u32,
    pub(super) end: u32,
}

impl Slice {
    /// What was added behind the first `begin` of what is now so long.
    pub(super) fn behind(begin: usize, end: usize) -> Slice {
        Slice { begin: begin as u32, end: end as u32 }
    }

    fn range(self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }
}

/// See the module. Offsets are filled in when the sections' places are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    /// Number of the first timestamp column.
    pub(super) times: Vec<Page<u32>>,
    /// Of [`COLUMNS_PER_BOUNDS`](super::times::COLUMNS_PER_BOUNDS) columns each, but the last.
    pub(super) bounds: Vec<PageRef>,
    /// Number of the first symbol, and its text.
    pub(super) symbols: Vec<Page<(u32, Slice)>>,
    pub(super) texts: String,
    /// Label pairs of the first series; [`SERIES_PER_PAGE`](super::series::SERIES_PER_PAGE) series each.
    pub(super) series: Vec<Page<Slice>>,
    /// Names and values, as symbols.
    pub(super) pairs: Vec<(u32, u32)>,
    /// First label name and value, as symbols.
    pub(super) postings: Vec<Page<(u32, u32)>>,
    /// Label names that occur, rising.
    pub(super) names: Vec<u32>,
    /// How many there are.
    pub(super) columns: u32,
    pub(super) symbol_count: u32,
}

impl Directory {
    /// The first symbol of a page.
    pub(super) fn text(&self, page: &Page<(u32, Slice)>) -> &str {
        &self.texts[page.first.1.range()]
    }

    /// The label pairs of the first series of a page.
    pub(super) fn pairs(&self, page: &Page<Slice>) -> &[(u32, u32)] {
        &self.pairs[page.first.range()]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(self.columns));
        put_varint(&mut out, self.times.len() as u64);
        for page in &self.times {
            put_page(&mut out, &page.place);
            put_varint(&mut out, u64::from(page.first));
        }
        put_varint(&mut out, self.bounds.len() as u64);
        self.bounds.iter().for_each(|page| put_page(&mut out, page));
        put_varint(&mut out, u64::from(self.symbol_count));
        put_varint(&mut out, self.symbols.len() as u64);
        for page in &self.symbols {
            put_page(&mut out, &page.place);
            put_varint(&mut out, u64::from(page.first.0));
            put_block(&mut out, self.text(page).as_bytes());
        }
        put_varint(&mut out, self.series.len() as u64);
        for page in &self.series {
            put_page(&mut out, &page.place);
            put_varint(&mut out, u64::from(page.first.end - page.first.begin));
            for &(name, value) in self.pairs(page) {
                put_varint(&mut out, u64::from(name));
                put_varint(&mut out, u64::from(value));
            }
        }
        put_varint(&mut out, self.postings.len() as u64);
        for page in &self.postings {
            put_page(&mut out, &page.place);
            put_varint(&mut out, u64::from(page.first.0));
            put_varint(&mut out, u64::from(page.first.1));
        }
        put_varint(&mut out, self.names.len() as u64);
        self.names.iter().for_each(|name| put_varint(&mut out, u64::from(*name)));
        out
    }

    pub(super) fn decode(bytes: &[u8], footer: &Footer) -> Read<Directory> {
        let from = &mut Reader::new(bytes);
        let columns = number(from)?;
        let times_at = &mut Places::new(footer.section(SectionKind::Times));
        let count = from.count(7)?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(Page { place: times_at.next(from)?, first: number(from)? });
        }
        let bounds = (0..from.count(6)?).map(|_| times_at.next(from)).collect::<Read<Vec<_>>>()?;
        let symbol_count = number(from)?;
        let places = &mut Places::new(footer.section(SectionKind::Symbols));
        let count = from.count(8)?;
        let (mut symbols, mut texts) = (Vec::with_capacity(count), String::new());
        for _ in 0..count {
            let (place, first, begin) = (places.next(from)?, number(from)?, texts.len());
            texts.push_str(from.text()?);
            symbols.push(Page { place, first: (first, Slice::behind(begin, texts.len())) });
        }
        let places = &mut Places::new(footer.section(SectionKind::Series));
        let count = from.count(7)?;
        let (mut series, mut pairs) = (Vec::with_capacity(count), Vec::new());
        for _ in 0..count {
            let (place, begin) = (places.next(from)?, pairs.len());
            for _ in 0..from.count(2)? {
                pairs.push((number(from)?, number(from)?));
            }
            series.push(Page { place, first: Slice::behind(begin, pairs.len()) });
        }
        let places = &mut Places::new(footer.section(SectionKind::Postings));
        let count = from.count(8)?;
        let mut postings = Vec::with_capacity(count);
        for _ in 0..count {
            postings.push(Page { place: places.next(from)?, first: (number(from)?, number(from)?) });
        }
        let names = (0..from.count(1)?).map(|_| number(from)).collect::<Read<Vec<_>>>()?;
        from.end()?;
        if u32::try_from(texts.len().max(pairs.len())).is_err() {
            return from.bad("directory is too large");
        }
        texts.shrink_to_fit();
        pairs.shrink_to_fit();
        let (first_text, first_pairs) =
            (|page: &Page<(u32, Slice)>| &texts[page.first.1.range()], |page: &Page<Slice>| &pairs[page.first.range()]);
        let rises = |firsts: &mut dyn Iterator<Item = u32>| firsts.is_sorted_by(|a, b| a < b);
        let is_sound = rises(&mut times.iter().map(|p| p.first))
            && times.first().is_none_or(|p| p.first == 0)
            && times.last().is_none_or(|p| p.first < columns)
            && times.is_empty() == (columns == 0)
            && bounds.len() == (columns as usize).div_ceil(super::times::COLUMNS_PER_BOUNDS)
            && rises(&mut symbols.iter().map(|p| p.first.0))
            && symbols.first().is_none_or(|p| p.first.0 == 0)
            && symbols.last().is_none_or(|p| p.first.0 < symbol_count)
            && symbols.is_empty() == (symbol_count == 0)
            && symbols.is_sorted_by(|a, b| first_text(a) < first_text(b))
            && series.len() as u64 == footer.series.div_ceil(super::series::SERIES_PER_PAGE as u64)
            && series.is_sorted_by(|a, b| first_pairs(a) < first_pairs(b))
            && pairs.iter().all(|(n, v)| n.max(v) < &symbol_count)
            && postings.is_sorted_by(|a, b| a.first < b.first)
            && rises(&mut names.iter().copied())
            && names.last().is_none_or(|name| *name < symbol_count);
        if !is_sound {
            return from.bad("directory contradicts itself");
        }
        Ok(Directory { times, bounds, symbols, texts, series, pairs, postings, names, columns, symbol_count })
    }

    /// Bytes held on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.texts.capacity()
            + self.pairs.capacity() * size_of::<(u32, u32)>()
            + self.times.capacity() * size_of::<Page<u32>>()
            + self.bounds.capacity() * size_of::<PageRef>()
            + self.symbols.capacity() * size_of::<Page<(u32, Slice)>>()
            + self.series.capacity() * size_of::<Page<Slice>>()
            + self.postings.capacity() * size_of::<Page<(u32, u32)>>()
            + self.names.capacity() * 4
    }
}

fn put_page(out: &mut Vec<u8>, page: &PageRef) {
    put_varint(out, u64::from(page.len));
    put_varint(out, u64::from(page.raw_len));
    out.extend_from_slice(&page.crc.to_le_bytes());
}

pub(super) fn number(from: &mut Reader<'_>) -> Read<u32> {
    match u32::try_from(from.varint()?) {
        Ok(number) => Ok(number),
        Err(_) => from.bad("number too large"),
    }
}

/// Pages of a section stand back to back.
struct Places {
    next: u64,
    section: Section,
}

impl Places {
    fn new(section: Section) -> Places {
        Places { next: section.offset, section }
    }

    fn next(&mut self, from: &mut Reader<'_>) -> Read<PageRef> {
        let (len, raw_len, crc) = (number(from)?, number(from)?, from.u32()?);
        let offset = self.next;
        if !self.section.holds(offset, u64::from(len)) || raw_len as usize > PAGE_BYTES_MAX {
            return from.bad("page lies outside its section");
        }
        self.next += u64::from(len);
        Ok(PageRef { offset, len, raw_len, crc })
    }
}

/// Compresses pages of one section; the section's bytes are collected.
#[derive(Debug)]
pub(super) struct PageWriter {
    frames: FrameWriter,
    pub(super) bytes: Vec<u8>,
}

impl PageWriter {
    pub(super) fn new() -> std::io::Result<PageWriter> {
        Ok(PageWriter { frames: FrameWriter::new(3)?, bytes: Vec::new() })
    }

    /// Adds a page; its offset is told once the section has its place.
    pub(super) fn add(&mut self, raw: &[u8]) -> std::io::Result<PageRef> {
        if raw.len() > PAGE_BYTES_MAX {
            return Err(std::io::Error::other("a page of a block's index is too large"));
        }
        let frame = self.frames.frame(raw)?;
        self.bytes.extend_from_slice(frame);
        Ok(PageRef { offset: 0, len: frame.len() as u32, raw_len: raw.len() as u32, crc: crc32fast::hash(frame) })
    }
}

/// Reads bytes that no checksum vouches for as each kind of page, and as a directory.
#[cfg(feature = "fuzz")]
pub(crate) fn check_pages(bytes: &[u8]) {
    let Some((&count, rest)) = bytes.split_first() else { return };
    let count = usize::from(count);
    if let Ok(bounds) = super::times::decode_bounds(rest, count) {
        let _ = super::times::decode_column(rest, bounds.into_iter());
    }
    let _ = super::symbols::SymbolPage::decode(rest, count);
    let _ = super::series::SeriesPage::decode(rest, count, 1_000, 1_000);
    let _ = super::postings::PostingsPage::decode(rest, 1_000, 1_000);
    let whole = Section { offset: 0, len: 1 << 40, crc: 0 };
    let footer = Footer { series: count as u64, sections: [whole; super::SECTIONS], ..Footer::default() };
    let _ = Directory::decode(rest, &footer);
}
