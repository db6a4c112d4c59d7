//! Look-ups: one series for equal labels, beside threads that add and remove.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::metric::MetricType;
use crate::registry::{Counter, Registry, Scratch, SeriesView, Visit};

#[test]
fn looking_up_for_one_use_and_to_keep_is_one_series() {
    let registry = Registry::new();
    let family = registry.counter("hits_total").label("zone", "a").labels(["method", "code"]).family().unwrap();
    family.at(["GET", "200"]).inc();
    let kept: Counter = family.with(["GET", "200"]);
    kept.inc();
    let borrowed = family.at(["GET", "200"]);
    let nested = family.at(["PUT", "200"]);
    nested.inc();
    borrowed.clone().inc();
    drop(borrowed);
    nested.inc();
    drop(nested);
    assert_eq!((kept.value(), family.at(["PUT", "200"]).value()), (3.0, 2.0));
    // The same family by another builder, with other labels fixed and the rest in another order.
    let other = registry.counter("hits_total").label("code", "200").labels(["zone", "method"]).family().unwrap();
    assert_eq!(other.at(["a", "GET"]).value(), 3.0);
    assert_eq!(other.at(["b", "GET"]).value(), 0.0);
}

#[test]
fn as_many_series_as_the_table_ever_holds_are_found_again() {
    let registry = Registry::new();
    let family = registry.gauge("level").labels(["n", "text"]).family().unwrap();
    for round in 0..3 {
        for n in 0..3_000 {
            let (n, text) = (n.to_string(), "x".repeat(n % 40));
            family.at([&n, &text]).add(1.0);
            if round == 1 && n.ends_with('7') {
                assert!(family.remove([&n, &text]), "{n}");
            }
        }
    }
    for n in 0..3_000 {
        let wanted = if n % 10 == 7 { 1.0 } else { 3.0 };
        assert_eq!(family.with([&n.to_string(), &"x".repeat(n % 40)]).value(), wanted, "{n}");
    }
    assert_eq!(registry.snapshot()[0].series.len(), 3_000);
}

/// Every count made through a look-up shows, in the series or among those taken out, whatever is added and removed
/// meanwhile.
#[test]
fn look_ups_beside_removals_reach_a_series_that_exists() {
    const ROUNDS: u64 = 20_000;
    let registry = Registry::new();
    let family = registry.counter("hits_total").labels(["n"]).family().unwrap();
    let is_over = AtomicBool::new(false);
    let removed = AtomicU64::new(0);
    thread::scope(|scope| {
        let counting = [0, 1].map(|_| {
            scope.spawn(|| {
                for n in 0..ROUNDS {
                    family.at([["a", "b", "c", "d", "e"][n as usize % 5]]).inc();
                    family.at(["stays"]).inc();
                }
            })
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for n in ["a", "b", "c", "d", "e"] {
                    removed.fetch_add(u64::from(family.remove([n])), Ordering::Relaxed);
                }
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for series in &registry.snapshot()[0].series {
                    assert!(series.value.value() <= (2 * ROUNDS) as f64, "{series:?}");
                }
            }
        });
        counting.into_iter().for_each(|thread| thread.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(family.at(["stays"]).value(), (2 * ROUNDS) as f64);
    let left = registry.snapshot()[0].series.iter().map(|series| series.value.value()).sum::<f64>();
    assert!(left <= (4 * ROUNDS) as f64);
}

#[cfg(not(kymo_portable))]
#[test]
fn what_is_removed_waits_for_who_looks_at_it() {
    use crate::epoch;

    let registry = Registry::new();
    let family = registry.counter("hits_total").labels(["n"]).family().unwrap();
    family.at(["a"]).add(5);
    let looked_at = family.at(["a"]);
    assert!(family.remove(["a"]));
    assert!(epoch::waiting() >= 1);
    // Still there, with its value, and no longer shown.
    looked_at.inc();
    assert_eq!(looked_at.value(), 6.0);
    assert!(registry.snapshot()[0].series.is_empty());
    drop(looked_at);
    assert_eq!(family.at(["a"]).value(), 0.0);
}

#[test]
fn a_visitor_may_use_the_registry_and_sees_labels_without_copies() {
    struct Counting<'a> {
        registry: &'a Registry,
        seen: Vec<String>,
    }
    impl Visit for Counting<'_> {
        fn family(&mut self, family: &crate::registry::FamilyView<'_>) {
            self.seen.push(format!("{} {}", family.name, family.len));
        }
        fn series(&mut self, series: &SeriesView<'_>) {
            self.registry.counter("seen_total").register().unwrap().inc();
            self.seen.push(series.labels().map(|(name, value)| format!("{name}={value}")).collect());
        }
    }
    let registry = Registry::new();
    let family = registry.counter("hits_total").labels(["b", "a"]).family().unwrap();
    family.at(["1", "2"]).inc();
    family.at(["1", ""]).inc();
    let mut visitor = Counting { registry: &registry, seen: Vec::new() };
    registry.visit(&mut Scratch::default(), &mut visitor);
    assert_eq!(visitor.seen, ["hits_total 2", "a=2b=1", "b=1"]);
    let snapshot = registry.snapshot();
    assert_eq!(snapshot[1].series[0].value, MetricType::Counter { value: 2.0, exemplars: None });
}

#[test]
fn whole_totals_are_shown_in_runs_to_whoever_takes_them() {
    #[derive(Default)]
    struct Taking {
        taken: Vec<u64>,
        shown: Vec<String>,
    }
    impl Visit for Taking {
        fn family(&mut self, _: &crate::registry::FamilyView<'_>) {}
        fn series(&mut self, series: &SeriesView<'_>) {
            self.shown.push(format!("{:?}", series.reading));
        }
        fn totals(&mut self, totals: &[u64]) -> bool {
            self.taken.extend_from_slice(totals);
            true
        }
    }
    let registry = Registry::new();
    let counters = registry.counter("hits_total").labels(["n"]).family().unwrap();
    (0..200).for_each(|n| counters.at([&format!("{n:03}")]).add(n));
    registry.gauge("level").register().unwrap().set(1.5);
    registry.up_down_counter("open").register().unwrap().dec();
    let mut visitor = Taking::default();
    registry.visit(&mut Scratch::default(), &mut visitor);
    assert_eq!(visitor.taken, (0..200).collect::<Vec<u64>>());
    assert_eq!(visitor.shown, ["Gauge(1.5)", "UpDownCounter(-1)"]);
    // Where one of a run holds more, the run is shown series by series.
    counters.at(["199"]).add_f64(0.5);
    visitor = Taking::default();
    registry.visit(&mut Scratch::default(), &mut visitor);
    assert_eq!(visitor.taken, (0..192).collect::<Vec<u64>>());
    assert_eq!(visitor.shown[7], "Counter { whole: 199, fraction: 0.5 }");
}
