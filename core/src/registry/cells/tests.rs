//! Promises of cells on real threads: conservation while threads are born and die and a reader never stops.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::slab::THREAD_CELLS_MAX;
use super::*;

fn add(id: u32, by: u64) {
    assert_eq!(Place::of(id).id(), id);
    super::add(Place::of(id), by);
}

#[test]
fn nothing_is_lost_or_counted_twice_while_threads_come_and_go() {
    const WRITERS: u64 = 4;
    const LIVES: u64 = 60;
    const ADDS: u64 = 400;
    let (whole, float) = (Cells::new(1), Cells::new(1));
    let (id, float_id) = (whole.first(), float.first());
    let is_over = AtomicBool::new(false);
    let highest = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while !is_over.load(Relaxed) {
                let now = read().whole(id);
                assert!(now >= last, "a total fell from {last} to {now}");
                last = now;
            }
            last
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..LIVES {
                        let life = thread::spawn(move || {
                            (0..ADDS).for_each(|_| add(id, 1));
                            (0..ADDS).for_each(|_| add_float(float_id, 0.5));
                        });
                        life.join().unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_over.store(true, Relaxed);
        reader.join().unwrap()
    });
    let total = WRITERS * LIVES * ADDS;
    assert!(highest <= total);
    assert_eq!(read().whole(id), total);
    assert_eq!(read().float(float_id), total as f64 / 2.0);
}

/// What is recorded in the destructor of another thread-local value, after the thread gave its slab away, counts too.
#[test]
fn the_last_words_of_a_thread_are_counted() {
    struct Last(u32);
    impl Drop for Last {
        fn drop(&mut self) {
            add(self.0, 1);
            add_float(self.0 + 1, 0.25);
            observe(self.0 + 2, 1, 7.0);
        }
    }
    thread_local! {
        static EARLY: Cell<Option<Last>> = const { Cell::new(None) };
        static LATE: Cell<Option<Last>> = const { Cell::new(None) };
    }
    const THREADS: u64 = 8;
    let cells = Cells::new(5);
    let first = cells.first();
    let barrier = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        let threads = [(); THREADS as usize].map(|()| {
            scope.spawn(|| {
                // One value before the slab is taken and one after, so that destructors run on both sides of giving it up.
                EARLY.with(|early| early.set(Some(Last(first))));
                add(first, 1);
                LATE.with(|late| late.set(Some(Last(first))));
                barrier.wait();
            })
        });
        // A scope alone does not wait for destructors.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let sums = read();
    assert_eq!((sums.whole(first), sums.float(first + 1)), (3 * THREADS, 0.5 * THREADS as f64));
    assert_eq!(
        (sums.float(first + 2), sums.whole(first + 3), sums.whole(first + 4)),
        (14.0 * THREADS as f64, 0, 2 * THREADS)
    );
}

#[test]
fn ids_beyond_slabs_are_shared_and_as_exact() {
    let far = THREAD_CELLS_MAX + 10;
    // Not taken from the allocator: the tests of this crate never get there.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    add(far, 2);
                    add_float(far + 1, 0.5);
                    observe(far + 2, 0, 1.5);
                }
            });
        }
    });
    let sums = read();
    assert_eq!((sums.whole(far), sums.float(far + 1)), (8_000, 2_000.0));
    assert_eq!((sums.float(far + 2), sums.whole(far + 3), sums.whole(far + 4)), (6_000.0, 4_000, 0));
}

#[test]
fn freed_cells_come_back_empty() {
    let cells = Cells::new(7);
    let first = cells.first();
    add(first + 3, 9);
    drop(cells);
    // Another test may be given these ids meanwhile; whoever gets them finds zeroes.
    let again: Vec<Cells> = (0..4).map(|_| Cells::new(7)).collect();
    let sums = read();
    assert!(again.iter().flat_map(|cells| cells.first()..cells.first() + 7).all(|id| sums.whole(id) == 0));
}

#[test]
fn freed_cells_come_back_lowest_first() {
    static OWN: Slabs = Slabs::from_parts(Mutex::new(slab::empty_state()), sync::SharedPages::new());
    let ids = [(); 8].map(|()| OWN.allocate(1));
    [5, 0, 7, 2, 1, 6, 4, 3].into_iter().for_each(|at: usize| OWN.free(ids[at], 1));
    assert_eq!([(); 8].map(|()| OWN.allocate(1)), ids);
    assert!(OWN.allocate(1) > ids[7]);
}

#[test]
fn slabs_are_as_many_as_threads_at_one_time() {
    let cells = Cells::new(1);
    let id = cells.first();
    let before = read().size().0;
    for _ in 0..100 {
        thread::spawn(move || add(id, 1)).join().unwrap();
    }
    // Other tests run beside this one, each with a few threads.
    let after = read().size().0;
    assert!(after < before + 60, "{before} then {after}");
    assert_eq!(read().whole(id), 100);
}

#[test]
fn no_two_slabs_share_a_cache_line() {
    let cells = Cells::new(1);
    let id = cells.first();
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                add(id, 1);
                barrier.wait();
            });
        }
    });
    let sums = read();
    assert!(cfg!(kymo_portable) || sums.size().0 >= 4);
    assert!(sums.size().1 % 64 == 0 && sums.addresses().all(|address| address % 128 == 0));
}
