//! The protocol of `slab` under loom: every interleaving of writers, a reader, and threads that end.

/// What `slab` is made of here.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};

    /// So that growth is soon needed.
    pub(super) const GROWTH_MIN: u32 = 2;

    /// No more cells than slabs grow by.
    #[derive(Debug)]
    pub(super) struct Line(pub(super) [AtomicU64; 2]);

    /// Few cells, all made at the start.
    #[derive(Debug)]
    pub(super) struct SharedPages(Vec<AtomicU64>);

    impl SharedPages {
        pub(super) fn new() -> Self {
            Self((0..2).map(|_| AtomicU64::new(0)).collect())
        }

        pub(super) fn cell(&self, id: u32) -> &AtomicU64 {
            &self.0[id as usize]
        }

        pub(super) fn existing(&self, id: u32) -> Option<&AtomicU64> {
            self.0.get(id as usize)
        }
    }
}

#[allow(dead_code, reason = "the models use part of it")]
#[allow(clippy::duplicate_mod, reason = "compiled once more, with other atomics")]
#[path = "slab.rs"]
mod slab;

use loom::sync::Arc;
use loom::thread;

use self::slab::{Local, Place, Slabs};
use self::sync::{AtomicU64, Mutex, Ordering::Relaxed, SharedPages};

/// All interleavings in which threads are interrupted at most three times at other points than locks and joins: more find
/// nothing new in so few steps and take minutes.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn in_register(address: *const AtomicU64) -> *const AtomicU64 {
    address
}

fn slabs() -> Arc<Slabs> {
    Arc::new(Slabs::from_parts(Mutex::new(slab::empty_state()), SharedPages::new()))
}

/// As `super::add` does.
fn add(slabs: &Slabs, local: &Local, id: u32) {
    let place = Place::of(id);
    if local.cell(place).is_none() {
        assert!(slabs.grow(local, id + 1), "ids of the model are within slabs");
    }
    let cell = local.cell(place).expect("grown to it");
    cell.store(cell.load(Relaxed) + 1, Relaxed);
}

/// A thread that adds and ends.
fn life(slabs: &Slabs, ids: &[u32]) {
    let local = Local::new();
    ids.iter().for_each(|id| add(slabs, &local, *id));
    slabs.hand_over(&local);
}

#[test]
fn a_reader_beside_writers_sees_totals_rise_and_at_last_all_of_them() {
    explore(|| {
        let slabs = slabs();
        let id = slabs.allocate(1);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let slabs = Arc::clone(&slabs);
                thread::spawn(move || life(&slabs, &[id]))
            })
            .collect();
        let first = slabs.read().whole(id);
        let second = slabs.read().whole(id);
        assert!(first <= second && second <= 2, "{first} then {second}");
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(slabs.read().whole(id), 2);
    });
}

#[test]
fn a_slab_of_an_ended_thread_goes_on_with_its_values() {
    explore(|| {
        let slabs = slabs();
        let id = slabs.allocate(1);
        let other = Arc::clone(&slabs);
        let early = thread::spawn(move || life(&other, &[id]));
        // Takes over the slab of `early`, or one of its own, as it comes.
        life(&slabs, &[id]);
        early.join().unwrap();
        life(&slabs, &[id]);
        assert_eq!(slabs.read().whole(id), 3);
        assert!(slabs.read().size().0 <= 2);
    });
}

#[test]
fn growth_beside_a_reader_and_shared_adds_keeps_every_count() {
    explore(|| {
        let slabs = slabs();
        let (near, far) = (slabs.allocate(1), 2);
        let other = Arc::clone(&slabs);
        let writer = thread::spawn(move || life(&other, &[near, far, near]));
        slabs.shared(near).fetch_add(1, Relaxed);
        let seen = slabs.read().whole(near);
        assert!((1..=3).contains(&seen), "{seen}");
        writer.join().unwrap();
        let sums = slabs.read();
        assert_eq!((sums.whole(near), sums.whole(1), sums.whole(far)), (3, 0, 1));
    });
}

#[test]
fn an_id_given_out_again_starts_at_zero_in_every_slab() {
    explore(|| {
        let slabs = slabs();
        let id = slabs.allocate(1);
        let other = Arc::clone(&slabs);
        let writer = thread::spawn(move || life(&other, &[id]));
        life(&slabs, &[id]);
        // The last handle of the series is gone: `Arc` makes its writes happen before.
        writer.join().unwrap();
        slabs.free(id, 1);
        assert_eq!(slabs.allocate(1), id);
        life(&slabs, &[id]);
        assert_eq!(slabs.read().whole(id), 1);
    });
}
