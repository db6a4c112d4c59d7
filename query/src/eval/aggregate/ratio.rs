//! Where a label set lies in `[0, 1]`, for `limit_ratio`.
//!
//! As Prometheus: XXH64 of the label set's packed form, over the largest `u64`. Upstream's packed form
//! has one length byte for lengths below 255 and 255 with three little-endian bytes above.

use kymo_core::Labels;
use xxhash_rust::xxh64::Xxh64;

/// The offset of a label set.
pub(super) fn sample_offset(labels: &Labels) -> f64 {
    let mut hash = Xxh64::new(0);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < u8::MAX => hash.update(&[len]),
            _ => {
                let [a, b, c, ..] = (text.len() as u32).to_le_bytes();
                hash.update(&[u8::MAX, a, b, c]);
            }
        }
        hash.update(text.as_bytes());
    }
    hash.digest() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_that_of_the_packed_bytes() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
        let packed = b"\x08__name__\x02up\x03job\x04node";
        let expected = xxhash_rust::xxh64::xxh64(packed, 0) as f64 / u64::MAX as f64;
        assert_eq!(sample_offset(&labels), expected);
        let long = Labels::from_pairs([("a", "x".repeat(300))]);
        assert!((0.0..=1.0).contains(&sample_offset(&long)));
    }
}
