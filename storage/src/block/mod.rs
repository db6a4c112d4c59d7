//! Block files: samples that no longer change, sorted by label set, in one file.
//!
//! ```text
//! header │ chunks │ times │ exemplars │ metadata │ symbols │ series │ postings │ directory │ footer │ trailer
//! ```
//!
//! A file is written once, front to back, synced, and never changed. Values stand in chunks; timestamp columns are
//! stored once, found by their content; symbols, series and postings in pages, compressed one by one. It is read by
//! position through a bounded cache: only the directory is held in memory. Every section has a checksum in the footer,
//! every page one in the directory, every chunk its own. `docs/format/block.md` is the page.

mod cache;
mod check;
mod directory;
mod postings;
mod read;
mod runs;
mod scan;
mod select;
mod series;
mod statistics;
mod symbols;
mod times;
mod write;

pub(crate) use cache::BlockCache;
pub(crate) use check::check;
#[cfg(feature = "fuzz")]
pub(crate) use directory::check_pages;
pub(crate) use read::{Block, ChunkRef};
pub(crate) use scan::Scan;
pub use statistics::{BlockStatistics, BlockSummary, EncodingStatistics};
pub(crate) use write::{BlockWriter, Pieces, Shape};

use kymo_core::storage::Tier;

use crate::codec::{Malformed, Reader, put_varint, put_zigzag};

pub(crate) const MAGIC: [u8; 8] = *b"KYMOBLK\0";
pub(crate) const END_MAGIC: [u8; 8] = *b"KYMOEND\0";
/// The version this build writes and reads.
pub(crate) const VERSION: u32 = 2;
/// Magic, version, checksum of these.
pub(crate) const HEADER_LEN: usize = 16;
/// Footer length, footer checksum, end magic.
pub(crate) const TRAILER_LEN: usize = 16;
/// Ending of a block's file name.
pub(crate) const EXTENSION: &str = "block";
/// Checksum behind each chunk.
pub(crate) const CHUNK_CRC_LEN: u32 = 4;

const _: () = assert!(HEADER_LEN == 8 + 4 + 4);
const _: () = assert!(TRAILER_LEN == 4 + 4 + 8);

pub(crate) fn header() -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What a section holds; the number stands in the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SectionKind {
    Chunks = 1,
    Times = 2,
    Exemplars = 3,
    Metadata = 4,
    Symbols = 5,
    Series = 6,
    Postings = 7,
    Directory = 8,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl Section {
    /// Whether the section holds these bytes.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        offset >= self.offset && offset.checked_add(len).is_some_and(|end| end <= self.offset + self.len)
    }
}

/// The facts a block tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Footer {
    /// At one timestamp the block with the higher sequence wins.
    pub(crate) sequence: u64,
    /// 0 as flushed, 1 as merged: written for size; 2 rollups of five minutes, 3 of an hour.
    pub(crate) level: u64,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) series: u64,
    /// Series without a sample: they have exemplars only.
    pub(crate) bare_series: u64,
    pub(crate) samples: u64,
    pub(crate) sections: [Section; SECTIONS],
}

/// Kinds of sections.
pub(crate) const SECTIONS: usize = 8;

impl Footer {
    /// What the block holds.
    pub(crate) fn tier(&self) -> Tier {
        match self.level {
            0 | 1 => Tier::Raw,
            2 => Tier::FiveMinutes,
            _ => Tier::OneHour,
        }
    }

    pub(crate) fn section(&self, kind: SectionKind) -> Section {
        self.sections[kind as usize - 1]
    }

    /// Footer and trailer.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.sequence);
        put_varint(&mut out, self.level);
        put_zigzag(&mut out, self.min_time_ms);
        put_zigzag(&mut out, self.max_time_ms);
        put_varint(&mut out, self.series);
        put_varint(&mut out, self.bare_series);
        put_varint(&mut out, self.samples);
        put_varint(&mut out, SECTIONS as u64);
        for (number, section) in self.sections.iter().enumerate() {
            out.push(number as u8 + 1);
            put_varint(&mut out, section.offset);
            put_varint(&mut out, section.len);
            out.extend_from_slice(&section.crc.to_le_bytes());
        }
        let (len, crc) = (out.len() as u32, crc32fast::hash(&out));
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&END_MAGIC);
        out
    }

    /// Reads a footer whose checksum holds; `end` is where the sections must have ended.
    pub(crate) fn decode(bytes: &[u8], end: u64) -> Result<Footer, Malformed> {
        let from = &mut Reader::new(bytes);
        let mut footer = Footer {
            sequence: from.varint()?,
            level: from.varint()?,
            min_time_ms: from.zigzag()?,
            max_time_ms: from.zigzag()?,
            series: from.varint()?,
            bare_series: from.varint()?,
            samples: from.varint()?,
            ..Footer::default()
        };
        if footer.level > 3 {
            return from.bad("unknown level");
        }
        for _ in 0..from.count(7)? {
            let kind = from.u8()?;
            let section = Section { offset: from.varint()?, len: from.varint()?, crc: from.u32()? };
            if section.offset.checked_add(section.len).is_none_or(|e| e > end) {
                return from.bad("section lies outside the file");
            }
            // A later version may add sections that an earlier reader can do without.
            if let Some(known) = footer.sections.get_mut(usize::from(kind).wrapping_sub(1)) {
                *known = section;
            }
        }
        from.end()?;
        Ok(footer)
    }
}

#[cfg(test)]
mod tests;
