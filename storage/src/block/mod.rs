//! Block files: samples that no longer change, sorted by label set, in one file.
//!
//! ```text
//! header │ chunks │ exemplars │ metadata │ symbols │ series │ footer │ trailer
//! ```
//!
//! A file is written once, front to back, synced, renamed into place and never changed. It is read by
//! position; only symbols and the series table are held in memory. Every section has a checksum in the
//! footer, every chunk one in the series table. `docs/format/block.md` is the page.

mod read;
mod write;

pub(crate) use read::Block;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use read::check_whole;
#[cfg(feature = "fuzz")]
pub(crate) use read::read_index;
pub(crate) use write::BlockWriter;

use crate::codec::{Malformed, Reader, put_varint, put_zigzag};

pub(crate) const MAGIC: [u8; 8] = *b"KYMOBLK\0";
pub(crate) const END_MAGIC: [u8; 8] = *b"KYMOEND\0";
/// The version this build writes and reads.
pub(crate) const VERSION: u32 = 1;
/// Magic, version, checksum of these.
pub(crate) const HEADER_LEN: usize = 16;
/// Footer length, footer checksum, end magic.
pub(crate) const TRAILER_LEN: usize = 16;
/// Ending of a block's file name.
pub(crate) const EXTENSION: &str = "block";

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
    Exemplars = 2,
    Metadata = 3,
    Symbols = 4,
    Series = 5,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// The facts a block tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Footer {
    /// At one timestamp the block with the higher sequence wins.
    pub(crate) sequence: u64,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) chunks: Section,
    pub(crate) exemplars: Section,
    pub(crate) metadata: Section,
    pub(crate) symbols: Section,
    pub(crate) series_table: Section,
}

impl Footer {
    fn sections(&self) -> [(SectionKind, Section); 5] {
        [
            (SectionKind::Chunks, self.chunks),
            (SectionKind::Exemplars, self.exemplars),
            (SectionKind::Metadata, self.metadata),
            (SectionKind::Symbols, self.symbols),
            (SectionKind::Series, self.series_table),
        ]
    }

    /// Footer and trailer.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.sequence);
        put_zigzag(&mut out, self.min_time_ms);
        put_zigzag(&mut out, self.max_time_ms);
        put_varint(&mut out, self.series);
        put_varint(&mut out, self.samples);
        let sections = self.sections();
        put_varint(&mut out, sections.len() as u64);
        for (kind, section) in sections {
            out.push(kind as u8);
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
            min_time_ms: from.zigzag()?,
            max_time_ms: from.zigzag()?,
            series: from.varint()?,
            samples: from.varint()?,
            ..Footer::default()
        };
        for _ in 0..from.count(7)? {
            let kind = from.u8()?;
            let section = Section { offset: from.varint()?, len: from.varint()?, crc: from.u32()? };
            if section.offset.checked_add(section.len).is_none_or(|e| e > end) {
                return from.bad("section lies outside the file");
            }
            match kind {
                1 => footer.chunks = section,
                2 => footer.exemplars = section,
                3 => footer.metadata = section,
                4 => footer.symbols = section,
                5 => footer.series_table = section,
                // A later version may add sections that an earlier reader can do without.
                _ => {}
            }
        }
        from.end()?;
        Ok(footer)
    }
}

/// Where a chunk lies and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkMeta {
    /// From the start of the file.
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) samples: u32,
}

#[cfg(test)]
mod tests;
