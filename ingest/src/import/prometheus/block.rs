//! A block: index, chunk files, tombstones.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kymo_core::LabelsBuilder;

use super::buf::{Buf, Short};
use super::chunk::{self, Value};
use super::tombstones::{Tombstones, hides};
use super::{bytes_below, list, malformed};
use crate::import::ImportError;
use crate::import::rows::Rows;

const INDEX_MAGIC: u32 = 0xbaaa_d700;
const INDEX_VERSION: u8 = 2;
const CHUNKS_MAGIC: u32 = 0x85bd_40dd;
const CHUNKS_VERSION: u8 = 1;
/// Six offsets and a checksum.
const TOC_LEN: u64 = 6 * 8 + 4;
/// Series begin at multiples of this; their number is their place divided by it.
const SERIES_ALIGN: u64 = 16;
/// A series with a million chunks is far below.
const SERIES_BYTES_MAX: u64 = 64 << 20;
/// A chunk holds at most 65,535 samples.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
const READ_BYTES: usize = 1 << 20;

/// Imports a block from the series at this byte of its index on. `progress` is told how many of its bytes were gone through.
pub(super) fn import(
    dir: &Path,
    begin_at: u64,
    rows: &mut Rows<'_, '_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ImportError> {
    let path = dir.join("index");
    let mut index = Index::open(&path)?;
    let tombstones = Tombstones::read(dir)?;
    let mut chunks = Chunks::open(dir)?;
    let total = bytes_below(dir);
    let (index_begin, span) = (index.series_at, (index.series_end - index.series_at).max(1));
    let (mut labels, mut entry, mut metas) = (LabelsBuilder::new(), Vec::new(), Vec::new());
    let mut at = begin_at.clamp(index.series_at, index.series_end);
    let share = |at: u64| ((at - index_begin) as f64 / span as f64 * total as f64) as u64;
    progress(share(at));
    while let Some(place) = index.next_series(&mut at, &mut entry)? {
        rows.at(place, 0);
        let broken = |what: &str| malformed(&path, place, what);
        let deleted = tombstones.of(place / SERIES_ALIGN);
        labels.clear();
        index.read_series(&entry, &mut labels, &mut metas).map_err(|Short| broken("series is malformed"))?;
        rows.series(labels.build().map_err(|_| broken("the labels of the series make no sense"))?);
        for meta in &metas {
            chunks.read(meta.reference, &mut |time_ms, value| {
                if hides(deleted, time_ms) {
                    return Ok(());
                }
                match value {
                    Value::Float(value) => rows.float(time_ms, 0, value),
                    Value::Histogram(value) => rows.histogram(time_ms, 0, value),
                }
            })?;
        }
        progress(share(at));
    }
    Ok(())
}

/// A chunk as the index has it.
struct Meta {
    reference: u64,
}

struct Index {
    path: PathBuf,
    file: BufReader<File>,
    symbols: Vec<u8>,
    /// End of each symbol in `symbols`.
    ends: Vec<u32>,
    series_at: u64,
    series_end: u64,
}

impl Index {
    fn open(path: &Path) -> Result<Index, ImportError> {
        let read = |source| ImportError::Read { place: path.display().to_string(), source };
        let file = File::open(path).map_err(read)?;
        let len = file.metadata().map_err(read)?.len();
        let mut file = BufReader::with_capacity(READ_BYTES, file);
        let mut at = |offset: u64, len: u64| -> Result<Vec<u8>, ImportError> {
            let mut bytes = vec![0; len as usize];
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(read)?;
            Ok(bytes)
        };
        if len < TOC_LEN + 5 {
            return Err(malformed(path, len, "cut short"));
        }
        let head = at(0, 5)?;
        let mut head = Buf::new(&head);
        if head.u32() != Ok(INDEX_MAGIC) {
            return Err(malformed(path, 0, "this is no index"));
        }
        match head.u8() {
            Ok(INDEX_VERSION) => {}
            version => {
                let what = format!("index of version {}: version 2 is read", version.unwrap_or(0));
                return Err(malformed(path, 4, what));
            }
        }
        let toc_at = len - TOC_LEN;
        let toc = at(toc_at, TOC_LEN)?;
        let (body, crc) = toc.split_at(TOC_LEN as usize - 4);
        if crc32c::crc32c(body).to_be_bytes() != crc {
            return Err(malformed(path, toc_at, "table of contents: checksum is wrong"));
        }
        let mut body = Buf::new(body);
        let mut offsets = [0u64; 6];
        for offset in &mut offsets {
            *offset = body.u64().unwrap_or(0);
        }
        let [symbols_at, series_at, ..] = offsets;
        // Series end where whatever stands behind them begins.
        let series_end = offsets[2..].iter().copied().filter(|offset| *offset >= series_at && *offset > 0).min();
        let series_end = series_end.unwrap_or(toc_at).min(toc_at);
        if symbols_at == 0 || symbols_at + 8 > toc_at || series_at > series_end {
            return Err(malformed(path, toc_at, "table of contents makes no sense"));
        }
        let head = at(symbols_at, 4)?;
        let symbols_len = u64::from(Buf::new(&head).u32().unwrap_or(0));
        if symbols_at + 4 + symbols_len + 4 > toc_at {
            return Err(malformed(path, symbols_at, "symbols reach over the end of the index"));
        }
        let table = at(symbols_at + 4, symbols_len + 4)?;
        let (table, crc) = table.split_at(symbols_len as usize);
        if crc32c::crc32c(table).to_be_bytes() != crc {
            return Err(malformed(path, symbols_at, "symbols: checksum is wrong"));
        }
        let (symbols, ends) = symbols(table).map_err(|Short| malformed(path, symbols_at, "symbols are malformed"))?;
        Ok(Index { path: path.to_owned(), file, symbols, ends, series_at, series_end })
    }

    /// Reads the next series into `entry`; gives where it began.
    fn next_series(&mut self, at: &mut u64, entry: &mut Vec<u8>) -> Result<Option<u64>, ImportError> {
        let place = at.next_multiple_of(SERIES_ALIGN);
        if place >= self.series_end {
            return Ok(None);
        }
        let read = |source| ImportError::Read { place: self.path.display().to_string(), source };
        let here = self.file.stream_position().map_err(read)?;
        self.file.seek_relative(place as i64 - here as i64).map_err(read)?;
        let (mut len, mut len_bytes) = (0u64, 0u64);
        loop {
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(read)?;
            len |= u64::from(byte[0] & 0x7f) << (7 * len_bytes).min(63);
            len_bytes += 1;
            if byte[0] < 0x80 || len_bytes > 9 {
                break;
            }
        }
        if len == 0 || len > SERIES_BYTES_MAX || place + len_bytes + len + 4 > self.series_end + SERIES_ALIGN {
            // Zeroes are what fills the section up.
            return if len == 0 {
                Ok(None)
            } else {
                Err(malformed(&self.path, place, "series reaches over its section"))
            };
        }
        entry.resize(len as usize, 0);
        let mut crc = [0; 4];
        self.file.read_exact(entry).and_then(|()| self.file.read_exact(&mut crc)).map_err(read)?;
        if crc32c::crc32c(entry).to_be_bytes() != crc {
            return Err(malformed(&self.path, place, "series: checksum is wrong"));
        }
        *at = place + len_bytes + len + 4;
        Ok(Some(place))
    }

    fn read_series(&self, entry: &[u8], labels: &mut LabelsBuilder, metas: &mut Vec<Meta>) -> Result<(), Short> {
        let mut from = Buf::new(entry);
        for _ in 0..from.count()? {
            let (name, value) = (self.symbol(from.uvarint()?)?, self.symbol(from.uvarint()?)?);
            labels.push(name, value);
        }
        metas.clear();
        let mut reference = 0i64;
        for number in 0..from.count()? {
            // When it begins and how long it is, is in the chunk itself.
            if number == 0 {
                from.varint().map(drop)?
            } else {
                from.uvarint().map(drop)?
            }
            from.uvarint()?;
            reference = if number == 0 { from.uvarint()? as i64 } else { reference.wrapping_add(from.varint()?) };
            metas.push(Meta { reference: reference as u64 });
        }
        Ok(())
    }

    fn symbol(&self, number: u64) -> Result<&str, Short> {
        let number = usize::try_from(number).map_err(|_| Short)?;
        let end = *self.ends.get(number).ok_or(Short)? as usize;
        let begin = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        std::str::from_utf8(&self.symbols[begin..end]).map_err(|_| Short)
    }
}

fn symbols(table: &[u8]) -> Result<(Vec<u8>, Vec<u32>), Short> {
    let mut from = Buf::new(table);
    let count = from.u32()? as usize;
    if count > from.left() {
        return Err(Short);
    }
    let (mut texts, mut ends) = (Vec::with_capacity(from.left() - count), Vec::with_capacity(count));
    for _ in 0..count {
        let len = from.count()?;
        texts.extend_from_slice(from.take(len)?);
        ends.push(u32::try_from(texts.len()).map_err(|_| Short)?);
    }
    Ok((texts, ends))
}

/// The chunk files of a block; mostly read front to back.
struct Chunks {
    files: Vec<(PathBuf, BufReader<File>, u64)>,
    buffer: Vec<u8>,
}

impl Chunks {
    fn open(dir: &Path) -> Result<Chunks, ImportError> {
        let mut files = Vec::new();
        for path in list(&dir.join("chunks"))? {
            let read = |source| ImportError::Read { place: path.display().to_string(), source };
            let file = File::open(&path).map_err(read)?;
            let len = file.metadata().map_err(read)?.len();
            let mut file = BufReader::with_capacity(READ_BYTES, file);
            let mut head = [0; 5];
            file.read_exact(&mut head).map_err(read)?;
            if head[..4] != CHUNKS_MAGIC.to_be_bytes() || head[4] != CHUNKS_VERSION {
                return Err(malformed(&path, 0, "this is no file of chunks of version 1"));
            }
            files.push((path, file, len));
        }
        Ok(Chunks { files, buffer: Vec::new() })
    }

    /// Gives each sample of a chunk.
    fn read(
        &mut self,
        reference: u64,
        each: &mut dyn FnMut(i64, Value) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let (number, offset) = ((reference >> 32) as usize, reference & 0xffff_ffff);
        let Some((path, file, len)) = self.files.get_mut(number) else {
            let what = format!("the index names chunk file {number}, which is not there");
            return Err(ImportError::Malformed { place: "chunks".to_owned(), what });
        };
        let read = |source| ImportError::Read { place: path.display().to_string(), source };
        let here = file.stream_position().map_err(read)?;
        file.seek_relative(offset as i64 - here as i64).map_err(read)?;
        let (mut bytes, mut len_bytes) = (0u64, 0u64);
        loop {
            let mut byte = [0];
            file.read_exact(&mut byte).map_err(read)?;
            bytes |= u64::from(byte[0] & 0x7f) << (7 * len_bytes).min(63);
            len_bytes += 1;
            if byte[0] < 0x80 || len_bytes > 9 {
                break;
            }
        }
        if bytes > CHUNK_BYTES_MAX || offset + len_bytes + 1 + bytes + 4 > *len {
            return Err(malformed(path, offset, "chunk reaches over the end of its file"));
        }
        self.buffer.resize(bytes as usize + 5, 0);
        file.read_exact(&mut self.buffer).map_err(read)?;
        let (body, crc) = self.buffer.split_at(bytes as usize + 1);
        if crc32c::crc32c(body).to_be_bytes() != crc {
            return Err(malformed(path, offset, "chunk: checksum is wrong"));
        }
        let decoded = chunk::decode(body[0], &body[1..], each)?;
        decoded.map_err(|Short| malformed(path, offset, format!("chunk of encoding {} cannot be read", body[0])))
    }
}
