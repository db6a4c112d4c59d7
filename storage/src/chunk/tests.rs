use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use kymo_core::storage::ColumnValue;
use proptest::prelude::*;

use super::*;
use crate::frames::unpack;

fn histogram(n: u64, layout: bool) -> NativeHistogram {
    let buckets = if layout { vec![n, n / 2] } else { vec![] };
    let counts = if n.is_multiple_of(3) {
        let floats = buckets.iter().map(|b| *b as f64 * 0.5).collect();
        HistogramCounts::Float(BucketCounts { zero: -0.0, count: n as f64, positive: floats, negative: vec![] })
    } else {
        HistogramCounts::Integer(BucketCounts { zero: 1, count: n, positive: buckets, negative: vec![] })
    };
    NativeHistogram {
        schema: -4,
        hint: if layout { ResetHint::Gauge } else { ResetHint::Unknown },
        zero_threshold: 0.5,
        counts,
        sum: f64::from_bits(n),
        positive_spans: if layout { vec![BucketSpan { offset: i32::MIN, len: 2 }] } else { vec![] },
        negative_spans: vec![],
        custom_values: Arc::from(if layout { vec![] } else { vec![0.1, f64::NAN] }),
    }
}

#[derive(Debug, Clone)]
struct Given {
    /// Gap to the time before, start, kind, bits.
    samples: Vec<(i64, i64, u8, u64)>,
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    let len = 1..700usize;
    prop_oneof![
        // Counters, gauges with decimals, what changes now and then, measured floats, anything.
        (len.clone(), 0..1_000u64).prop_flat_map(|(len, step)| proptest::collection::vec(0..=step, len)).prop_map(
            |steps| steps
                .iter()
                .scan(0u64, |sum, s| {
                    *sum += s;
                    Some((*sum as f64).to_bits())
                })
                .collect()
        ),
        proptest::collection::vec((-50_000i64..50_000).prop_map(|n| (n as f64 / 100.0).to_bits()), len.clone()),
        proptest::collection::vec(prop_oneof![40 => Just(5u64), 1 => Just(6u64)], len.clone())
            .prop_map(|v| v.iter().map(|n| (*n as f64).to_bits()).collect()),
        proptest::collection::vec((0.0..1.0f64).prop_map(f64::to_bits), len.clone()),
        proptest::collection::vec(any::<u64>(), len.clone()),
        proptest::collection::vec(
            prop_oneof![
                20 => (0..100u64).prop_map(|n| (n as f64).to_bits()),
                1 => Just(f64::NAN.to_bits()), 1 => Just(0x7ff0_0000_0000_0002), 1 => Just((-0.0f64).to_bits()),
                1 => Just(f64::INFINITY.to_bits()), 1 => Just(f64::NEG_INFINITY.to_bits()),
            ],
            len
        ),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    let gap = prop_oneof![8 => Just(15_000i64), 1 => 1..20_000i64, 1 => 1..(1i64 << 40)];
    let start = prop_oneof![Just(0u8), Just(1u8), Just(2u8)];
    let kinds = prop_oneof![3 => Just(0u8), 1 => Just(1u8), 1 => Just(2u8)];
    (values(), kinds, start, any::<u64>()).prop_flat_map(move |(values, kinds, start, seed)| {
        let len = values.len();
        (Just(values), proptest::collection::vec(gap.clone(), len), Just((kinds, start, seed))).prop_map(
            |(values, gaps, (kinds, start, seed))| {
                let mut dice = seed;
                let samples = values.into_iter().zip(gaps).enumerate().map(|(n, (bits, gap))| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let kind = match (kinds, dice >> 60) {
                        (0, _) => 0,
                        (1, 0) => 1,
                        (_, 1) => 2,
                        (2, 2..=9) => 1,
                        _ => 0,
                    };
                    let start = match start {
                        0 => 0,
                        1 => 77 + n as i64 / 50,
                        _ => (dice >> 50) as i64,
                    };
                    (gap, start, kind, bits)
                });
                Given { samples: samples.collect() }
            },
        )
    })
}

fn columns(given: &Given) -> Columns {
    let mut columns = Columns::default();
    let mut time = -1_000_000;
    for &(gap, start, kind, bits) in &given.samples {
        time += gap;
        let h = histogram(bits, bits % 5 > 1);
        let value = match kind {
            0 => ColumnValue::Float(f64::from_bits(bits)),
            1 => ColumnValue::Histogram(&h),
            _ => ColumnValue::Stale,
        };
        columns.push(time, start, value);
    }
    columns
}

/// Every bit of every sample, as text.
fn list(columns: &Columns) -> Vec<(i64, i64, String)> {
    let start = |n: usize| columns.starts.get(n).copied().unwrap_or(0);
    let text = |value: ColumnValue<'_>| match value {
        ColumnValue::Float(v) => format!("{:x}", v.to_bits()),
        ColumnValue::Histogram(h) => {
            let mut bytes = Vec::new();
            crate::codec::put_histogram(&mut bytes, h);
            format!("{bytes:?}")
        }
        ColumnValue::Stale => "stale".to_owned(),
    };
    columns.iter().enumerate().map(|(n, (t, v))| (t, start(n), text(v))).collect()
}

fn read(payload: &[u8], times: &[i64], range: Range<usize>) -> Read<Columns> {
    let mut found = Columns::default();
    found.times.extend_from_slice(&times[range.clone()]);
    decode(payload, times, range, &mut found)?;
    Ok(found)
}

proptest! {
    #[test]
    fn every_bit_reads_back_in_any_range(given in given(), low in 0..700usize, high in 0..700usize) {
        let wanted = columns(&given);
        let mut encoder = ChunkEncoder::new().unwrap();
        for effort in [Effort::Fast, Effort::Small] {
            let mut payload = Vec::new();
            let encoding = encoder.encode(Samples::all(&wanted), effort, &mut payload);
            prop_assert_eq!(encoding_of(&payload), Ok(encoding));
            let count = wanted.times.len();
            let whole = read(&payload, &wanted.times, 0..count).unwrap();
            prop_assert_eq!(list(&whole), list(&wanted), "{:?} {:?}", effort, encoding);
            let range = low.min(high).min(count)..low.max(high).min(count);
            let part = read(&payload, &wanted.times, range.clone()).unwrap();
            prop_assert_eq!(list(&part), &list(&wanted)[range], "{:?} {:?}", effort, encoding);
            prop_assert_eq!(part.runs.iter().map(|r| r.len).sum::<usize>(), part.times.len());
        }
    }

    #[test]
    fn a_flipped_or_cut_chunk_is_an_error_or_a_bounded_run(given in given(), at in any::<usize>(), mask in 1..=255u8, cut in any::<usize>()) {
        let wanted = columns(&given);
        let count = wanted.times.len();
        let mut encoder = ChunkEncoder::new().unwrap();
        for effort in [Effort::Fast, Effort::Small] {
            let mut payload = Vec::new();
            encoder.encode(Samples::all(&wanted), effort, &mut payload);
            let short = &payload[..cut % payload.len()];
            let _ = read(short, &wanted.times, 0..count);
            let at = at % payload.len();
            payload[at] ^= mask;
            if let Ok(found) = read(&payload, &wanted.times, 0..count) {
                prop_assert_eq!(found.runs.iter().map(|r| r.len).sum::<usize>(), count);
                prop_assert_eq!(found.iter().count(), count);
            }
        }
    }
}

fn encoded(values: &[f64], effort: Effort) -> (Encoding, Vec<u8>) {
    let mut columns = Columns::default();
    for (n, value) in values.iter().enumerate() {
        columns.push(n as i64 * 15_000, 0, ColumnValue::Float(*value));
    }
    let mut payload = Vec::new();
    let encoding = ChunkEncoder::new().unwrap().encode(Samples::all(&columns), effort, &mut payload);
    (encoding, payload)
}

#[test]
fn each_class_of_series_meets_its_encoding() {
    let noise = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64;
    let series = |value: &dyn Fn(u64) -> f64| (0..480).map(value).collect::<Vec<f64>>();
    let both = |values: &[f64]| (encoded(values, Effort::Fast).0, encoded(values, Effort::Small).0);
    assert_eq!(both(&series(&|_| 3.5)), (Encoding::Constant, Encoding::Constant));
    assert_eq!(both(&series(&|n| (n / 100) as f64)), (Encoding::Runs, Encoding::Runs));
    assert_eq!(both(&series(&|n| n as f64 * 1e6 + noise(n))), (Encoding::Deltas, Encoding::Packed));
    assert_eq!(both(&series(&|n| if n % 9 == 0 { 7.0 } else { 8.0 })), (Encoding::Deltas, Encoding::DeltasFrame));
    assert_eq!(both(&series(&|n| noise(n).sqrt())), (Encoding::Xor, Encoding::PackedFloats));
}

#[test]
fn one_nan_does_not_make_floats_of_integers() {
    let plain: Vec<f64> = (0..480u64).map(|n| (n * n % 977) as f64).collect();
    let mut spoilt = plain.clone();
    spoilt[100] = f64::NAN;
    spoilt[101] = -0.0;
    for effort in [Effort::Fast, Effort::Small] {
        let ((encoding, bytes), (spoilt_encoding, spoilt_bytes)) = (encoded(&plain, effort), encoded(&spoilt, effort));
        assert_eq!(encoding, spoilt_encoding);
        assert!(spoilt_bytes.len() < bytes.len() + 40, "{} and {}", bytes.len(), spoilt_bytes.len());
    }
}

#[test]
fn the_page_s_worked_examples_are_what_is_written() {
    let page = include_str!("../../../docs/format/chunk.md");
    let mut columns = Columns::default();
    for (n, value) in [1.5, 1.75, 2.5, f64::NAN, 2.75].into_iter().enumerate() {
        columns.push(15_000 * n as i64, 1_000, ColumnValue::Float(value));
    }
    columns.push(75_000, 1_000, ColumnValue::Stale);
    let mut encoder = ChunkEncoder::new().unwrap();
    let mut bytes = Vec::new();
    encoder.encode(Samples::all(&columns), Effort::Fast, &mut bytes);
    assert_eq!(crate::format_page::example(page), bytes, "{}", crate::format_page::hex(&bytes));

    let mut columns = Columns::default();
    for n in 0..3u64 {
        let mut h = histogram(4, true);
        h.sum = n as f64;
        h.counts = HistogramCounts::Integer(BucketCounts {
            zero: 1,
            count: 3 + 2 * n,
            positive: vec![1 + n, 1 + n],
            negative: vec![],
        });
        columns.push(15_000 * n as i64, 0, ColumnValue::Histogram(&h));
    }
    let mut bytes = Vec::new();
    histograms::HistogramEncoder::new().unwrap().encode(&columns.histograms, &mut bytes);
    let mut raw = Vec::new();
    unpack(&bytes[1..], 1_000, &mut raw).unwrap();
    let (_, histograms) = page.split_once("## Histograms").unwrap();
    assert_eq!(crate::format_page::example(histograms), raw, "{}", crate::format_page::hex(&raw));
}
