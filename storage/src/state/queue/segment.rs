//! The bytes of a queue on disk, and how they are read back. Page: `docs/format/queue.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Malformed, Read, Reader};
use crate::fs::FsFile;

pub(super) const MAGIC: [u8; 8] = *b"KYMOQUE\0";
pub(super) const VERSION: u32 = 1;
/// Magic, version, first position, position after the segment before, time of creation, checksum.
pub(super) const HEADER_LEN: usize = 8 + 4 + 8 + 8 + 8 + 4;
/// Length, position, checksum.
pub(super) const FRAME_HEADER_LEN: usize = 4 + 8 + 4;
/// Magic, version, position, checksum.
pub(super) const CHECKPOINT_LEN: usize = 8 + 4 + 8 + 4;
pub(super) const CHECKPOINT_MAGIC: [u8; 8] = *b"KYMOQCP\0";
/// Bytes read at once while looking for a whole frame.
const WINDOW: usize = 1 << 20;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Position of its first record.
    pub(super) first: u64,
    /// The position after the last record of the segment before.
    pub(super) after: u64,
    /// When it was begun.
    pub(super) created_ms: i64,
}

/// Why a header or a checkpoint is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Malformed(Malformed),
    Version(u32),
}

impl From<Malformed> for HeaderFault {
    fn from(fault: Malformed) -> HeaderFault {
        HeaderFault::Malformed(fault)
    }
}

impl Header {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.after.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        seal(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderFault> {
        let mut from = opened(bytes, &MAGIC)?;
        let header = Header { first: from.u64()?, after: from.u64()?, created_ms: from.u64()? as i64 };
        from.end()?;
        Ok(header)
    }
}

pub(super) fn encode_checkpoint(position: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECKPOINT_LEN);
    bytes.extend_from_slice(&CHECKPOINT_MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&position.to_le_bytes());
    seal(bytes)
}

pub(super) fn decode_checkpoint(bytes: &[u8]) -> Result<u64, HeaderFault> {
    let mut from = opened(bytes, &CHECKPOINT_MAGIC)?;
    let position = from.u64()?;
    from.end()?;
    Ok(position)
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The fields between version and checksum, after magic, version and checksum were held against the bytes.
fn opened<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<Reader<'a>, HeaderFault> {
    let mut from = Reader::new(bytes);
    if from.bytes(magic.len())? != magic {
        return Err(Malformed { what: "wrong magic", offset: 0 }.into());
    }
    let version = from.u32()?;
    if version != VERSION {
        return Err(HeaderFault::Version(version));
    }
    let Some((sealed, checksum)) = bytes.split_last_chunk::<4>() else {
        return from.bad("unexpected end").map_err(Into::into);
    };
    if crc32fast::hash(sealed) != u32::from_le_bytes(*checksum) {
        return Err(Malformed { what: "checksum does not fit", offset: sealed.len() }.into());
    }
    let mut from = Reader::new(sealed);
    from.bytes(magic.len() + 4)?;
    Ok(from)
}

/// Appends a record as a frame.
pub(super) fn put_frame(out: &mut Vec<u8>, position: u64, record: &[u8]) {
    // A record is smaller than a segment may ever be; `append` saw to it.
    let len = record.len() as u32;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&frame_checksum(len, position, record).to_le_bytes());
    out.extend_from_slice(record);
}

fn frame_checksum(len: u32, position: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

/// What stands before a record.
#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    len: u32,
    position: u64,
    checksum: u32,
}

impl FrameHeader {
    fn decode(bytes: &[u8]) -> Read<FrameHeader> {
        let mut from = Reader::new(bytes);
        Ok(FrameHeader { len: from.u32()?, position: from.u64()?, checksum: from.u32()? })
    }

    fn fits(&self, record: &[u8]) -> bool {
        record.len() == self.len as usize && frame_checksum(self.len, self.position, record) == self.checksum
    }
}

/// What is at an offset of a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole frame.
    Frame { position: u64, next: u64 },
    /// The end of the frames.
    End,
    /// No frame; the next whole one, if any, is after it.
    Damage { what: &'static str },
}

/// One segment being read: bytes before `end` only.
pub(super) struct SegmentReader {
    file: Arc<dyn FsFile>,
    path: PathBuf,
    /// Position of the segment's first record.
    first: u64,
    end: u64,
}

impl SegmentReader {
    pub(super) fn new(file: Arc<dyn FsFile>, path: &Path, first: u64, end: u64) -> SegmentReader {
        SegmentReader { file, path: path.to_owned(), first, end }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the frame at `offset` and leaves its record in `record`. `expected` is the least position it may have.
    pub(super) fn frame(&self, offset: u64, expected: u64, record: &mut Vec<u8>) -> io::Result<Found> {
        record.clear();
        let left = self.end.saturating_sub(offset);
        if left == 0 {
            return Ok(Found::End);
        }
        if left < FRAME_HEADER_LEN as u64 {
            return Ok(Found::Damage { what: "unexpected end" });
        }
        let mut header = [0; FRAME_HEADER_LEN];
        self.file.read_exact_at(&mut header, offset)?;
        let Ok(header) = FrameHeader::decode(&header) else { return Ok(Found::Damage { what: "unexpected end" }) };
        if header.position < expected {
            return Ok(Found::Damage { what: "position out of order" });
        }
        if u64::from(header.len) > left - FRAME_HEADER_LEN as u64 {
            return Ok(Found::Damage { what: "record longer than the file" });
        }
        record.resize(header.len as usize, 0);
        self.file.read_exact_at(record, offset + FRAME_HEADER_LEN as u64)?;
        if !header.fits(record) {
            record.clear();
            return Ok(Found::Damage { what: "checksum does not fit" });
        }
        let next = offset + (FRAME_HEADER_LEN + record.len()) as u64;
        Ok(Found::Frame { position: header.position, next })
    }

    /// Offset and position of the first whole frame after `offset`, whose position is `expected` at the least.
    ///
    /// A position can be no further on than frames fit into the bytes before, so that nearly every byte is passed by without
    /// a look at its checksum.
    pub(super) fn resync(&self, offset: u64, expected: u64, record: &mut Vec<u8>) -> io::Result<Option<(u64, u64)>> {
        let (mut window, mut start) = (Vec::new(), offset + 1);
        while start + FRAME_HEADER_LEN as u64 <= self.end {
            let len = (self.end - start).min((WINDOW + FRAME_HEADER_LEN) as u64) as usize;
            window.resize(len, 0);
            self.file.read_exact_at(&mut window, start)?;
            for at in 0..=len - FRAME_HEADER_LEN {
                let here = start + at as u64;
                let Ok(header) = FrameHeader::decode(&window[at..]) else { continue };
                let before = here.saturating_sub(HEADER_LEN as u64) / FRAME_HEADER_LEN as u64;
                let is_plausible = header.position >= expected
                    && header.position.checked_sub(self.first).is_some_and(|nth| nth <= before)
                    && u64::from(header.len) <= self.end - here - FRAME_HEADER_LEN as u64;
                if is_plausible && let Found::Frame { position, .. } = self.frame(here, expected, record)? {
                    return Ok(Some((here, position)));
                }
            }
            start += (len - FRAME_HEADER_LEN + 1) as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format_page::{example, hex};

    #[test]
    fn the_page_shows_these_bytes() {
        let mut bytes = Header { first: 7, after: 7, created_ms: 1_700_000_000_000 }.encode();
        put_frame(&mut bytes, 7, b"first");
        put_frame(&mut bytes, 8, b"");
        bytes.extend_from_slice(&encode_checkpoint(8));
        assert_eq!(hex(&bytes), hex(&example(include_str!("../../../../docs/format/queue.md"))));
        assert_eq!(bytes.len(), HEADER_LEN + 2 * FRAME_HEADER_LEN + 5 + CHECKPOINT_LEN);
    }

    #[test]
    fn headers_read_back_and_every_flipped_bit_is_found() {
        let header = Header { first: u64::MAX - 1, after: 5, created_ms: -1 };
        let bytes = header.encode();
        assert_eq!((bytes.len(), Header::decode(&bytes)), (HEADER_LEN, Ok(header)));
        let checkpoint = encode_checkpoint(3);
        assert_eq!((checkpoint.len(), decode_checkpoint(&checkpoint)), (CHECKPOINT_LEN, Ok(3)));
        for (bytes, is_header) in [(bytes, true), (checkpoint, false)] {
            for bit in 0..8 * bytes.len() {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(if is_header {
                    Header::decode(&flipped).is_err()
                } else {
                    decode_checkpoint(&flipped).is_err()
                });
            }
            for len in 0..bytes.len() {
                assert!(Header::decode(&bytes[..len]).is_err() && decode_checkpoint(&bytes[..len]).is_err(), "{len}");
            }
        }
    }
}
