use std::collections::BTreeMap;

use kymo_core::batch::AddedValue;
use kymo_core::{Labels, NativeHistogram};
use proptest::prelude::*;

use super::*;
use crate::format_page;

const NOW_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;

fn labels(number: u32) -> Labels {
    Labels::from_pairs([("__name__", "requests_total".to_owned()), ("n", number.to_string())])
}

fn increment(writer: u64, start_ms: i64, end_ms: i64, value: f64) -> Added {
    Added::Increment(Increment { writer, start_ms, end_ms, value: AddedValue::Float(value) })
}

fn total(writer: u64, start_ms: i64, time_ms: i64, value: f64) -> Added {
    Added::Total { total: Total { writer, start_ms, value: AddedValue::Float(value) }, time_ms }
}

fn kept(increments: &Increments) -> Vec<u8> {
    let all: BTreeMap<u32, Labels> = increments.iter().map(|(number, _)| (number, labels(number))).collect();
    encode(increments.iter().map(|(number, totals)| (&all[&number], totals)))
}

fn brought_back(bytes: &[u8]) -> Increments {
    let mut increments = Increments::default();
    decode(bytes, |labels, totals| {
        let number = labels.get("n").and_then(|text| text.parse().ok()).unwrap();
        increments.restore(number, totals, 0);
    })
    .unwrap();
    increments
}

/// Two series of a writer each: of increments, and of a cumulative total.
fn sample() -> Increments {
    let mut increments = Increments::default();
    let (minute, now) = (MINUTE_MS, NOW_MS);
    for (series, row) in [
        (1, increment(7, now, now + minute, 3.0)),
        (1, increment(7, now + minute, now + 2 * minute, 4.0)),
        (2, total(9, now, now + minute, 2.0)),
    ] {
        assert!(increments.apply(series, &row, !increments.has(series), now).unwrap().is_some());
    }
    increments
}

/// [`sample`], and an increment of writer 7 that was refused.
fn sample_with_overlap() -> Increments {
    let mut increments = sample();
    let overlapping = increment(7, NOW_MS - MINUTE_MS / 2, NOW_MS + MINUTE_MS / 2, 1.0);
    assert!(matches!(increments.apply(1, &overlapping, false, NOW_MS), Err(RejectReason::OverlappingIncrement)));
    increments
}

#[test]
fn the_page_s_worked_example_is_what_is_written() {
    let page = include_str!("../../../docs/format/totals.md");
    let bytes = kept(&sample_with_overlap());
    assert_eq!(format_page::example(page), bytes, "{}", format_page::hex(&bytes));
}

#[test]
fn overlaps_are_there_after_a_start() {
    let shared = brought_back(&kept(&sample_with_overlap())).shared(&[1, 2]).unwrap();
    assert_eq!((shared.series, shared.gaps, shared.overlaps), (0, 0, 1));
}

/// A file of version 1, as it was written then: the same as [`sample`].
#[test]
fn version_1_is_read_and_has_no_overlaps() {
    let bytes = include_bytes!("../../testdata/totals/v1_two_series.totals");
    assert_eq!(kept(&brought_back(bytes)), kept(&sample()));
    let mut with_overlap = kept(&sample_with_overlap());
    let body = with_overlap.len() - 4;
    with_overlap[8] = 1;
    let checksum = crc32fast::hash(&with_overlap[..body]);
    with_overlap[body..].copy_from_slice(&checksum.to_le_bytes());
    let fault = decode(&with_overlap, |_, _| {}).unwrap_err();
    assert_eq!(fault.what, "unknown flag", "version 1 had no such field");
}

#[test]
fn every_flip_and_cut_is_noticed() {
    let bytes = kept(&sample_with_overlap());
    for at in 0..bytes.len() {
        assert!(decode(&bytes[..at], |_, _| {}).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(decode(&bad, |_, _| {}).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn what_is_idle_is_forgotten_and_begins_anew_where_the_log_says_so() {
    let mut increments = sample();
    let now = NOW_MS + FORGET_AFTER_MS;
    assert_eq!((increments.writers(), increments.has(1)), (2, true));
    assert!(increments.apply(2, &total(9, 0, now, 5.0), false, now).is_err(), "began before what it said last");
    increments.forget_idle(now);
    assert_eq!((increments.writers(), increments.has(1), increments.has(2)), (1, false, true));
    assert!(increments.bytes() < 2_000);
    // A replay may still have the table; the frame says that it was gone.
    let mut replayed = sample();
    for table in [&mut increments, &mut replayed] {
        let found = table.apply(1, &increment(7, now, now + 1_000, 1.0), true, now).unwrap().unwrap();
        assert!(matches!(found.value, AddedValue::Float(value) if value == 1.0), "{found:?}");
    }
}

proptest! {
    #[test]
    fn a_table_that_was_kept_goes_on_as_if_it_had_not_been(
        before in proptest::collection::vec((0..3u32, 0..3u64, 0..50i64, 0..4i64, 1..9u8, any::<bool>()), 0..120),
        after in proptest::collection::vec((0..3u32, 0..3u64, 0..50i64, 0..4i64, 1..9u8, any::<bool>()), 0..40)
    ) {
        let apply = |increments: &mut Increments, rows: &[(u32, u64, i64, i64, u8, bool)]| -> Vec<String> {
            let row = |&(series, writer, start, length, value, is_total): &(u32, u64, i64, i64, u8, bool)| {
                let value = f64::from(value);
                let row = if is_total {
                    total(writer, start, start + length, value)
                } else {
                    increment(writer, start, start + length, value)
                };
                format!("{:?}", increments.apply(series, &row, false, 0))
            };
            rows.iter().map(row).collect()
        };
        let mut first = Increments::default();
        apply(&mut first, &before);
        let bytes = kept(&first);
        let mut second = brought_back(&bytes);
        prop_assert_eq!(&kept(&second), &bytes);
        prop_assert_eq!(second.writers(), first.writers());
        prop_assert_eq!(apply(&mut second, &after), apply(&mut first, &after));
    }

    #[test]
    fn any_bytes_are_totals_or_an_error_without_great_allocation(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut file = kept(&Increments::default());
        file.truncate(file.len() - 4);
        file.extend_from_slice(&bytes);
        let checksum = crc32fast::hash(&file);
        file.extend_from_slice(&checksum.to_le_bytes());
        let mut held = 0;
        let _ = decode(&file, |_, totals| held += totals.bytes());
        prop_assert!(held < 200 * 64 + size_of::<NativeHistogram>() + 10_000, "{} bytes are held", held);
    }
}
