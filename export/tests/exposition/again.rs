//! A page made after others is the page that a new exposition makes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use kymo_core::Labels;
use kymo_core::metric::MetricType;
use kymo_core::registry::{FamilySnapshot, Registry, SeriesSnapshot};
use kymo_export::exposition::{Exposition, Format};
use proptest::prelude::*;

use super::formats;

/// What happens between two pages.
#[derive(Debug, Clone)]
enum Step {
    Count { family: u8, series: u8 },
    CountPart { family: u8, series: u8 },
    Trace { family: u8, series: u8 },
    Level { family: u8, series: u8, value: f64 },
    Observe { family: u8, series: u8, value: f64 },
    Rank { value: f64 },
    Remove { family: u8, series: u8 },
    Others { names: Vec<u8>, value: f64 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..4u8, 0..5u8);
    prop_oneof![
        4 => place().prop_map(|(family, series)| Step::Count { family, series }),
        1 => place().prop_map(|(family, series)| Step::CountPart { family, series }),
        1 => place().prop_map(|(family, series)| Step::Trace { family, series }),
        4 => (place(), any::<f64>()).prop_map(|((family, series), value)| Step::Level { family, series, value }),
        4 => (place(), -2.0..20.0f64).prop_map(|((family, series), value)| Step::Observe { family, series, value }),
        1 => (0.0..9.0f64).prop_map(|value| Step::Rank { value }),
        3 => place().prop_map(|(family, series)| Step::Remove { family, series }),
        2 => (proptest::collection::vec(0..6u8, 0..4), any::<f64>()).prop_map(|(names, value)| Step::Others { names, value }),
    ]
}

/// Names of which some are written alike under some schemes.
const NAMES: [&str; 4] = ["a.b", "a_b", "a-b", "a_b_sum"];

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn take(registry: &Registry, others: &Mutex<Vec<FamilySnapshot>>, step: &Step) {
    let name = |kind: &str, family: u8| format!("{kind}.{}", NAMES[usize::from(family)]);
    let value = |series: u8| format!("v{series}\n\"");
    let counters =
        |family| registry.counter(&name("c", family)).help("Counted.").labels(["x.y", "x_y"]).family().unwrap();
    match step {
        Step::Count { family, series } => counters(*family).with([&value(*series), "k"]).inc(),
        Step::CountPart { family, series } => counters(*family).with([&value(*series), "k"]).add_f64(0.25),
        Step::Trace { family, series } => {
            let trace = Labels::from_pairs([("trace_id", "1f")]);
            counters(*family).with([&value(*series), "k"]).add_with_exemplar(2, trace, 1_700_000_000_123);
        }
        Step::Level { family, series, value: level } => {
            let family = registry.gauge(&name("g", *family)).labels(["le"]).family().unwrap();
            family.with([&value(*series)]).set(*level);
        }
        Step::Observe { family, series, value: seen } => {
            let family =
                registry.histogram(&name("h", *family)).buckets(&[0.5, 1.0, 10.0]).labels(["s"]).family().unwrap();
            family.with([&value(*series)]).record(*seen);
        }
        Step::Rank { value } => registry.summary("ranks").unit("seconds").register().unwrap().record(*value),
        Step::Remove { family, series } => {
            counters(*family).remove([&value(*series), "k"]);
        }
        Step::Others { names, value } => {
            let told = names.iter().map(|number| FamilySnapshot {
                name: ["a", "c.a_b", "g.a.b", "m", "ranks_sum", "z"][usize::from(*number)].to_owned(),
                kind: kymo_core::metric::MetricKind::Gauge,
                unit: String::new(),
                help: format!("Told {}.", number % 2),
                series: vec![SeriesSnapshot {
                    labels: Arc::new([]),
                    value: MetricType::Gauge { value: *value },
                    created_ms: None,
                }],
            });
            *others.lock().unwrap() = told.collect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happened_before(steps in proptest::collection::vec(step(), 1..40)) {
        let registry = Registry::new();
        let others: Arc<Mutex<Vec<FamilySnapshot>>> = Arc::default();
        let made = || {
            let others = others.clone();
            Exposition::from(registry.clone()).with(move || others.lock().unwrap().clone())
        };
        let again = made();
        for step in &steps {
            take(&registry, &others, step);
            for format in formats() {
                let (first, reused) = (made().render(format), again.render(format));
                prop_assert!(first == reused, "{format:?} after {step:?}:\n{}\n---\n{}",
                    String::from_utf8_lossy(&first), String::from_utf8_lossy(&reused));
                prop_assert_eq!(&reused, &again.render(format));
            }
        }
    }
}

#[test]
fn series_read_at_once_and_those_that_hold_more_stand_on_one_page() {
    const SERIES: usize = 300;
    let registry = Registry::new();
    let family = registry.counter("work_total").labels(["n"]).family().unwrap();
    let counters: Vec<_> = (0..SERIES).map(|n| family.with([&format!("{n:03}")])).collect();
    let [plain, created] = [Exposition::from(registry.clone()), Exposition::from(registry.clone()).with_created()];
    let check = || {
        for format in formats() {
            assert_eq!(plain.render(format), Exposition::from(registry.clone()).render(format));
            let fresh = Exposition::from(registry.clone()).with_created();
            assert_eq!(created.render(format), fresh.render(format));
        }
    };
    let count = || counters.iter().zip(1u64..).for_each(|(counter, n)| counter.add(n * n * n * n));
    for more in [None, Some(70), Some(299), Some(0)] {
        if let Some(more) = more {
            counters[more].add_f64(0.5);
            let trace = Labels::from_pairs([("trace_id", "1f")]);
            counters[(more + 130) % SERIES].add_with_exemplar(2, trace, 1_700_000_000_123);
        }
        count();
        check();
        count();
        check();
    }
    let page = String::from_utf8(plain.render(Format::Text004)).unwrap();
    assert_eq!(page.lines().nth(1 + 7), Some("work_total{n=\"007\"} 32768"), "{page}");
    assert_eq!(page.lines().nth(1 + 70), Some("work_total{n=\"070\"} 2.032934485e+08"), "{page}");
}

/// Totals by series, of a text page.
fn totals(page: &[u8]) -> Vec<(String, u64)> {
    let text = std::str::from_utf8(page).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    lines.filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?))).collect()
}

#[test]
fn scrapes_at_once_each_see_whole_pages_on_which_totals_only_rise() {
    const SERIES: usize = 20;
    let registry = Registry::new();
    let family = registry.counter("work_total").labels(["n"]).family().unwrap();
    let names: Vec<String> = (0..SERIES).map(|n| format!("{n:02}")).collect();
    names.iter().for_each(|name| drop(family.with([name])));
    let exposition = Exposition::from(registry.clone());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    names.iter().for_each(|name| family.with([name]).inc());
                }
            });
        }
        let scrapers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut before, mut page) = (vec![0; SERIES], Vec::new());
                    for _ in 0..300 {
                        page.clear();
                        exposition.render_into(Format::Text004, &mut page);
                        let found = totals(&page);
                        assert_eq!(found.len(), SERIES, "{}", String::from_utf8_lossy(&page));
                        for ((series, total), (before, name)) in found.iter().zip(before.iter_mut().zip(&names)) {
                            assert_eq!(*series, format!("work_total{{n=\"{name}\"}}"));
                            assert!(total >= before, "{series} fell from {before} to {total}");
                            *before = *total;
                        }
                    }
                })
            })
            .collect();
        for scraper in scrapers {
            scraper.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
