//! The window counter under every interleaving of a few threads: loom takes the place of the standard library.

#![expect(dead_code, unreachable_pub, reason = "the model drives a part of what the modules offer")]

#[path = "../src/window/counter.rs"]
mod counter;
#[path = "../src/window/span.rs"]
mod span;
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use crate::counter::WindowCounter;
use crate::span::Span;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn two_writers_that_turn_the_rings_at_once_lose_nothing() {
    loom::model(|| {
        let counter = Arc::new(WindowCounter::new());
        counter.add(1, seconds(0));
        let writers = [100, 101].map(|at| {
            let counter = counter.clone();
            thread::spawn(move || counter.add(1, seconds(at)))
        });
        for writer in writers {
            writer.join().unwrap();
        }
        let counts = counter.read(seconds(101));
        assert_eq!((counts.last_minute, counts.last_hour, counts.since_start), (2, 3, 3));
    });
}

#[test]
fn a_reader_beside_a_turning_writer_sees_rising_counts() {
    loom::model(|| {
        let counter = Arc::new(WindowCounter::new());
        counter.add(1, seconds(0));
        let writer = {
            let counter = counter.clone();
            thread::spawn(move || counter.add(2, seconds(2)))
        };
        let counts = counter.read(seconds(2));
        let rising = Span::ALL.map(|span| counts.get(span));
        assert!(rising.is_sorted(), "{rising:?}");
        assert!(matches!(counts.last_second, 0 | 2) && matches!(counts.since_start, 1 | 3), "{rising:?}");
        writer.join().unwrap();
        assert_eq!(counter.read(seconds(2)).last_second, 2);
    });
}

#[test]
fn what_is_absorbed_beside_a_writer_is_counted_once() {
    loom::model(|| {
        let counter = Arc::new(WindowCounter::new());
        let other = WindowCounter::new();
        other.add(5, seconds(1));
        let writer = {
            let counter = counter.clone();
            thread::spawn(move || counter.add(1, seconds(90)))
        };
        counter.absorb(other);
        writer.join().unwrap();
        let counts = counter.read(seconds(90));
        assert_eq!((counts.last_second, counts.last_hour, counts.since_start), (1, 6, 6));
    });
}
