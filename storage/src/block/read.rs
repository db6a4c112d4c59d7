//! Reading a block by position.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::{HashMap, HashMapExt};
use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::storage::{ColumnValue, Columns, RunKind};
use kymo_core::{Budget, Labels, LabelsRef, Reservation, SelectError};

use super::cache::{BlockCache, Key, Kind};
use super::directory::{Directory, PageRef};
use super::postings::PostingsPage;
use super::series::{ChunkRow, SERIES_PER_PAGE, SeriesPage};
use super::symbols::SymbolPage;
use super::times::{self, COLUMNS_PER_BOUNDS, ColumnBounds};
use super::{CHUNK_CRC_LEN, END_MAGIC, Footer, HEADER_LEN, MAGIC, Section, SectionKind, TRAILER_LEN, VERSION, header};
use crate::chunk;
use crate::codec::{Malformed, Read, Reader, is_sum, put_varint};
use crate::error::{StorageError, io_error};
use crate::frames::unpack;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::sample::Sample;
use crate::wal::{read_exemplar, read_metadata};

/// Footer bytes at the most: what is read before a checksum could be checked.
const FOOTER_BYTES_MAX: u64 = 1 << 20;
/// Bytes of chunks that are read at once: neighbours are mostly wanted together, and one read costs as much as
/// copying this many bytes.
const STRETCH_BYTES: u64 = 32 << 10;

/// Numbers for open blocks, used once in a process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An open block file. Its directory is in memory, everything else is read through the cache.
#[derive(Debug)]
pub(crate) struct Block {
    path: PathBuf,
    name: String,
    file: Arc<dyn FsFile>,
    bytes: u64,
    footer: Footer,
    pub(super) directory: Directory,
    id: u64,
    cache: Arc<BlockCache>,
    /// Memory of `directory`; without one the budget was too small to say.
    _memory: Option<Reservation>,
}

/// A chunk, and what it covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkRef {
    pub(crate) row: ChunkRow,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) samples: u32,
}

impl ChunkRef {
    /// Bytes that its values take in the file, the checksum included; those of a constant stand in the series table.
    pub(crate) fn bytes(&self) -> u64 {
        if self.row.len == 0 { 0 } else { u64::from(self.row.len + CHUNK_CRC_LEN) }
    }

    /// Whether a sample may lie in the window.
    pub(crate) fn reaches(&self, start_ms: i64, end_ms: i64) -> bool {
        self.max_time_ms > start_ms && self.min_time_ms <= end_ms
    }
}

impl Block {
    /// Opens a block; checks everything but its pages and chunks, which are checked whenever they are read.
    ///
    /// # Errors
    /// [`StorageError::NewerVersion`], [`StorageError::OlderVersion`], [`StorageError::Damaged`], or the disk's failure.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        budget: &Budget,
        cache: &Arc<BlockCache>,
    ) -> Result<Block, StorageError> {
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
        if version < VERSION && version > 0 && crc32fast::hash(&head[..12]).to_le_bytes() == head[12..] {
            return Err(StorageError::OlderVersion { path: path.to_owned(), version, supported: VERSION });
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
        if !is_sum(crc32fast::hash(&footer), crc) {
            return Err(damaged("footer's checksum is wrong", footer_at));
        }
        let within = |fault: Malformed, base: u64| damaged(fault.what, base + fault.offset as u64);
        let footer = Footer::decode(&footer, footer_at).map_err(|f| within(f, footer_at))?;

        let place = footer.section(SectionKind::Directory);
        let directory = read(place.offset, place.len)?;
        if !is_sum(crc32fast::hash(&directory), place.crc) {
            return Err(damaged("directory's checksum is wrong", place.offset));
        }
        let directory = Directory::decode(&directory, &footer).map_err(|f| within(f, place.offset))?;
        let memory = budget.try_reserve(directory.bytes() as u64);
        if let Err(exceeded) = &memory {
            tracing::warn!(path = %path.display(), %exceeded, "a block's directory is held beyond the memory limit");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Block {
            path: path.to_owned(),
            name,
            file,
            bytes,
            footer,
            directory,
            // Relaxed: the number is unique, and says nothing about other memory.
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            cache: Arc::clone(cache),
            _memory: memory.ok(),
        })
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

    /// A number that no other open block of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.footer.series as usize
    }

    pub(crate) fn labels(&self, series: usize) -> Result<Labels, SelectError> {
        let page = self.series_page(series / SERIES_PER_PAGE)?;
        Ok(self.page_labels(&page)?[series % SERIES_PER_PAGE].clone())
    }

    /// The number of a label set.
    pub(crate) fn find(&self, labels: LabelsRef<'_>) -> Result<Option<usize>, SelectError> {
        let mut wanted = Vec::with_capacity(16);
        for (name, value) in labels.iter() {
            match (self.find_symbol(name)?, self.find_symbol(value)?) {
                ((name, true), (value, true)) => wanted.push((name, value)),
                _ => return Ok(None),
            }
        }
        let after = self.directory.series.partition_point(|page| *self.directory.pairs(page) <= *wanted);
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let found = self.series_page(number)?.find(&wanted);
        Ok(found.map(|series| number * SERIES_PER_PAGE + series))
    }

    /// The chunks of a series, by rising time.
    pub(crate) fn chunks(&self, series: usize) -> Result<Vec<ChunkRef>, SelectError> {
        let page = self.series_page(series / SERIES_PER_PAGE)?;
        let mut bounds = BoundsCursor::new(self);
        page.chunks(series % SERIES_PER_PAGE).iter().map(|row| bounds.chunk(row)).collect()
    }

    /// The time of a series' last sample.
    pub(crate) fn newest(&self, labels: LabelsRef<'_>) -> Result<Option<i64>, SelectError> {
        let Some(series) = self.find(labels)? else { return Ok(None) };
        let page = self.series_page(series / SERIES_PER_PAGE)?;
        let last = page.chunks(series % SERIES_PER_PAGE).last();
        last.map(|row| Ok(BoundsCursor::new(self).chunk(row)?.max_time_ms)).transpose()
    }

    /// Appends the samples of one chunk in the window to `columns`, whose last time lies below.
    pub(crate) fn read(
        &self,
        chunk: &ChunkRef,
        start_ms: i64,
        end_ms: i64,
        columns: &mut Columns,
    ) -> Result<(), SelectError> {
        let times = self.times(chunk.row.column)?;
        let range = window(&times, start_ms, end_ms);
        columns.times.extend_from_slice(&times[range.clone()]);
        if chunk.row.len == 0 {
            append_constant(chunk.row.constant, range.len(), columns);
            return Ok(());
        }
        if let Some(floats) = self.kept_floats(chunk, &times)?
            && let Some(inside) = floats.get(range.clone())
        {
            append_floats(inside, columns);
            return Ok(());
        }
        self.with_payload(chunk, |payload| chunk::decode(payload, &times, range, columns))
    }

    /// The floats of a chunk that was read before, lately, and holds nothing else, as many as `times`.
    fn kept_floats(&self, chunk: &ChunkRef, times: &[i64]) -> Result<Option<Arc<Vec<f64>>>, SelectError> {
        let Ok(offset) = u32::try_from(chunk.row.offset) else { return Ok(None) };
        let key = Key { block: self.id, kind: Kind::Floats, number: offset };
        if let Some(kept) = self.cache.find(key) {
            return Ok(Some(kept));
        }
        if !self.cache.is_asked_again(key) {
            return Ok(None);
        }
        let mut whole = Columns { times: times.to_vec(), ..Columns::default() };
        self.with_payload(chunk, |payload| chunk::decode(payload, times, 0..times.len(), &mut whole))?;
        // Of others an empty entry says that there is nothing to keep.
        let is_plain = whole.floats.len() == times.len() && whole.starts.is_empty();
        let floats = Arc::new(if is_plain { whole.floats } else { Vec::new() });
        self.cache.keep(key, &floats, (size_of_val(floats.as_slice()) + size_of::<Vec<f64>>()) as u64);
        Ok(Some(floats))
    }

    /// The same, out of a payload that was read already; its checksum has been checked.
    pub(crate) fn read_payload(
        &self,
        chunk: &ChunkRef,
        payload: &[u8],
        columns: &mut Columns,
    ) -> Result<(), SelectError> {
        let times = self.times(chunk.row.column)?;
        columns.times.extend_from_slice(&times);
        if chunk.row.len == 0 {
            append_constant(chunk.row.constant, times.len(), columns);
            return Ok(());
        }
        let whole = 0..times.len();
        chunk::decode(payload, &times, whole, columns).map_err(|fault| self.damaged_chunk(chunk, &fault))
    }

    /// Fills in the samples of a series at exactly these times, which rise, where nothing is found yet and nothing is
    /// hidden.
    pub(crate) fn samples(
        &self,
        series: usize,
        times: &[i64],
        is_hidden: impl Fn(i64) -> bool,
        found: &mut [Option<Sample>],
    ) -> Result<(), SelectError> {
        let mut columns = Columns::default();
        for chunk in self.chunks(series)? {
            let begin = times.partition_point(|time| *time < chunk.min_time_ms);
            let end = times.partition_point(|time| *time <= chunk.max_time_ms);
            if begin >= end || found[begin..end].iter().all(Option::is_some) {
                continue;
            }
            columns.clear();
            self.read(&chunk, times[begin].saturating_sub(1), times[end - 1], &mut columns)?;
            let mut at = begin;
            for (number, (time_ms, value)) in columns.iter().enumerate() {
                while at < end && times[at] < time_ms {
                    at += 1;
                }
                while at < end && times[at] == time_ms {
                    let start_ms = columns.starts.get(number).copied().unwrap_or(0);
                    if !is_hidden(time_ms) {
                        found[at].get_or_insert_with(|| sample_of(time_ms, start_ms, value));
                    }
                    at += 1;
                }
            }
        }
        Ok(())
    }

    pub(super) fn with_payload<R>(
        &self,
        chunk: &ChunkRef,
        take: impl FnOnce(&[u8]) -> Read<R>,
    ) -> Result<R, SelectError> {
        let (offset, len) = (chunk.row.offset, chunk.row.len as usize + CHUNK_CRC_LEN as usize);
        let end = offset + len as u64;
        let (first, last) = (offset / STRETCH_BYTES, (end - 1) / STRETCH_BYTES);
        let inside = (offset - first * STRETCH_BYTES) as usize;
        let stretch = self.stretch(first, chunk)?;
        if first == last {
            let bytes =
                stretch.get(inside..inside + len).ok_or_else(|| self.damaged_at(offset, "chunk is cut short"))?;
            return self.check_payload(chunk, bytes, take);
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(stretch.get(inside..).unwrap_or_default());
        for number in first + 1..=last {
            let stretch = self.stretch(number, chunk)?;
            bytes.extend_from_slice(&stretch[..stretch.len().min(len - bytes.len())]);
        }
        self.check_payload(chunk, &bytes, take)
    }

    fn check_payload<R>(
        &self,
        chunk: &ChunkRef,
        bytes: &[u8],
        take: impl FnOnce(&[u8]) -> Read<R>,
    ) -> Result<R, SelectError> {
        let Some((payload, wanted)) = bytes.split_last_chunk::<{ CHUNK_CRC_LEN as usize }>() else {
            return Err(self.damaged_at(chunk.row.offset, "chunk is cut short"));
        };
        let (found, wanted) = (crc32fast::hash(payload), u32::from_le_bytes(*wanted));
        if !is_sum(found, wanted) || payload.len() != chunk.row.len as usize {
            let what = format!("checksum {found:#010x}, the chunk says {wanted:#010x}");
            return Err(SelectError::Damaged { place: self.chunk_place(chunk.row.offset), what });
        }
        take(payload).map_err(|fault| self.damaged_chunk(chunk, &fault))
    }

    /// A piece of the section of chunks, of [`STRETCH_BYTES`] but at its end.
    fn stretch(&self, number: u64, chunk: &ChunkRef) -> Result<Arc<Vec<u8>>, SelectError> {
        let key = Key { block: self.id, kind: Kind::Chunks, number: number as u32 };
        let chunks = self.footer.section(SectionKind::Chunks);
        self.cache.get(key, || {
            let offset = number * STRETCH_BYTES;
            let end = (offset + STRETCH_BYTES).min(chunks.offset + chunks.len);
            let Some(len) = end.checked_sub(offset).filter(|len| *len > 0) else {
                return Err(self.damaged_at(chunk.row.offset, "chunk lies outside its section"));
            };
            let bytes = self.read_at(offset, len, || self.chunk_place(offset))?;
            Ok((bytes, len))
        })
    }

    pub(super) fn read_at(
        &self,
        offset: u64,
        len: u64,
        place: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, SelectError> {
        let mut bytes = vec![0; len as usize];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(SelectError::Read { place: place(), source }),
        }
    }

    /// Reads chunks `range` of the file, checksums and all, without the cache.
    pub(super) fn raw_chunk(&self, chunk: &ChunkRef, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SelectError> {
        self.check_payload(chunk, bytes, |payload| {
            out.extend_from_slice(payload);
            Ok(())
        })
    }

    fn chunk_place(&self, offset: u64) -> String {
        format!("{}: chunk at byte {offset}", self.path.display())
    }

    fn damaged_at(&self, offset: u64, what: &str) -> SelectError {
        SelectError::Damaged { place: self.chunk_place(offset), what: what.to_owned() }
    }

    fn damaged_chunk(&self, chunk: &ChunkRef, fault: &Malformed) -> SelectError {
        self.damaged_at(chunk.row.offset, &fault.to_string())
    }

    // Pages.

    /// A page, unpacked and checked.
    fn page<R>(&self, place: &PageRef, take: impl FnOnce(Vec<u8>) -> Read<R>) -> Result<R, SelectError> {
        let named = || format!("{}: page at byte {}", self.path.display(), place.offset);
        let bytes = self.read_at(place.offset, u64::from(place.len), named)?;
        let found = crc32fast::hash(&bytes);
        if !is_sum(found, place.crc) {
            let what = format!("checksum {found:#010x}, the directory says {:#010x}", place.crc);
            return Err(SelectError::Damaged { place: named(), what });
        }
        let mut raw = Vec::new();
        let damaged = |fault: Malformed| SelectError::Damaged { place: named(), what: fault.to_string() };
        unpack(&bytes, place.raw_len as usize, &mut raw).map_err(damaged)?;
        take(raw).map_err(damaged)
    }

    fn key(&self, kind: Kind, number: usize) -> Key {
        Key { block: self.id, kind, number: number as u32 }
    }

    pub(super) fn series_page(&self, number: usize) -> Result<Arc<SeriesPage>, SelectError> {
        self.cache.get(self.key(Kind::Series, number), || {
            let page = self.load_series_page(number)?;
            let bytes = page.bytes();
            Ok((page, bytes))
        })
    }

    /// The same, past the cache.
    pub(super) fn load_series_page(&self, number: usize) -> Result<SeriesPage, SelectError> {
        let count = (self.len() - number * SERIES_PER_PAGE).min(SERIES_PER_PAGE);
        let directory = &self.directory;
        self.page(&directory.series[number].place, |raw| {
            SeriesPage::decode(&raw, count, directory.symbol_count, directory.columns)
        })
    }

    pub(super) fn postings_page(&self, number: usize) -> Result<Arc<PostingsPage>, SelectError> {
        self.cache.get(self.key(Kind::Postings, number), || {
            let directory = &self.directory;
            let page = self.page(&directory.postings[number].place, |raw| {
                PostingsPage::decode(&raw, directory.symbol_count, self.footer.series)
            })?;
            let bytes = page.bytes();
            Ok((page, bytes))
        })
    }

    fn symbol_page(&self, number: usize) -> Result<Arc<SymbolPage>, SelectError> {
        self.cache.get(self.key(Kind::Symbols, number), || {
            let pages = &self.directory.symbols;
            let end = pages.get(number + 1).map_or(self.directory.symbol_count, |next| next.first.0);
            let count = (end - pages[number].first.0) as usize;
            let page = self.page(&pages[number].place, |raw| SymbolPage::decode(&raw, count))?;
            let bytes = page.bytes();
            Ok((page, bytes))
        })
    }

    pub(super) fn bounds_page(&self, number: usize) -> Result<Arc<Vec<ColumnBounds>>, SelectError> {
        self.cache.get(self.key(Kind::Bounds, number), || {
            let count = (self.directory.columns as usize - number * COLUMNS_PER_BOUNDS).min(COLUMNS_PER_BOUNDS);
            let bounds = self.page(&self.directory.bounds[number], |raw| times::decode_bounds(&raw, count))?;
            let bytes = bounds.len() * size_of::<ColumnBounds>();
            Ok((bounds, bytes as u64))
        })
    }

    /// The times of a column.
    pub(crate) fn times(&self, column: u32) -> Result<Arc<Vec<i64>>, SelectError> {
        self.cache.get(self.key(Kind::Times, column as usize), || {
            let pages = &self.directory.times;
            let number = pages.partition_point(|page| page.first <= column).saturating_sub(1);
            let place = &pages[number].place;
            let page = self.cache.get(self.key(Kind::TimePage, number), || {
                self.page(place, |raw| {
                    let bytes = raw.len() as u64;
                    Ok((raw, bytes))
                })
            })?;
            let mut cursor = BoundsCursor::new(self);
            let bounds: Vec<ColumnBounds> =
                (pages[number].first..=column).map(|column| cursor.bounds(column)).collect::<Result<_, _>>()?;
            let times = times::decode_column(&page, bounds.into_iter()).map_err(|fault| SelectError::Damaged {
                place: format!("{}: page at byte {}", self.path.display(), place.offset),
                what: fault.to_string(),
            })?;
            let bytes = times.len() * 8;
            Ok((times, bytes as u64))
        })
    }

    // Symbols.

    /// How many symbols stand before `text`, and whether the next is it.
    pub(super) fn find_symbol(&self, text: &str) -> Result<(u32, bool), SelectError> {
        let pages = &self.directory.symbols;
        let after = pages.partition_point(|page| self.directory.text(page) <= text);
        let Some(number) = after.checked_sub(1) else { return Ok((0, false)) };
        let (before, is_there) = self.symbol_page(number)?.find(text);
        Ok((pages[number].first.0 + before as u32, is_there))
    }

    /// The label sets of a page of the series table.
    pub(super) fn page_labels(&self, page: &SeriesPage) -> Result<Arc<[Labels]>, SelectError> {
        page.labels(|| {
            // Each symbol once, as it stands in a packed label set.
            let mut numbers: Vec<u32> =
                (0..page.len()).flat_map(|series| page.pairs(series)).flat_map(|&(n, v)| [n, v]).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let mut packed = Vec::with_capacity(numbers.len() * 12);
            let mut places: HashMap<u32, Range<u32>> = HashMap::with_capacity(numbers.len());
            let mut cursor = SymbolCursor::new(self);
            for number in numbers {
                let begin = packed.len() as u32;
                let text = cursor.text(number)?;
                put_varint(&mut packed, text.len() as u64);
                packed.extend_from_slice(text.as_bytes());
                places.insert(number, begin..packed.len() as u32);
            }
            let mut set = Vec::with_capacity(256);
            let labels = (0..page.len()).map(|series| {
                set.clear();
                for number in page.pairs(series).iter().flat_map(|&(name, value)| [name, value]) {
                    let place = places.get(&number).cloned().unwrap_or_default();
                    set.extend_from_slice(&packed[place.start as usize..place.end as usize]);
                }
                LabelsRef::from_packed(&set).map(LabelsRef::to_labels).map_err(|_| SelectError::Damaged {
                    place: format!("{}: series table", self.path.display()),
                    what: "label set is malformed".to_owned(),
                })
            });
            labels.collect()
        })
        .cloned()
    }

    // Whole sections.

    /// All exemplars: series number and its exemplars, sorted by time.
    pub(crate) fn exemplars(&self) -> Result<Vec<(usize, Vec<Exemplar>)>, SelectError> {
        let place = self.footer.section(SectionKind::Exemplars);
        let section = self.section(place)?;
        let mut from = Reader::new(&section);
        let mut read = || -> Read<Vec<(usize, Vec<Exemplar>)>> {
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
        read().map_err(|fault| self.damaged_section(place, &fault))
    }

    /// Families with their metadata, newest first.
    pub(crate) fn metadata(&self) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        let place = self.footer.section(SectionKind::Metadata);
        let section = self.section(place)?;
        let mut from = Reader::new(&section);
        let mut read = || -> Read<Vec<(String, Vec<Metadata>)>> {
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
        read().map_err(|fault| self.damaged_section(place, &fault))
    }

    pub(super) fn section(&self, section: Section) -> Result<Vec<u8>, SelectError> {
        let place = || format!("{}: section at byte {}", self.path.display(), section.offset);
        let bytes = self.read_at(section.offset, section.len, place)?;
        if is_sum(crc32fast::hash(&bytes), section.crc) {
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

impl Drop for Block {
    fn drop(&mut self) {
        self.cache.forget(self.id);
    }
}

/// Positions of the times in a window that is open to the left.
fn window(times: &[i64], start_ms: i64, end_ms: i64) -> Range<usize> {
    let low = times.partition_point(|t| *t <= start_ms);
    low..times.partition_point(|t| *t <= end_ms).max(low)
}

fn append_constant(value: f64, len: usize, columns: &mut Columns) {
    columns.floats.extend(std::iter::repeat_n(value, len));
    as_floats(len, columns);
}

fn append_floats(floats: &[f64], columns: &mut Columns) {
    columns.floats.extend_from_slice(floats);
    as_floats(floats.len(), columns);
}

/// Completes columns whose last rows are floats without start timestamps.
fn as_floats(len: usize, columns: &mut Columns) {
    chunk::push_run(&mut columns.runs, RunKind::Float, len);
    if !columns.starts.is_empty() {
        columns.starts.resize(columns.times.len(), 0);
    }
}

fn sample_of(time_ms: i64, start_ms: i64, value: ColumnValue<'_>) -> Sample {
    match value {
        ColumnValue::Float(v) => Sample::float(time_ms, start_ms, v),
        ColumnValue::Histogram(h) => Sample::histogram(time_ms, start_ms, h.clone().into()),
        ColumnValue::Stale => Sample::stale(time_ms, start_ms),
    }
}

/// Bounds of columns, mostly of one page after another.
pub(super) struct BoundsCursor<'a> {
    block: &'a Block,
    page: Option<(usize, Arc<Vec<ColumnBounds>>)>,
}

impl<'a> BoundsCursor<'a> {
    pub(super) fn new(block: &'a Block) -> BoundsCursor<'a> {
        BoundsCursor { block, page: None }
    }

    fn bounds(&mut self, column: u32) -> Result<ColumnBounds, SelectError> {
        let number = column as usize / COLUMNS_PER_BOUNDS;
        let page = match &self.page {
            Some((held, page)) if *held == number => page,
            _ => &self.page.insert((number, self.block.bounds_page(number)?)).1,
        };
        Ok(page[column as usize % COLUMNS_PER_BOUNDS])
    }

    pub(super) fn chunk(&mut self, row: &ChunkRow) -> Result<ChunkRef, SelectError> {
        let bounds = self.bounds(row.column)?;
        Ok(ChunkRef { row: *row, min_time_ms: bounds.first_ms, max_time_ms: bounds.last_ms, samples: bounds.count })
    }
}

/// Symbols, mostly rising.
pub(super) struct SymbolCursor<'a> {
    block: &'a Block,
    /// First and last number of the page, and the page.
    page: Option<(u32, u32, Arc<SymbolPage>)>,
}

impl<'a> SymbolCursor<'a> {
    pub(super) fn new(block: &'a Block) -> SymbolCursor<'a> {
        SymbolCursor { block, page: None }
    }

    pub(super) fn text(&mut self, number: u32) -> Result<&str, SelectError> {
        if self.page.as_ref().is_none_or(|(first, end, _)| number < *first || number >= *end) {
            let pages = &self.block.directory.symbols;
            let at = pages.partition_point(|page| page.first.0 <= number).saturating_sub(1);
            let page = self.block.symbol_page(at)?;
            let first = pages[at].first.0;
            self.page = Some((first, first + page.len() as u32, page));
        }
        let found = self.page.as_ref().and_then(|(first, _, page)| page.get((number - first) as usize));
        found.ok_or_else(|| SelectError::Damaged {
            place: format!("{}: symbol {number}", self.block.path.display()),
            what: "symbol is missing".to_owned(),
        })
    }
}
