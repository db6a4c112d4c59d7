//! Comparing and hashing short texts, such as label values, without a call.

/// Whether two texts are equal, word by word: label values are short, and calling a function costs more than it does.
#[inline(always)]
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    let len = a.len();
    if len != b.len() {
        return false;
    }
    // The last word overlaps the one before it.
    if let (Some(a_last), Some(b_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        let (mut a, mut b) = (a, b);
        while let (Some((a_word, a_rest)), Some((b_word, b_rest))) =
            (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
        {
            if a_word != b_word {
                return false;
            }
            (a, b) = (a_rest, b_rest);
        }
        return a_last == b_last;
    }
    match (a.first_chunk::<4>(), b.first_chunk::<4>(), a.last_chunk::<4>(), b.last_chunk::<4>()) {
        (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) => a_first == b_first && a_last == b_last,
        // Up to three bytes: the first, the middle and the last are all of them.
        _ => len == 0 || (a[0] == b[0] && a[len / 2] == b[len / 2] && a[len - 1] == b[len - 1]),
    }
}

#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// Mixes a label value into a hash.
///
/// Sixteen bytes at a time in one folded product, as wyhash and foldhash do; made here so that short values take no call.
/// `seeds` are random, so that who chooses label values cannot choose hashes.
#[inline(always)]
pub(crate) fn mix(hash: u64, value: &str, seeds: &[u64; 2]) -> u64 {
    let bytes = value.as_bytes();
    let len = bytes.len();
    let inner = if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let (mut inner, mut rest) = (0, bytes);
        while let Some((pair, after)) = rest.split_first_chunk::<16>().filter(|(_, after)| !after.is_empty()) {
            inner = fold(word(&pair[..8]) ^ seeds[1] ^ inner, word(&pair[8..]) ^ seeds[0]);
            rest = after;
        }
        // The last sixteen bytes, which may overlap those before; of fewer than sixteen the first word and the last.
        let low = bytes.last_chunk::<16>().map_or_else(|| word(first), |pair| word(&pair[..8]));
        fold(low ^ seeds[0] ^ inner, word(last) ^ seeds[1])
    } else {
        // With the length they are a number of their own already.
        short(bytes)
    };
    fold(hash ^ inner, seeds[0] ^ len as u64)
}

/// Up to seven bytes as a number; texts of one length and different bytes give different numbers.
#[inline(always)]
fn short(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32,
        _ => match bytes {
            [] => 0,
            [first, ..] => {
                u64::from(*first) | u64::from(bytes[bytes.len() / 2]) << 8 | u64::from(bytes[bytes.len() - 1]) << 16
            }
        },
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_equal_when_their_bytes_are(a in ".{0,40}", b in ".{0,40}", at in 0..40_usize) {
            prop_assert_eq!(equal(a.as_bytes(), b.as_bytes()), a == b);
            prop_assert!(equal(a.as_bytes(), a.clone().as_bytes()));
            let mut changed = a.clone().into_bytes();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1;
                prop_assert!(!equal(a.as_bytes(), &changed));
            }
        }
    }

    #[test]
    fn hashes_of_similar_values_differ() {
        let seeds = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
        let mut seen = std::collections::BTreeSet::new();
        let mut count = 0;
        for len in 0..60 {
            let value = "a".repeat(len);
            assert!(seen.insert(mix(1, &value, &seeds)), "{value}");
            count += 1;
            for at in 0..len {
                let mut changed = value.clone();
                changed.replace_range(at..=at, "b");
                assert!(seen.insert(mix(1, &changed, &seeds)), "{changed}");
                count += 1;
            }
        }
        // As evenly over the slots of a table as chance has it: some 37 of 100 slots are empty with one value each.
        let slots: std::collections::BTreeSet<u64> = seen.iter().map(|hash| hash & 1023).collect();
        assert!(count > 1024 && slots.len() > 800, "{} slots by {count} values", slots.len());
    }
}
