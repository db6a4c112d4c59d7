//! Arbitrary, cut and flipped bytes: an answer, never a panic, never memory that the bytes do not account for.

use kymo_core::Budget;
use kymo_ingest::remote_write::{RemoteWriteConfig, Version};
use proptest::prelude::*;
use prost::Message;

use crate::oracle;
use crate::support::Door;
use crate::wire::compress;

/// A receiver with small limits, whose memory is looked at after each request.
fn door() -> Door {
    Door::with(RemoteWriteConfig { scratch_max: 0, ..RemoteWriteConfig::default() }, Budget::root("process", 64 << 20))
}

fn feed(door: &Door, bytes: &[u8]) -> Result<(), TestCaseError> {
    for version in [Version::V1, Version::V2] {
        let before = door.received();
        let result = door.write(version, bytes);
        let after = door.received();
        prop_assert_eq!(after.received, after.stored + after.identical + after.replaced + after.rejected);
        if let Ok(outcome) = result {
            let written = outcome.written.samples + outcome.written.histograms;
            let refused: u64 = outcome.refusals.iter().map(|r| r.refused.samples + r.refused.histograms).sum();
            prop_assert_eq!(after.received - before.received, written + refused);
        }
    }
    let (_, cached) = door.receiver.cached_series();
    prop_assert!(door.budget.used() <= cached + (128 << 10), "{} held beside {cached}", door.budget.used());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let door = door();
        feed(&door, &bytes)?;
        feed(&door, &compress(&bytes))?;
    }

    #[test]
    fn cut_and_flipped_requests_are_answered(
        request in oracle::requests(),
        cut in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
    ) {
        let door = door();
        let whole = if request.is_v1 { request.v1().encode_to_vec() } else { request.v2().encode_to_vec() };
        // First sound, so that damage meets a warm cache.
        feed(&door, &compress(&whole))?;
        feed(&door, &compress(&whole[..cut.index(whole.len() + 1)]))?;
        let mut flipped = whole.clone();
        let mut packed = compress(&whole);
        for (at, bit) in flips {
            if !flipped.is_empty() {
                let at = at.index(flipped.len());
                flipped[at] ^= 1 << bit;
            }
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
        }
        feed(&door, &compress(&flipped))?;
        feed(&door, &packed)?;
    }
}
