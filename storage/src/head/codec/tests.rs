use std::sync::Arc;

use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use kymo_core::storage::ColumnValue;
use proptest::prelude::*;

use super::*;

fn encoded(values: RunValues<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(values, &mut out);
    out
}

fn plain(bits: &[u64]) -> RunValues<'_> {
    RunValues { bits, starts: &[], histograms: &[] }
}

/// The samples at `kept`, behind one that was there before.
fn decoded(bytes: &[u8], count: usize, kept: Range<usize>) -> Read<Columns> {
    let mut columns = Columns::default();
    columns.push(-1, 0, ColumnValue::Float(0.5));
    columns.times.extend(kept.clone().map(|at| at as i64));
    decode(bytes, count, kept, &mut columns)?;
    Ok(columns)
}

fn bits_of(columns: &Columns) -> Vec<u64> {
    let bits = |value| match value {
        ColumnValue::Float(value) => f64::to_bits(value),
        ColumnValue::Stale => STALE_NAN_BITS,
        ColumnValue::Histogram(_) => 0,
    };
    columns.iter().skip(1).map(|(_, value)| bits(value)).collect()
}

fn round_trip(values: &[f64]) -> Vec<u8> {
    let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    let bytes = encoded(plain(&bits));
    let found = decoded(&bytes, bits.len(), 0..bits.len()).unwrap();
    assert_eq!(bits_of(&found), bits, "{values:?}");
    bytes
}

#[test]
fn the_smallest_encoding_is_chosen_and_named_by_the_first_byte() {
    type Case = (&'static str, u8, usize, fn(usize) -> f64);
    let cases: [Case; 10] = [
        ("constant", 2, 4, |_| 7.0),
        ("NaN throughout", 1, 9, |_| f64::NAN),
        ("stale throughout", 1, 9, |_| f64::from_bits(STALE_NAN_BITS)),
        ("constant that is no decimal", 1, 9, |_| 1e300),
        ("a gauge that moves twice", 3, 9, |n| if n < 20 { 1.0 } else { (n / 50) as f64 }),
        ("a steady counter", 6, 8, |n| 100.0 + 15.0 * n as f64),
        ("a counter with small steps", 6, 30, |n| (n * 3 + n * n % 3) as f64),
        ("decimals", 6, 44, |n| 0.01 * (n * 7 % 20) as f64),
        ("multiples of a page", 6, 70, |n| 4_096.0 * (1_000_000 + n * 37 % 100) as f64),
        ("floats", 7, 500, |n| (n as f64).sin()),
    ];
    for (name, encoding, most, value) in cases {
        let values: Vec<f64> = (0..RUN_SAMPLES)
            .map(value)
            .map(|v| if name == "decimals" { (v * 100.0).round() / 100.0 } else { v })
            .collect();
        let bytes = round_trip(&values);
        assert_eq!(bytes[0], encoding, "{name}: {} bytes", bytes.len());
        assert!(bytes.len() <= most, "{name}: {} bytes", bytes.len());
    }
}

#[test]
fn one_marker_does_not_turn_integers_into_floats() {
    let mut values: Vec<f64> = (0..RUN_SAMPLES).map(|n| n as f64).collect();
    let without = round_trip(&values).len();
    for odd in [f64::from_bits(STALE_NAN_BITS), f64::INFINITY, f64::NEG_INFINITY, -0.0] {
        values[17] = odd;
        let bytes = round_trip(&values);
        assert_eq!(bytes[0] & ENCODING, 6, "{odd}");
        assert!(bytes.len() <= without + 5, "{odd}: {} bytes instead of {without}", bytes.len());
    }
    values[17] = f64::from_bits(0x7ff8_dead_beef_0001);
    assert!(round_trip(&values).len() <= without + 15);
}

#[test]
fn a_run_of_nothing_but_exceptions_survives() {
    round_trip(&[f64::from_bits(STALE_NAN_BITS); 3]);
    round_trip(&[-0.0, f64::NAN, f64::NEG_INFINITY]);
}

fn histogram(n: u64, buckets: usize) -> NativeHistogram {
    let positive = (0..buckets as u64).map(|bucket| n * bucket).collect();
    NativeHistogram {
        schema: 3,
        hint: if n.is_multiple_of(2) { ResetHint::Unknown } else { ResetHint::Gauge },
        zero_threshold: 1e-9,
        counts: HistogramCounts::Integer(BucketCounts { zero: n, count: 100 * n, positive, negative: vec![] }),
        sum: n as f64 / 3.0,
        positive_spans: vec![BucketSpan { offset: -2, len: buckets as u32 }],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    }
}

#[test]
fn histograms_starts_floats_and_markers_share_a_run() {
    let histograms: Vec<(u8, Arc<NativeHistogram>)> = [(1u8, 4, 3), (2, 5, 3), (3, 9, 2), (6, 10, 2)]
        .map(|(at, n, buckets)| (at, Arc::new(histogram(n, buckets))))
        .to_vec();
    let bits = [1.5f64.to_bits(), 0, 0, 0, STALE_NAN_BITS, 2.5f64.to_bits(), 0];
    let starts = [0, 5, 5, 5, 0, -7, i64::MAX];
    let bytes = encoded(RunValues { bits: &bits, starts: &starts, histograms: &histograms });
    for low in 0..bits.len() {
        for high in low..=bits.len() {
            let found = decoded(&bytes, bits.len(), low..high).unwrap();
            assert_eq!(found.starts[1..], starts[low..high], "{low}..{high}");
            for (at, (_, value)) in (low..high).zip(found.iter().skip(1)) {
                let wanted = histograms.iter().find(|(position, _)| usize::from(*position) == at);
                let same = match value {
                    ColumnValue::Histogram(h) => wanted.is_some_and(|(_, wanted)| wanted.same_bits(h)),
                    ColumnValue::Float(v) => v.to_bits() == bits[at],
                    ColumnValue::Stale => bits[at] == STALE_NAN_BITS,
                };
                assert!(same, "{low}..{high}, position {at}: {value:?}");
            }
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused_or_bounded() {
    let histograms = [(2u8, Arc::new(histogram(3, 4))), (3, Arc::new(histogram(4, 4)))];
    let bits = [1.5f64.to_bits(), f64::NAN.to_bits(), 0, 0, STALE_NAN_BITS];
    let bytes = encoded(RunValues { bits: &bits, starts: &[1, 2, 3, 4, 5], histograms: &histograms });
    for cut in 0..bytes.len() {
        assert!(decoded(&bytes[..cut], bits.len(), 0..bits.len()).is_err(), "cut at {cut}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = decoded(&flipped, bits.len(), 0..bits.len()) {
            assert_eq!(found.iter().count(), bits.len() + 1);
        }
    }
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (-1_000i64..1_000).prop_map(|n| (n as f64).to_bits()),
        3 => (-100_000i64..100_000).prop_map(|n| (n as f64 / 1_000.0).to_bits()),
        1 => any::<u64>(),
        1 => (any::<i64>()).prop_map(|n| (n as f64).to_bits()),
        1 => prop::sample::select(vec![STALE_NAN_BITS, f64::INFINITY.to_bits(), (-0.0f64).to_bits(), f64::MIN_POSITIVE.to_bits(), 1, 9_007_199_254_740_993f64.to_bits()]),
    ]
}

proptest! {
    #[test]
    fn every_bit_of_every_value_survives(bits in prop::collection::vec(any_value(), 1..=RUN_SAMPLES), cut in any::<(usize, usize)>()) {
        let bytes = encoded(plain(&bits));
        let (a, b) = (cut.0 % (bits.len() + 1), cut.1 % (bits.len() + 1));
        let kept = a.min(b)..a.max(b);
        prop_assert_eq!(bits_of(&decoded(&bytes, bits.len(), kept.clone()).unwrap()), &bits[kept]);
    }

    #[test]
    fn walks_survive_and_stay_small(first in -1_000_000i64..1_000_000, steps in prop::collection::vec(0i64..200, RUN_SAMPLES - 1), scale in 0..6i32) {
        let mut value = first;
        let mut bits = vec![(value as f64 / 10f64.powi(scale)).to_bits()];
        for step in steps {
            value += step;
            bits.push((value as f64 / 10f64.powi(scale)).to_bits());
        }
        let bytes = encoded(plain(&bits));
        prop_assert_eq!(bits_of(&decoded(&bytes, bits.len(), 0..bits.len()).unwrap()), &bits[..]);
        prop_assert!(bytes.len() <= 70, "{} bytes", bytes.len());
    }

    #[test]
    fn any_bytes_are_refused_or_bounded(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 1..=RUN_SAMPLES) {
        if let Ok(found) = decoded(&bytes, count, 0..count) {
            prop_assert_eq!(found.iter().count(), count + 1);
        }
    }

    #[test]
    fn times_survive(first in any::<i64>(), steps in prop::collection::vec(prop_oneof![14_000u64..16_000, 1u64..1 << 40], 0..RUN_SAMPLES)) {
        let mut times = vec![first];
        for step in steps {
            let last = times[times.len() - 1];
            times.extend(last.checked_add(step as i64));
        }
        let mut bytes = Vec::new();
        let width = times::encode(&times, &mut bytes);
        let mut found = vec![0; times.len()];
        times::decode(&bytes, first, width, &mut found).unwrap();
        prop_assert_eq!(found, times);
    }

    #[test]
    fn any_bytes_are_no_times_or_rising_ones(bytes in prop::collection::vec(any::<u8>(), 0..80), width in 0..9u8, count in 1..=RUN_SAMPLES) {
        let mut found = vec![0; count];
        if times::decode(&bytes, -5, width, &mut found).is_ok() {
            prop_assert!(found.is_sorted() && found[0] == -5);
        }
    }
}
