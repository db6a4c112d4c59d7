//! The framing of the log: segment headers and frame headers, with their checksums.

use crate::codec::{Malformed, Reader, is_sum};

/// First bytes of a segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"KYMOWAL\0";
/// The version this build writes and reads.
pub(crate) const SEGMENT_VERSION: u32 = 2;
/// Magic, version, segment number, checksum of these.
pub(crate) const SEGMENT_HEADER_LEN: usize = 24;
/// First bytes of a frame; also what a reader looks for behind a damaged one.
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"KYWF";
/// Magic, payload length, payload checksum, header checksum.
pub(crate) const FRAME_HEADER_LEN: usize = 16;
/// Payload bytes at the most: a batch is cut before, a reader refuses more.
pub(crate) const FRAME_PAYLOAD_MAX: usize = 256 << 20;

const _: () = assert!(SEGMENT_HEADER_LEN == 8 + 4 + 8 + 4);
const _: () = assert!(FRAME_HEADER_LEN == 4 + 4 + 4 + 4);

/// The header of segment `number`.
pub(crate) fn segment_header(number: u64) -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What a segment header says.
pub(crate) enum SegmentHeader {
    /// As it should be.
    Sound,
    /// Written by a newer build.
    Newer(u32),
    /// Written by an older build, in a form that is read no more.
    Older(u32),
    /// Anything else.
    Damaged,
}

pub(crate) fn check_segment_header(header: &[u8; SEGMENT_HEADER_LEN], number: u64) -> SegmentHeader {
    if header[..8] != SEGMENT_MAGIC {
        return SegmentHeader::Damaged;
    }
    let mut version = [0; 4];
    version.copy_from_slice(&header[8..12]);
    let version = u32::from_le_bytes(version);
    if version > SEGMENT_VERSION {
        return SegmentHeader::Newer(version);
    }
    if version < SEGMENT_VERSION && header[20..] == crc32fast::hash(&header[..20]).to_le_bytes() {
        return SegmentHeader::Older(version);
    }
    if *header == segment_header(number) { SegmentHeader::Sound } else { SegmentHeader::Damaged }
}

/// Fills in the header of `frame`, whose payload is there, and which will stand in segment `segment` at `offset`.
///
/// The header's checksum covers segment and offset as well, so bytes of an older file that shine through
/// after power loss are not taken for frames.
pub(crate) fn seal_frame(frame: &mut [u8], segment: u64, offset: u64) {
    let (header, payload) = frame.split_at_mut(FRAME_HEADER_LEN);
    assert!(payload.len() <= FRAME_PAYLOAD_MAX, "a frame's payload is cut before it gets here");
    header[..4].copy_from_slice(&FRAME_MAGIC);
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..12].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = header_crc(&header[..12], segment, offset);
    header[12..].copy_from_slice(&crc.to_le_bytes());
}

fn header_crc(fields: &[u8], segment: u64, offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(fields);
    crc.update(&segment.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.finalize()
}

/// A frame header whose own checksum holds.
pub(crate) struct FrameHeader {
    pub(crate) payload_len: usize,
    pub(crate) payload_crc: u32,
}

/// Checks a frame header found in `segment` at `offset`.
pub(crate) fn check_frame_header(header: &[u8], segment: u64, offset: u64) -> Result<FrameHeader, Malformed> {
    let mut from = Reader::new(header);
    if from.bytes(4)? != FRAME_MAGIC {
        return Err(Malformed { what: "no frame starts here", offset: 0 });
    }
    let payload_len = from.u32()? as usize;
    let payload_crc = from.u32()?;
    if !is_sum(header_crc(&header[..12], segment, offset), from.u32()?) || payload_len > FRAME_PAYLOAD_MAX {
        return Err(Malformed { what: "frame header's checksum is wrong", offset: 12 });
    }
    Ok(FrameHeader { payload_len, payload_crc })
}
