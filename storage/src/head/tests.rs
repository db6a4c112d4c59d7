use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_core::NativeHistogram;
use kymo_core::histogram::HistogramCounts;
use kymo_core::storage::Columns;
use kymo_core::{Budget, Clock, Labels, MatchOp, Matcher, QueryContext, SelectError};
use proptest::prelude::*;

use super::state::{HeadState, Outcome};
use super::store::Standing;
use super::*;
use crate::sample::{RUN_SAMPLES, Sample};

fn head() -> HeadState {
    HeadState::new(FixedState::with_seed(1))
}

fn add_series(head: &mut HeadState, name: usize) -> u32 {
    let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", name.to_string())]);
    let hash = FixedState::with_seed(1).hash_one(labels.as_ref().packed());
    head.insert(hash, labels).unwrap()
}

/// What the head has of a series in a window, where runs overlap by precedence.
fn read(head: &HeadState, number: u32, window: (i64, i64)) -> BTreeMap<i64, Sample> {
    let mut copy = HeadCopy::default();
    let mut snapshot = head.copy(head.get(number).unwrap(), window, &mut copy, &mut |_| Ok(())).unwrap();
    copy.finish([&mut snapshot].into_iter(), window, &mut |_| Ok(())).unwrap();
    let mut found = BTreeMap::new();
    for (_, _, run) in copy.runs(&snapshot) {
        let mut columns = Columns::default();
        run.read(window.0, window.1, &mut columns).unwrap();
        for at in 0..columns.times.len() {
            let mut one = Columns::default();
            run.read(columns.times[at] - 1, columns.times[at], &mut one).unwrap();
            found.insert(columns.times[at], Sample::of_columns(&one).unwrap());
        }
    }
    found
}

fn histogram(sum: f64) -> Arc<NativeHistogram> {
    Arc::new(NativeHistogram {
        schema: 0,
        hint: Default::default(),
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(Default::default()),
        sum,
        positive_spans: vec![],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    })
}

#[test]
fn the_series_of_a_scrape_share_their_times() {
    let mut head = head();
    let numbers: Vec<u32> = (0..100).map(|n| add_series(&mut head, n)).collect();
    let before = head.bytes();
    for scrape in 0..600i64 {
        let time = 1_700_000_000_000 + scrape * 15_000 + scrape * scrape % 37;
        for &number in &numbers {
            assert!(head.append_ahead(number, time, (number as f64 + scrape as f64).to_bits(), i64::MIN));
        }
    }
    assert_eq!(head.samples(), 60_000);
    // 100 open runs of 480 bytes in two pages; 1,000 chunks of about 40 bytes with what is known of them.
    let grown = head.bytes() - before;
    assert!(grown < 140_000, "{grown} bytes for 60,000 samples");
    for &number in &numbers {
        assert_eq!(read(&head, number, (i64::MIN, i64::MAX)).len(), 600);
    }
}

#[test]
fn a_run_of_equal_values_is_kept_as_one_until_it_has_another() {
    let mut head = head();
    let numbers: Vec<u32> = (0..1_000).map(|n| add_series(&mut head, n)).collect();
    let mut model: Vec<BTreeMap<i64, u64>> = vec![BTreeMap::new(); numbers.len()];
    let before = head.bytes();
    // Every third series has another value from its 20th sample on, in runs of sixty; every sixth has one of its own each time.
    let value = |series: usize, scrape: i64| match series % 6 {
        0 => scrape as u64,
        3 if scrape % 60 >= 20 => f64::NAN.to_bits() + 1,
        _ => (-0.0f64).to_bits(),
    };
    let mut grown = Vec::new();
    for scrape in 0..250i64 {
        for (at, &number) in numbers.iter().enumerate() {
            assert!(head.append_ahead(number, scrape * 1_000, value(at, scrape), i64::MIN));
            model[at].insert(scrape * 1_000, value(at, scrape));
        }
        grown.push(head.bytes() - before);
    }
    // A sixth and a third of a thousand slots, in two and three pages of 65 kB, and eight bytes for each of the others.
    assert!(grown[1] < 160_000 && grown[30] < 225_000, "{grown:?}");
    // Of sealed chunks 119,000 bytes come with every run. Slots are used again: with new ones it were 80,000 more.
    assert!(grown[241] - grown[181] < 130_000 && grown[181] - grown[121] < 130_000, "{grown:?}");
    // One value in the middle of each run that is open, and the same value again.
    for (at, &number) in numbers.iter().enumerate() {
        for bits in [7, 7] {
            let sample = Sample { time_ms: 245_000, start_ms: 0, bits, histogram: None };
            let outcome = head.append(number, sample, i64::MIN, None);
            assert_eq!(outcome == Some(Outcome::Identical), model[at].insert(245_000, bits) == Some(bits), "{at}");
        }
    }
    for (at, &number) in numbers.iter().enumerate() {
        let found: BTreeMap<i64, u64> =
            read(&head, number, (i64::MIN, i64::MAX)).into_iter().map(|(time, s)| (time, s.bits)).collect();
        assert_eq!(found, model[at], "series {at}");
    }
}

#[test]
fn a_series_that_leaves_a_scrape_takes_its_times_along() {
    let mut head = head();
    let numbers: Vec<u32> = (0..10).map(|n| add_series(&mut head, n)).collect();
    let mut model: Vec<BTreeMap<i64, u64>> = vec![BTreeMap::new(); 10];
    for scrape in 0..200i64 {
        for (at, &number) in numbers.iter().enumerate() {
            // Two of them miss a scrape now and then, one comes on its own, the last two move together.
            let time = match at {
                0 | 1 if scrape % 37 == at as i64 => continue,
                2 => scrape * 1_000 + scrape % 5,
                8 | 9 if scrape > 50 => scrape * 1_000 + 7,
                _ => scrape * 1_000,
            };
            assert!(head.append_ahead(number, time, (scrape as f64).to_bits(), i64::MIN), "{at} at {time}");
            model[at].insert(time, (scrape as f64).to_bits());
        }
    }
    for (at, &number) in numbers.iter().enumerate() {
        let found: BTreeMap<i64, u64> =
            read(&head, number, (i64::MIN, i64::MAX)).into_iter().map(|(time, s)| (time, s.bits)).collect();
        assert_eq!(found, model[at], "series {at}");
    }
}

#[test]
fn what_a_freeze_sets_apart_stays_readable_until_it_is_dropped() {
    let mut head = head();
    let number = add_series(&mut head, 0);
    for time in 0..150 {
        head.append_ahead(number, time, 0, i64::MIN);
    }
    head.freeze();
    for time in 150..200 {
        head.append_ahead(number, time, 0, i64::MIN);
    }
    assert_eq!((read(&head, number, (i64::MIN, i64::MAX)).len(), head.samples()), (200, 200));
    assert_eq!(head.copy_frozen(number, (i64::MIN, i64::MAX), &mut HeadCopy::default()).samples(), 150);
    head.drop_frozen(|_, _| true);
    assert_eq!((read(&head, number, (i64::MIN, i64::MAX)).len(), head.samples()), (50, 50));
}

#[test]
fn a_hundred_thousand_series_born_and_gone_give_their_memory_back() {
    let mut head = head();
    let keep = add_series(&mut head, usize::MAX);
    let mut before = 0;
    for round in 0..4u64 {
        for n in 0..25_000 {
            let number = add_series(&mut head, round as usize * 25_000 + n);
            head.append_ahead(number, round as i64, 1, i64::MIN);
        }
        head.freeze();
        head.drop_frozen(|_, _| true);
        for _ in 0..2 {
            head.append_ahead(keep, round as i64 + 1_000, 1, i64::MIN);
            head.freeze();
            head.drop_frozen(|_, _| true);
            head.free_idle(0, |_| false, |labels| FixedState::with_seed(1).hash_one(labels.packed()));
        }
        if round == 0 {
            before = head.bytes();
        }
    }
    // What stays is 9 bytes per 64 numbers that are never used again.
    let after = head.bytes();
    assert!(after < before + 75_000 / 64 * 20, "{after} bytes instead of {before}");
}

#[derive(Debug, Clone)]
enum Op {
    Append {
        series: usize,
        time: i64,
        start: i64,
        bits: u64,
        is_histogram: bool,
    },
    /// Many at once, so that runs fill up.
    Scrapes {
        first: i64,
        count: i64,
        falls: bool,
    },
    Delete {
        series: usize,
        first: i64,
        last: i64,
    },
    Freeze,
    /// What was set apart is in blocks.
    Drop,
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop_oneof![3 => Just(0u64), 3 => (0..9u64).prop_map(|n| (n as f64).to_bits()), 1 => any::<u64>()];
    let start = prop_oneof![4 => Just(0i64), 1 => 1..3i64];
    let append = (0..3usize, 0..400i64, start, value, prop::bool::weighted(0.2));
    let scrapes = (0..400i64, 1..130i64, prop::bool::weighted(0.3));
    prop_oneof![
        12 => append.prop_map(|(series, time, start, bits, is_histogram)| Op::Append { series, time, start, bits, is_histogram }),
        4 => scrapes.prop_map(|(first, count, falls)| Op::Scrapes { first, count, falls }),
        1 => (0..3usize, 0..400i64, 0..80i64).prop_map(|(series, first, more)| Op::Delete { series, first, last: first + more }),
        1 => Just(Op::Freeze),
        1 => Just(Op::Drop),
    ]
}

/// What a series should hold.
#[derive(Debug, Default)]
struct Model {
    head: BTreeMap<i64, Sample>,
    /// What was written since the last freeze.
    since: BTreeMap<i64, Sample>,
    frozen: BTreeMap<i64, Sample>,
    blocks: BTreeMap<i64, Sample>,
}

impl Model {
    fn append(&mut self, sample: &Sample) -> Outcome {
        let before = self.head.get(&sample.time_ms).or_else(|| self.blocks.get(&sample.time_ms));
        let outcome = match before {
            None => Outcome::Stored,
            Some(before) if before.is_identical(sample) => return Outcome::Identical,
            Some(_) => Outcome::Replaced,
        };
        self.head.insert(sample.time_ms, sample.clone());
        self.since.insert(sample.time_ms, sample.clone());
        outcome
    }

    fn all(&mut self) -> [&mut BTreeMap<i64, Sample>; 4] {
        [&mut self.head, &mut self.since, &mut self.frozen, &mut self.blocks]
    }

    fn freeze(&mut self) {
        self.frozen = self.head.clone();
        self.since.clear();
    }

    fn drop_frozen(&mut self) {
        self.blocks.append(&mut self.frozen);
        self.head = self.since.clone();
    }
}

/// Holds what is noted of a series' chunks against their times.
fn check_notes(head: &HeadState, number: u32) {
    let series = head.get(number).unwrap();
    let chunks: Vec<_> = head.chunks(series).collect();
    let gaps = series.rare.as_ref().map(|rare| rare.gaps);
    for (at, chunk) in chunks.iter().enumerate() {
        let mut columns = Columns::default();
        chunk.read(i64::MIN, i64::MAX, &mut columns).unwrap();
        assert!(columns.times.iter().all(|time| gaps.is_none_or(|gaps| !gaps.contain(*time))), "{gaps:?}");
        let older = &chunks[at + 1..];
        let older = match chunk.standing {
            Standing::Anywhere => &[],
            Standing::AboveAll => older,
            Standing::AboveOlder => {
                let run = older.iter().position(|older| older.standing != Standing::Anywhere);
                run.map_or(&[][..], |run| &older[run..])
            }
        };
        assert!(older.iter().all(|older| older.column.last() < chunk.column.first()), "chunk {at} of {}", chunks.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Three series, any order of samples: what is read is what a sorted map holds, and every outcome is its outcome.
    #[test]
    fn a_series_is_a_sorted_map(ops in prop::collection::vec(op(), 1..60), windows in prop::collection::vec((0..530i64, 0..100i64), 8)) {
        let mut head = head();
        let numbers: Vec<u32> = (0..3).map(|n| add_series(&mut head, n)).collect();
        let mut models: Vec<Model> = (0..3).map(|_| Model::default()).collect();
        // Deleted or not: the highest time in blocks never falls here.
        let (mut newest_in_blocks, mut is_frozen) = ([i64::MIN; 3], false);
        for op in ops {
            let mut apply = |series: usize, sample: Sample| {
                let (number, blocks_max) = (numbers[series], newest_in_blocks.into_iter().max().unwrap());
                let wanted = models[series].append(&sample);
                let needs_blocks = head.get(number).unwrap().needs_blocks(sample.time_ms, blocks_max);
                let is_plain = sample.start_ms == 0 && sample.histogram.is_none() && !needs_blocks;
                let found = if is_plain && head.append_ahead(number, sample.time_ms, sample.bits, blocks_max) {
                    Outcome::Stored
                } else {
                    let in_blocks = (newest_in_blocks[series], models[series].blocks.get(&sample.time_ms).cloned());
                    head.append(number, sample.clone(), blocks_max, Some(&in_blocks).filter(|_| needs_blocks)).unwrap()
                };
                assert_eq!(found, wanted, "{sample:?}");
            };
            match op {
                Op::Append { series, time, start, bits, is_histogram } => {
                    let sample = if is_histogram {
                        Sample::histogram(time, start, histogram(bits as f64))
                    } else {
                        Sample::float(time, start, f64::from_bits(bits))
                    };
                    apply(series, sample);
                }
                Op::Scrapes { first, count, falls } => {
                    for step in 0..count {
                        let time = if falls { first + count - step } else { first + step };
                        (0..3).for_each(|series| apply(series, Sample::float(time, 0, time as f64)));
                    }
                }
                Op::Delete { series, first, last } => {
                    head.delete(numbers[series], first, last);
                    models[series].all().into_iter().for_each(|model| model.retain(|time, _| !(first..=last).contains(time)));
                }
                Op::Freeze if !is_frozen => {
                    head.freeze();
                    models.iter_mut().for_each(Model::freeze);
                    is_frozen = true;
                }
                Op::Drop if is_frozen => {
                    for (newest, model) in newest_in_blocks.iter_mut().zip(&models) {
                        *newest = model.frozen.keys().next_back().map_or(*newest, |last| (*newest).max(*last));
                    }
                    head.drop_frozen(|_, _| true);
                    models.iter_mut().for_each(Model::drop_frozen);
                    is_frozen = false;
                }
                Op::Freeze | Op::Drop => {}
            }
            numbers.iter().for_each(|number| check_notes(&head, *number));
        }
        for (number, Model { head: model, .. }) in numbers.into_iter().zip(models) {
            let same = |found: &BTreeMap<i64, Sample>, wanted: &BTreeMap<i64, Sample>| {
                found.len() == wanted.len()
                    && found.iter().zip(wanted).all(|(a, b)| a.0 == b.0 && a.1.is_identical(b.1))
            };
            let found = read(&head, number, (i64::MIN, i64::MAX));
            prop_assert!(same(&found, &model), "{found:?} instead of {model:?}");
            for &(start, length) in &windows {
                let window = (start, start + length);
                let wanted: BTreeMap<i64, Sample> =
                    model.iter().filter(|(time, _)| **time > window.0 && **time <= window.1).map(|(t, s)| (*t, s.clone())).collect();
                let found = read(&head, number, window);
                prop_assert!(same(&found, &wanted), "{window:?}: {found:?} instead of {wanted:?}");
                let series = head.get(number).unwrap();
                prop_assert!(wanted.is_empty() || head.reaches(series, window.0, window.1));
                prop_assert!(wanted.is_empty() || head.present(series, &[window], i64::MIN) == 1);
                prop_assert!(wanted.is_empty() || head.present(series, &[window], window.0) == 1);
            }
            let bounds = head.bounds(head.get(number).unwrap());
            let wanted = model.keys().next().zip(model.keys().next_back()).map(|(a, b)| (*a, *b));
            prop_assert_eq!(bounds, wanted);
        }
    }
}

const _: () = assert!(RUN_SAMPLES == 60);

/// A head with its lock, for what looks at that.
fn locked_head() -> Head {
    Head::new(1, 1)
}

fn add_to(head: &Head, name: u64) -> u32 {
    // Labels that do not rise with the numbers.
    let name = name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let labels = Labels::from_pairs([("__name__", format!("m{}", name % 60)), ("n", name.to_string())]);
    head.write().insert(head.hash(labels.as_ref()), labels).unwrap()
}

/// Sorts live series with these numbers; gives them by their labels.
fn sort(head: &Head, numbers: &[u32], ctx: &QueryContext) -> Result<Vec<u32>, SelectError> {
    let (live, labels): (usize, Vec<Labels>) = {
        let state = head.read();
        (state.series(), numbers.iter().map(|number| state.get(*number).unwrap().labels.clone()).collect())
    };
    let sorted = head.sorted(numbers, |at| &labels[at as usize], live, ctx)?;
    Ok(sorted.into_iter().map(|at| numbers[at as usize]).collect())
}

fn sorted_by_comparing(head: &Head, numbers: &[u32]) -> Vec<u32> {
    let (state, mut numbers) = (head.read(), numbers.to_vec());
    numbers.sort_by(|a, b| state.get(*a).unwrap().labels.cmp(&state.get(*b).unwrap().labels));
    numbers
}

#[test]
fn any_selection_is_sorted_however_the_order_came_about() {
    let (head, ctx) = (locked_head(), QueryContext::unlimited());
    let mut ordered = Vec::new();
    for live in [10u32, 500, 501, 700, 4_000, 4_010, 10_000] {
        let there = head.read().series() as u32;
        (there..live).for_each(|n| assert_eq!(add_to(&head, n.into()), n));
        for step in [100, 3, 1, live] {
            let numbers: Vec<u32> = (0..live).step_by(step as usize).collect();
            let sorted = sort(&head, &numbers, &ctx).unwrap();
            assert_eq!(sorted, sorted_by_comparing(&head, &numbers), "{live} series, every {step}th");
        }
        ordered.push(head.ordered());
    }
    // One more, or ten, are put in their places each time: that costs less than to move all others.
    assert_eq!(ordered, [0, 500, 500, 700, 4_000, 4_000, 10_000]);
}

/// Time that has somebody do something whenever it is asked for.
struct Interrupted<F>(F);

impl<F: Fn() + Send + Sync> Clock for Interrupted<F> {
    fn now_ms(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Duration {
        (self.0)();
        Duration::ZERO
    }
}

#[test]
fn series_come_and_go_while_an_order_is_made() {
    let head = Arc::new(locked_head());
    let numbers: Vec<u32> = (0..20_000).map(|n| add_to(&head, n)).collect();
    let (writers, came) = (Arc::clone(&head), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&came);
    // Wherever the one who sorts looks at the clock, another thread needs the head for itself and gets it.
    let clock = Interrupted(move || {
        let (head, n) = (Arc::clone(&writers), counted.fetch_add(1, Ordering::Relaxed));
        std::thread::spawn(move || add_to(&head, 1_000_000 + n)).join().unwrap();
    });
    let ctx =
        QueryContext { deadline: Some(Duration::from_secs(1)), clock: Arc::new(clock), ..QueryContext::unlimited() };
    let sorted = sort(&head, &numbers, &ctx).unwrap();
    assert_eq!(sorted, sorted_by_comparing(&head, &numbers));
    let came = came.load(Ordering::Relaxed);
    assert!(came > 20, "{came} series came while it was gathered, sorted and put in its places");
    assert!(head.ordered() >= 20_000);
}

#[test]
fn a_query_does_not_wait_for_the_order_that_another_makes() {
    let head = Arc::new(locked_head());
    let numbers: Vec<u32> = (0..1_000).map(|n| add_to(&head, n)).collect();
    let (other, all) = (Arc::clone(&head), numbers.clone());
    let (seen, sees) = std::sync::mpsc::channel();
    let clock = Interrupted(move || {
        let sorted = sort(&other, &all, &QueryContext::unlimited()).unwrap();
        seen.send((sorted, other.ordered())).unwrap();
    });
    let ctx =
        QueryContext { deadline: Some(Duration::from_secs(1)), clock: Arc::new(clock), ..QueryContext::unlimited() };
    sort(&head, &numbers, &ctx).unwrap();
    let (sorted, ordered) = sees.recv().unwrap();
    assert_eq!((sorted, ordered), (sorted_by_comparing(&head, &numbers), 0), "sorted without an order");
    assert_eq!(head.ordered(), 1_000);
}

#[test]
fn an_expression_over_many_values_is_given_up_when_nobody_wants_it() {
    let head = locked_head();
    for n in 0..10_000 {
        add_to(&head, n);
    }
    let state = head.read();
    for op in [MatchOp::Regex, MatchOp::NotRegex] {
        let matchers = [Matcher::new("n", op, ".*7").unwrap()];
        let asked = std::cell::Cell::new(0);
        let check = || {
            asked.set(asked.get() + 1);
            if asked.get() < 10 { Ok(()) } else { Err(SelectError::Cancelled) }
        };
        assert!(matches!(state.select(&matchers, &check), Err(SelectError::Cancelled)));
        assert_eq!(asked.get(), 10);
        let ctx = QueryContext::unlimited();
        ctx.cancel.cancel();
        let reaching = state.select_reaching(&matchers, (i64::MIN, i64::MAX), &ctx);
        assert!(matches!(reaching, Err(SelectError::Cancelled)));
    }
}

#[test]
fn a_cancelled_query_leaves_the_order_as_it_was() {
    let head = locked_head();
    let numbers: Vec<u32> = (0..10_000).map(|n| add_to(&head, n)).collect();
    let ctx = QueryContext::unlimited();
    ctx.cancel.cancel();
    assert!(matches!(sort(&head, &numbers, &ctx), Err(SelectError::Cancelled)));
    assert_eq!(head.ordered(), 0);
    let tight = QueryContext { budget: Budget::root("query", 1_000), ..QueryContext::unlimited() };
    assert_eq!(sort(&head, &numbers, &tight).unwrap(), sorted_by_comparing(&head, &numbers), "it can do without");
    assert_eq!(head.ordered(), 0);
}

#[test]
fn the_order_holds_live_series_however_many_came_and_went() {
    const PER_ROUND: usize = 10_000;
    let (head, ctx) = (locked_head(), QueryContext::unlimited());
    let (mut largest, mut name) = (0, 0);
    for round in 0..10 {
        let numbers: Vec<u32> = (0..PER_ROUND)
            .map(|_| {
                name += 1;
                add_to(&head, name)
            })
            .collect();
        let sorted = sort(&head, &numbers, &ctx).unwrap();
        assert_eq!(head.ordered(), PER_ROUND, "round {round}: as many as live");
        assert!(head.read().get(sorted[0]).unwrap().labels < head.read().get(sorted[1]).unwrap().labels);
        largest = largest.max(head.order_bytes());
        let freed = head.write().free_idle(0, |_| false, |labels| head.hash(labels));
        assert_eq!(freed, PER_ROUND);
        head.forget_freed();
        assert_eq!((head.ordered(), head.order_bytes()), (0, 0), "round {round}: all gone");
    }
    assert_eq!(name, 100_000);
    assert!(largest <= PER_ROUND as u64 * 24, "{largest} bytes for {PER_ROUND} series at a time");
}
