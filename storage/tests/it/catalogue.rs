//! Names and values of labels: those of the series that a selection with the same window finds, wherever they are stored.

use std::collections::BTreeSet;
use std::time::Duration;

use kymo_core::{Deletion, Labels, LabelsRef, MatchOp, Matcher, MetricStorage, QueryContext, SampleBatch, Selector};
use kymo_storage::fs::SimFs;
use kymo_storage::{RetentionPolicy, RetentionRule, SyncPolicy};

use crate::world::*;

const SERIES: u64 = 700;
const SCRAPES: u64 = 60;

/// Some have a label that others lack, in runs and here and there.
fn labels(n: u64) -> Labels {
    let mut pairs = vec![("__name__", format!("m{}", n % 7)), ("half", (n / 350).to_string()), ("n", n.to_string())];
    if n.is_multiple_of(3) {
        pairs.push(("third", "yes".to_owned()));
    }
    Labels::from_pairs(pairs)
}

fn at(scrape: u64) -> i64 {
    NOW_MS - seconds(10_000) + seconds(15) * scrape as i64
}

/// Whether a series is alive at a scrape: some come, some go.
fn is_there(n: u64, scrape: u64) -> bool {
    (n % 50..n % 50 + 12).contains(&scrape)
}

#[test]
fn listings_are_those_of_the_series_that_reach_into_the_window() {
    let (disk, clock, ctx) = (SimFs::new(950), clock(), QueryContext::unlimited());
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let matchers = || {
        let matcher = |name, op, value| Matcher::new(name, op, value).unwrap();
        [
            vec![],
            vec![matcher("half", MatchOp::Equal, "1"), matcher("__name__", MatchOp::Equal, "m3")],
            vec![matcher("n", MatchOp::Regex, "[1-4].*"), matcher("third", MatchOp::Equal, "")],
            vec![matcher("third", MatchOp::Equal, "yes"), matcher("half", MatchOp::NotEqual, "0")],
            vec![matcher("half", MatchOp::Regex, "0|1"), matcher("n", MatchOp::NotRegex, ".*[02468]")],
            vec![matcher("n", MatchOp::Equal, "17"), matcher("half", MatchOp::Equal, "1")],
        ]
    };
    let check_presence = |when: &str| {
        let windows = [(0, 60), (0, 1), (13, 14), (20, 22), (39, 59), (58, 80), (70, 80)];
        let windows = windows.map(|(first, last)| (at(first), at(last)));
        for matchers in matchers() {
            let mut found = Vec::new();
            let mut keep = |labels: LabelsRef<'_>, present| found.push((labels.to_labels(), present));
            engine.visit_series(&matchers, &windows, &ctx, &mut keep).unwrap();
            found.sort();
            let mut expected = std::collections::BTreeMap::<Labels, u32>::new();
            for (at, (start_ms, end_ms)) in windows.into_iter().enumerate() {
                for labels in engine.series(&Selector::new(matchers.clone(), start_ms, end_ms), &ctx).unwrap() {
                    *expected.entry(labels).or_default() |= 1 << at;
                }
            }
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{when}: {matchers:?}");
        }
    };
    let check = |when: &str| {
        check_presence(when);
        for (first, last) in [(0, 60), (0, 1), (13, 14), (20, 22), (39, 59), (58, 80), (70, 80)] {
            for matchers in matchers() {
                let what = Selector::new(matchers, at(first), at(last));
                let found = engine.series(&what, &ctx).unwrap();
                let expected: Vec<Labels> = (0..SERIES)
                    .filter(|&n| what.matches(labels(n).as_ref()))
                    .filter(|&n| (0..SCRAPES).any(|scrape| is_there(n, scrape) && what.covers(at(scrape))))
                    .map(labels)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect();
                assert_eq!(found, expected, "{when}: {what:?}");
                let names: BTreeSet<&str> =
                    found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
                assert!(engine.label_names(&what, &ctx).unwrap().iter().eq(names.iter()), "{when}: {what:?}");
                for name in ["__name__", "half", "n", "third", "missing"] {
                    let values: BTreeSet<&str> = found.iter().filter_map(|labels| labels.get(name)).collect();
                    let listed = engine.label_values(name, &what, &ctx).unwrap();
                    assert!(listed.iter().eq(values.iter()), "{when}: {name} of {what:?}: {listed:?}");
                }
            }
        }
    };
    for scrape in 0..SCRAPES {
        let mut batch = SampleBatch::new();
        (0..SERIES).filter(|&n| is_there(n, scrape)).for_each(|n| batch.push_float(&labels(n), at(scrape), n as f64));
        engine.append(&batch).unwrap();
        if scrape == 20 || scrape == 41 {
            engine.flush().unwrap();
        }
    }
    check("in blocks and the head");
    engine.flush().unwrap();
    check("in blocks");
    engine.compact(|| true).unwrap();
    check("in one block");
    let what = Deletion { end_ms: at(30), ..Deletion::of(vec![Matcher::equal("__name__", "m3")]) };
    engine.delete(&what).unwrap();
    check_presence("with a delete");
    let rule =
        RetentionRule { matchers: vec![Matcher::equal("__name__", "m5")], keep: Some(Duration::from_secs(9_700)) };
    engine.set_retention(RetentionPolicy { rules: vec![rule], ..RetentionPolicy::of_age(None) });
    check_presence("with a rule of retention");
}
