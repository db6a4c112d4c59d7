//! Rollups: that they say what the samples say, stay when those go, and follow deletes and late data.

use std::sync::Arc;
use std::time::Duration;

use kymo_core::aggregate::rollup::{Figures, append_rows, roll_up};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint};
use kymo_core::random::SeededRandom;
use kymo_core::storage::{ColumnValue, Columns, SelectHint, Tier};
use kymo_core::{
    Clock, Deletion, Labels, ManualClock, Matcher, MetricStorage, QueryContext, Random, SampleBatch, Selector,
};
use kymo_storage::fs::SimFs;
use kymo_storage::{
    Depth, Engine, Lane, MaintainLimit, Next, Options, RetentionPolicy, RetentionRule, SyncPolicy, verify,
};

use crate::world::{DIR, clock, open, options, series};

const HOUR: u64 = 3_600;

fn policy(raw_hours: u64, fine_hours: u64, coarse_hours: u64) -> RetentionPolicy {
    let hours = |hours: u64| Some(Duration::from_secs(hours * HOUR));
    RetentionPolicy {
        five_minutes: hours(fine_hours),
        one_hour: hours(coarse_hours),
        ..RetentionPolicy::of_age(hours(raw_hours))
    }
}

fn with(clock: &Arc<ManualClock>, retention: RetentionPolicy) -> Options {
    Options { retention, ..options(clock, SyncPolicy::Always) }
}

fn tend(engine: &Engine) {
    while engine.maintain(Lane::Merge, MaintainLimit::default()).expect("merge") == Next::Now {}
    while engine.maintain(Lane::Flush, MaintainLimit::default()).expect("flush") == Next::Now {}
}

/// All rows of a series in a tier, or as they answer unasked.
fn rows(engine: &dyn MetricStorage, labels: &Labels, tier: Option<Tier>) -> Columns {
    let matchers = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    let what = Selector { tier, ..Selector::new(matchers, 0, i64::MAX) };
    let set = engine.select(&what, &QueryContext::unlimited()).expect("select");
    let mut columns = Columns::default();
    if let Some(index) = (0..set.len()).find(|index| set.labels(*index) == *labels) {
        set.read(index, &mut columns).expect("read");
    }
    columns
}

fn histogram(n: u64) -> NativeHistogram {
    let counts = BucketCounts { zero: 0, count: 2 * n, positive: vec![n, n], negative: vec![] };
    NativeHistogram {
        schema: 1,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Integer(counts),
        sum: n as f64,
        positive_spans: vec![BucketSpan { offset: 0, len: 2 }],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    }
}

/// Some hours of one sample every 20 seconds or so of a few series: a counter with resets, a gauge with markers and holes, and
/// histograms with floats between.
fn write(engine: &Engine, random: &SeededRandom, start_ms: i64, end_ms: i64) {
    let (mut at, mut counter, mut observed) = (start_ms, 0.0, 0);
    while at < end_ms {
        let mut batch = SampleBatch::new();
        counter = if random.below(200) == 0 { 0.0 } else { counter + random.below(9) as f64 };
        batch.push_float(&series(0), at, counter);
        match random.below(40) {
            0 => batch.push_stale(&series(1), at),
            1..4 => {}
            _ => batch.push_float(&series(1), at, random.below(100) as f64 - 50.0),
        }
        observed = if random.below(100) == 0 { 1 } else { observed + random.below(4) };
        match random.below(30) {
            0 => batch.push_float(&series(2), at, observed as f64),
            _ => batch.push_histogram(&series(2), at, histogram(observed)),
        }
        engine.append(&batch).expect("append");
        at += 20_000 + random.below(3) as i64;
    }
}

/// Lets hours pass, in which something is written.
fn hours(clock: &ManualClock, engine: &Engine, random: &SeededRandom, hours: u64) {
    let start_ms = clock.now_ms();
    clock.advance(Duration::from_secs(hours * HOUR));
    write(engine, random, start_ms, clock.now_ms());
}

fn rolled_up(raw: &Columns, tier: Tier) -> Columns {
    let mut rolled = Columns::default();
    roll_up(raw, tier, &mut rolled);
    rolled
}

#[track_caller]
fn assert_same(found: &Columns, wanted: &Columns, what: &str) {
    assert_eq!(found.times, wanted.times, "{what}");
    assert_eq!(found.runs, wanted.runs, "{what}");
    assert_eq!(found.floats, wanted.floats, "{what}");
    assert_eq!(found.rollups, wanted.rollups, "{what}");
    let is_same = found.histograms.iter().zip(&wanted.histograms).all(|(a, b)| a.same_bits(b));
    assert!(is_same && found.histograms.len() == wanted.histograms.len(), "{what}: histograms differ");
}

/// A disk with three days of data and an engine that keeps samples for two.
fn three_days(seed: u64) -> (SimFs, Arc<ManualClock>, Engine) {
    let (disk, clock, random) = (SimFs::new(seed), clock(), SeededRandom::new(seed));
    let (engine, _) = open(&disk, with(&clock, policy(48, 24 * 30, 24 * 365))).expect("opens");
    for _ in 0..9 {
        hours(&clock, &engine, &random, 8);
        engine.flush().expect("flush");
        tend(&engine);
    }
    (disk, clock, engine)
}

#[test]
fn a_tier_that_is_asked_for_says_what_its_samples_say_made_or_not() {
    let (disk, clock, random) = (SimFs::new(1), clock(), SeededRandom::new(1));
    let (engine, _) = open(&disk, with(&clock, policy(24 * 30, 24 * 60, 24 * 90))).expect("opens");
    for round in 0..6 {
        hours(&clock, &engine, &random, 7);
        if round % 2 == 0 {
            engine.flush().expect("flush");
            tend(&engine);
        }
        for n in 0..3 {
            let raw = rows(&engine, &series(n), Some(Tier::Raw));
            assert!(raw.times.len() > 1_000 && raw.rollups.is_empty());
            for tier in [Tier::FiveMinutes, Tier::OneHour] {
                let what = format!("round {round}, series {n}, {tier}");
                let asked = rows(&engine, &series(n), Some(tier));
                assert_eq!(asked.tier, tier, "{what}");
                assert_same(&asked, &rolled_up(&raw, tier), &what);
            }
            let unasked = rows(&engine, &series(n), None);
            assert_eq!((unasked.tier, unasked.times), (Tier::Raw, raw.times), "samples are there, so they answer");
        }
    }
    engine.compact(|| true).expect("compact");
    let report = verify(&disk, std::path::Path::new(DIR), Depth::Samples, &mut |_, _| {}).expect("verify");
    assert!(report.is_sound(), "{:?}", report.faults);
}

#[test]
fn rollups_answer_where_samples_were_retired_and_an_opening_changes_nothing() {
    let (disk, clock, engine) = three_days(2);
    let check = |engine: &Engine| {
        (0..3)
            .map(|n| {
                let all = rows(engine, &series(n), None);
                let [(Tier::FiveMinutes, fine), (Tier::Raw, raw)] = all.rollups.tiers[..] else {
                    panic!("five minutes and then samples: {:?}", all.rollups.tiers)
                };
                assert!(fine > 200 && raw > 4_000, "{fine} {raw}");
                // No sample counts twice or is missing between.
                let border = all.times[fine];
                let asked = rows(engine, &series(n), Some(Tier::FiveMinutes));
                let mut tail = Columns::default();
                append_rows(&all, border - 1, i64::MAX, &mut tail);
                let mut joined = Columns::default();
                append_rows(&all, i64::MIN, border - 1, &mut joined);
                tail.rollups.clear();
                roll_up(&tail, Tier::FiveMinutes, &mut joined);
                assert_same(&joined, &asked, "both ways to ask");
                all
            })
            .collect::<Vec<_>>()
    };
    let before = check(&engine);
    engine.close().expect("close");
    drop(engine);
    let (engine, _) = open(&disk, with(&clock, policy(48, 24 * 30, 24 * 365))).expect("opens");
    for (found, wanted) in check(&engine).iter().zip(&before) {
        assert_same(found, wanted, "after opening again");
    }
    // Once five minutes are too old as well, hours answer.
    clock.advance(Duration::from_secs(24 * 29 * HOUR));
    engine.flush().expect("flush");
    tend(&engine);
    clock.advance(Duration::from_secs(24 * 3 * HOUR));
    tend(&engine);
    for (n, before) in before.iter().enumerate() {
        let all = rows(&engine, &series(n as u64), None);
        assert_eq!(all.tier, Tier::OneHour, "series {n}: {:?}", all.rollups.tiers);
        assert_eq!(all.rollups.tiers.len(), 1, "nothing is finer any more: {:?}", all.rollups.tiers);
        let count = |columns: &Columns| columns.rollups.floats.iter().map(|of| of.count).sum::<f64>();
        assert_eq!(count(&all), count(before), "series {n}: every sample counts once in some hour");
    }
}

#[test]
fn late_data_is_in_its_buckets_at_once_and_after_they_are_made_anew() {
    let (_disk, clock, engine) = three_days(3);
    let late = clock.now_ms() - 30 * HOUR as i64 * 1_000;
    let mut batch = SampleBatch::new();
    (0..50).for_each(|n| batch.push_float(&series(0), late + n * 7_001, 1_000_000.0));
    assert_eq!(engine.append(&batch).expect("append").stored.floats, 50);
    let max = |tier| rows(&engine, &series(0), Some(tier)).rollups.floats.iter().map(|of| of.max).fold(0.0, f64::max);
    for step in ["in memory", "flushed", "made anew"] {
        let raw = rows(&engine, &series(0), Some(Tier::Raw));
        let border = raw.times[0];
        for tier in [Tier::FiveMinutes, Tier::OneHour] {
            assert_eq!(max(tier), 1_000_000.0, "{step}: {tier}");
            let (mut found, mut wanted) = (Columns::default(), Columns::default());
            append_rows(&rows(&engine, &series(0), Some(tier)), border, i64::MAX, &mut found);
            append_rows(&rolled_up(&raw, tier), border, i64::MAX, &mut wanted);
            assert_same(&found, &wanted, &format!("{step}: {tier}"));
        }
        match step {
            "in memory" => engine.flush().expect("flush"),
            "flushed" => engine.compact(|| true).expect("compact"),
            _ => {}
        }
    }
}

#[test]
fn a_delete_takes_the_buckets_it_touches_and_the_others_stay() {
    let (disk, clock, engine) = three_days(4);
    let all = rows(&engine, &series(0), None);
    let fine = all.rollups.tiers[0].1;
    // One delete among what is rolled up only, one where samples are.
    let (retired, kept) = (all.times[fine / 2], clock.now_ms() - 10 * HOUR as i64 * 1_000);
    for (at, has_samples) in [(retired, false), (kept, true)] {
        let what = Deletion { any_of: vec![vec![Matcher::equal("n", "0")]], start_ms: at - 60_000, end_ms: at };
        let measured = engine.measure_delete(&what, &QueryContext::unlimited()).expect("measure");
        assert_eq!((measured.series, measured.samples > 0), (1, has_samples), "{measured:?}");
        // A minute lies in one bucket of five, or two, and in one hour, or two, as far as they are made.
        let is_made = usize::from(!has_samples) as u64;
        assert!((is_made..=4).contains(&measured.buckets) && measured.bytes > 0, "{measured:?}");
        engine.delete(&what).expect("delete");
        let again = engine.measure_delete(&what, &QueryContext::unlimited()).expect("measure");
        assert_eq!(again, kymo_storage::DeleteReport::default(), "it is hidden at once");
    }
    let end = Tier::FiveMinutes.bucket_end_ms(retired);
    let check = |engine: &Engine, when: &str| {
        let now = rows(engine, &series(0), None);
        assert!(now.times.iter().all(|time| Tier::FiveMinutes.bucket_end_ms(*time) != end || *time > end), "{when}");
        let mut wanted: Vec<i64> = all.times[..fine].to_vec();
        wanted.retain(|time| Tier::FiveMinutes.bucket_end_ms(*time) != end);
        let mut found = now.times;
        found.truncate(wanted.len());
        assert_eq!(found, wanted, "{when}: the other buckets stay");
        let raw = rows(engine, &series(0), Some(Tier::Raw));
        let (mut asked, mut made) = (Columns::default(), Columns::default());
        append_rows(&rows(engine, &series(0), Some(Tier::FiveMinutes)), raw.times[0], i64::MAX, &mut asked);
        append_rows(&rolled_up(&raw, Tier::FiveMinutes), raw.times[0], i64::MAX, &mut made);
        assert_same(&asked, &made, when);
        assert_same(&rows(engine, &series(1), None), &rows(engine, &series(1), None), when);
    };
    check(&engine, "at once");
    let report = engine.clean_tombstones(|| true).expect("clean");
    assert!(report.blocks >= 3, "blocks of both tiers and of samples are written anew: {report:?}");
    check(&engine, "cleaned");
    engine.close().expect("close");
    drop(engine);
    let (engine, _) = open(&disk, with(&clock, policy(48, 24 * 30, 24 * 365))).expect("opens");
    check(&engine, "after opening again");
}

#[test]
fn a_rule_holds_for_rollups_too() {
    let (disk, clock, random) = (SimFs::new(5), clock(), SeededRandom::new(5));
    let rule = RetentionRule { matchers: vec![Matcher::equal("n", "1")], keep: Some(Duration::from_secs(24 * HOUR)) };
    let kept = RetentionPolicy { rules: vec![rule], ..policy(48, 24 * 30, 24 * 60) };
    let (engine, _) = open(&disk, with(&clock, kept)).expect("opens");
    for _ in 0..9 {
        hours(&clock, &engine, &random, 8);
        engine.flush().expect("flush");
        tend(&engine);
    }
    let oldest = clock.now_ms() - 25 * HOUR as i64 * 1_000;
    for tier in [None, Some(Tier::FiveMinutes), Some(Tier::OneHour)] {
        let brief = rows(&engine, &series(1), tier);
        assert!(brief.times[0] >= oldest, "{tier:?}: {}", brief.times[0] - oldest);
        assert!(rows(&engine, &series(0), tier).times[0] < oldest, "{tier:?}");
    }
}

#[test]
fn without_rollups_in_the_policy_none_are_made_and_a_tier_is_made_on_the_way() {
    let (disk, clock, random) = (SimFs::new(6), clock(), SeededRandom::new(6));
    let (engine, _) = open(&disk, with(&clock, RetentionPolicy::of_age(None))).expect("opens");
    hours(&clock, &engine, &random, 30);
    clock.advance(Duration::from_secs(30 * HOUR));
    engine.flush().expect("flush");
    engine.compact(|| true).expect("compact");
    let raw = rows(&engine, &series(0), None);
    assert!(raw.rollups.is_empty());
    assert_same(&rows(&engine, &series(0), Some(Tier::OneHour)), &rolled_up(&raw, Tier::OneHour), "asked");
    // Put in force, they are made of what there is.
    engine.set_retention(policy(24 * 30, 24 * 60, 24 * 90));
    let bytes = engine.statistics().block_bytes;
    engine.compact(|| true).expect("compact");
    assert!(engine.statistics().block_bytes > bytes, "blocks of rollups were made");
    assert_same(&rows(&engine, &series(0), Some(Tier::OneHour)), &rolled_up(&raw, Tier::OneHour), "made");
    assert!(matches!(raw.iter().next(), Some((_, ColumnValue::Float(_)))));
}

/// Days of samples in blocks, all rolled up.
fn days_rolled_up(seed: u64) -> (SimFs, Arc<ManualClock>, Engine, RetentionPolicy) {
    let (disk, clock, random) = (SimFs::new(seed), clock(), SeededRandom::new(seed));
    let kept = policy(24 * 30, 24 * 60, 24 * 90);
    let (engine, _) = open(&disk, with(&clock, kept.clone())).expect("opens");
    for _ in 0..6 {
        hours(&clock, &engine, &random, 8);
        engine.flush().expect("flush");
        tend(&engine);
    }
    // So that the last hour is over.
    clock.advance(Duration::from_secs(2 * HOUR));
    engine.compact(|| true).expect("compact");
    (disk, clock, engine, kept)
}

/// Bytes of the blocks of samples, of five minutes and of hours.
fn bytes_of_tiers(engine: &Engine) -> [u64; 3] {
    let of = |tier| engine.block_list().iter().filter(|block| block.tier == tier).map(|block| block.bytes).sum();
    [Tier::Raw, Tier::FiveMinutes, Tier::OneHour].map(of)
}

/// How many samples the floats of a series stand for.
fn count(columns: &Columns) -> f64 {
    match columns.rollups.is_empty() {
        true => columns.floats.len() as f64,
        false => columns.rollups.floats.iter().map(|of| of.count).sum(),
    }
}

fn retire(engine: &Engine) {
    while engine.maintain(Lane::Flush, MaintainLimit::default()).expect("flush lane") == Next::Now {}
}

#[test]
fn rollups_answer_where_samples_went_for_their_size() {
    let (disk, clock, engine, kept) = days_rolled_up(7);
    let [raw, fine, coarse] = bytes_of_tiers(&engine);
    let all = raw + fine + coarse;
    let before: Vec<Columns> = (0..3).map(|n| rows(&engine, &series(n), Some(Tier::FiveMinutes))).collect();
    let counts: Vec<f64> = (0..3).map(|n| count(&rows(&engine, &series(n), None))).collect();
    let of_bytes = |max_bytes| RetentionPolicy { max_bytes: Some(max_bytes), ..kept.clone() };

    let preview = engine.preview_retention(&of_bytes(all - raw / 3), &QueryContext::unlimited()).expect("preview");
    let version = engine.version();
    engine.set_retention(of_bytes(all - raw / 3));
    retire(&engine);
    let left = bytes_of_tiers(&engine);
    assert!(left[0] < raw && left[1..] == [fine, coarse], "samples go first: {left:?} of {:?}", [raw, fine, coarse]);
    assert_eq!(preview.by_size.bytes, raw - left[0], "the dry run told the bytes");
    let changes = engine.changed_since(version, &Selector::everything());
    assert!(changes != kymo_core::Changes::Ranges(vec![]), "queries are told");
    let check = |engine: &Engine, when: &str| {
        for n in 0..3 {
            let unasked = rows(engine, &series(n), None);
            let [(Tier::FiveMinutes, of_fine), (Tier::Raw, of_raw)] = unasked.rollups.tiers[..] else {
                panic!("{when}: five minutes and then samples: {:?}", unasked.rollups.tiers)
            };
            assert!(of_fine > 50 && of_raw > 1_000, "{when}: {of_fine} {of_raw}");
            assert_eq!(count(&unasked), counts[n as usize], "{when}: every sample counts once");
            let asked = rows(engine, &series(n), Some(Tier::FiveMinutes));
            assert_same(&asked, &before[n as usize], &format!("{when}: the tier says what it said"));
        }
    };
    check(&engine, "at once");
    // What is there is not made anew of a part, and what comes late to where samples are gone changes nothing.
    let gone = rows(&engine, &series(0), None).times[3];
    let mut batch = SampleBatch::new();
    batch.push_float(&series(0), gone + 1, 1e9);
    engine.append(&batch).expect("append");
    check(&engine, "with late samples in memory");
    engine.flush().expect("flush");
    engine.compact(|| true).expect("compact");
    check(&engine, "compacted");
    engine.close().expect("close");
    drop(engine);
    let (engine, _) = open(&disk, with(&clock, of_bytes(all - raw / 3))).expect("opens");
    check(&engine, "after opening again");
    let report = verify(&disk, std::path::Path::new(DIR), Depth::Samples, &mut |_, _| {}).expect("verify");
    assert!(report.is_sound(), "{:?}", report.faults);

    // With less room still five minutes go, and hours answer.
    engine.set_retention(of_bytes(coarse * 4 - 1));
    retire(&engine);
    let left = bytes_of_tiers(&engine);
    assert!(left[0] == 0 && left[1] < fine && left[2] == coarse, "{left:?}");
    for n in 0..3 {
        let unasked = rows(&engine, &series(n), None);
        assert_eq!(unasked.rollups.tiers.first().map(|of| of.0), Some(Tier::OneHour), "{:?}", unasked.rollups.tiers);
        assert_eq!(count(&unasked), counts[n as usize], "every sample counts once in some tier");
    }
    tend(&engine);
    assert!(bytes_of_tiers(&engine)[1] <= left[1], "what went for its size is not made again");
}

#[test]
fn samples_that_go_for_their_size_wait_until_they_are_rolled_up_if_there_is_room() {
    let (disk, clock, random) = (SimFs::new(8), clock(), SeededRandom::new(8));
    let kept = policy(24 * 30, 24 * 60, 24 * 90);
    let (engine, _) = open(&disk, with(&clock, kept.clone())).expect("opens");
    // A day that is not over, so that nothing is rolled up by itself yet.
    for _ in 0..3 {
        hours(&clock, &engine, &random, 4);
        engine.flush().expect("flush");
    }
    let [raw, fine, coarse] = bytes_of_tiers(&engine);
    assert!(raw > 0 && [fine, coarse] == [0, 0]);
    let counts: Vec<f64> = (0..3).map(|n| count(&rows(&engine, &series(n), None))).collect();
    engine.set_retention(RetentionPolicy { max_bytes: Some(raw - 1), ..kept.clone() });
    retire(&engine);
    assert_eq!(bytes_of_tiers(&engine)[0], raw, "they wait");
    while engine.maintain(Lane::Merge, MaintainLimit::default()).expect("merge") == Next::Now {}
    let [_, fine, _] = bytes_of_tiers(&engine);
    assert!(fine > 0, "waiting makes it due");
    retire(&engine);
    for n in 0..3 {
        let unasked = rows(&engine, &series(n), None);
        assert_eq!(count(&unasked), counts[n as usize], "every sample counts once: {:?}", unasked.rollups.tiers);
    }
    // Far beyond the limit nothing waits.
    hours(&clock, &engine, &random, 6);
    engine.flush().expect("flush");
    engine.set_retention(RetentionPolicy { max_bytes: Some(raw / 4), ..kept });
    retire(&engine);
    assert!(bytes_of_tiers(&engine).iter().sum::<u64>() <= raw / 4);
}

#[test]
fn every_crash_while_samples_go_for_their_size_leaves_each_counted_once() {
    let room = |engine: &Engine, kept: &RetentionPolicy| {
        let [raw, fine, coarse] = bytes_of_tiers(engine);
        RetentionPolicy { max_bytes: Some(raw / 2 + fine + coarse), ..kept.clone() }
    };
    let mut at = 1;
    loop {
        let (disk, clock, engine, kept) = days_rolled_up(9);
        let counts: Vec<f64> = (0..3).map(|n| count(&rows(&engine, &series(n), None))).collect();
        let limited = room(&engine, &kept);
        engine.set_retention(limited.clone());
        disk.crash_at(disk.op_count() + at);
        let retired = engine.maintain(Lane::Flush, MaintainLimit::default());
        let has_crashed = disk.has_crashed();
        drop(engine);
        let disk = if has_crashed { disk.crash(kymo_storage::fs::CrashKind::PowerLoss) } else { disk };
        if !has_crashed {
            assert_eq!(retired.expect("flush lane"), Next::Now);
            disk.crash_at(u64::MAX);
        }
        let (engine, report) = open(&disk, with(&clock, limited)).expect("opens");
        assert!(report.quarantined.is_empty(), "operation {at}");
        for when in ["after the crash", "afterwards"] {
            for n in 0..3 {
                let found = count(&rows(&engine, &series(n), None));
                assert_eq!(found, counts[n as usize], "operation {at}, series {n}, {when}");
            }
            retire(&engine);
        }
        let tiers = rows(&engine, &series(0), None).rollups.tiers;
        assert_eq!(tiers.first().map(|of| of.0), Some(Tier::FiveMinutes), "operation {at}: {tiers:?}");
        if !has_crashed {
            break;
        }
        at += 1;
    }
    assert!(at > 5, "{at} operations");
}

#[test]
fn a_function_is_given_the_figures_it_is_told_from() {
    let (_disk, _clock, engine, _) = days_rolled_up(10);
    let functions = ["rate", "delta", "sum_over_time", "avg_over_time", "count_over_time", "min_over_time"];
    let more = ["max_over_time", "first_over_time", "quantile_over_time", "stddev_over_time", "last_over_time"];
    for n in 0..3 {
        let matchers = || series(n).iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        let everything = Selector { tier: Some(Tier::FiveMinutes), ..Selector::new(matchers(), 0, i64::MAX) };
        let read = |what: &Selector| {
            let set = engine.select(what, &QueryContext::unlimited()).expect("select");
            let mut columns = Columns::default();
            set.read(0, &mut columns).expect("read");
            columns
        };
        let all = read(&everything);
        for function in functions.into_iter().chain(more) {
            let hint = SelectHint { function: Some(function), step_ms: 0, range_ms: 3_600_000 };
            let found = read(&Selector { hint: hint.clone(), ..everything.clone() });
            let mut wanted = all.clone();
            Figures::of(&hint).keep(&mut wanted);
            let said = |columns: &Columns| {
                let rollups = &columns.rollups;
                let histograms: Vec<_> = rollups.histograms.iter().map(|of| (of.count, &of.sum, &of.lost)).collect();
                format!("{:?} {:?} {:?} {histograms:?}", columns.times, columns.floats, rollups.floats)
            };
            assert_eq!(said(&found), said(&wanted), "series {n}, {function}");
            assert_eq!(found.rollups.tiers, all.rollups.tiers, "series {n}, {function}");
        }
    }
}
