//! Totals at the moment a flush froze the head. `docs/format/totals.md` is the page.

use std::path::{Path, PathBuf};

use kymo_core::Labels;
use kymo_core::batch::AddedValue;
use kymo_core::increments::{INTERVALS_PER_WRITER, Interval, Overlaps, SeriesTotals, Share, TotalsState, Writer};

use crate::codec::{Malformed, Reader, is_sum, put_block, put_histogram, put_varint, put_zigzag, read_histogram};
use crate::error::{StorageError, io_error};
use crate::fs::{Fs, OpenMode};

const MAGIC: [u8; 8] = *b"KYMOTOT\0";
/// The version this build writes, and the oldest that it reads, where no writer has overlaps.
const VERSION: u32 = 2;
const VERSION_MIN: u32 = 1;
const HEADER_LEN: usize = 12;
/// A million writers with all their intervals are far below this.
const BYTES_MAX: u64 = 4 << 30;
const EXTENSION: &str = "totals";

const HAS_NEWEST: u8 = 1;
const HAS_FORGOTTEN: u8 = 2;
const HAS_FLOAT: u8 = 4;
const HAS_HISTOGRAM: u8 = 8;
const HAS_TOLD: u8 = 1;
const HAS_SHARE: u8 = 2;
const HAS_OVERLAPS: u8 = 4;
const VALUE_FLOAT: u8 = 0;
const VALUE_HISTOGRAM: u8 = 1;

/// Where the file of this number is.
pub(crate) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.{EXTENSION}"))
}

/// The file of these totals.
pub(crate) fn encode<'a>(all: impl Iterator<Item = (&'a Labels, &'a SeriesTotals)>) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    for (labels, totals) in all {
        put_block(&mut out, labels.as_ref().packed());
        put_state(&mut out, totals.state());
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn put_state(out: &mut Vec<u8>, state: &TotalsState) {
    let has = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    out.push(
        has(state.newest_ms.is_some(), HAS_NEWEST)
            | has(state.forgotten_until_ms.is_some(), HAS_FORGOTTEN)
            | has(state.float.is_some(), HAS_FLOAT)
            | has(state.histogram.is_some(), HAS_HISTOGRAM),
    );
    put_zigzag(out, state.began_ms);
    state.newest_ms.iter().chain(&state.forgotten_until_ms).for_each(|time| put_zigzag(out, *time));
    if let Some(float) = state.float {
        out.extend_from_slice(&float.to_le_bytes());
    }
    if let Some(histogram) = &state.histogram {
        put_histogram(out, histogram);
    }
    put_varint(out, state.writers.len() as u64);
    for (number, writer) in &state.writers {
        out.extend_from_slice(&number.to_le_bytes());
        out.push(
            has(writer.told_until_ms.is_some(), HAS_TOLD)
                | has(writer.share.is_some(), HAS_SHARE)
                | has(writer.overlaps.count > 0, HAS_OVERLAPS),
        );
        if let Some(told) = writer.told_until_ms {
            put_zigzag(out, told);
        }
        put_varint(out, writer.recent.len() as u64);
        let mut before = 0;
        for interval in &writer.recent {
            // An interval usually begins where the one before ended, and is as long.
            put_zigzag(out, interval.start_ms.wrapping_sub(before));
            put_zigzag(out, interval.end_ms.wrapping_sub(interval.start_ms));
            before = interval.end_ms;
        }
        if let Some(share) = &writer.share {
            put_zigzag(out, share.start_ms);
            put_zigzag(out, share.time_ms);
            put_added(out, &share.value);
        }
        if writer.overlaps.count > 0 {
            put_varint(out, writer.overlaps.count);
            put_zigzag(out, writer.overlaps.newest_ms);
        }
    }
}

/// Writes a value that is added: also how the log has it.
pub(crate) fn put_added(out: &mut Vec<u8>, value: &AddedValue) {
    match value {
        AddedValue::Float(value) => {
            out.push(VALUE_FLOAT);
            out.extend_from_slice(&value.to_le_bytes());
        }
        AddedValue::Histogram(value) => {
            out.push(VALUE_HISTOGRAM);
            put_histogram(out, value);
        }
    }
}

/// Reads what [`put_added`] wrote.
pub(crate) fn read_added(from: &mut Reader<'_>) -> Result<AddedValue, Malformed> {
    match from.u8()? {
        VALUE_FLOAT => Ok(AddedValue::Float(from.f64()?)),
        VALUE_HISTOGRAM => Ok(AddedValue::Histogram(read_histogram(from)?)),
        _ => from.bad("unknown kind of value"),
    }
}

/// Reads a file's bytes and gives each series.
///
/// # Errors
/// [`Malformed`]: magic, version, checksum, or what stands between; then nothing was given for a wrong checksum.
pub(crate) fn decode(bytes: &[u8], mut each: impl FnMut(Labels, SeriesTotals)) -> Result<(), Malformed> {
    let from = &mut Reader::new(bytes);
    if from.bytes(MAGIC.len())? != MAGIC {
        return Err(Malformed { what: "these are no totals", offset: 0 });
    }
    let version = from.u32()?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Malformed { what: "unknown version", offset: MAGIC.len() });
    }
    let flags_of_writer = HAS_TOLD | HAS_SHARE | if version > 1 { HAS_OVERLAPS } else { 0 };
    let body = bytes.len().saturating_sub(4);
    if body < HEADER_LEN || !is_sum(crc32fast::hash(&bytes[..body]), Reader::new(&bytes[body..]).u32()?) {
        return Err(Malformed { what: "checksum is wrong", offset: body });
    }
    let from = &mut Reader::new(&bytes[HEADER_LEN..body]);
    while from.left() > 0 {
        let labels = from.labels()?.to_labels();
        let Some(totals) = SeriesTotals::from_state(read_state(from, flags_of_writer)?) else {
            return from.bad("intervals do not rise");
        };
        each(labels, totals);
    }
    Ok(())
}

/// `flags_of_writer` are those that the file's version knows.
fn read_state(from: &mut Reader<'_>, flags_of_writer: u8) -> Result<TotalsState, Malformed> {
    let flags = from.u8()?;
    if flags > HAS_NEWEST | HAS_FORGOTTEN | HAS_FLOAT | HAS_HISTOGRAM {
        return from.bad("unknown flag");
    }
    let mut state = TotalsState { began_ms: from.zigzag()?, ..TotalsState::default() };
    if flags & HAS_NEWEST != 0 {
        state.newest_ms = Some(from.zigzag()?);
    }
    if flags & HAS_FORGOTTEN != 0 {
        state.forgotten_until_ms = Some(from.zigzag()?);
    }
    if flags & HAS_FLOAT != 0 {
        state.float = Some(from.f64()?);
    }
    if flags & HAS_HISTOGRAM != 0 {
        state.histogram = Some(read_histogram(from)?);
    }
    for _ in 0..from.count(10)? {
        let number = from.u64()?;
        let flags = from.u8()?;
        if flags & !flags_of_writer != 0 {
            return from.bad("unknown flag");
        }
        let told_until_ms = if flags & HAS_TOLD != 0 { Some(from.zigzag()?) } else { None };
        let count = from.count(2)?;
        if count > INTERVALS_PER_WRITER {
            return from.bad("too many intervals");
        }
        let (mut recent, mut before) = (Vec::with_capacity(count), 0i64);
        for _ in 0..count {
            let start_ms = before.wrapping_add(from.zigzag()?);
            let end_ms = start_ms.wrapping_add(from.zigzag()?);
            recent.push(Interval { end_ms, start_ms });
            before = end_ms;
        }
        let share = if flags & HAS_SHARE != 0 {
            Some(Share { start_ms: from.zigzag()?, time_ms: from.zigzag()?, value: read_added(from)? })
        } else {
            None
        };
        let overlaps = if flags & HAS_OVERLAPS != 0 {
            Overlaps { count: from.varint()?, newest_ms: from.zigzag()? }
        } else {
            Overlaps::default()
        };
        if flags & HAS_OVERLAPS != 0 && overlaps.count == 0 {
            return from.bad("no overlaps where there are some");
        }
        state.writers.insert(number, Writer { told_until_ms, recent, share, overlaps });
    }
    Ok(state)
}

/// Writes a file durably, but for its name: the caller syncs the directory.
pub(crate) fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let write = || {
        let file = fs.create_new(path)?;
        file.append_all(bytes)?;
        file.sync_data()
    };
    write().map_err(io_error(path, "writing totals"))
}

/// The bytes of a file.
pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>, StorageError> {
    let read = || io_error(path, "reading totals");
    let file = fs.open(path, OpenMode::Read).map_err(read())?;
    let len = file.len().map_err(read())?;
    if len > BYTES_MAX {
        let fault = Malformed { what: "file is too long", offset: BYTES_MAX as usize };
        return Err(StorageError::Damaged { path: path.to_owned(), fault });
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(read())?;
    Ok(bytes)
}
