use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use proptest::prelude::*;

use super::*;

fn histogram(n: u64) -> NativeHistogram {
    NativeHistogram {
        schema: -4,
        hint: ResetHint::Gauge,
        zero_threshold: 0.5,
        counts: HistogramCounts::Integer(BucketCounts { zero: 1, count: n + 1, positive: vec![n], negative: vec![] }),
        sum: f64::from_bits(n),
        positive_spans: vec![BucketSpan { offset: i32::MIN, len: 1 }],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    }
}

fn samples() -> impl Strategy<Value = Vec<(i64, i64, u8, u64)>> {
    let value = prop_oneof![any::<u64>(), (0..1_000u64).prop_map(|n| (n as f64).to_bits()), Just(f64::NAN.to_bits())];
    let time = prop_oneof![4 => 1..20_000i64, 1 => 1..(1i64 << 40)];
    let start = prop_oneof![3 => Just(0i64), 1 => any::<i64>()];
    proptest::collection::vec((time, start, prop_oneof![8 => Just(0u8), 1 => Just(1), 1 => Just(2)], value), 1..200)
}

fn columns(samples: &[(i64, i64, u8, u64)]) -> Columns {
    let mut columns = Columns::default();
    let mut time = -1_000_000;
    for &(gap, start, kind, bits) in samples {
        time += gap;
        let h = histogram(bits);
        let value = match kind {
            0 => ColumnValue::Float(f64::from_bits(bits)),
            1 => ColumnValue::Histogram(&h),
            _ => ColumnValue::Stale,
        };
        columns.push(time, start, value);
    }
    columns
}

fn list(columns: &Columns) -> Vec<(i64, i64, String)> {
    let start = |n: usize| columns.starts.get(n).copied().unwrap_or(0);
    let text = |value: ColumnValue<'_>| match value {
        ColumnValue::Float(v) => format!("{:x}", v.to_bits()),
        ColumnValue::Histogram(h) => format!("{h:?}"),
        ColumnValue::Stale => "stale".to_owned(),
    };
    columns.iter().enumerate().map(|(n, (t, v))| (t, start(n), text(v))).collect()
}

proptest! {
    #[test]
    fn every_bit_reads_back_in_any_window(samples in samples(), low in 0..200usize, high in 0..200usize) {
        let wanted = columns(&samples);
        let mut bytes = Vec::new();
        encode(&wanted, &mut bytes);
        let mut found = Columns::default();
        decode(&bytes, i64::MIN, i64::MAX, &mut found).unwrap();
        prop_assert_eq!(list(&found), list(&wanted));
        let edge = |n: usize| wanted.times.get(n).copied().unwrap_or(i64::MAX - 1);
        let (start, end) = (edge(low) - 1, edge(high));
        let mut found = Columns::default();
        decode(&bytes, start, end, &mut found).unwrap();
        let mut inside = list(&wanted);
        inside.retain(|s| s.0 > start && s.0 <= end);
        prop_assert_eq!(list(&found), inside);
        let runs: usize = found.runs.iter().map(|r| r.len).sum();
        prop_assert_eq!(runs, found.times.len());
    }

    #[test]
    fn a_flipped_or_cut_chunk_is_an_error_or_a_bounded_run(samples in samples(), at in any::<usize>(), mask in 1..=255u8, cut in any::<usize>()) {
        let mut bytes = Vec::new();
        encode(&columns(&samples), &mut bytes);
        let mut found = Columns::default();
        prop_assert!(decode(&bytes[..cut % bytes.len()], i64::MIN, i64::MAX, &mut found).is_err());
        let at = at % bytes.len();
        bytes[at] ^= mask;
        let mut found = Columns::default();
        if decode(&bytes, i64::MIN, i64::MAX, &mut found).is_ok() {
            prop_assert!(found.times.len() <= CHUNK_SAMPLES_MAX);
            prop_assert!(found.times.windows(2).all(|w| w[0] < w[1]));
        }
    }
}

#[test]
fn chunks_are_appended_behind_each_other() {
    let mut bytes = [Vec::new(), Vec::new()];
    let (mut first, mut second) = (Columns::default(), Columns::default());
    first.push(10, 0, ColumnValue::Float(1.0));
    second.push(20, 7, ColumnValue::Float(2.0));
    second.push(30, 0, ColumnValue::Stale);
    encode(&first, &mut bytes[0]);
    encode(&second, &mut bytes[1]);
    let mut found = Columns::default();
    decode(&bytes[0], i64::MIN, i64::MAX, &mut found).unwrap();
    decode(&bytes[1], i64::MIN, i64::MAX, &mut found).unwrap();
    assert_eq!((found.times.as_slice(), found.starts.as_slice()), ([10, 20, 30].as_slice(), [0, 7, 0].as_slice()));
    assert_eq!(found.runs, [Run { kind: RunKind::Float, len: 2 }, Run { kind: RunKind::Stale, len: 1 }]);
    assert_eq!(decode(&bytes[0], i64::MIN, i64::MAX, &mut found).unwrap_err().what, "timestamps do not rise");
}

#[test]
fn the_page_s_worked_example_is_what_is_written() {
    let mut columns = Columns::default();
    for (time, value) in [(1_700_000_000_000, 1.0), (1_700_000_015_000, 1.0), (1_700_000_030_001, 2.5)] {
        columns.push(time, 0, ColumnValue::Float(value));
    }
    columns.push(1_700_000_045_000, 0, ColumnValue::Stale);
    let mut bytes = Vec::new();
    encode(&columns, &mut bytes);
    let page = include_str!("../../../docs/format/chunk.md");
    assert_eq!(crate::format_page::example(page), bytes, "{}", crate::format_page::hex(&bytes));
}
