//! Compressed bodies, unpacked up to a limit.

use std::io::{self, Read};

use bytes::Bytes;
use kymo_core::Reservation;

use super::error::ExportError;

/// Largest window of a zstd frame, as a power of two: 8 MiB, which the format's RFC 8878 asks every decoder to support.
/// A frame may claim far more, and the decoder would allocate it.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What decoders allocate for themselves, at most.
const DECODER_BYTES: u64 = (1 << ZSTD_WINDOW_LOG_MAX) + (1 << 20);
/// The first buffer of the unpacked body.
const FIRST_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// gzip, of one or more members.
    Gzip,
    /// zstd, of one or more frames.
    Zstd,
}

impl Coding {
    /// The names in `Content-Encoding` and `grpc-encoding`, for a list of what is accepted.
    pub(super) const ACCEPTED: &'static str = "identity,gzip,zstd";

    /// The name in `Content-Encoding` and `grpc-encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }

    /// From a name in a header; an empty one is the identity.
    #[must_use]
    pub fn parse(name: &str) -> Option<Coding> {
        match name.trim() {
            "" => Some(Coding::Identity),
            name if name.eq_ignore_ascii_case("identity") => Some(Coding::Identity),
            name if name.eq_ignore_ascii_case("gzip") => Some(Coding::Gzip),
            name if name.eq_ignore_ascii_case("zstd") => Some(Coding::Zstd),
            _ => None,
        }
    }

    /// Unpacks a body. Never makes more than `max` bytes, and reserves them in `held` before they are allocated.
    pub(super) fn decode(self, body: Bytes, max: usize, held: &mut Reservation) -> Result<Bytes, ExportError> {
        let source = |source| ExportError::Decompress { coding: self, source };
        match self {
            Coding::Identity if body.len() <= max => Ok(body),
            Coding::Identity => Err(too_large(max, body.len())),
            Coding::Gzip => {
                held.grow(DECODER_BYTES)?;
                let unpacked = read_up_to(flate2::bufread::MultiGzDecoder::new(&body[..]), max, held, source);
                held.shrink(DECODER_BYTES);
                unpacked
            }
            Coding::Zstd => {
                held.grow(DECODER_BYTES)?;
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(source)?;
                let unpacked = read_up_to(decoder, max, held, source);
                held.shrink(DECODER_BYTES);
                unpacked
            }
        }
    }
}

fn too_large(max: usize, found: usize) -> ExportError {
    ExportError::TooLarge { limit: "decompressed_bytes_max", max: max as u64, found: found as u64 }
}

fn read_up_to(
    mut unpacked: impl Read,
    max: usize,
    held: &mut Reservation,
    failed: impl Fn(io::Error) -> ExportError,
) -> Result<Bytes, ExportError> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut len = 0;
    loop {
        if len == bytes.len() {
            // One byte more than the limit, to see that there is one.
            let grown = (2 * len).max(FIRST_BYTES).min(max.saturating_add(1));
            if grown == len {
                return Err(too_large(max, len));
            }
            held.grow((grown - len) as u64)?;
            bytes.resize(grown, 0);
        }
        match unpacked.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if len > max {
        return Err(too_large(max, len));
    }
    bytes.truncate(len);
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use kymo_core::Budget;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(coding: Coding, body: Vec<u8>, max: usize, budget: &Budget) -> Result<Bytes, ExportError> {
        coding.decode(Bytes::from(body), max, &mut budget.try_reserve(0).unwrap())
    }

    #[test]
    fn what_fits_is_unpacked_and_one_byte_more_is_too_large() {
        let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 3).unwrap();
        for len in [0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, 200_000] {
            let plain: Vec<u8> = (0..len).map(|n| (n * n) as u8).collect();
            for (coding, body) in
                [(Coding::Identity, plain.clone()), (Coding::Gzip, gzip(&plain)), (Coding::Zstd, zstd(&plain))]
            {
                let whole = decode(coding, body.clone(), len, &Budget::unlimited());
                assert_eq!(whole.unwrap(), plain, "{coding:?} {len}");
                if len > 0 {
                    let error = decode(coding, body, len - 1, &Budget::unlimited()).unwrap_err();
                    assert!(matches!(error, ExportError::TooLarge { .. }), "{coding:?} {len}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_budget_has() {
        let bomb = gzip(&vec![0; 32 << 20]);
        let budget = Budget::root("process", 16 << 20);
        let error = decode(Coding::Gzip, bomb, 64 << 20, &budget).unwrap_err();
        assert!(matches!(error, ExportError::Budget(_)), "{error}");
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_frame_with_an_enormous_window_is_refused() {
        // Magic, no content size, a window of 2^(10 + 31) bytes; then a last, empty raw block.
        let frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3, 0x01, 0x00, 0x00];
        let error = decode(Coding::Zstd, frame, 1 << 20, &Budget::unlimited()).unwrap_err();
        assert!(matches!(error, ExportError::Decompress { .. }), "{error}");
    }

    #[test]
    fn several_members_are_one_body_and_skipped_frames_are_none() {
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode(Coding::Gzip, two, 100, &Budget::unlimited()).unwrap(), "one two");
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4].repeat(1_000);
        assert_eq!(decode(Coding::Zstd, skipped, 100, &Budget::unlimited()).unwrap(), "");
    }

    #[test]
    fn truncated_and_flipped_bodies_are_errors() {
        let mut body = gzip(b"some text that is long enough");
        let cut = body[..body.len() - 1].to_vec();
        assert!(matches!(
            decode(Coding::Gzip, cut, 1_000, &Budget::unlimited()),
            Err(ExportError::Decompress { coding: Coding::Gzip, .. })
        ));
        let last = body.len() - 5;
        body[last] ^= 1;
        assert!(decode(Coding::Gzip, body, 1_000, &Budget::unlimited()).is_err());
        assert!(decode(Coding::Zstd, b"not zstd".to_vec(), 1_000, &Budget::unlimited()).is_err());
    }
}
