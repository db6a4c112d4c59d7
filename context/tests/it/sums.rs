use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kymo_context::status::{Requests, Status};
use kymo_context::{Context, Settings};
use proptest::prelude::*;

use super::at_rest;

/// The path above, `None` for the root. No name of this test has a dot.
fn above(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(above, _)| above)
}

fn five(requests: &Requests) -> [u64; 5] {
    [requests.since_start, requests.last_day, requests.last_hour, requests.last_minute, requests.last_second]
}

/// In one status every path must show at least what all paths below it show together; where nothing was persisted on the
/// path itself, exactly that.
fn check(status: &Status, persists_on: impl Fn(&str) -> bool) {
    let mut below: BTreeMap<&str, [u64; 5]> = BTreeMap::new();
    for path in &status.requests {
        if let Some(above) = above(&path.path) {
            let sum = below.entry(above).or_default();
            sum.iter_mut().zip(five(&path.requests)).for_each(|(sum, count)| *sum += count);
        }
    }
    for path in &status.requests {
        let (own, below) = (five(&path.requests), below.get(path.path.as_str()).copied().unwrap_or_default());
        if persists_on(&path.path) {
            assert!(own.iter().zip(below).all(|(own, below)| *own >= below), "{}: {own:?} below {below:?}", path.path);
        } else {
            assert_eq!(own, below, "{}", path.path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Threads persist in random places of a tree of two levels, contexts come and go, time moves, paths are folded, and
    /// somebody reads all the while.
    #[test]
    fn paths_equal_what_is_below_them_at_any_moment(
        places in prop::collection::vec(prop::collection::vec((0_u8..6, 0_u8..30), 200..400), 3),
        paths_max in prop_oneof![Just(4_096_usize), Just(40), Just(12)],
    ) {
        let (root, clock) = at_rest(Settings { paths_max, finished_max: 4, ..Settings::default() });
        let is_done = AtomicBool::new(false);
        let expected: usize = places.iter().map(Vec::len).sum();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    // Folding makes a parent count what its children counted, so only the lower bound holds then.
                    check(&root.status(), |path| paths_max < 4_096 || path.matches('.').count() == 2);
                }
            });
            let writers: Vec<_> = places
                .iter()
                .map(|places| {
                    let (root, clock) = (&root, &clock);
                    scope.spawn(move || {
                        for (service, peer) in places {
                            let service = root.child(&format!("service-{service}")).begin();
                            let peer = service.child(&format!("peer-{peer}")).begin();
                            peer.child("request").begin().persist();
                            clock.advance(Duration::from_millis(20));
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            is_done.store(true, Ordering::Release);
            let read = reader.join();
            assert!(ended.into_iter().chain([read]).all(|thread| thread.is_ok()), "a thread found a fault");
        });
        let status = root.status();
        check(&status, |path| paths_max < 4_096 || path.matches('.').count() == 2);
        prop_assert_eq!(status.requests[0].requests.since_start, expected as u64);
        prop_assert_eq!(status.finished, 3 * expected as u64);
        prop_assert_eq!(status.contexts.len(), 1);
        prop_assert!(status.paths.counted <= paths_max);
    }
}

#[test]
fn threads_that_share_contexts_lose_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 5_000;
    let root = Context::new("global");
    let peer = root.child("p2p").begin().child("alice").begin();
    let barrier = Arc::new(std::sync::Barrier::new(THREADS as usize));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (peer, barrier) = (peer.clone(), barrier.clone());
            scope.spawn(move || {
                barrier.wait();
                for n in 0..EACH {
                    let request = peer.child("request").begin();
                    request.persist();
                    request.increment_live("open");
                    peer.increment_total("bytes");
                    if n % 2 == 0 {
                        request.decrement_live("open");
                    }
                }
            });
        }
    });
    assert_eq!(root.counter("global.p2p.alice.requests_since_start"), Some(THREADS * EACH));
    assert_eq!(root.get_total("bytes"), THREADS * EACH);
    assert_eq!(root.get_live("open"), 0);
    assert_eq!(root.status().finished, THREADS * EACH);
}

#[test]
fn a_cancel_beside_new_children_leaves_none_out() {
    for _ in 0..200 {
        let root = Context::new("global");
        let parent = root.child("parent").begin();
        let barrier = std::sync::Barrier::new(2);
        let children = thread::scope(|scope| {
            let maker = scope.spawn(|| {
                barrier.wait();
                (0..50).map(|_| parent.child("child").begin().child("below").begin()).collect::<Vec<_>>()
            });
            barrier.wait();
            root.cancel();
            maker.join().unwrap()
        });
        assert!(children.iter().all(|child| child.is_cancelled()));
    }
}
