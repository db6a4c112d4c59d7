//! Comparing and hashing short texts, such as label values, without a call.

/// Bytes compared, or mixed into a hash, at a time.
const BLOCK: usize = 16;

/// Whether two texts are equal, sixteen bytes at a time: label values are short, and calling a function costs more than it
/// does.
#[inline(always)]
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    let len = a.len();
    if len != b.len() {
        return false;
    }
    // The last block overlaps the one before it, and so does the last word of less than a block.
    if len > BLOCK {
        let (mut a_rest, mut b_rest) = (a, b);
        while let (Some((a_block, a_after)), Some((b_block, b_after))) =
            (a_rest.split_first_chunk::<BLOCK>(), b_rest.split_first_chunk::<BLOCK>())
        {
            if a_block != b_block {
                return false;
            }
            (a_rest, b_rest) = (a_after, b_after);
        }
        return a.last_chunk::<BLOCK>() == b.last_chunk::<BLOCK>();
    }
    if let (Some(a_first), Some(b_first)) = (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        return a_first == b_first && a.last_chunk::<8>() == b.last_chunk::<8>();
    }
    if let (Some(a_first), Some(b_first)) = (a.first_chunk::<4>(), b.first_chunk::<4>()) {
        return a_first == b_first && a.last_chunk::<4>() == b.last_chunk::<4>();
    }
    if let (Some(a_first), Some(b_first)) = (a.first_chunk::<2>(), b.first_chunk::<2>()) {
        return a_first == b_first && a.last_chunk::<2>() == b.last_chunk::<2>();
    }
    a.first() == b.first()
}

/// The hash of texts in their order.
///
/// Sixteen bytes at a time in one folded product, as wyhash and foldhash do; made here so that short values take no call.
/// `seeds` are random, so that who chooses label values cannot choose hashes.
#[inline(always)]
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>, seeds: &[u64; 2]) -> u64 {
    let mixed = texts.into_iter().fold(seeds[0], |hash, text| mix(hash, text, seeds));
    // One product more, as texts that differ in their last bytes alone differ in few bits of the last one's factor: with some
    // seeds they would come to lie side by side.
    fold(mixed, seeds[0])
}

/// Mixes a text into a hash. Its length turns the hash so far, which nobody outside knows: what that does cannot be made up for
/// by bytes.
#[inline(always)]
fn mix(hash: u64, value: &str, seeds: &[u64; 2]) -> u64 {
    let bytes = value.as_bytes();
    let mut hash = hash.rotate_right(bytes.len() as u32);
    let (low, high) = match bytes.last_chunk::<BLOCK>() {
        Some(last) => {
            // The last sixteen bytes may overlap those before, but are not the same.
            let mut rest = bytes;
            while let Some((block, after)) = rest.split_first_chunk::<BLOCK>().filter(|(_, after)| !after.is_empty()) {
                hash = fold(hash ^ word(block), seeds[1] ^ word(&block[8..]));
                rest = after;
            }
            (word(last), word(&last[8..]))
        }
        None => up_to_fifteen(bytes),
    };
    fold(hash ^ low, seeds[1] ^ high)
}

/// Less than sixteen bytes as two numbers; texts of one length and different bytes give different ones.
#[inline(always)]
fn up_to_fifteen(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into());
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u16::from_le_bytes(*first).into(), u16::from_le_bytes(*last).into());
    }
    (bytes.first().copied().unwrap_or_default().into(), 0)
}

#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
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
    use crate::random::{Random, SeededRandom};

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
        for seed in 0..8 {
            let random = SeededRandom::new(seed);
            let seeds = [random.next_u64(), random.next_u64()];
            let mut seen = std::collections::BTreeSet::new();
            let mut count = 0;
            let mut see = |value: &str| {
                for texts in [&[value][..], &[value, "GET"], &["GET", value]] {
                    assert!(seen.insert(hash(texts.iter().copied(), &seeds)), "{seed}: {texts:?}");
                    count += 1;
                }
            };
            for len in 0..70 {
                let value = "a".repeat(len);
                see(&value);
                for at in 0..len {
                    let mut changed = value.clone();
                    changed.replace_range(at..=at, "b");
                    see(&changed);
                }
            }
            // As evenly over the slots of a table, and over marks, as chance has it: of as many slots as values some 37 of 100
            // are empty.
            let slots: std::collections::BTreeSet<u64> = seen.iter().map(|hash| hash & 8191).collect();
            assert!(count > 7_000 && slots.len() > 4_600, "{seed}: {} slots by {count} values", slots.len());
            for mark in 0..8 {
                let marked = seen.iter().filter(|hash| **hash >> 61 == mark).count();
                assert!((count / 10..count / 6).contains(&marked), "{seed}: {marked} of {count} have mark {mark}");
            }
        }
    }

    /// Whatever the seeds are: numbers at the end of a text, as paths have them, in a table that is half full.
    #[test]
    fn series_that_are_counted_through_do_not_stand_in_each_others_way() {
        const SLOTS: usize = 128;
        let texts: Vec<String> = (0..SLOTS / 2).map(|n| format!("/api/v1/resource/{n}")).collect();
        for seed in 0..500 {
            let random = SeededRandom::new(seed);
            let seeds = [random.next_u64(), random.next_u64()];
            let mut is_used = [false; SLOTS];
            let mut steps = 0;
            for text in &texts {
                let start = hash(["GET", text], &seeds) as usize;
                let free = (0..SLOTS).find(|step| !is_used[(start + step) % SLOTS]).unwrap();
                is_used[(start + free) % SLOTS] = true;
                steps += free;
            }
            // Half a step each is what chance has; the mean of 64 hardly ever reaches two.
            assert!(steps < 3 * texts.len(), "{seed}: {steps} steps beyond the first slot");
        }
    }
}
