//! Reading a block by position.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::storage::Columns;
use kymo_core::{Budget, Labels, LabelsRef, Matcher, Reservation, SelectError, Selector};

use super::{ChunkMeta, END_MAGIC, Footer, HEADER_LEN, MAGIC, Section, TRAILER_LEN, VERSION, header};
use crate::chunk;
use crate::codec::{Malformed, Reader};
use crate::error::{StorageError, io_error};
use crate::fs::{Fs, FsFile, OpenMode};
use crate::sample::Sample;
use crate::wal::{read_exemplar, read_metadata};

/// Footer bytes at the most: what is read before a checksum could be checked.
const FOOTER_BYTES_MAX: u64 = 1 << 20;

/// An open block file. Its symbols and series table are in memory.
#[derive(Debug)]
pub(crate) struct Block {
    path: PathBuf,
    name: String,
    file: Arc<dyn FsFile>,
    bytes: u64,
    footer: Footer,
    index: Index,
    /// Memory of `index`; without one the budget was too small to say.
    _memory: Option<Reservation>,
}

/// Symbols and series table, decoded.
#[derive(Debug, Default)]
struct Index {
    text: String,
    /// End of each symbol in `text`; symbols are sorted.
    symbol_ends: Vec<u32>,
    /// Names and values of all series as symbol numbers.
    pairs: Vec<(u32, u32)>,
    chunks: Vec<ChunkMeta>,
    /// End of each series in `pairs` and `chunks`.
    ends: Vec<(u32, u32)>,
}

impl Block {
    /// Opens a block and checks everything but the chunks' payloads.
    ///
    /// # Errors
    /// [`StorageError::NewerVersion`], [`StorageError::Damaged`], or the disk's failure.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, budget: &Budget) -> Result<Block, StorageError> {
        let file = fs.open(path, OpenMode::Read).map_err(io_error(path, "opening the block"))?;
        let bytes = file.len().map_err(io_error(path, "opening the block"))?;
        let damaged = |what, offset: u64| StorageError::Damaged {
            path: path.to_owned(),
            fault: Malformed { what, offset: offset as usize },
        };
        if bytes < (HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(damaged("file is cut short", bytes));
        }
        let read = |offset: u64, len: u64| -> Result<Vec<u8>, StorageError> {
            let mut buffer = vec![0; len as usize];
            file.read_exact_at(&mut buffer, offset).map_err(io_error(path, "reading the block"))?;
            Ok(buffer)
        };
        let head = read(0, HEADER_LEN as u64)?;
        if head[..8] != MAGIC {
            return Err(damaged("this is no block file", 0));
        }
        let version = Reader::new(&head[8..]).u32().unwrap_or(0);
        if version > VERSION {
            return Err(StorageError::NewerVersion { path: path.to_owned(), version, supported: VERSION });
        }
        if head != header() {
            return Err(damaged("header is damaged", 8));
        }
        let trailer_at = bytes - TRAILER_LEN as u64;
        let trailer = read(trailer_at, TRAILER_LEN as u64)?;
        let mut from = Reader::new(&trailer);
        let (len, crc) = (u64::from(from.u32().unwrap_or(0)), from.u32().unwrap_or(0));
        if trailer[8..] != END_MAGIC || len > FOOTER_BYTES_MAX || len + HEADER_LEN as u64 > trailer_at {
            return Err(damaged("trailer is damaged", trailer_at));
        }
        let footer_at = trailer_at - len;
        let footer = read(footer_at, len)?;
        if crc32fast::hash(&footer) != crc {
            return Err(damaged("footer's checksum is wrong", footer_at));
        }
        let within = |fault: Malformed, base: u64| damaged(fault.what, base + fault.offset as u64);
        let footer = Footer::decode(&footer, footer_at).map_err(|f| within(f, footer_at))?;

        let section = |section: Section, what| {
            let bytes = read(section.offset, section.len)?;
            if crc32fast::hash(&bytes) == section.crc { Ok(bytes) } else { Err(damaged(what, section.offset)) }
        };
        let symbols = section(footer.symbols, "symbols' checksum is wrong")?;
        let series = section(footer.series_table, "series table's checksum is wrong")?;
        let mut index = Index::default();
        index.read_symbols(&symbols).map_err(|f| within(f, footer.symbols.offset))?;
        index.read_series(&series, footer.chunks).map_err(|f| within(f, footer.series_table.offset))?;
        let memory = budget.try_reserve(index.bytes() as u64);
        if let Err(exceeded) = &memory {
            tracing::warn!(path = %path.display(), %exceeded, "a block's index is held beyond the memory limit");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Block { path: path.to_owned(), name, file, bytes, footer, index, _memory: memory.ok() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn len(&self) -> usize {
        self.index.ends.len()
    }

    pub(crate) fn labels(&self, series: usize) -> Labels {
        Labels::from_pairs(self.index.labels(series))
    }

    /// The labels of a series as they stand in the index, without building the set.
    pub(crate) fn label_pairs(&self, series: usize) -> impl Iterator<Item = (&str, &str)> {
        self.index.labels(series)
    }

    /// Series that satisfy the matchers and have a chunk that reaches into the window, rising.
    pub(crate) fn select(&self, what: &Selector) -> Vec<usize> {
        if what.end_ms < self.footer.min_time_ms || what.start_ms >= self.footer.max_time_ms {
            return Vec::new();
        }
        let mut tests: Vec<MatchTest<'_>> = what.matchers.iter().map(|m| MatchTest::new(&self.index, m)).collect();
        let reaches = |series: usize| {
            self.chunks(series).iter().any(|c| c.max_time_ms > what.start_ms && c.min_time_ms <= what.end_ms)
        };
        (0..self.len())
            .filter(|&series| tests.iter_mut().all(|test| test.accepts(&self.index, series)) && reaches(series))
            .collect()
    }

    /// The number of a label set.
    pub(crate) fn find(&self, labels: LabelsRef<'_>) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.index.labels(middle).cmp(labels.iter()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    pub(crate) fn chunks(&self, series: usize) -> &[ChunkMeta] {
        &self.index.chunks[self.index.range(series).1]
    }

    /// Appends the samples of one chunk in the window to `columns`.
    pub(crate) fn read(
        &self,
        meta: &ChunkMeta,
        start_ms: i64,
        end_ms: i64,
        columns: &mut Columns,
    ) -> Result<(), SelectError> {
        let payload = self.payload(meta)?;
        chunk::decode(&payload, start_ms, end_ms, columns).map_err(|fault| self.damaged(meta, &fault))
    }

    /// The sample of a series at exactly `time_ms`.
    pub(crate) fn sample(&self, series: usize, time_ms: i64) -> Result<Option<Sample>, SelectError> {
        for meta in self.chunks(series) {
            if meta.min_time_ms <= time_ms && time_ms <= meta.max_time_ms {
                let payload = self.payload(meta)?;
                return chunk::find(&payload, time_ms).map_err(|fault| self.damaged(meta, &fault));
            }
        }
        Ok(None)
    }

    fn payload(&self, meta: &ChunkMeta) -> Result<Vec<u8>, SelectError> {
        let mut payload = vec![0; meta.len as usize];
        let place = || format!("{}: chunk at byte {}", self.path.display(), meta.offset);
        self.file
            .read_exact_at(&mut payload, meta.offset)
            .map_err(|source| SelectError::Read { place: place(), source })?;
        let found = crc32fast::hash(&payload);
        if found != meta.crc {
            let what = format!("checksum {found:#010x}, the series table says {:#010x}", meta.crc);
            return Err(SelectError::Damaged { place: place(), what });
        }
        Ok(payload)
    }

    fn damaged(&self, meta: &ChunkMeta, fault: &Malformed) -> SelectError {
        let place = format!("{}: chunk at byte {}", self.path.display(), meta.offset);
        SelectError::Damaged { place, what: fault.to_string() }
    }

    /// All exemplars: series number and its exemplars, sorted by time.
    pub(crate) fn exemplars(&self) -> Result<Vec<(usize, Vec<Exemplar>)>, SelectError> {
        let section = self.section(self.footer.exemplars)?;
        let mut from = Reader::new(&section);
        let mut read = || -> Result<Vec<(usize, Vec<Exemplar>)>, Malformed> {
            let mut all = Vec::new();
            while from.left() > 0 {
                let series = from.varint()? as usize;
                if series >= self.len() {
                    return from.bad("exemplars of an unknown series");
                }
                let count = from.count(10)?;
                all.push((series, (0..count).map(|_| read_exemplar(&mut from)).collect::<Result<_, _>>()?));
            }
            Ok(all)
        };
        read().map_err(|fault| self.damaged_section(self.footer.exemplars, &fault))
    }

    /// Families with their metadata, newest first.
    pub(crate) fn metadata(&self) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        let section = self.section(self.footer.metadata)?;
        let mut from = Reader::new(&section);
        let mut read = || -> Result<Vec<(String, Vec<Metadata>)>, Malformed> {
            let mut all: Vec<(String, Vec<Metadata>)> = Vec::new();
            while from.left() > 0 {
                for version in 0..from.count(4)? {
                    let (family, metadata) = read_metadata(&mut from)?;
                    match all.last_mut() {
                        Some((_, versions)) if version > 0 => versions.push(metadata),
                        _ => all.push((family, vec![metadata])),
                    }
                }
            }
            Ok(all)
        };
        read().map_err(|fault| self.damaged_section(self.footer.metadata, &fault))
    }

    fn section(&self, section: Section) -> Result<Vec<u8>, SelectError> {
        let mut bytes = vec![0; section.len as usize];
        let place = || format!("{}: section at byte {}", self.path.display(), section.offset);
        self.file
            .read_exact_at(&mut bytes, section.offset)
            .map_err(|source| SelectError::Read { place: place(), source })?;
        if crc32fast::hash(&bytes) == section.crc {
            Ok(bytes)
        } else {
            Err(SelectError::Damaged { place: place(), what: "checksum is wrong".into() })
        }
    }

    fn damaged_section(&self, section: Section, fault: &Malformed) -> SelectError {
        let place = format!("{}: section at byte {}", self.path.display(), section.offset);
        SelectError::Damaged { place, what: fault.to_string() }
    }
}

impl Index {
    fn read_symbols(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut from = Reader::new(bytes);
        let count = from.count(1)?;
        self.symbol_ends.reserve(count);
        for number in 0..count {
            let symbol = from.text()?;
            if number > 0 && self.symbol(number as u32 - 1) >= symbol {
                return from.bad("symbols are not sorted");
            }
            self.text.push_str(symbol);
            self.symbol_ends.push(self.text.len() as u32);
        }
        from.end()
    }

    fn read_series(&mut self, bytes: &[u8], chunks: Section) -> Result<(), Malformed> {
        let mut from = Reader::new(bytes);
        let count = from.count(2)?;
        self.ends.reserve(count);
        for series in 0..count {
            let labels = from.count(2)?;
            for label in 0..labels {
                let (name, value) = (from.varint()?, from.varint()?);
                let known = self.symbol_ends.len() as u64;
                if name >= known || value >= known {
                    return from.bad("unknown symbol");
                }
                if label > 0 && self.pairs.last().is_some_and(|last| u64::from(last.0) >= name) {
                    return from.bad("labels are not sorted");
                }
                self.pairs.push((name as u32, value as u32));
            }
            let mut lowest = None;
            for _ in 0..from.count(9)? {
                let (offset, len, crc) = (from.varint()?, from.varint()?, from.u32()?);
                let min_time_ms = from.zigzag()?;
                let (span, samples) = (from.varint()?, from.varint()?);
                let inside = offset >= chunks.offset
                    && offset.checked_add(len).is_some_and(|end| end <= chunks.offset + chunks.len);
                let max_time_ms = i64::try_from(span).ok().and_then(|span| min_time_ms.checked_add(span));
                let (Some(max_time_ms), true) = (max_time_ms, inside) else { return from.bad("chunk lies outside") };
                if lowest.is_some_and(|last| min_time_ms <= last) {
                    return from.bad("chunks are not sorted");
                }
                lowest = Some(max_time_ms);
                let (len, samples) = (len as u32, u32::try_from(samples).unwrap_or(u32::MAX));
                self.chunks.push(ChunkMeta { offset, len, crc, min_time_ms, max_time_ms, samples });
            }
            self.ends.push((self.pairs.len() as u32, self.chunks.len() as u32));
            let pairs = |series| &self.pairs[self.range(series).0];
            if series > 0 && pairs(series - 1) >= pairs(series) {
                return from.bad("series are not sorted");
            }
        }
        from.end()
    }

    fn symbol(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.symbol_ends[number - 1] as usize };
        &self.text[start..self.symbol_ends[number] as usize]
    }

    fn find_symbol(&self, text: &str) -> Option<u32> {
        let numbers: std::ops::Range<u32> = 0..self.symbol_ends.len() as u32;
        let (mut low, mut high) = (numbers.start, numbers.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.symbol(middle).cmp(text) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    fn range(&self, series: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let (pair_start, chunk_start) = if series == 0 { (0, 0) } else { self.ends[series - 1] };
        let (pair_end, chunk_end) = self.ends[series];
        (pair_start as usize..pair_end as usize, chunk_start as usize..chunk_end as usize)
    }

    fn labels(&self, series: usize) -> impl Iterator<Item = (&str, &str)> {
        self.pairs[self.range(series).0].iter().map(|&(name, value)| (self.symbol(name), self.symbol(value)))
    }

    fn bytes(&self) -> usize {
        self.text.capacity()
            + self.symbol_ends.capacity() * size_of::<u32>()
            + self.pairs.capacity() * size_of::<(u32, u32)>()
            + self.chunks.capacity() * size_of::<ChunkMeta>()
            + self.ends.capacity() * size_of::<(u32, u32)>()
    }
}

/// A matcher over symbol numbers: every distinct value is tested once.
struct MatchTest<'a> {
    matcher: &'a Matcher,
    name: Option<u32>,
    matches_empty: bool,
    known: HashMap<u32, bool>,
}

impl<'a> MatchTest<'a> {
    fn new(index: &Index, matcher: &'a Matcher) -> MatchTest<'a> {
        let name = index.find_symbol(matcher.name());
        MatchTest { matcher, name, matches_empty: matcher.matches_empty(), known: HashMap::new() }
    }

    fn accepts(&mut self, index: &Index, series: usize) -> bool {
        let Some(name) = self.name else { return self.matches_empty };
        let pairs = &index.pairs[index.range(series).0];
        match pairs.binary_search_by_key(&name, |pair| pair.0) {
            Err(_) => self.matches_empty,
            Ok(at) => {
                let value = pairs[at].1;
                let matcher = self.matcher;
                *self.known.entry(value).or_insert_with(|| matcher.matches(index.symbol(value)))
            }
        }
    }
}

#[cfg(any(test, feature = "fuzz"))]
/// Opens the block at `path` and reads every chunk, exemplar and metadata of it.
///
/// # Errors
/// The first fault, with file and offset.
pub(crate) fn check_whole(fs: &dyn Fs, path: &Path) -> Result<u64, StorageError> {
    let block = Block::open(fs, path, &Budget::unlimited())?;
    let failed = |error: SelectError| StorageError::Io {
        path: path.to_owned(),
        doing: "reading the block's content",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()),
    };
    let mut samples = 0;
    let mut columns = Columns::default();
    for series in 0..block.len() {
        columns.clear();
        for meta in block.chunks(series) {
            block.read(meta, i64::MIN, i64::MAX, &mut columns).map_err(failed)?;
        }
        samples += columns.times.len() as u64;
    }
    block.exemplars().map_err(failed)?;
    block.metadata().map_err(failed)?;
    Ok(samples)
}

/// Reads a symbol section and a series section that no checksum vouches for.
#[cfg(feature = "fuzz")]
pub(crate) fn read_index(symbols: &[u8], series: &[u8]) -> Result<usize, Malformed> {
    let mut index = Index::default();
    index.read_symbols(symbols)?;
    index.read_series(series, Section { offset: 0, len: u64::MAX / 2, crc: 0 })?;
    Ok(index.ends.len())
}
