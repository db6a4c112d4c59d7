//! zstd frames inside this crate's formats: without their magic, and never unpacked beyond a stated length.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

use crate::codec::{Malformed, Read};

/// What every zstd frame begins with, and what is left out here.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Makes frames; holds the compressor's tables.
pub(crate) struct FrameWriter {
    compressor: Compressor<'static>,
    level: i32,
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(level: i32) -> io::Result<FrameWriter> {
        Ok(FrameWriter { compressor: Compressor::new(level)?, level, buffer: Vec::new() })
    }

    /// The frame of `raw`, valid until the next call.
    pub(crate) fn frame(&mut self, raw: &[u8]) -> io::Result<&[u8]> {
        self.buffer.clear();
        self.buffer.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.compressor.compress_to_buffer(raw, &mut self.buffer)?;
        debug_assert_eq!(self.buffer[..4], MAGIC);
        Ok(&self.buffer[4..])
    }
}

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameWriter").field("level", &self.level).finish_non_exhaustive()
    }
}

struct Unpacker {
    decompressor: Decompressor<'static>,
    frame: Vec<u8>,
}

thread_local! {
    /// A context takes about 150 KiB, so each thread keeps one.
    static UNPACKER: RefCell<Option<Unpacker>> = const { RefCell::new(None) };
}

/// Replaces `out` by what `frame` holds, at most `bytes_max` bytes.
///
/// # Errors
/// [`Malformed`] if it is no frame or holds more.
pub(crate) fn unpack(frame: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Read<()> {
    const FAULT: Malformed = Malformed { what: "compressed frame is malformed", offset: 0 };
    out.clear();
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => {
                let decompressor = Decompressor::new().map_err(|_| FAULT)?;
                unpacker.insert(Unpacker { decompressor, frame: Vec::new() })
            }
        };
        unpacker.frame.clear();
        unpacker.frame.extend_from_slice(&MAGIC);
        unpacker.frame.extend_from_slice(frame);
        // What the frame says of itself bounds the buffer; the bound of the caller bounds what it may say.
        let claimed = zstd::zstd_safe::get_frame_content_size(&unpacker.frame).ok().flatten();
        let claimed = claimed.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= bytes_max).ok_or(FAULT)?;
        out.reserve(claimed);
        unpacker.decompressor.decompress_to_buffer(&unpacker.frame, out).map_err(|_| FAULT)?;
        if out.len() == claimed { Ok(()) } else { Err(FAULT) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_unpacks_within_its_bound_and_no_further() {
        let raw: Vec<u8> = (0..5_000u32).map(|n| (n / 7) as u8).collect();
        let mut writer = FrameWriter::new(3).unwrap();
        let frame = writer.frame(&raw).unwrap().to_vec();
        assert!(frame.len() < raw.len() / 2);
        let mut out = Vec::new();
        unpack(&frame, raw.len(), &mut out).unwrap();
        assert_eq!(out, raw);
        assert!(unpack(&frame, raw.len() - 1, &mut out).is_err());
        assert!(unpack(&frame[..frame.len() - 1], raw.len(), &mut out).is_err());
        assert!(unpack(&[], raw.len(), &mut out).is_err());
    }
}
