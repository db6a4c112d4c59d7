//! Promises of the pool. Each fault known of the published attempt has a test that would find it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn intern_string_gives_one_id_for_one_string() {
    let pool = StringPool::new(100, 1 << 16);
    let words = ["", "a", "GET", "abcd", "abcdefgh", "/api/v1/resource/17", "ü€", &"long ".repeat(100)];
    let ids: Vec<StringId> = words.iter().map(|word| pool.intern_string(word).unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), words.len());
    for (word, id) in words.iter().zip(&ids) {
        assert_eq!(pool.intern_string(word), Some(*id));
        assert_eq!(pool.resolve(*id).as_deref(), Some(*word));
    }
    let bytes = words.iter().map(|word| word.len()).sum();
    assert_eq!(pool.size(), PoolSize { strings: words.len(), bytes, evicted: 0 });
}

/// The published attempt gave one string two ids when two threads asked for it first.
#[test]
fn threads_that_ask_first_at_once_get_one_id() {
    const THREADS: usize = 4;
    let pool = StringPool::new(10_000, 1 << 20);
    for round in 0..200 {
        let text = format!("value {round}");
        let barrier = Barrier::new(THREADS);
        let ids = thread::scope(|scope| {
            let asking = [(); THREADS].map(|()| {
                scope.spawn(|| {
                    barrier.wait();
                    pool.intern_string(&text).unwrap()
                })
            });
            asking.map(|thread| thread.join().unwrap())
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{text}: {ids:?}");
    }
    assert_eq!(pool.size().strings, 200);
}

/// The same while the table grows and is replaced under those who look: each thread meets the strings in another order.
#[test]
fn threads_get_one_id_for_each_string_while_the_table_grows() {
    const STRINGS: usize = 2_000;
    // Prime to the number of strings, so that each order has all of them.
    const STRIDES: [usize; 4] = [1, 3, 7, 9];
    let pool = StringPool::new(STRINGS, 1 << 20);
    let barrier = Barrier::new(STRIDES.len());
    let found = thread::scope(|scope| {
        let asking = STRIDES.map(|stride| {
            let (pool, barrier) = (&pool, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let texts = (0..STRINGS).map(|n| format!("value {}", n * stride % STRINGS));
                texts.map(|text| (pool.intern_string(&text).unwrap(), text)).collect::<BTreeMap<StringId, String>>()
            })
        });
        asking.map(|thread| thread.join().unwrap())
    });
    assert!(found.iter().all(|ids| *ids == found[0]), "threads were given different ids");
    assert_eq!((found[0].len(), pool.size().strings), (STRINGS, STRINGS));
}

/// The published attempt's ids wrapped, so that an old id came to mean another string.
#[test]
fn an_id_never_comes_to_mean_another_string() {
    let pool = StringPool::new(16, 1 << 16);
    let mut meanings = BTreeMap::new();
    for n in 0..5_000 {
        let text = format!("value {n}");
        let id = pool.intern_string(&text).unwrap();
        assert_eq!(meanings.insert(id, text), None, "{id:?} was given out twice");
    }
    let known: Vec<_> = meanings.iter().filter_map(|(id, text)| pool.resolve(*id).map(|found| (found, text))).collect();
    assert_eq!(known.len(), 16);
    assert!(known.iter().all(|(found, text)| found == *text));
    assert_eq!((pool.size().strings, pool.size().evicted), (16, 4_984));
    // Beyond 32 bits, where a narrower id would wrap.
    pool.state().next_id = u64::from(u32::MAX);
    let (last, next) = (pool.intern_string("last of 32 bits"), pool.intern_string("next"));
    assert_eq!((last.unwrap().get(), next.unwrap().get()), (0xffff_ffff, 0x1_0000_0000));
}

#[test]
fn strings_asked_for_lately_stay() {
    let pool = StringPool::new(100, 1 << 16);
    let hot: Vec<String> = (0..50).map(|n| format!("hot {n}")).collect();
    let ids: Vec<_> = hot.iter().map(|text| pool.intern_string(text)).collect();
    for n in 0..2_000 {
        pool.intern_string(&format!("once {n}"));
        for (text, id) in hot.iter().zip(&ids) {
            assert_eq!(pool.intern_string(text), *id, "{text} had to make room after {n}");
        }
    }
    assert_eq!(pool.size().strings, 100);
}

#[test]
fn bytes_are_bounded_and_a_string_beyond_them_is_refused() {
    let pool = StringPool::new(1_000, 100);
    for n in 0..500 {
        assert!(pool.intern_string(&format!("{n:020}")).is_some());
        assert!(pool.size().bytes <= 100);
    }
    assert_eq!(pool.size().strings, 5);
    assert_eq!(pool.intern_string(&"x".repeat(101)), None);
    assert!(pool.intern_string(&"x".repeat(100)).is_some());
    assert_eq!(pool.size().strings, 1);
}

#[test]
fn a_hit_beside_eviction_is_always_the_string_that_was_asked_for() {
    let pool = StringPool::new(64, 1 << 16);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let churning = [0, 1].map(|thread| {
            let pool = &pool;
            scope.spawn(move || {
                (0..20_000).for_each(|n| assert!(pool.intern_string(&format!("{thread} {n}")).is_some()));
            })
        });
        scope.spawn(|| {
            let mut seen: BTreeMap<StringId, &str> = BTreeMap::new();
            while !is_over.load(Ordering::Relaxed) {
                for text in ["GET", "POST", "a value of more than sixteen bytes"] {
                    let id = pool.intern_string(text).unwrap();
                    assert_eq!(*seen.entry(id).or_insert(text), text, "{id:?}");
                }
            }
        });
        churning.into_iter().for_each(|thread| thread.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(pool.size().strings, 64);
}
