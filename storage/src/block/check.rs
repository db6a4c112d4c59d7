//! Checking a block against itself: checksums, what refers to what, and every order.
//!
//! One pass in the order of the file's sections, but that chunks are read along the series table, which lists them in
//! the order in which they stand. Faults are noted and passed over, as far as what follows can be read without what is
//! wrong.

use kymo_core::storage::{Columns, Tier};
use kymo_core::{Labels, SelectError};

use super::directory::PageRef;
use super::postings::PostingsPage;
use super::read::{Block, BoundsCursor, ChunkRef};
use super::series::{SERIES_PER_PAGE, SeriesPage};
use super::symbols::SymbolPage;
use super::{CHUNK_CRC_LEN, HEADER_LEN, Section, SectionKind};
use crate::codec::{Read, is_sum};
use crate::frames::unpack;
use crate::rollup::GROUP;
use crate::verify::{Depth, VerifyReport};

/// Bytes read at once.
const READ_BYTES: u64 = 1 << 20;
/// Faults between postings and series table that are named one by one.
const CROSS_FAULTS_MAX: u64 = 20;

const SECTIONS: [(SectionKind, &str); 8] = [
    (SectionKind::Chunks, "section of chunks"),
    (SectionKind::Times, "section of timestamps"),
    (SectionKind::Exemplars, "section of exemplars"),
    (SectionKind::Metadata, "section of metadata"),
    (SectionKind::Symbols, "section of symbols"),
    (SectionKind::Series, "series table"),
    (SectionKind::Postings, "section of postings"),
    (SectionKind::Directory, "directory"),
];

/// Checks an open block, whose header, footer and directory are sound, and adds to the report what it has and what is
/// wrong with it. `progress` is called now and then.
pub(crate) fn check(block: &Block, depth: Depth, report: &mut VerifyReport, progress: &mut dyn FnMut(&VerifyReport)) {
    let mut check = Check { block, depth, report, progress, columns: Columns::default() };
    check.sections();
    check.symbols();
    check.times();
    let series = check.series();
    let postings = check.postings();
    if let (Some(series), Some(postings)) = (series, postings)
        && series != postings
    {
        check.compare_postings();
    }
    check.exemplars();
    if let Err(error) = block.metadata() {
        let at = block.footer().section(SectionKind::Metadata).offset;
        check.select_error(at, None, &error);
    }
}

/// Which labels stand on which series, whatever the order: two of them are alike if and only if (but for chance) they
/// say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Digest {
    count: u64,
    sum: u64,
}

impl Digest {
    fn add(&mut self, name: u32, value: u32, series: u32) {
        // The finaliser of SplitMix64, over both words.
        let mix = |mut x: u64| {
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        let key = u64::from(name) << 32 | u64::from(value);
        self.count += 1;
        self.sum = self.sum.wrapping_add(mix(mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ u64::from(series)));
    }
}

struct Check<'a> {
    block: &'a Block,
    depth: Depth,
    report: &'a mut VerifyReport,
    progress: &'a mut dyn FnMut(&VerifyReport),
    columns: Columns,
}

impl Check<'_> {
    fn fault(&mut self, offset: u64, series: Option<&Labels>, what: impl Into<String>) {
        self.report.fault(self.block.path(), Some(offset), series, what);
    }

    fn select_error(&mut self, offset: u64, series: Option<&Labels>, error: &SelectError) {
        match error {
            SelectError::Damaged { what, .. } => self.fault(offset, series, what.clone()),
            SelectError::Read { source, .. } => self.fault(offset, series, format!("reading failed: {source}")),
            other => self.fault(offset, series, other.to_string()),
        }
    }

    fn read_bytes(&mut self, bytes: u64) {
        self.report.bytes += bytes;
        (self.progress)(self.report);
    }

    fn section(&self, kind: SectionKind) -> Section {
        self.block.footer().section(kind)
    }

    /// Sections follow one another without a gap, and hold what their checksums say; chunks are looked at later.
    fn sections(&mut self) {
        let mut next = HEADER_LEN as u64;
        for (kind, name) in SECTIONS {
            let section = self.section(kind);
            if section.offset != next {
                self.fault(section.offset, None, format!("{name} does not begin where the one before ends"));
            }
            next = section.offset + section.len;
            if kind == SectionKind::Chunks || kind == SectionKind::Directory {
                continue;
            }
            let mut crc = crc32fast::Hasher::new();
            let mut at = section.offset;
            let end = section.offset + section.len;
            while at < end {
                let len = READ_BYTES.min(end - at);
                match self.block.read_at(at, len, String::new) {
                    Ok(bytes) => crc.update(&bytes),
                    Err(error) => {
                        self.select_error(at, None, &error);
                        break;
                    }
                }
                at += len;
                self.read_bytes(len);
            }
            if at == end && !is_sum(crc.finalize(), section.crc) {
                self.fault(section.offset, None, format!("{name}: checksum is wrong"));
            }
        }
    }

    /// A page, unpacked and checked; a fault is noted.
    fn page<R>(&mut self, place: PageRef, take: impl FnOnce(&[u8]) -> Read<R>) -> Option<R> {
        let bytes = match self.block.read_at(place.offset, u64::from(place.len), String::new) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.select_error(place.offset, None, &error);
                return None;
            }
        };
        let found = crc32fast::hash(&bytes);
        if !is_sum(found, place.crc) {
            let what = format!("page: checksum {found:#010x}, the directory says {:#010x}", place.crc);
            self.fault(place.offset, None, what);
            return None;
        }
        let mut raw = Vec::new();
        match unpack(&bytes, place.raw_len as usize, &mut raw).and_then(|()| take(&raw)) {
            Ok(page) => Some(page),
            Err(fault) => {
                self.fault(place.offset, None, format!("page: {fault} of what it unpacks to"));
                None
            }
        }
    }

    /// The pages of a section fill it.
    fn fills(&mut self, kind: SectionKind, last: Option<PageRef>) {
        let section = self.section(kind);
        let end = last.map_or(section.offset, |page| page.offset + u64::from(page.len));
        if end != section.offset + section.len {
            self.fault(end, None, "bytes behind the last page");
        }
    }

    fn symbols(&mut self) {
        let block = self.block;
        let pages = &block.directory.symbols;
        let mut before: Option<String> = None;
        for (number, page) in pages.iter().enumerate() {
            let end = pages.get(number + 1).map_or(block.directory.symbol_count, |next| next.first.0);
            let count = (end - page.first.0) as usize;
            let Some(found) = self.page(page.place, |raw| SymbolPage::decode(raw, count)) else {
                before = None;
                continue;
            };
            let first = found.get(0).unwrap_or_default();
            if first != block.directory.text(page) {
                self.fault(page.place.offset, None, "the directory says that this page of symbols begins with another");
            }
            if before.as_deref().is_some_and(|before| before >= first) {
                self.fault(page.place.offset, None, "symbols are not sorted from page to page");
            }
            before = count.checked_sub(1).and_then(|last| found.get(last)).map(str::to_owned);
        }
        self.fills(SectionKind::Symbols, pages.last().map(|page| page.place));
    }

    fn times(&mut self) {
        let block = self.block;
        let pages = &block.directory.times;
        for (number, page) in pages.iter().enumerate() {
            let end = pages.get(number + 1).map_or(block.directory.columns, |next| next.first);
            for column in page.first..end {
                if let Err(error) = block.times(column) {
                    self.select_error(page.place.offset, None, &error);
                    break;
                }
            }
        }
        let bounds = &block.directory.bounds;
        self.fills(SectionKind::Times, bounds.last().copied().or(pages.last().map(|page| page.place)));
    }

    /// Checks the series table and the chunks it lists; `None` when a page could not be read.
    fn series(&mut self) -> Option<Digest> {
        let block = self.block;
        let (mut digest, mut is_whole) = (Digest::default(), true);
        let mut last: Vec<(u32, u32)> = Vec::new();
        let mut chunks = Chunks::new(self.section(SectionKind::Chunks));
        let mut sums = Sums::default();
        for (number, page) in block.directory.series.iter().enumerate() {
            let first = number * SERIES_PER_PAGE;
            let count = (block.len() - first).min(SERIES_PER_PAGE);
            let (symbols, columns) = (block.directory.symbol_count, block.directory.columns);
            let Some(found) = self.page(page.place, |raw| SeriesPage::decode(raw, count, symbols, columns)) else {
                is_whole = false;
                last.clear();
                chunks.lost = true;
                continue;
            };
            if found.pairs(0) != block.directory.pairs(page) {
                self.fault(page.place.offset, None, "the directory says that this page of series begins with another");
            }
            if !last.is_empty() && *last >= *found.pairs(0) {
                self.fault(page.place.offset, None, "series are not sorted from page to page");
            }
            last = found.pairs(count - 1).to_vec();
            let labels =
                block.page_labels(&found).map_err(|error| self.select_error(page.place.offset, None, &error)).ok();
            let mut bounds = BoundsCursor::new(block);
            for series in 0..count {
                for &(name, value) in found.pairs(series) {
                    digest.add(name, value, (first + series) as u32);
                }
                let labels = labels.as_ref().map(|labels| &labels[series]);
                sums.bare += u64::from(found.chunks(series).is_empty());
                let mut newest = None;
                for (number_of_chunk, row) in found.chunks(series).iter().enumerate() {
                    let chunk = match bounds.chunk(row) {
                        Ok(chunk) => chunk,
                        Err(error) => {
                            self.select_error(row.offset, labels, &error);
                            continue;
                        }
                    };
                    // Of rollups a group of figures is about one time.
                    let begins_group = block.footer().tier() == Tier::Raw || number_of_chunk % GROUP == 0;
                    if begins_group && newest.is_some_and(|newest| chunk.min_time_ms <= newest) {
                        self.fault(row.offset, labels, "chunk begins before the one before it ends");
                    }
                    newest = newest.max(Some(chunk.max_time_ms));
                    sums.add(&chunk);
                    self.chunk(&mut chunks, &chunk, labels);
                }
            }
        }
        self.fills(SectionKind::Series, block.directory.series.last().map(|page| page.place));
        self.end_of_chunks(chunks);
        self.report.series += block.len() as u64;
        self.report.samples += sums.samples;
        is_whole.then(|| {
            self.sums(&sums);
            digest
        })
    }

    /// What the footer says of the whole.
    fn sums(&mut self, found: &Sums) {
        let footer = self.block.footer();
        let at = self.section(SectionKind::Directory);
        let at = at.offset + at.len;
        if (found.samples, found.bare) != (footer.samples, footer.bare_series) {
            let what = format!(
                "footer says {} samples and {} series without, the series table {} and {}",
                footer.samples, footer.bare_series, found.samples, found.bare
            );
            self.fault(at, None, what);
        }
        let is_within = found.bounds.is_none_or(|(low, high)| low >= footer.min_time_ms && high <= footer.max_time_ms);
        if !is_within {
            self.fault(at, None, "footer says another time range than the samples lie in");
        }
    }

    /// Checks a chunk against its checksum, and, if asked to, each of its samples.
    fn chunk(&mut self, chunks: &mut Chunks, chunk: &ChunkRef, labels: Option<&Labels>) {
        let row = &chunk.row;
        let mut payload = Vec::new();
        if row.len > 0 {
            let len = u64::from(row.len) + u64::from(CHUNK_CRC_LEN);
            if !chunks.section.holds(row.offset, len) {
                return self.fault(row.offset, labels, "chunk lies outside its section");
            }
            if row.offset != chunks.at && !chunks.lost {
                self.fault(row.offset, labels, "chunk does not follow the one before");
                chunks.lost = true;
            }
            match chunks.take(self.block, row.offset, len as usize) {
                Ok(bytes) => payload.extend_from_slice(bytes),
                Err(error) => return self.select_error(row.offset, labels, &error),
            }
            self.read_bytes(len);
            let wanted = payload.split_off(row.len as usize);
            let wanted = wanted.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
            let found = crc32fast::hash(&payload);
            if !is_sum(found, wanted) {
                return self.fault(
                    row.offset,
                    labels,
                    format!("chunk: checksum {found:#010x}, the chunk says {wanted:#010x}"),
                );
            }
        }
        if self.depth == Depth::Samples {
            let mut columns = std::mem::take(&mut self.columns);
            columns.clear();
            match self.block.read_payload(chunk, &payload, &mut columns) {
                Err(error) => self.select_error(row.offset, labels, &error),
                Ok(()) if columns.iter().count() != chunk.samples as usize => {
                    self.fault(row.offset, labels, "chunk holds another number of samples than its times");
                }
                Ok(()) => {}
            }
            self.columns = columns;
        }
    }

    fn end_of_chunks(&mut self, mut chunks: Chunks) {
        let section = chunks.section;
        if chunks.lost {
            // The pieces were read out of order, so the section is read once more.
            chunks = Chunks::new(section);
        } else if chunks.at != section.offset + section.len {
            self.fault(chunks.at, None, "bytes behind the last chunk");
        }
        match chunks.rest(self.block) {
            Ok(crc) if crc == section.crc => {}
            Ok(_) => self.fault(section.offset, None, "section of chunks: checksum is wrong"),
            Err(error) => self.select_error(section.offset, None, &error),
        }
    }

    /// Checks the postings; `None` when a page could not be read.
    fn postings(&mut self) -> Option<Digest> {
        let block = self.block;
        let (mut digest, mut is_whole) = (Digest::default(), true);
        let mut last: Option<(u32, u32)> = None;
        let mut names: Vec<u32> = Vec::new();
        for page in &block.directory.postings {
            let decode = |raw: &[u8]| PostingsPage::decode(raw, block.directory.symbol_count, block.footer().series);
            let Some(found) = self.page(page.place, decode) else {
                is_whole = false;
                last = None;
                continue;
            };
            for (number, (key, runs)) in found.all().enumerate() {
                if number == 0 && key != page.first {
                    self.fault(
                        page.place.offset,
                        None,
                        "the directory says that this page of postings begins with another",
                    );
                }
                if last.is_some_and(|last| last >= key) {
                    self.fault(page.place.offset, None, "postings are not sorted from page to page");
                }
                last = Some(key);
                if names.last() != Some(&key.0) {
                    names.push(key.0);
                }
                for &(begin, end) in runs {
                    (begin..end).for_each(|series| digest.add(key.0, key.1, series));
                }
            }
        }
        self.fills(SectionKind::Postings, block.directory.postings.last().map(|page| page.place));
        if is_whole && names != block.directory.names {
            let at = self.section(SectionKind::Directory).offset;
            self.fault(at, None, "directory lists other label names than the postings have");
        }
        is_whole.then_some(digest)
    }

    /// Names where postings and series table differ, after their digests did.
    fn compare_postings(&mut self) {
        let block = self.block;
        let already = self.report.fault_count;
        let at = self.section(SectionKind::Postings).offset;
        let label = |labels: &Labels, n: usize| labels.iter().nth(n).map(|(name, value)| format!("{name}={value:?}"));
        for series in 0..block.len() {
            if self.report.fault_count - already >= CROSS_FAULTS_MAX {
                return;
            }
            let Ok(page) = block.series_page(series / SERIES_PER_PAGE) else { continue };
            let Ok(labels) = block.labels(series) else { continue };
            for (n, &(name, value)) in page.pairs(series % SERIES_PER_PAGE).iter().enumerate() {
                if !self.is_posted(name, value, series as u32) {
                    let label = label(&labels, n).unwrap_or_default();
                    self.fault(at, Some(&labels), format!("postings of {label} do not have this series"));
                }
            }
        }
        for number in 0..block.directory.postings.len() {
            let Ok(page) = block.postings_page(number) else { continue };
            for ((name, value), runs) in page.all() {
                for series in runs.iter().flat_map(|&(begin, end)| begin..end) {
                    if self.report.fault_count - already >= CROSS_FAULTS_MAX {
                        return;
                    }
                    let Ok(table) = block.series_page(series as usize / SERIES_PER_PAGE) else { continue };
                    if !table.pairs(series as usize % SERIES_PER_PAGE).contains(&(name, value)) {
                        let labels = block.labels(series as usize).ok();
                        let at = block.directory.postings[number].place.offset;
                        self.fault(at, labels.as_ref(), "a posting has this series, which does not carry its label");
                    }
                }
            }
        }
    }

    fn is_posted(&self, name: u32, value: u32, series: u32) -> bool {
        let pages = &self.block.directory.postings;
        let Some(number) = pages.partition_point(|page| page.first <= (name, value)).checked_sub(1) else {
            return false;
        };
        // What cannot be read was told already.
        let Ok(page) = self.block.postings_page(number) else { return true };
        let entry = page.find(name, value);
        entry.is_some_and(|entry| page.runs(entry).iter().any(|&(begin, end)| (begin..end).contains(&series)))
    }

    fn exemplars(&mut self) {
        let (block, at) = (self.block, self.section(SectionKind::Exemplars).offset);
        let all = match block.exemplars() {
            Ok(all) => all,
            Err(error) => return self.select_error(at, None, &error),
        };
        if !all.is_sorted_by(|a, b| a.0 < b.0) {
            self.fault(at, None, "series of exemplars are not sorted");
        }
        let footer = block.footer();
        for (series, exemplars) in &all {
            let is_sorted = exemplars.is_sorted_by_key(|exemplar| exemplar.time_ms);
            let is_within =
                exemplars.iter().all(|e| e.time_ms >= footer.min_time_ms && e.time_ms <= footer.max_time_ms);
            if !is_sorted || !is_within {
                let labels = block.labels(*series).ok();
                let what =
                    if is_sorted { "exemplars lie outside the block's time" } else { "exemplars are not sorted" };
                self.fault(at, labels.as_ref(), what);
            }
        }
    }
}

/// What the series table adds up to.
#[derive(Debug, Default)]
struct Sums {
    samples: u64,
    bare: u64,
    bounds: Option<(i64, i64)>,
}

impl Sums {
    fn add(&mut self, chunk: &ChunkRef) {
        self.samples += u64::from(chunk.samples);
        let (low, high) = (chunk.min_time_ms, chunk.max_time_ms);
        self.bounds = Some(self.bounds.map_or((low, high), |b| (b.0.min(low), b.1.max(high))));
    }
}

/// The section of chunks, read front to back.
struct Chunks {
    section: Section,
    /// The next byte.
    at: u64,
    /// Whether a piece was asked for that does not follow the one before, or may not.
    lost: bool,
    crc: crc32fast::Hasher,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Chunks {
    fn new(section: Section) -> Chunks {
        let crc = crc32fast::Hasher::new();
        Chunks { section, at: section.offset, lost: false, crc, buffer: Vec::new(), buffer_at: section.offset }
    }

    /// The bytes at `offset`, which lie within the section.
    fn take(&mut self, block: &Block, offset: u64, len: usize) -> Result<&[u8], SelectError> {
        let held = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        if offset < held.start || offset + len as u64 > held.end {
            let end = (offset + READ_BYTES.max(len as u64)).min(self.section.offset + self.section.len);
            self.buffer = block.read_at(offset, end - offset, String::new)?;
            self.buffer_at = offset;
        }
        let begin = (offset - self.buffer_at) as usize;
        let bytes = &self.buffer[begin..begin + len];
        self.crc.update(bytes);
        self.at = offset + len as u64;
        Ok(bytes)
    }

    /// Reads to the end; gives the checksum of all.
    fn rest(mut self, block: &Block) -> Result<u32, SelectError> {
        let end = self.section.offset + self.section.len;
        while self.at < end {
            let len = READ_BYTES.min(end - self.at) as usize;
            self.take(block, self.at, len)?;
        }
        Ok(self.crc.finalize())
    }
}
