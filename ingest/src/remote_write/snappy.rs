//! Unpacking a snappy block into a buffer that is used again.

use super::config::BODY_BYTES_CAP;
use super::error::WriteError;
use super::meter::Meter;

/// Replaces `body` by the unpacked `compressed`.
///
/// The length that the block claims is checked against `bytes_max` and reserved before anything is allocated.
pub(super) fn decompress(
    compressed: &[u8],
    bytes_max: usize,
    body: &mut Vec<u8>,
    meter: &mut Meter,
) -> Result<(), WriteError> {
    let max = bytes_max.min(BODY_BYTES_CAP);
    let len = snap::raw::decompress_len(compressed).map_err(|source| WriteError::Snappy { source })?;
    if len > max {
        return Err(WriteError::TooLarge { limit: "decompressed_bytes_max", max: max as u64, found: len as u64 });
    }
    meter.take(len)?;
    // What the buffer held before is overwritten by the decoder, so it is not cleared first.
    body.truncate(len);
    body.resize(len, 0);
    snap::raw::Decoder::new().decompress(compressed, body).map_err(|source| WriteError::Snappy { source })?;
    Ok(())
}
