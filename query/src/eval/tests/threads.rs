//! An answer does not depend on how many threads it took.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use kymo_core::query::StatsWanted;
use kymo_core::{Budget, SelectError};
use proptest::prelude::*;

use super::watched::Watched;
use super::*;
use crate::threads::Threads;

const GRID: Grid = Grid::Range { start_ms: 0, end_ms: 1_800_000, step_ms: 60_000 };

fn on_threads(storage: Arc<dyn MetricStorage>, threads: usize, delayed: bool) -> Engine {
    Engine::with_config(storage, EngineConfig { threads, options: options(delayed), ..EngineConfig::default() })
}

/// Everything an answer tells that is not a time or memory.
fn told(engine: &Engine, text: &str, grid: Grid, ctx: &QueryContext) -> Result<String, String> {
    let mut request = QueryRequest::new(text, grid);
    request.stats = StatsWanted::PerStep;
    match engine.query(&request, ctx) {
        Ok(found) => {
            let (stats, cost) = (found.stats.unwrap(), found.cost);
            let counts = (stats.total_queryable_samples, stats.peak_samples, stats.samples_per_step);
            let cost = (cost.series, cost.samples, cost.bytes, cost.nodes_shared);
            Ok(format!("{:?} {:?} {counts:?} {cost:?}", found.value, found.annotations))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Many series, some of them of floats, some of histograms, some of both, with gaps.
fn many() -> Arc<MemoryStorage> {
    let series: String = (0..150)
        .map(|n| match n % 5 {
            0 => {
                format!("m{{n=\"{n}\", g=\"{}\"}} {{{{schema:0 sum:{n} count:2 buckets:[1 1]}}}}x20 _x3 {n}x6\n", n % 3)
            }
            1 => format!("m{{n=\"{n}\", g=\"{}\"}} {n}.1x9 stale _x4 {n}.3+0.1x15\n", n % 3),
            _ => format!("m{{n=\"{n}\", g=\"{}\"}} 0.1+{n}.7x29\n", n % 3),
        })
        .collect();
    storage(60_000, &series)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]

    #[test]
    fn bits_notes_and_counts_are_the_same(vector in steps::vectors(), delayed: bool, threads in 2usize..6, end in 0..1_800i64) {
        let storage = storage(60_000, steps::SERIES);
        let (one, many) = (on_threads(storage.clone(), 1, delayed), on_threads(storage, threads, delayed));
        let ctx = QueryContext::unlimited();
        for grid in [GRID, Grid::Instant { at_ms: end * 1_000 }] {
            let (one, many) = (told(&one, &vector, grid, &ctx), told(&many, &vector, grid, &ctx));
            prop_assert_eq!(one, many, "{}", vector);
        }
        prop_assert_eq!(ctx.budget.used(), 0);
    }
}

/// Each asks for most of what there is to be made of series.
const TEXTS: [&str; 12] = [
    "m",
    "rate(m[5m])",
    "sum by (g) (rate(m[5m]))",
    "avg(m) + count(m) / sum(m)",
    "sum(rate(m[5m])) / count(rate(m[5m]))",
    "quantile_over_time(scalar(count(m)) / 100, m[7m])",
    "topk by (g) (3, delta(m[3m]))",
    "max_over_time(sum by (n) (m)[5m:1m])",
    "stddev by (g) (histogram_count(m))",
    "last_over_time(m[2m])",
    "timestamp(m)",
    "rate(m[5m] smoothed)",
];

#[test]
fn many_series_of_all_kinds_give_the_same() {
    let storage = many();
    for delayed in [false, true] {
        let one = on_threads(storage.clone(), 1, delayed);
        for threads in [2, 3, 8] {
            let more = on_threads(storage.clone(), threads, delayed);
            for text in TEXTS {
                let ctx = QueryContext::unlimited();
                assert!(told(&one, text, GRID, &ctx) == told(&more, text, GRID, &ctx), "{text} on {threads}");
                assert_eq!(ctx.budget.used(), 0);
            }
        }
    }
}

#[test]
fn what_fits_on_one_thread_fits_on_many() {
    let storage = many();
    let (one, many) = (on_threads(storage.clone(), 1, false), on_threads(storage, 4, false));
    let ask = |engine: &Engine, text: &str, limit: u64| {
        let ctx = QueryContext { budget: Budget::root("queries", limit), ..QueryContext::unlimited() };
        let told = told(engine, text, GRID, &ctx);
        assert_eq!(ctx.budget.used(), 0, "{text} in {limit}");
        told
    };
    for text in TEXTS {
        let (mut refused, mut taken) = (0, 16 << 20);
        while taken - refused > 1 {
            let limit = u64::midpoint(refused, taken);
            if ask(&one, text, limit).is_ok() { taken = limit } else { refused = limit }
        }
        assert!(refused > 1_000, "{text}");
        for limit in (taken..taken + 4_096).step_by(512).chain((taken..4 * taken).step_by(taken as usize / 4)) {
            let (alone, together) = (ask(&one, text, limit), ask(&many, text, limit));
            assert!(alone.is_ok() && alone == together, "{text} in {limit}, of {taken}: {:?}", together.err());
        }
    }
}

#[test]
fn a_series_that_cannot_be_read_fails_its_query_with_the_same_error() {
    for series in (0..150).step_by(7) {
        let storage = Watched::new(many(), move |index| match index == series {
            true => Err(SelectError::Damaged { place: format!("block:{index}"), what: "a bit is wrong".to_owned() }),
            false => Ok(()),
        });
        let (one, many) = (on_threads(storage.clone(), 1, false), on_threads(storage, 4, false));
        for text in ["m", "sum(rate(m[5m]))"] {
            let ctx = QueryContext::unlimited();
            let (alone, together) = (told(&one, text, GRID, &ctx), told(&many, text, GRID, &ctx));
            assert!(alone.is_err());
            assert_eq!(alone, together, "{text} at {series}");
            assert_eq!(ctx.budget.used(), 0);
        }
    }
}

#[test]
fn a_panic_on_any_thread_is_one_of_the_query_and_lets_everything_go() {
    for series in [0, 1, 40, 80, 149] {
        let storage = Watched::new(many(), move |index| {
            assert_ne!(index, series, "not for reading");
            Ok(())
        });
        let engine = on_threads(storage, 4, false);
        let ctx = QueryContext::unlimited();
        let asked = AssertUnwindSafe(|| told(&engine, "sum(rate(m[5m]))", GRID, &ctx));
        assert!(catch_unwind(asked).is_err());
        assert_eq!(ctx.budget.used(), 0);
        // Nobody is counted as busy.
        let joined: Vec<_> = std::iter::from_fn(|| engine.threads.try_join()).collect();
        assert_eq!(joined.len(), 4);
    }
}

#[test]
fn others_read_while_the_thread_of_the_query_is_held_up() {
    for text in ["m", "sum(rate(m[5m]))"] {
        let (read, others) = mpsc::channel();
        let (read, others, asking) = (Mutex::new(read), Mutex::new(others), thread::current().id());
        let storage = Watched::new(many(), move |index| {
            if thread::current().id() != asking {
                read.lock().unwrap().send(index).unwrap();
            } else if index == 0 {
                let far = others.lock().unwrap().recv_timeout(Duration::from_secs(60));
                assert!(far.is_ok_and(|index| index > 0), "nobody came to help");
            }
            Ok(())
        });
        let (watched, plain) = (on_threads(storage, 2, false), on_threads(many(), 1, false));
        let ctx = QueryContext::unlimited();
        assert!(told(&watched, text, GRID, &ctx) == told(&plain, text, GRID, &ctx), "{text}");
    }
}

#[test]
fn others_leave_when_queries_want_their_threads() {
    let (read, others) = mpsc::channel();
    let (read, others, asking) = (Mutex::new(read), Mutex::new(others), thread::current().id());
    let wanted: Arc<OnceLock<Arc<Threads>>> = Arc::default();
    let of = wanted.clone();
    let storage = Watched::new(many(), move |index| {
        if thread::current().id() != asking {
            // Another query begins while this one is helped, and does not end.
            std::mem::forget(of.get().unwrap().enter());
            read.lock().unwrap().send(index).unwrap();
        } else if index == 0 {
            others.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
        } else if index == 149 {
            let more = others.lock().unwrap().try_iter().count();
            assert!(more < 4, "{more} series were made after the helper was wanted elsewhere");
        }
        Ok(())
    });
    let engine = on_threads(storage, 2, false);
    wanted.set(engine.threads.clone()).unwrap();
    let ctx = QueryContext::unlimited();
    assert!(told(&engine, "m", GRID, &ctx) == told(&on_threads(many(), 1, false), "m", GRID, &ctx));
}

#[test]
fn of_two_errors_that_of_the_first_series_is_told() {
    // Labels without names meet at the second metric, and what cannot be read stands behind that.
    let series: String = (0..40).map(|n| format!("a{{n=\"{n}\"}} 0+1x30\nb{{n=\"{n}\"}} 0+1x30\n")).collect();
    for damaged in 40..60 {
        let storage = Watched::new(storage(60_000, &series), move |index| match index == damaged {
            true => Err(SelectError::Damaged { place: "block".to_owned(), what: "a bit is wrong".to_owned() }),
            false => Ok(()),
        });
        let (one, many) = (on_threads(storage.clone(), 1, false), on_threads(storage, 4, false));
        let ctx = QueryContext::unlimited();
        let text = "rate({__name__=~\"a|b\"}[5m])";
        let (alone, together) = (told(&one, text, GRID, &ctx), told(&many, text, GRID, &ctx));
        assert_eq!(alone, together, "{damaged}");
        assert_eq!(alone.unwrap_err().contains("same labelset"), damaged > 40, "{damaged}");
    }
}

#[test]
fn what_helpers_hold_does_not_grow_with_the_shards() {
    let budget = Budget::root("queries", u64::MAX);
    let (watched_budget, most) = (budget.clone(), Arc::new(AtomicU64::new(0)));
    let seen = most.clone();
    let histogram = "{{schema:0 sum:1 count:2 buckets:[1 1 3 4 5 6 7 8 9]}}x30";
    let series: String = (0..600).map(|n| format!("m{{n=\"{n}\"}} {histogram}\n")).collect();
    let storage = Watched::new(storage(60_000, &series), move |_| {
        seen.fetch_max(watched_budget.used(), Ordering::Relaxed);
        Ok(())
    });
    let mut held = [1, 2].map(|threads| {
        let ctx = QueryContext { budget: budget.clone(), ..QueryContext::unlimited() };
        most.store(0, Ordering::Relaxed);
        assert!(told(&on_threads(storage.clone(), threads, false), "sum(m)", GRID, &ctx).is_ok());
        most.load(Ordering::Relaxed)
    });
    // Of 300 shards at most half a dozen are about at once, each of two series.
    held[0] *= 20;
    assert!(held[1] < held[0], "{} bytes on two threads, {} twenty times those on one", held[1], held[0]);
}
